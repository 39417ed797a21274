"""A thousand damaged configurations, data files and weight folders: each is read, or refused in one line.

Nothing here is written by hand: hypothesis damages good ones, the same way every time.
"""

import bz2
import copy
import gzip
import json
import lzma
import struct

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_jax import config, models
from arena_jax.cli import options
from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.data import (
    Batches,
    StreamedBatches,
    corpus,
    encode,
    encode_stored,
    load,
    load_tokenizer,
    open_stream,
    train_tokenizer,
)
from arena_jax.data.token_stream import token_stream
from arena_jax.models.huggingface.tokenizer_files import tokenizer_facts

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
MANY = 334


def told_in_one_line(call):
    """What the call returns, or None where it refuses as it should."""
    try:
        return call()
    except ArenaError as error:
        message = str(error)
        assert message
        assert message.isprintable(), message
        return None


# ---- damage ----

# What hands and scripts leave in such files, and what attackers would.
ODD = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        2**31,
        2**63,
        10**30,
        0.5,
        1.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        "",
        " ",
        "0",
        "nan",
        "bert-tiny",
        "gpt2",
        "../x",
        "a\nb",
        "\x00",
        "\ud800",
        "é" * 300,
        [],
        [None],
        [[]],
        [1, "a"],
        {},
        {"": None},
        {"a": {"b": []}},
    ]
)


def places(value, path=()):
    """Every place in a JSON value, as a path of keys."""
    yield path
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in below:
        yield from places(inner, (*path, key))


@st.composite
def damaged(draw, whole, most=3):
    """A copy of a JSON value with a few of its parts replaced, removed, added, renamed or doubled."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        spots = [path for path in places(value) if path]
        if not spots:
            return value
        *way, last = spots[draw(st.integers(0, len(spots) - 1))]
        holder = value
        for key in way:
            holder = holder[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "add", "swap"])):
            case "replace":
                holder[last] = copy.deepcopy(draw(ODD))
            case "remove":
                del holder[last]
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["", "nmae", "__class__", "auto_map", str(last) + "s"]))] = copy.deepcopy(
                    draw(ODD)
                )
            case "swap" if isinstance(holder, dict):
                other = draw(st.sampled_from(sorted(holder)))
                holder[last], holder[other] = holder[other], holder[last]
            case _:
                holder.append(copy.deepcopy(draw(ODD))) if isinstance(holder, list) else holder.update({"x": None})
    return value


def edited(draw, content: bytes) -> bytes:
    """A few bytes removed and added."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=4)) + content[at + draw(st.integers(0, 4)) :]
    return content


# ---- configurations ----

RUNS = [config.to_dict(presets.get(name)) for name in ("joint-sst2", "arena-small")]


@settings(max_examples=MANY, **SETTINGS)
@given(data=st.data())
def test_configurations(tmp_path, data):
    path = tmp_path / "config.json"
    run = data.draw(st.sampled_from(RUNS))
    if data.draw(st.booleans()):
        path.write_text(json.dumps(data.draw(damaged(run))), "utf-8")
    else:
        path.write_bytes(edited(data.draw, json.dumps(run, indent=1).encode()))
    read = told_in_one_line(lambda: config.load(path))
    if read is not None:
        config.save(read, tmp_path / "again.json")
        assert config.load(tmp_path / "again.json") == read


@settings(max_examples=MANY, **SETTINGS)
@given(
    flag=st.sampled_from(sorted(options.flags())),
    text=st.text(max_size=8)
    | st.sampled_from(["nan", "inf", "-inf", "1e400", "-1", "0", "1_0", "٣", "none", "1,1", "a=b,=", "9" * 400]),
)
def test_options(flag, text):
    section, field = options.flags()[flag]
    told_in_one_line(lambda: options.apply(presets.get("joint-sst2"), {f"{section}.{field.name}": text}))


# ---- data ----

ROWS = {
    "sequence-classification": [{"text": "a good film", "label": 1}, {"text": "bad", "label": 0}],
    "token-classification": [{"words": ["a", "b"], "tags": ["O", "B-x"]}, {"words": ["c"], "tags": ["O"]}],
    "question-answering": [
        {"question": "?", "context": "a b c", "answers": {"text": ["b"], "answer_start": [2]}},
        {"question": "?", "context": "a b c", "answers": [{"text": "a", "answer_start": 0}]},
    ],
    "language-model": [{"text": "some text"}, {"text": "more"}],
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a good film, some text"], "bert", min_frequency=1)


@settings(max_examples=MANY, **SETTINGS)
@given(task=st.sampled_from(sorted(ROWS)), data=st.data(), lines=st.booleans())
def test_data_files(tmp_path, tokenizer, task, data, lines):
    rows = data.draw(damaged(ROWS[task]))
    if lines and isinstance(rows, list):
        (path := tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        (path := tmp_path / "a.json").write_text(json.dumps(rows))

    def read():
        examples = load(path, task=task, split="all")
        assert all(line.isprintable() for line in examples.report())
        return Batches(encode(examples, tokenizer, max_length=32)).next(2)

    batch = told_in_one_line(read)
    assert batch is None or len(batch["input_ids"]) == 2


TABLE = 'text,label\na good film,yes\n"bad, very",no\n'
CONLL = (
    "# sent_id = 1\n1-2\tim\t_\tO\n1\tin\tADP\tO\n2\tdem\tDET\tB-x\n\n"
    "-DOCSTART- -X- O O\n\n# text = a\n1\ta\tNOUN\tO\n2\tb\tNOUN\tI-x\n"
)


def parquet() -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a good film", "bad"], "label": [1, 0]}), sink)
    return sink.getvalue().to_pybytes()


def arrow() -> bytes:
    table = pyarrow.table({"words": [["a", "b"], ["c"]], "tags": [["O", "B-x"], ["O"]]})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


WHOLE = {
    "a.csv": TABLE.encode(),
    "b.csv": b"sep=;\n" + TABLE.replace(",", ";").encode(),
    "c.csv": TABLE.encode("utf-16"),
    "a.csv.gz": gzip.compress(TABLE.encode(), mtime=0),
    "a.csv.bz2": bz2.compress(TABLE.encode()),
    "a.csv.xz": lzma.compress(TABLE.encode()),
    "a.conll": CONLL.encode(),
    "eng.testa": b"Anna NNP B-NP I-PER\nsings VBZ B-VP O\n\nhe PRP B-NP O\n",
    "a.parquet": parquet(),
    "a.arrow": arrow(),
    "words.csv": b"Sentence #,Word,POS,Tag\nSentence: 1,Anna,NNP,B-x\n,sings,VBZ,O\nSentence: 2,he,PRP,O\n,ran,VBD,O\n",
    "gaps.tsv": b"word\ttag\nAnna\tB-x\nsings\tO\n\nhe\tO\nran\tO\n",
    "labels.csv": b"id,text,rude,long\n1,a good film,0,1\n2,bad,1,0\n",
    "a.json": b'{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n',
}


@settings(max_examples=MANY, **SETTINGS)
@given(name=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_packed_columnar_and_tagged_files(tmp_path, tokenizer, name, data):
    (path := tmp_path / name).write_bytes(edited(data.draw, WHOLE[name]))

    def read():
        several = "multi_label_classification" if name == "labels.csv" else None
        examples = load(path, split="all", problem_type=several)
        assert all(line.isprintable() for line in examples.report())
        return Batches(encode(examples, tokenizer, max_length=32)).next(2)

    batch = told_in_one_line(read)
    assert batch is None or len(batch["input_ids"]) == 2


LINES = "".join(f"line {number} of a good film, some text\n\n" for number in range(9))
LARGE = {
    "a.txt": LINES.encode(),
    "b.txt": LINES.encode("utf-16"),
    "a.txt.gz": gzip.compress(LINES.encode(), mtime=0),
    "a.txt.xz": lzma.compress(LINES.encode()),
    "a.jsonl": b"".join(json.dumps({"text": line}).encode() + b"\n" for line in LINES.split("\n\n")),
    "a.parquet": parquet(),
    "a.arrow": arrow(),
}


@settings(max_examples=MANY, **SETTINGS)
@given(name=st.sampled_from(sorted(LARGE)), data=st.data())
def test_large_texts(tmp_path, monkeypatch, name, data):
    monkeypatch.setenv("ARENA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus, "LARGE", 1)
    (path := tmp_path / name).write_bytes(edited(data.draw, LARGE[name]))

    def read():
        examples = load(path, task="language-model", split="all")
        assert all(line.isprintable() for line in examples.report())
        return "".join(examples.columns["text"])

    told_in_one_line(read)


@settings(max_examples=100, **SETTINGS)
@given(name=st.sampled_from(["a.txt", "a.txt.gz", "a.jsonl", "a.parquet", "a.arrow"]), data=st.data())
def test_streams(tmp_path, tokenizer, name, data):
    (path := tmp_path / name).write_bytes(edited(data.draw, LARGE[name]))

    def read():
        examples = open_stream(f"file://{path}", held_out=1)["train"]
        assert all(line.isprintable() for line in examples.report())
        return StreamedBatches(encode(examples, tokenizer, max_length=8)).next(30)

    batch = told_in_one_line(read)
    assert batch is None or len(batch["input_ids"]) == 30


def in_this_process(documents, tokenizer, separator, folder):
    yield token_stream(list(documents), tokenizer.configured(), separator, tokenizer.unk_id)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, tokenizer):
    """A large text and its tokens in the store: each file of them, and how they are read."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "a.txt").write_text(LINES)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ARENA_CACHE", str(folder / "cache"))
        patched.setattr(corpus, "LARGE", 1)
        patched.setattr(encode_stored, "parallel_tokens", in_this_process)

        def read():
            examples = load(folder / "a.txt", split="all")
            assert all(line.isprintable() for line in examples.report())
            rows = encode(examples, tokenizer, max_length=8)
            assert all(line.isprintable() for line in rows.report())
            return Batches(rows).next(20)

        read()
        paths = sorted((folder / "cache" / "data").glob("*/*"))
        yield {path: path.read_bytes() for path in paths}, read


@pytest.mark.slow
@settings(max_examples=MANY, **SETTINGS)
@given(data=st.data())
def test_the_store(stored, data):
    files, read = stored
    path = data.draw(st.sampled_from(sorted(files)))
    if path.suffix == ".json" and data.draw(st.booleans()):
        content = json.dumps(data.draw(damaged(json.loads(files[path])))).encode()
    elif data.draw(st.booleans()):
        content = edited(data.draw, files[path])
    else:  # of the same length
        at = data.draw(st.integers(0, len(files[path]) - 1))
        content = files[path][:at] + data.draw(st.binary(min_size=1, max_size=1)) + files[path][at + 1 :]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    batch = told_in_one_line(read)
    assert batch is None or batch["input_ids"].max() < 100
    for path, content in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


@settings(max_examples=MANY, **SETTINGS)
@given(
    task=st.sampled_from(sorted(ROWS)),
    data=st.data(),
    kind=st.sampled_from([None, "regression", "multi_label_classification"]),
)
def test_data_in_memory(tokenizer, task, data, kind):
    rows = data.draw(damaged(ROWS[task]))
    columns = {name: [row.get(name) for row in rows if isinstance(row, dict)] for name in ROWS[task][0]}
    source = columns if data.draw(st.booleans()) else rows

    def read():
        problem_type = kind if task == "sequence-classification" else None
        examples = load(source, task=task, split="all", problem_type=problem_type)
        assert all(line.isprintable() for line in examples.report())
        return Batches(encode(examples, tokenizer, max_length=32)).next(2)

    batch = told_in_one_line(read)
    assert batch is None or len(batch["input_ids"]) == 2


@settings(max_examples=MANY // 2, **SETTINGS)
@given(data=st.data())
def test_tokenizer_folders(tmp_path, tokenizer, data):
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    name = data.draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json"]))
    content = json.loads((tmp_path / name).read_text())
    if data.draw(st.booleans()):
        (tmp_path / name).write_text(json.dumps(data.draw(damaged(content))))
    else:
        (tmp_path / name).write_bytes(edited(data.draw, json.dumps(content).encode()))
    told_in_one_line(lambda: tokenizer_facts(tmp_path))
    read = told_in_one_line(lambda: load_tokenizer(tmp_path))
    assert read is None or read.facts.vocab_size == read.vocab_size


# ---- weights ----


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny folders of two families, and one in shards, as bytes."""
    found = []
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "vocab_size": 20}
    for family, task, limit in (
        ("bert", "sequence-classification", "1GB"),
        ("gpt2", "causal-lm", "1GB"),
        ("gpt2", "causal-lm", "2KB"),
    ):
        shape = models.preset(f"{family}-tiny", **sizes, max_positions=8)
        folder = tmp_path_factory.mktemp("weights")
        models.save_pretrained(models.create(shape, task=task), folder, max_shard_size=limit)
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    return found


def changed_header(draw, content: bytes) -> bytes:
    """A safetensors file whose header says something else."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(draw(damaged(header))).encode("utf-8", "replace")
    return (
        struct.pack("<Q", draw(st.sampled_from([len(text), len(text), length, 2**62]))) + text + content[8 + length :]
    )


@settings(max_examples=MANY, **SETTINGS)
@given(data=st.data())
def test_weight_folders(tmp_path, folders, data):
    for path in tmp_path.iterdir():
        path.unlink()
    files = dict(data.draw(st.sampled_from(folders)))
    name = data.draw(st.sampled_from(sorted(files)))
    content = files[name]
    kinds = ["bytes", "cut", "gone", "numbers"] + (["json"] * 3 if name.endswith(".json") else ["header"] * 3)
    match data.draw(st.sampled_from(kinds)):
        case "json":
            files[name] = json.dumps(data.draw(damaged(json.loads(content)))).encode()
        case "header":
            files[name] = changed_header(data.draw, content)
        case "bytes":
            files[name] = edited(data.draw, content)
        case "cut":
            files[name] = content[: data.draw(st.integers(0, len(content) - 1))]
        case "gone":
            del files[name]
            files["pytorch_model.bin"] = b"\x80\x04cos\nsystem\n"
        case "numbers":
            bad = np.array([data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))], np.float32).tobytes()
            files[name] = content[: -4 * data.draw(st.integers(1, 8))] + bad
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    model = told_in_one_line(lambda: models.from_pretrained(tmp_path))
    assert sorted(tmp_path.iterdir()) == before, "reading writes nothing"
    if model is not None:
        assert all(np.isfinite(leaf).all() for leaf in leaves(models.split(model)[1]))


def leaves(tree):
    for value in tree.values():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield np.asarray(value)
