"""Bad data ends in one line that says what, where and what to do; never in a foreign traceback."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_jax.config.errors import ArenaError
from arena_jax.data import Batches, Dataset, encode, load, train_tokenizer

SQUAD = {"data": [{"paragraphs": [{"context": "a b c", "qas": [{"id": "1", "question": "?", "answers": []}]}]}]}


def refused(call):
    with pytest.raises(ArenaError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# file name, content, what to ask for, what the message must say
CASES = [
    ("a.tsv", b"", {}, "is empty"),
    ("a.tsv", b" \n\n", {}, "is empty"),
    ("a.csv", b",,\n,,\n", {}, "separators alone"),
    ("a.tsv", b"text\tlabel\n", {}, "no examples"),
    ("a.tsv", b"text\tlabel\nok\t1\nbad \xff\t0\n", {}, "byte 20 in line 3 is 0xff"),
    ("a.tsv", b"text\tlabel\na\x00b\t1\n", {}, "byte 12 in line 2 is zero"),
    ("a.csv", "text,label\nä,1\n".encode("utf-16-le"), {}, "is binary"),
    ("a.tsv", b"text\tlabel\na\t1\nb\n", {}, "line 3 has 1 fields"),
    ("a.tsv", b"text\ttext\na\t1\n", {}, "names the column 'text' twice"),
    ("a.csv", b'text,label\n"a,1\nb,0\n', {}, "check its quotes"),
    ("a.csv", b'"te\nxt",label\na,1\n', {}, "control characters"),
    ("a.tsv", b"text\tlabel\na\t1\n", {"columns": {"text": "txt"}}, "no column 'txt'; did you mean 'text'?"),
    ("a.tsv", b"text\tlabel\na\t1\n", {"task": "sequence-classification", "columns": {"txt": "text"}}, "'text'?"),
    ("a.tsv", b"corpus\tlabel\na\t1\n", {"task": "sequence-classification"}, "name it as text=COLUMN"),
    ("a.tsv", b"text\tlabel\na\t\n", {}, "line 2 has no label"),
    ("a.tsv", b"text\tlabel\na\t0\nb\t-1\n", {}, "label -1 is out of range"),
    ("a.tsv", b"text\tlabel\n" + b"".join(b"a\t%d\n" % n for n in range(7, 70, 2)), {}, "32 different values"),
    ("a.tsv", b"text\tlabel\na\t0\nb\t2\n", {"label_names": ("no", "yes")}, "label 2 is out of range"),
    ("a.jsonl", b'{"text": "a", "label": NaN}\n', {}, "line 1 has no label"),
    ("a.jsonl", b'{"text": "a", "label": 0}\n{"text": "b", "label": 1.5}\n', {}, "line 2: label 1.5 is no class"),
    ("a.tsv", b"text\tlabel\na\t3.8\nb\tgood\n", {}, "line 2: label 3.8 is no class"),
    ("a.tsv", b"text\tlabel\n \t1\n\t0\n", {}, "every text in column 'text' is blank"),
    ("a.jsonl", b'{"text": " "}\n', {"task": "language-model"}, "no examples"),
    ("a.jsonl", b'{"text": "a", "label": [1]}\n', {}, "not a list"),
    ("a.jsonl", b'{"text": "a", "label": 1}\n\n{"label": 0}\n', {}, "line 3 has no text"),
    ("a.jsonl", b'{"text": 3, "label": 1}\n', {}, "int instead of text"),
    ("a.jsonl", b'{"text": "\\ud800", "label": 1}\n', {}, "half of a surrogate pair"),
    ("a.jsonl", b'{"text": "a"\n', {}, "line 1 is not JSON"),
    ("a.jsonl", b"[1]\n", {}, "not a JSON object"),
    ("a.json", b"[" * 100_000, {}, "nested too deeply"),
    ("a.json", b'{"text": "a"}', {}, "must hold a JSON list"),
    ("a.json", b"[]", {}, "no examples"),
    ("a.json", b'{"data": [{"paragraphs": [{"qas": [1]}]}]}', {}, "not in SQuAD's form"),
    (
        "a.json",
        json.dumps(SQUAD).replace("[]", '[{"text": "z\\n", "answer_start": 0}]').encode(),
        {},
        "is not in its context",
    ),
    ("a.json", json.dumps(SQUAD).replace("[]", '[{"text": "a"}]').encode(), {}, 'whole number "answer_start"'),
    ("a.conll", b"word\tO\nlost\n", {}, "line 2: 'lost' has no tag"),
    ("a.jsonl", b'{"words": ["a"], "tags": ["O", "O"]}\n', {}, "1 words but 2 tags"),
    ("a.jsonl", b'{"words": "a", "tags": ["O"]}\n', {}, "list of texts"),
    ("a.xyz", b"some text\n", {}, "not known"),
    ("a.txt", b"some text\n", {"task": "sequence-classification"}, "not known"),
    ("a.tsv", b"text\tlabel\na\t1\n", {"split": "train"}, "nothing can be held out"),
    ("a.tsv", b"text\tlabel\na\t1\n", {"split": "test"}, "no split 'test'"),
    ("a.tsv", b"text\tlabel\na\t1\n", {"split": "trian"}, "did you mean 'train'?"),
    ("a.tsv", b"text\tlabel\na\t1\n", {"limit": 0}, "leaves none"),
    ("a.tsv", b"text\tlabel\na\t1\n", {"task": "tagging"}, "unknown task"),
]


@pytest.mark.parametrize(("name", "content", "options", "expected"), CASES)
def test_one_line_says_what_and_where(tmp_path, name, content, options, expected):
    path = tmp_path / name
    path.write_bytes(content)
    assert expected in refused(lambda: load(path, **{"split": "all", **options}))


def test_missing_and_unreadable_places(tmp_path, monkeypatch):
    (tmp_path / "train.tsv").write_text("text\tlabel\na\t1\n")
    assert "did you mean 'train.tsv'?" in refused(lambda: load(tmp_path / "trian.tsv"))
    assert "does not exist either" in refused(lambda: load(tmp_path / "no" / "train.tsv"))
    assert "did you mean 'sst2'?" in refused(lambda: load("sst-2"))
    assert "did you mean 'python-docs'?" in refused(lambda: load("python-doc"))
    (tmp_path / "train.csv").write_text("text,label\na,1\n")
    assert "two files for the split train" in refused(lambda: load(tmp_path))
    (tmp_path / "empty").mkdir()
    assert "holds no data file" in refused(lambda: load(tmp_path / "empty"))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert "cannot read the saved data set" in refused(lambda: load(tmp_path / "saved"))
    (tmp_path / "my-data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'my-data'?" in refused(lambda: load("mydata"))
    assert "is for language-model" in refused(lambda: load("python-docs", task="token-classification"))


def test_labels_of_another_split_that_training_does_not_have(tmp_path):
    (tmp_path / "train.tsv").write_text("text\tlabel\na\tred\nb\tblue\n")
    for label, expected in (("rod", "did you mean 'red'?"), ("1", "not one of the training labels")):
        (tmp_path / "dev.tsv").write_text(f"text\tlabel\na\t{label}\n")
        assert expected in refused(lambda: load(tmp_path, split="validation"))
    (tmp_path / "train.tsv").write_text("text\tlabel\na\t0\nb\t1\n")
    (tmp_path / "dev.tsv").write_text("text\tlabel\na\t2\n")
    assert "label 2 is out of range" in refused(lambda: load(tmp_path, split="validation"))


def test_rows_too_short_for_any_text(tokenizer):
    pair = {"text": ["a"], "text_pair": ["b"], "label": [0]}
    for task, columns in (
        ("sequence-classification", {"text": ["a"], "label": [0]}),
        ("sequence-classification", pair),
        ("token-classification", {"words": [["a"]], "labels": [[0]]}),
        ("question-answering", {"question": ["?"], "context": ["a"], "answers": [[]]}),
    ):
        data = Dataset("short", task, "train", columns, ("only",))
        assert "max_length=2" in refused(lambda data=data: encode(data, tokenizer, max_length=2))


def test_examples_made_by_hand_are_checked():
    assert "lacks the column 'label'" in refused(
        lambda: Dataset("m", "sequence-classification", "train", {"text": ["a"]})
    )
    assert "different lengths" in refused(
        lambda: Dataset("m", "sequence-classification", "train", {"text": ["a"], "label": []})
    )
    assert "label 2 is out of range" in refused(
        lambda: Dataset("m", "token-classification", "train", {"words": [["a"]], "labels": [[2]]}, ("x", "y"))
    )
    assert "task is one of" in refused(lambda: Dataset("m", "masked-lm", "train", {"text": ["a"]}))


def test_a_huge_line_is_read_whole(tmp_path):
    text = "word " * 60_000
    for name, content in (("a.csv", f"text,label\n{text},1\n"), ("a.tsv", f"text\tlabel\n{text}\t1\n")):
        (tmp_path / name).write_text(content)
        assert load(tmp_path / name, split="all").columns["text"] == [text]
    tokenizer = train_tokenizer(["word"], "gpt2")
    rows = encode(load(tmp_path / "a.tsv", split="all"), tokenizer, max_length=16)
    assert rows.row_lengths.tolist() == [16]
    assert rows.counts["cut_tokens"] > 59_000


GOOD = {
    "a.tsv": b"text\tlabel\na good film\tyes\na bad film\tno\n",
    "a.csv": b'text,label\n"a good, film",1\nbad,0\n',
    "a.jsonl": b'{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n',
    "a.json": json.dumps(SQUAD).replace("[]", '[{"text": "b", "answer_start": 2}]').encode(),
    "b.json": b'[{"tokens": ["a", "b"], "ner_tags": ["O", "B-x"]}]',
    "a.conll": b"a\tO\nb\tB-x\n\nc\tO\n",
    "a.txt": b"some text\n\nmore text\n",
}
TOKENS = st.sampled_from([b'"', b"\n", b"\t", b"-1", b"null", b"[", b"\\ud800"])
EDITS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=6) | TOKENS), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a good film, some text"], "bert", min_frequency=1)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(GOOD)), edits=EDITS)
def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path, tokenizer, name, edits):
    content = GOOD[name]
    for at, removed, added in edits:
        at %= len(content) + 1
        content = content[:at] + added + content[at + removed :]
    (tmp_path / name).write_bytes(content)
    try:
        data = load(tmp_path / name, split="all")
        batch = Batches(encode(data, tokenizer, max_length=32)).next(2)
        told = data.report()
    except ArenaError as error:
        told, batch = [str(error)], None
    assert told
    assert not any("\n" in line for line in told)
    assert batch is None or len(batch["input_ids"]) == 2
