"""Files as they come: packed, in shards, from spreadsheets, columnar; each gives the same examples, or one line."""

import bz2
import gzip
import lzma

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import load

TEXTS, LABELS = ["a good film", "bad, very bad", 'a "fine" one'], ["yes", "no", "yes"]
EXPECTED = {"text": TEXTS, "label": [1, 0, 1]}
CSV = 'text,label\na good film,yes\n"bad, very bad",no\n"a ""fine"" one",yes\n'


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(call):
    with pytest.raises(ArenaError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)]
)
def test_packed_files(tmp_path, ending, pack):
    packed = pack(CSV.encode())
    assert load(write(tmp_path / f"a.csv{ending}", packed), split="all").columns == EXPECTED
    assert load(write(tmp_path / "b.csv", packed), split="all").columns == EXPECTED  # what it is, not what it is called
    assert "cannot be unpacked" in refused(lambda: load(write(tmp_path / f"c.csv{ending}", packed[:-9]), split="all"))
    write(tmp_path / "folder" / f"train.csv{ending}", packed)
    assert load(tmp_path / "folder", split="all").columns == EXPECTED


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (CSV, None),
        ("\ufeff" + CSV, None),
        (CSV.replace("\n", "\r\n"), None),
        (CSV.encode("utf-16"), None),
        ("sep=,\n" + CSV, "sep=','"),
        ('sep=;\ntext;label\na good film;yes\n"bad, very bad";no\n"a ""fine"" one";yes\n', "sep=';'"),
        ('text;label\na good film;yes\nbad, very bad;no\n"a ""fine"" one";yes\n', "a semicolon"),
        ('text\tlabel\na good film\tyes\nbad, very bad\tno\n"a ""fine"" one"\tyes\n', "a tab"),
        ('text|label\na good film|yes\nbad, very bad|no\n"a ""fine"" one"|yes\n', "a bar"),
        (CSV.replace("\n", ",,\n"), "2 empty columns"),
        (CSV + ",\n,\n\n", "2 empty lines left out (first: line 5)"),
    ],
)
def test_what_spreadsheets_make_of_csv(tmp_path, content, note):
    data = load(write(tmp_path / "a.csv", content), split="all")
    assert data.columns == EXPECTED
    assert note is None or any(note in line for line in data.notes), data.notes


def test_an_unnamed_column_is_said(tmp_path):
    data = load(write(tmp_path / "a.csv", ",text,label\n0,x,yes\n1,y,no\n"), split="all")
    assert data.columns["text"] == ["x", "y"]
    assert "columns not used: column 1" in data.notes


def table(**columns):
    return pyarrow.table(columns or {"text": TEXTS, "label": LABELS})


def test_columnar_files(tmp_path):
    datasets = pytest.importorskip("datasets")
    pyarrow.parquet.write_table(table(), tmp_path / "a.parquet")
    pyarrow.feather.write_feather(table(), tmp_path / "a.arrow")
    with pyarrow.ipc.new_stream(str(tmp_path / "b.arrow"), table().schema) as stream:
        stream.write_table(table())
    for name in ("a.parquet", "a.arrow", "b.arrow"):
        assert load(tmp_path / name, split="all").columns == EXPECTED
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["up", "down"])})
    named = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    named.to_parquet(str(tmp_path / "named.parquet"))
    data = load(tmp_path / "named.parquet", split="all")
    assert (data.label_names, data.columns["label"], data.numbered) == (("up", "down"), [1, 0], True)
    content = (tmp_path / "a.parquet").read_bytes()
    assert "Parquet" in refused(lambda: load(write(tmp_path / "c.parquet", content[:-20]), split="all"))
    assert "Parquet" in refused(lambda: load(write(tmp_path / "d.parquet", b"text"), split="all"))


def test_shards_are_one_split_and_none_may_be_missing(tmp_path):
    for index in range(3):
        write(
            tmp_path / "data" / f"train-0000{index}-of-00003.jsonl", f'{{"text": "t{index}", "label": {index % 2}}}\n'
        )
    write(tmp_path / "data" / "test-00000-of-00001.jsonl", '{"text": "u", "label": 1}\n')
    write(tmp_path / "README.md", "# not data")
    write(tmp_path / ".cache" / "train.jsonl", "{}")
    data = load(tmp_path, split="all")
    assert data.columns == {"text": ["t0", "t1", "t2"], "label": [0, 1, 0]}
    assert load(tmp_path, split="test").columns["text"] == ["u"]
    assert load(str(tmp_path / "data" / "train-*.jsonl"), split="all").columns == data.columns
    (tmp_path / "data" / "train-00001-of-00003.jsonl").unlink()
    assert "missing: 00001" in refused(lambda: load(tmp_path, split="all"))
    assert "no file goes by the pattern" in refused(lambda: load(str(tmp_path / "*.tsv")))


def test_shards_with_other_columns_are_refused(tmp_path):
    write(tmp_path / "train-00000-of-00002.jsonl", '{"text": "a", "label": 0}\n')
    write(tmp_path / "train-00001-of-00002.jsonl", '{"text": "b", "class": 1}\n')
    assert "parts of one split" in refused(lambda: load(tmp_path, split="all"))


def test_folders_named_by_split_and_by_subset(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / "one" / split / "0000.jsonl", f'{{"text": "{split}", "label": "x"}}\n')
    assert load(tmp_path, split="test").columns["text"] == ["test"]
    write(tmp_path / "two" / "train.jsonl", '{"text": "other", "label": "x"}\n')
    assert "several data sets: one, two" in refused(lambda: load(tmp_path))
    assert load(tmp_path, split="all", subset="two").columns["text"] == ["other"]


def test_a_folder_with_a_single_data_file(tmp_path):
    write(tmp_path / "README.txt", "about")
    write(tmp_path / "reviews.csv", CSV)
    assert load(tmp_path, split="all").columns == EXPECTED
    write(tmp_path / "more.csv", CSV)
    assert "holds no data file with train" in refused(lambda: load(tmp_path))


def test_json_as_pandas_and_datasets_write_it(tmp_path):
    lines = '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n'
    assert load(write(tmp_path / "a.json", lines), split="all").columns == {"text": ["a", "b"], "label": [1, 0]}
    columns = '{"text": ["a", "b"], "label": [1, 0]}'
    assert load(write(tmp_path / "b.json", columns), split="all").columns == {"text": ["a", "b"], "label": [1, 0]}
    listed = '[{"text": "a", "label": 1}, {"text": "b", "label": 0}]'
    assert load(write(tmp_path / "a.jsonl", listed), split="all").columns == {"text": ["a", "b"], "label": [1, 0]}


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.mark.parametrize("name", ["a.txt", "a.conll", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.arrow", "a.csv.gz"])
def test_a_pointer_of_git_lfs_is_no_data(tmp_path, name):
    assert "git lfs pull" in refused(lambda: load(write(tmp_path / name, POINTER), split="all"))


def test_archives_and_workbooks_say_what_to_do(tmp_path):
    assert "save the sheet as CSV" in refused(lambda: load(write(tmp_path / "a.csv", b"PK\x03\x04rest"), split="all"))
    assert "Excel" in refused(lambda: load(write(tmp_path / "b.csv", b"\xd0\xcf\x11\xe0rest"), split="all"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("question1", "question2"),
        ("question", "sentence"),
        ("Sentence 1", "Sentence 2"),
        ("#1 String", "#2 String"),
        ("text", "text_pair"),
        ("text_a", "text_b"),
        ("sentence_A", "sentence_B"),
        ("utterance", "utterance2"),
    ],
)
def test_two_texts_are_a_pair(tmp_path, first, second):
    path = write(tmp_path / "a.tsv", f"{first}\t{second}\tlabel\nx\ty\tno\nz\tw\tyes\n")
    data = load(path, split="all", task="sequence-classification")
    assert data.columns == {"text": ["x", "z"], "text_pair": ["y", "w"], "label": [0, 1]}
    assert load(path, split="all", columns={"text": first}, task="sequence-classification").notes == (
        f"columns not used: {second}",
    )


def test_a_column_without_a_name_is_nobodys_second(tmp_path):
    rows = '{"Title": "x", "": "y", "label": "no"}\n{"Title": "z", "": "w", "label": "yes"}\n'
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(ArenaError, match="no column for 'text'"):
        load(path, split="all", task="sequence-classification")


def test_numbers_of_rows_are_no_pair(tmp_path):
    text = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t12\t13\tA b\tC d\n0\t14\t15\tE\tF\n"
    data = load(write(tmp_path / "msr.tsv", text), split="all", task="sequence-classification")
    assert data.columns == {"text": ["A b", "E"], "text_pair": ["C d", "F"], "label": [1, 0]}


def test_columns_without_a_part_are_named(tmp_path):
    data = load(write(tmp_path / "a.csv", "id,text,source,label\n1,x,web,no\n2,y,book,yes\n"), split="all")
    assert "columns not used: id, source" in data.notes
    with_names = "text,label,label_text\nx,1,spam\ny,0,ham\n"
    data = load(write(tmp_path / "b.csv", with_names), split="all")
    assert (data.label_names, data.columns["label"]) == (("ham", "spam"), [1, 0])
    assert data.notes == ("classes are named by column 'label_text'",)


def test_a_bad_record_costs_itself(tmp_path):
    good = "".join(f"t{index}\t{index % 2}\n" for index in range(97))
    bad = "no label\t\nthree\t1\tfields\n"
    data = load(write(tmp_path / "a.tsv", "text\tlabel\n" + good + bad), split="all")
    assert len(data) == 97
    assert [note for note in data.notes if "2 of 99 records left out: line 100 has 3 fields" in note]
    assert [note for note in data.notes if "line 99 has no label" in note]
    assert "more than max_bad_records=0.01" in refused(
        lambda: load(tmp_path / "a.tsv", split="all", max_bad_records=0.01)
    )
    broken = "".join(f'{{"text": "t", "label": {index % 2}}}\n' for index in range(40)) + '{"text": \n'
    data = load(write(tmp_path / "a.jsonl", broken), split="all")
    assert len(data) == 40
    assert any("1 of 41 records left out: line 41 is not JSON" in note for note in data.notes)
