"""Texts that are read while they are trained on: from object storage, a web server, or the Hub, and never kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arena_jax.config.address import is_address
from arena_jax.config.errors import ArenaError, first_line, nearest
from arena_jax.config.hub_access import near_here, stay_offline_if_unreachable
from arena_jax.data.columnar import COLUMNAR
from arena_jax.data.columns import check_parts, find_columns, unused_note
from arena_jax.data.content import ending_of
from arena_jax.data.corpus import LONGEST
from arena_jax.data.dataset import LANGUAGE, Dataset
from arena_jax.data.documents import documents_of
from arena_jax.data.files import TEXTS
from arena_jax.data.table import Table
from arena_jax.data.text_blocks import BLOCK, text_blocks

PREFIX = "stream:"
# What stores files and nothing else: fsspec knows more, some of which run what they are given.
SCHEMES = ("file", "memory", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "oss", "hdfs", "hf")
HELD_OUT = 256  # documents, where there is no validation split and no limit says how many
SAMPLE = 16 * 2**20  # bytes that a tokenizer is trained on
_LOOKED_AT = 100  # records that the column of texts is found in


def is_stream(name: str) -> bool:
    """Whether a data set is read as it is trained on: an address, or an id of the Hub behind "stream:".

    Example:
        >>> is_stream("s3://bucket/train-*.jsonl.gz"), is_stream("stream:allenai/c4"), is_stream("data/train.txt")
        (True, True, False)
    """
    return name.startswith(PREFIX) or is_address(name)


class StreamedText:
    """Documents in the order of their source, from any position on.

    Args:
        name: an address that fsspec understands, with * for several files, or "stream:" and an id of the Hub.
        split: of the Hub's data set.
        subset: of the Hub's data set.
        columns: part to column, as given.
        skip: documents at the beginning that are left out.

    Raises:
        ArenaError: nothing there, or no column of texts.
    """

    def __init__(
        self,
        name: str,
        *,
        split: str = "train",
        subset: str | None = None,
        columns: Mapping[str, str] | None = None,
        skip: int = 0,
    ) -> None:
        check_parts(LANGUAGE, columns or {})
        self.name, self.notes = name, list[str]()
        try:
            self._data, self._column = self._opened(split, subset), "text"
            self._find_column(columns or {})
            if skip:
                self._data = self._data.skip(skip)
            self._start = self._data.state_dict()
        except ArenaError:
            raise
        except Exception as error:  # whatever a file system, the network or a parser raises
            raise self._unread(error) from None

    def _opened(self, split: str, subset: str | None) -> Any:
        import datasets

        if self.name.startswith(PREFIX):
            stay_offline_if_unreachable()
            place = self.name.removeprefix(PREFIX)
            return datasets.load_dataset(place, subset, split=split, streaming=True)
        import fsspec

        scheme = self.name.split("://")[0]
        if scheme not in SCHEMES:
            raise ArenaError(f"cannot read {self.name}: {nearest(scheme, SCHEMES)}")
        ending = ending_of(Path(self.name.split("?")[0]))
        if ending in TEXTS:
            files = [file.full_name for file in fsspec.open_files(self.name, "rb")]
            if not files:
                raise FileNotFoundError("no such file")
            return datasets.IterableDataset.from_generator(_documents, gen_kwargs={"files": files})
        kind = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet", ".arrow": "arrow"}
        if ending not in kind:
            endings = ", ".join((*TEXTS, ".jsonl", *COLUMNAR[:2]))
            raise ArenaError(
                f"{self.name}: {ending or 'an address without ending'} is not read as a stream; use {endings}"
            )
        return datasets.load_dataset(kind[ending], data_files={"train": self.name}, split="train", streaming=True)

    def _find_column(self, columns: Mapping[str, str]) -> None:
        records = list(self._data.take(_LOOKED_AT))
        if not records:
            raise ArenaError(f"{self.name} holds no record")
        names = dict.fromkeys(name for record in records for name in record)
        table = Table(
            {name: [record.get(name) for record in records] for name in names},
            self.name,
            [f"record {index}" for index in range(len(records))],
        )
        self._column = find_columns(table, LANGUAGE, columns)["text"]
        self.notes += unused_note(table, {"text": self._column})

    def position(self) -> dict[str, Any]:
        """Where it is, as JSON: valid for another stream of the same source."""
        return json.loads(json.dumps(self._data.state_dict()))

    def documents(self, position: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """The texts, once, from a position on; what is no text comes as it is.

        Raises:
            ArenaError: the source cannot be read on.
        """
        try:
            self._data.load_state_dict(self._start if position is None else dict(position))
            for record in self._data:
                yield record.get(self._column)
        except Exception as error:  # as above
            raise self._unread(error) from None

    def head(self, count: int | None = None, size: int | None = None) -> list[str]:
        """The first texts: so many, or of so many bytes together."""
        texts, total = list[str](), 0
        for text in self.documents():
            if isinstance(text, str) and text.strip():
                texts.append(text)
                total += len(text.encode(errors="replace"))
            if (count is not None and len(texts) >= count) or (size is not None and total >= size):
                break
        return texts

    def _unread(self, error: Exception) -> ArenaError:
        if isinstance(error, ArenaError):
            return error
        what = f"{type(error).__name__}: {first_line(error)[:200]}" if first_line(error) else type(error).__name__
        return ArenaError(
            f"cannot read {self.name} ({what}); check the address and the connection{near_here(self.name)}"
        )


def _documents(files: list[str]) -> Iterator[dict[str, str]]:
    import fsspec

    for name in files:
        with fsspec.open(name, "rb", compression="infer") as file:
            for text, _ in documents_of(text_blocks(name, iter(lambda: file.read(BLOCK), b"")), LONGEST):
                yield {"text": text}


def open_stream(
    name: str, *, subset: str | None = None, columns: Mapping[str, str] | None = None, held_out: int | None = None
) -> dict[str, Dataset]:
    """Open a text that is read as it is trained on.

    Args:
        name: as :class:`StreamedText` takes it.
        subset: of the Hub's data set.
        columns: part to column.
        held_out: documents to validate on; None: 256. They are those of the validation split of the Hub's data set, or,
            where there is none, the first of the stream, which are then not trained on.

    Returns:
        "train": its first texts, to train a tokenizer on, and the stream itself; "validation": texts in memory.

    Raises:
        ArenaError: it cannot be read, or has too few texts.
    """
    count = HELD_OUT if held_out is None else held_out
    whole = StreamedText(name, subset=subset, columns=columns)
    splits = _split_names(name, subset)
    provenance = f"streamed from {name}"
    title = name.split("?")[0].rstrip("/").rsplit("/", 1)[-1].removeprefix(PREFIX)
    if "validation" in splits:
        texts = StreamedText(name, split="validation", subset=subset, columns=columns).head(count)
        train, note = whole, f"the first {len(texts):,} documents of the validation split"
    else:
        texts = whole.head(count)
        train = StreamedText(name, subset=subset, columns=columns, skip=count)
        note = f"no validation split: the first {len(texts):,} documents of the stream are held out"
    sample = train.head(size=SAMPLE)
    if not texts or not sample:
        raise ArenaError(f"{name} has too few documents: {count} are held out to validate on; lower --validation-limit")
    about = f"read as it is trained on, in its own order; a tokenizer is trained on the first {len(sample):,} documents"
    columns_of = {"train": {"text": sample}, "validation": {"text": texts}}
    notes = {"train": (*train.notes, about), "validation": (note,)}
    return {
        split: Dataset(
            title,
            LANGUAGE,
            split,
            columns_of[split],
            provenance=provenance,
            notes=notes[split],
            stream=train if split == "train" else None,
        )
        for split in ("train", "validation")
    }


def _split_names(name: str, subset: str | None) -> list[str]:
    if not name.startswith(PREFIX):
        return ["train"]
    import datasets

    place = name.removeprefix(PREFIX)
    try:
        names = [str(split) for split in datasets.get_dataset_split_names(place, subset)]
    except Exception as error:  # as in StreamedText
        raise ArenaError(f"cannot read {name} ({type(error).__name__}: {first_line(error)[:160]})") from None
    if "train" not in names:
        raise ArenaError(f"{name} has no split 'train'; {nearest('train', names)}")
    return names
