"""Which files of a folder, or of a pattern, are which split."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from arena_jax.config.errors import ArenaError, few
from arena_jax.data.content import ending_of
from arena_jax.data.files import SPLIT_ENDINGS, TABLES, TAGGED, TEXTS

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "testa"), "validation"),
    **dict.fromkeys(("test", "testb"), "test"),
}
_SHARD = re.compile(r"(\d{4,6})-of-(\d{4,6})")
ENDINGS = (*TABLES, *TEXTS, *TAGGED, *SPLIT_ENDINGS)

Splits = dict[str, list[Path]]


def split_of(name: str) -> str | None:
    """The split that a name says, by a word in it: train, dev, test …

    Example:
        >>> split_of("train-00000-of-00004.parquet"), split_of("eng.testa"), split_of("README.md")
        ('train', 'validation', None)
    """
    splits = {_WORDS[word] for word in re.findall("[a-z]+", name.lower()) if word in _WORDS}
    return splits.pop() if len(splits) == 1 else None


def split_files(folder: Path, subset: str | None = None) -> Splits:
    """The data files of a folder by split.

    A file's split is told by a word in its name, else in the name of the folder that it is in. Several files of one
    split are its shards where they are numbered alike (``train-00000-of-00002``), or fill a folder of that split.

    Args:
        folder: with the files, or with folders of them, as `hf download` leaves them.
        subset: name of the folder below, where there are several.

    Returns:
        Split to its files, in order.

    Raises:
        ArenaError: no data files, missing shards, or files that might be of two data sets.
    """
    if subset is not None and (folder / subset).is_dir():
        return split_files(folder / subset)
    splits = _of_one_folder(folder) or _below(folder)
    if splits:
        return splits
    # As the Hub has it: data/, or a folder per subset.
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "_"))]
    inner = {path.name: splits for path in below if (splits := _of_one_folder(path) or _below(path))}
    for name in ("data", "raw", "wikitext-2-raw", "wikitext-2", "default", "plain_text"):
        if name in inner:
            return inner[name]
    if len(inner) > 1:
        raise ArenaError(
            f"{folder} holds several data sets: {few(inner)}; name one of these folders, or give subset=NAME"
        )
    if inner:
        return next(iter(inner.values()))
    alone = [path for path in _data_files(folder) if not _NOT_DATA.search(path.name.lower())]
    if len(alone) == 1:
        return {"all": alone}
    raise ArenaError(
        f"{folder} holds no data file with train, dev or test in its name "
        f"({', '.join((*TABLES, *TEXTS, *TAGGED))}, perhaps packed); name one file, or rename them"
    )


def _below(folder: Path) -> Splits:
    """The files of the folders below that are named as splits."""
    splits: Splits = {}
    for path in sorted(folder.iterdir()):
        split = split_of(path.name) if path.is_dir() and not path.name.startswith((".", "_")) else None
        files = _data_files(path) if split is not None else []
        if split is not None and files:
            if split in splits:
                raise ArenaError(
                    f"{folder} holds two folders for the split {split}: {path.name} is the second; name one"
                )
            splits[split] = _complete(files)
    return splits


def pattern_files(pattern: str) -> Splits:
    """The files that a pattern such as ``data/train-*.jsonl`` names, by split; "all" where their names say none.

    Raises:
        ArenaError: no file goes by it.
    """
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]
    if not files:
        raise ArenaError(f"no file goes by the pattern {pattern}; check it")
    splits: Splits = {}
    for path in files:
        splits.setdefault(split_of(path.name) or "all", []).append(path)
    if "all" in splits and len(splits) > 1:
        raise ArenaError(f"{pattern}: {splits['all'][0].name} has no split in its name, others have: name fewer files")
    return {split: _complete(paths) for split, paths in splits.items()}


def _data_files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith((".", "_")) and ending_of(path) in ENDINGS
    ]


# Files that lie beside data, or beside a model.
_NOT_DATA = re.compile(
    r"config|tokenizer|vocab|special_tokens|dataset_?info|state|index|license|readme|requirements|notice"
)


def _of_one_folder(folder: Path) -> Splits:
    splits: Splits = {}
    for path in _data_files(folder):
        split = split_of(path.name)
        if split is not None:
            splits.setdefault(split, []).append(path)
    for split, paths in splits.items():
        if len({_SHARD.sub("#", path.name) for path in paths}) > 1 or (
            len(paths) > 1 and not _SHARD.search(paths[0].name)
        ):
            raise ArenaError(
                f"{folder} holds two files for the split {split}: {paths[0].name} and {paths[1].name}; name one file"
            )
    return {split: _complete(paths) for split, paths in splits.items()}


def _complete(paths: Sequence[Path]) -> list[Path]:
    """The files in the order of their numbers, refused where one is missing."""
    numbers: dict[str, tuple[int, set[int]]] = {}
    for path in paths:
        shard = _SHARD.search(path.name)
        if shard:
            count, shards = numbers.setdefault(_SHARD.sub("#", path.name), (int(shard[2]), set()))
            if int(shard[2]) != count:
                raise ArenaError(f"{path.parent} holds parts of {count} and of {shard[2]} shards: keep one set of them")
            shards.add(int(shard[1]))
    for name, (count, shards) in numbers.items():
        missing = sorted(set(range(count)) - shards)
        if missing and not (min(shards) == 1 and missing == [0] and count in shards):
            lacks = few([f"{number:05d}" for number in missing])
            raise ArenaError(f"{paths[0].parent}: of the {count} shards {name} these are missing: {lacks}; fetch them")
    return sorted(paths)
