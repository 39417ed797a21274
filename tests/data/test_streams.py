"""Texts that are read as they are trained on: each kind of address, the rows of a file, resumed to the row."""

import contextlib
import functools
import gzip
import http.server
import json
import threading

import datasets
import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, StreamedBatches, encode, is_stream, load, open_stream, train_tokenizer
from arena_jax.data.streamed_text import StreamedText

TEXTS = [f"text {number} of a stream, naïve ☃ and long enough to fill a row of tokens\n" for number in range(150)]


@pytest.fixture(scope="module")
def tokenizers():
    return {family: train_tokenizer(TEXTS, family, vocab_size=400) for family in ("bert", "gpt2")}


@pytest.fixture
def folder(tmp_path):
    """The same texts as shards of every kind."""
    for shard, part in enumerate((TEXTS[:60], TEXTS[60:])):
        lines = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in part).encode()
        (tmp_path / f"train-{shard}.jsonl").write_bytes(lines)
        (tmp_path / f"train-{shard}.jsonl.gz").write_bytes(gzip.compress(lines))
        (tmp_path / f"train-{shard}.txt").write_text("\n".join(part))
        table = pyarrow.table({"id": [1] * len(part), "text": part})
        pyarrow.parquet.write_table(table, tmp_path / f"train-{shard}.parquet", row_group_size=11)
    return tmp_path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """The folder's address on a web server of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def texts_of(name, **options):
    return [text.strip() for text in StreamedText(name, **options).documents()]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "txt", "parquet"])
def test_files_and_memory(folder, ending):
    expected = [text.strip() for text in TEXTS]
    assert texts_of(f"file://{folder}/train-*.{ending}") == expected
    memory = fsspec.filesystem("memory")
    for path in sorted(folder.glob(f"*.{ending}")):
        memory.pipe(f"/{folder.name}/{path.name}", path.read_bytes())
    assert texts_of(f"memory://{folder.name}/train-*.{ending}") == expected
    assert texts_of(f"memory://{folder.name}/train-*.{ending}", skip=70) == expected[70:]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "txt", "parquet"])
def test_a_web_server(folder, ending):
    pytest.importorskip("aiohttp")
    with served(folder) as address:
        assert texts_of(f"{address}/train-1.{ending}") == [text.strip() for text in TEXTS[60:]]
        with pytest.raises(ArenaError, match="cannot read http") as caught:
            StreamedText(f"{address}/none.{ending}")
        assert str(caught.value).isprintable()


def test_the_hub(folder, monkeypatch):
    real = datasets.load_dataset

    def load_dataset(name, *rest, **options):
        if name == "somebody/texts":
            part = {"train": "train-0", "validation": "train-1"}[options["split"]]
            return real("json", data_files=str(folder / f"{part}.jsonl"), split="train", streaming=True)
        return real(name, *rest, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train", "validation"])
    splits = open_stream("stream:somebody/texts", held_out=5)
    assert splits["train"].columns["text"] == TEXTS[:60]
    assert splits["validation"].columns["text"] == TEXTS[60:65]
    assert "columns not used: id" in splits["train"].notes
    assert "the first 5 documents of the validation split" in splits["validation"].notes


def rows_of(folder, tokenizer, ending="jsonl", **options):
    splits = open_stream(f"file://{folder}/train-*.{ending}", held_out=10)
    return encode(splits["train"], tokenizer, max_length=16, **options)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_rows_are_those_of_the_same_texts_in_memory(folder, tokenizers, family):
    stream = StreamedBatches(rows_of(folder, tokenizers[family]))
    data = Dataset("x", "language-model", "train", {"text": TEXTS[10:]})
    expected = encode(data, tokenizers[family], max_length=16)
    for first in range(0, 2 * len(expected), 8):  # the second time round too
        batch, whole = stream.next(8), expected.batch(np.arange(first, first + 8) % len(expected))
        assert batch.keys() == whole.keys()
        for name, value in whole.items():
            assert batch[name].dtype == value.dtype
            np.testing.assert_array_equal(batch[name], value, err_msg=f"{name} of row {first}")
    assert stream.epoch >= 1
    assert stream.examples_seen == first + 8


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "txt", "parquet"])
def test_it_goes_on_from_any_row(folder, tokenizers, ending):
    stream = StreamedBatches(rows_of(folder, tokenizers["gpt2"], ending))
    states, drawn = [], []
    for size in (3, 64, 1, 200, 7, 150, 30):
        states.append(json.loads(json.dumps(stream.state())))
        drawn.append(stream.next(size)["input_ids"])
    for index in (0, 2, 4, 6):
        other = StreamedBatches(rows_of(folder, tokenizers["gpt2"], ending))
        other.next(5)
        other.restore(states[index])
        assert other.state() == states[index]
        for expected in drawn[index:]:
            np.testing.assert_array_equal(other.next(len(expected))["input_ids"], expected)
    assert max(state["drawn"] for state in states) < 200  # it does not begin at the beginning


def test_processes_share_each_batch(folder, tokenizers):
    rows = rows_of(folder, tokenizers["gpt2"])
    whole = StreamedBatches(rows).next(16, 2)["input_ids"]
    halves = [
        StreamedBatches(rows_of(folder, tokenizers["gpt2"]), process_index=index, process_count=2).next(16, 2)
        for index in range(2)
    ]
    parts = [half["input_ids"][4 * part : 4 * part + 4] for part in range(2) for half in halves]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_is_no_text_is_left_out_or_refused(tmp_path, tokenizers):
    records = [{"text": text} for text in TEXTS]
    records[20], records[21] = {"text": None}, {"text": "  "}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    rows = encode(open_stream(f"file://{tmp_path}/a.jsonl", held_out=10)["train"], tokenizers["gpt2"], max_length=16)
    expected = encode(
        Dataset("x", "language-model", "train", {"text": [*TEXTS[10:20], *TEXTS[22:]]}),
        tokenizers["gpt2"],
        max_length=16,
    )
    np.testing.assert_array_equal(
        StreamedBatches(rows).next(len(expected))["input_ids"], expected.batch(np.arange(len(expected)))["input_ids"]
    )
    records = [{"text": text} for text in TEXTS[:20]] + [{"text": ""}] * 200
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, records)))
    rows = encode(open_stream(f"file://{tmp_path}/b.jsonl", held_out=2)["train"], tokenizers["gpt2"], max_length=16)
    with pytest.raises(ArenaError, match="records have no text"):
        StreamedBatches(rows).next(500)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("memory://nowhere/a.jsonl", "cannot read memory://nowhere/a.jsonl"),
        ("memory://nowhere/a.csv", r"\.csv is not read as a stream"),
        ("memory://nowhere/a.txt", "cannot read"),
        ("nosuch://bucket/a.txt", "cannot read"),
        ("stream:no/such", "cannot read stream:no/such"),
    ],
)
def test_what_cannot_be_read_is_one_line(name, reason):
    assert is_stream(name)
    with pytest.raises(ArenaError, match=reason) as caught:
        open_stream(name)
    assert str(caught.value).isprintable()
    with pytest.raises(ArenaError, match="a file or data set is needed"):
        load(name)


def test_another_position_is_refused(folder, tokenizers):
    state = StreamedBatches(rows_of(folder, tokenizers["gpt2"])).state()
    with pytest.raises(ArenaError, match="of another stream"):
        StreamedBatches(rows_of(folder, tokenizers["bert"])).restore(state)
