"""Large texts: read and tokenised once, kept on disk, and the same rows as from memory."""

import gzip
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from arena_jax.cli.main import main
from arena_jax.config.errors import ArenaError
from arena_jax.data import (
    Batches,
    Dataset,
    corpus,
    encode,
    encode_stored,
    evaluation_batches,
    load,
    parallel_tokens,
    store,
    stored_documents,
    train_tokenizer,
)
from arena_jax.data.sources import read_file

WORDS = ["a", "good", "film", "was", "shown", "to", "many", "people,", "naïve", "and", "☃", "alike"]


def paragraphs(count, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(3, 40))) + "\n\n" for _ in range(count)]


@pytest.fixture(autouse=True)
def small_store(tmp_path, monkeypatch):
    """A store of this test's own; a text is large from 1,000 bytes."""
    monkeypatch.setenv("ARENA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus, "LARGE", 1000)
    monkeypatch.setattr(stored_documents, "BLOCK", 700)


@pytest.fixture(scope="module")
def tokenizers():
    return {family: train_tokenizer(paragraphs(50), family, vocab_size=400) for family in ("bert", "gpt2")}


@pytest.fixture
def text(tmp_path):
    (path := tmp_path / "corpus.txt").write_text("".join(paragraphs(200)))
    return path


def in_memory(data):
    return Dataset(data.name, data.task, data.split, {"text": list(data.columns["text"])})


def written(path, texts):
    """The same texts in a file of each kind."""
    ending = path.name.split(".", 1)[1]
    table = pyarrow.table({"title": ["x"] * len(texts), "text": texts})
    lines = "".join(json.dumps({"title": "x", "text": text}) + "\n" for text in texts)
    if ending == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=7)
    elif ending == "arrow":
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as file:
            file.write_table(table, max_chunksize=9)
    elif ending == "stream.arrow":
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as file:
            file.write_table(table, max_chunksize=9)
    elif ending == "jsonl":
        path.write_text(lines)
    elif ending == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif ending == "crlf.txt":
        path.write_bytes(b"\xef\xbb\xbf" + "".join(texts).replace("\n", "\r\n").encode())
    elif ending == "wide.txt":
        path.write_bytes("".join(texts).encode("utf-16"))
    elif ending == "txt.zst":
        with pyarrow.CompressedOutputStream(str(path), "zstd") as sink:
            sink.write("".join(texts).encode())
    return path


@pytest.mark.parametrize(
    "name", ["jsonl", "jsonl.gz", "parquet", "arrow", "stream.arrow", "crlf.txt", "wide.txt", "txt.zst"]
)
@pytest.mark.parametrize("block", [64, 4 * 2**20])
def test_every_kind_of_file_is_read_as_it_is_read_whole(tmp_path, monkeypatch, name, block):
    monkeypatch.setattr("arena_jax.data.text_blocks.BLOCK", block)
    path = written(tmp_path / f"a.{name}", paragraphs(60))
    data = load(path, task="language-model", split="all")
    assert isinstance(data.columns["text"], stored_documents.Documents)
    whole = read_file(path, "language-model").columns["text"]
    assert list(data.columns["text"]) == whole == paragraphs(60)
    assert [data.columns["text"][row] for row in (0, 7, -1)] == [whole[row] for row in (0, 7, -1)]
    assert data.columns["text"][3:20] == whole[3:20]
    if name in ("jsonl", "parquet"):
        assert "columns not used: title" in data.notes


def test_wikitext_is_divided_as_when_it_is_read_whole(arena_data):
    path = arena_data / "wikitext" / "raw" / "valid.raw"
    data = load(path, task="language-model", split="validation")
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(corpus, "LARGE", 2**40)
        whole = load(path, task="language-model", split="validation")
    assert list(data.columns["text"]) == whole.columns["text"]
    assert data.take(3).columns["text"][:] == whole.columns["text"][:3]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_rows_are_those_from_memory_to_the_bit(text, tokenizers, monkeypatch, family):
    monkeypatch.setattr(parallel_tokens, "PART", 1500)
    monkeypatch.setattr(parallel_tokens, "worker_count", lambda: 2)
    data = load(text, split="train")
    rows = encode(data, tokenizers[family], max_length=16)
    expected = encode(in_memory(data), tokenizers[family], max_length=16)
    assert rows.fingerprint == expected.fingerprint
    assert rows.counts == expected.counts
    assert rows.report()[0] == expected.report()[0]
    np.testing.assert_array_equal(rows.row_lengths, expected.row_lengths)
    for name, column in expected.tokens.items():
        np.testing.assert_array_equal(rows.tokens[name].values, column.values)
        np.testing.assert_array_equal(rows.tokens[name].offsets, column.offsets)
        np.testing.assert_array_equal(rows.tokens[name][-1], column[len(column) - 1])
    for one, other in zip(evaluation_batches(rows, 8), evaluation_batches(expected, 8), strict=True):
        assert {name: value.dtype for name, value in one.items()} == {
            name: value.dtype for name, value in other.items()
        }
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
    streams = Batches(rows, seed=3), Batches(expected, seed=3)
    assert streams[0].state() == streams[1].state()
    for size in (5, 64, 200):
        one, other = (stream.next(size) for stream in streams)
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
    again = Batches(encode(data, tokenizers[family], max_length=16), seed=3)
    again.restore(streams[0].state())
    halves = [Batches(rows, seed=3, process_index=index, process_count=2) for index in range(2)]
    for half in halves:
        half.restore(streams[1].state())
    expected_batch = streams[1].next(8)
    np.testing.assert_array_equal(again.next(8)["input_ids"], expected_batch["input_ids"])
    np.testing.assert_array_equal(
        np.concatenate([half.next(8)["input_ids"] for half in halves]), expected_batch["input_ids"]
    )


def test_how_far_it_is_is_said(text, tokenizers, monkeypatch, capsys):
    monkeypatch.setattr(encode_stored, "_SILENCE", 0.0)
    monkeypatch.setattr(parallel_tokens, "PART", 10_000)
    encode(load(text, split="all"), tokenizers["gpt2"], max_length=16)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert lines[-1].endswith(" of 0 MB, 0 min left")


def test_tokens_are_made_once_for_all_who_have_the_same_text_and_tokenizer(text, tokenizers, tmp_path, monkeypatch):
    first = encode(load(text, split="all"), tokenizers["gpt2"], max_length=16)
    copy = tmp_path / "elsewhere.txt"
    copy.write_bytes(text.read_bytes())
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it is tokenised again"))
    for path in (text, copy):
        again = encode(load(path, split="all"), tokenizers["gpt2"], max_length=16)
        assert again.fingerprint == first.fingerprint
        assert any("tokenised before" in note for note in again.notes)
    for changed in (
        lambda: encode(load(text, split="train"), tokenizers["gpt2"], max_length=16),
        lambda: encode(load(text, split="all"), tokenizers["gpt2"], max_length=24),
        lambda: encode(load(text, split="all"), tokenizers["bert"], max_length=16),
    ):
        with pytest.raises(pytest.fail.Exception):
            changed()
    content = text.read_text()
    status = text.stat()
    text.write_text(content[:-5] + "!" + content[-4:])  # of the same size, and set back to the same time
    os.utime(text, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(pytest.fail.Exception):
        encode(load(text, split="all"), tokenizers["gpt2"], max_length=16)


def test_one_of_several_makes_an_entry_and_the_others_wait(small_store):
    made, entries = [], []

    def make(folder):
        made.append(folder)
        (folder / "a.bin").write_bytes(np.arange(3, dtype=np.int32).tobytes())
        return {"arrays": {"a": ["int32", [3]]}}

    threads = [threading.Thread(target=lambda: entries.append(store.get("text", "0" * 32, make))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(new for _, new in entries) == [False] * 5 + [True]
    assert all(entry.array("a")[:].tolist() == [0, 1, 2] for entry, _ in entries)


def test_what_a_killed_process_leaves_is_made_anew_and_cleared(text, capsys):
    folder = store.store_folder()
    entry, _ = load(text, split="all").columns["text"].entry, None
    half = entry.folder.with_name(f".{entry.folder.name}.partial")
    half.mkdir()
    (half / "text.bin").write_bytes(b"half")
    (entry.folder / "starts.bin").write_bytes(b"")  # the disk was full
    assert [piece.whole for piece in store.entries()] == [False, False]
    assert list(load(text, split="all").columns["text"]) == paragraphs(200)
    assert not half.exists()
    assert folder.stat().st_mode & 0o077 == 0
    assert main(["data", "info"]) == 0
    out = capsys.readouterr().out
    assert "1 kept" in out
    assert "200 documents of" in out
    (folder / "mine.txt").write_text("is not theirs")
    assert main(["data", "clear"]) == 0
    assert "1 removed" in capsys.readouterr().out
    assert main(["data", "info"]) == 0
    assert "0 kept" in capsys.readouterr().out
    assert (folder / "mine.txt").exists()


def test_a_store_that_others_may_write_to_is_refused(text):
    folder = store.store_folder()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(ArenaError, match="chmod 700"):
        load(text, split="all")


def test_damaged_tokens_are_refused_and_not_trained_on(text, tokenizers):
    rows = encode(load(text, split="all"), tokenizers["gpt2"], max_length=16)
    path = next(store.store_folder().glob("tokens-*/ids.bin"))
    content = path.read_bytes()
    path.write_bytes(b"\xff" * len(content))
    with pytest.raises(ArenaError, match="arena-jax data clear"):
        Batches(rows).next(4)
    with path.open("wb") as file:
        file.truncate(10)
    with pytest.raises(ArenaError, match="cut off"):
        Batches(rows).next(4)


def test_a_process_that_fails_is_told_in_one_line(text, tokenizers, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ArenaError, match="a process that tokenises has ended: exit code 1") as caught:
        encode(load(text, split="all"), tokenizers["gpt2"], max_length=16)
    assert "\n" not in str(caught.value)
    assert not list(store.store_folder().glob("*tokens*partial"))


def test_records_that_are_none_are_counted(tmp_path):
    texts = paragraphs(100)
    lines = [json.dumps({"text": text}) for text in texts]
    lines[3], lines[50], lines[70] = "{", json.dumps({"text": 7}), json.dumps({"text": " "})
    (path := tmp_path / "a.jsonl").write_text("\n".join(lines))
    data = load(path, task="language-model", split="all")
    assert list(data.columns["text"]) == [text for row, text in enumerate(texts) if row not in (3, 50, 70)]
    assert "1 empty documents left out" in data.notes
    assert [note for note in data.notes if note.startswith("2 of 99 records left out: line 4 is not JSON")], data.notes
    with pytest.raises(ArenaError, match=r"2 of 99 records cannot be used, more than max_bad_records=0\.01"):
        load(path, task="language-model", split="all", max_bad_records=0.01)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"good text\n" * 200 + b"bad \xff byte\n", "not UTF-8: a byte in line 201 is 0xff"),
        (b"good text\n" * 200 + b"bad \0 byte\n", "binary: a byte in line 201 is zero"),
        (gzip.compress(os.urandom(4000))[:-9], "cannot be unpacked"),
        (b"PK\x03\x04" + b"x" * 2000, "a zip archive"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content, reason):
    (path := tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ArenaError, match=reason):
        load(path, split="all")
    assert not list(store.store_folder().glob("*text-*/"))


def test_a_document_without_end_is_divided(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "LONGEST", 300)
    monkeypatch.setattr("arena_jax.data.text_blocks.BLOCK", 256)
    lines = "".join(f"line {number} of one text\n" for number in range(100)) + "☃" * 500
    (path := tmp_path / "a.txt").write_text(lines)
    data = load(path, split="all")
    assert "".join(data.columns["text"]) == lines
    assert max(map(len, data.columns["text"])) < 600
    assert any("are divided" in note for note in data.notes)
    (path := tmp_path / "a.jsonl").write_text(json.dumps({"text": lines}))
    data = load(path, task="language-model", split="all")
    assert "".join(data.columns["text"]) == lines
    assert max(map(len, data.columns["text"])) <= 300


def test_a_tokenizer_is_trained_on_the_first_part_and_says_so(text, monkeypatch):
    data = load(text, split="all")
    monkeypatch.setattr("arena_jax.data.tokenizer_training.TRAINED_ON", 3000)
    tokenizer = train_tokenizer(data, "gpt2", vocab_size=300)
    first = data.columns["text"].head(3000)
    assert 3000 <= sum(len(part.encode()) for part in first) < 3300
    assert tokenizer.backend.to_str() == train_tokenizer(first, "gpt2", vocab_size=300).backend.to_str()
    assert any(f"trained on the first {len(first)} of 200 documents" in note for note in tokenizer.notes)
