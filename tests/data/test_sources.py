"""Every source of examples, against what its own description says it holds."""

import json

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, load
from arena_jax.data.documents import read_documents, split_documents

SPLIT_SIZES = [
    # Counts as the SOURCE.md files beside the data state them.
    ("sst2", {"train": 60_614, "validation": 6_735, "test": 872}),
    ("wnut17", {"train": 3_394, "validation": 1_009, "test": 1_287}),
    ("squad", {"train": 8_582, "validation": 1_988}),
]


@pytest.fixture(autouse=True)
def _no_hidden_folder(monkeypatch):
    monkeypatch.delenv("ARENA_DATA", raising=False)


@pytest.mark.parametrize(("name", "sizes"), SPLIT_SIZES)
def test_real_data_from_local_folders(arena_data, name, sizes):
    for split, size in sizes.items():
        data = load(arena_data / name, split=split)
        assert len(data) == size
        assert not data.notes


def test_a_known_name_reads_the_local_folder_and_says_so(arena_data, monkeypatch):
    monkeypatch.setenv("ARENA_DATA", str(arena_data))
    data = load("sst2", task="sequence-classification", split="test")
    assert str(arena_data) in data.provenance
    assert data.label_names == ("negative", "positive")
    assert data.columns["label"].count(1) == 444
    assert load("wikitext2", split="test").task == "language-model"


def test_quotes_in_separated_values_are_ordinary_characters(arena_data, tmp_path):
    lines = (arena_data / "sst2" / "train.tsv").read_text().split("\n")
    assert load(arena_data / "sst2").columns["text"] == [line.split("\t")[0] for line in lines[1:] if line]
    (tmp_path / "a.tsv").write_text('text\tlabel\n"open\t1\nmid"dle\t0\n')
    assert load(tmp_path / "a.tsv", split="all").columns["text"] == ['"open', 'mid"dle']


def test_wnut_has_the_stated_words_and_all_tags(arena_data):
    data = load(arena_data / "wnut17")
    assert sum(map(len, data.columns["words"])) == 62_730
    begins = {index for index, name in enumerate(data.label_names) if name.startswith("B-")}
    assert sum(tag in begins for tags in data.columns["labels"] for tag in tags) == 1_975
    assert len(data.label_names) == 13
    assert data.label_names[:3] == ("O", "B-corporation", "I-corporation")
    assert load(arena_data / "wnut17", split="test").label_names == data.label_names


def test_wikitext_is_divided_into_articles_that_make_up_the_file(arena_data):
    for file in ("raw/valid.raw", "wikitext-2/valid.txt"):
        documents = read_documents(arena_data / "wikitext" / file)
        assert "".join(documents) == (arena_data / "wikitext" / file).read_text()
        assert len(documents) == 60  # WikiText-2's validation articles
        assert all(document.strip().startswith("= ") for document in documents)


def test_squad_answers_stand_in_their_contexts(arena_data):
    data = load(arena_data / "squad", split="validation")
    for context, answers in zip(data.columns["context"], data.columns["answers"], strict=True):
        assert answers
        assert all(context[start : start + len(text)] == text for text, start in answers)


def test_held_out_questions_never_share_a_context_with_the_others(arena_data):
    file = arena_data / "squad" / "dev.json"
    train, validation, whole = (load(file, split=split) for split in ("train", "validation", "all"))
    assert not set(train.columns["context"]) & set(validation.columns["context"])
    assert sorted(train.columns["id"] + validation.columns["id"]) == sorted(whole.columns["id"])
    assert "no validation split" in train.report()[1]


ROWS = [("a good film", "yes"), ('a "bad film', "no"), ("fine, really", "yes"), ("weak", "no")]


def write(path, rows=ROWS):
    if path.suffix == ".csv":
        lines = ["text,label", *('"' + text.replace('"', '""') + f'",{label}' for text, label in rows)]
        path.write_text("\r\n".join(lines) + "\r\n")
    elif path.suffix == ".tsv":
        path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    else:
        records = [{"text": text, "label": label} for text, label in rows]
        text = json.dumps(records) if path.suffix == ".json" else "\n".join(map(json.dumps, records))
        path.write_text(text)
    return path


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "json"])
def test_any_table_gives_the_same_examples(tmp_path, ending):
    data = load(write(tmp_path / f"reviews.{ending}"), split="all")
    assert data.task == "sequence-classification"
    assert data.columns == {"text": [text for text, _ in ROWS], "label": [1, 0, 1, 0]}
    assert data.label_names == ("no", "yes")


def test_columns_are_named_and_pairs_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("first,second,rating,other\na,b,2,x\nc,d,0,y\n")
    columns = {"text": "first", "text_pair": "second", "label": "rating"}
    data = load(path, task="sequence-classification", split="all", columns=columns)
    assert data.columns == {"text": ["a", "c"], "text_pair": ["b", "d"], "label": [1, 0]}
    assert data.label_names == ("0", "2")  # nothing is invented: no class 1
    assert load(path, task="causal-lm", split="all", columns={"text": "first"}).columns == {"text": ["a", "c"]}


def test_labels_are_numbered_by_the_training_split(tmp_path):
    write(tmp_path / "train.tsv", [("a", "red"), ("b", "blue"), ("c", "green")])
    write(tmp_path / "dev.tsv", [("d", "red")])
    data = load(tmp_path, split="validation")
    assert data.label_names == ("blue", "green", "red")
    assert data.columns["label"] == [2]


def test_held_out_rows_are_disjoint_seeded_and_told(tmp_path):
    path = write(tmp_path / "many.tsv", [(f"text {number}", str(number % 2)) for number in range(50)])
    train, validation = load(path), load(path, split="validation")
    assert (len(train), len(validation)) == (45, 5)
    assert not set(train.columns["text"]) & set(validation.columns["text"])
    assert "5 of 50 training examples held out" in train.report()[1]
    assert load(path, split="validation").columns == validation.columns
    assert load(path, split="validation", seed=1).columns != validation.columns
    assert len(load(path, split="all")) == 50


def test_text_files_and_folders_of_them(tmp_path):
    (tmp_path / "train.txt").write_text("one\ntwo\n\n\nthree\r\n\nfour")
    (tmp_path / "README.md").write_text("# not data")
    data = load(tmp_path, split="all")
    assert data.columns["text"] == ["one\ntwo\n\n\n", "three\n\n", "four"]
    assert load(tmp_path, task="masked-lm", split="validation").task == "language-model"


@pytest.mark.parametrize("text", ["", "\n\n", "a", "\n a\n\n \n b", "x\x0by\u2028z\n\nw", " = T = \n\n = U = \n"])
def test_documents_joined_are_the_text(text):
    assert "".join(split_documents(text)) == text


def test_words_with_tags_in_json_lines(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [{"tokens": ["Ann", "ran"], "ner_tags": ["B-per", "O"]}, {"tokens": [], "ner_tags": []}]
    path.write_text("\n".join(map(json.dumps, rows)))
    data = load(path, split="all")
    assert data.task == "token-classification"
    assert data.columns == {"words": [["Ann", "ran"]], "labels": [[1, 0]]}
    assert data.label_names == ("O", "B-per", "I-per")
    assert "1 sentences without any word left out" in data.report()[1]


def test_misplaced_answers_are_moved_and_told(tmp_path):
    path = tmp_path / "train.jsonl"
    row = {"question": "?", "context": "a b a b", "answers": [{"text": "b", "answer_start": 7}]}
    path.write_text(json.dumps(row))
    data = load(path, split="all")
    assert data.columns["answers"] == [[("b", 6)]]
    assert "1 answers do not begin" in data.report()[1]


def test_empty_texts_are_counted(tmp_path):
    path = write(tmp_path / "train.jsonl", [("", "no"), ("x", "yes")])
    assert "1 of 2 texts are blank" in load(path, split="all").report()[1]
    assert "1 empty documents left out" in load(path, split="all", task="causal-lm").report()[1]


def test_a_data_set_saved_by_the_datasets_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["down", "up"])}
    )
    rows = {"sentence": [f"s{number}" for number in range(10)], "label": [number % 2 for number in range(10)]}
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": part, "test": part.select([3])}).save_to_disk(str(tmp_path / "saved"))
    data = load(tmp_path / "saved", split="validation")
    assert data.label_names == ("down", "up")
    assert len(data) == 1
    assert load(tmp_path / "saved", split="test").columns == {"text": ["s3"], "label": [1]}
    tags = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-x"])),
        }
    )
    part = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 1]]}, features=tags)
    part.save_to_disk(str(tmp_path / "tags"))
    assert load(tmp_path / "tags", split="all").label_names == ("O", "B-x")


def test_the_hub_offline_says_what_to_do():
    for name in ("sst2", "some-body/some-data"):
        with pytest.raises(ArenaError, match="give a local file or folder instead") as caught:
            load(name)
        assert "\n" not in str(caught.value)


def test_hub_data_by_its_recorded_form(monkeypatch):
    """The Hub's forms, without the Hub: what its data viewer shows, through the library's own classes."""
    datasets = pytest.importorskip("datasets")
    lines = ["", " = One = \n", "", " text \n", " = Two = \n", " more \n"]
    forms = {
        ("Salesforce/wikitext", "wikitext-2-raw-v1", None): {"text": lines},
        ("leondz/wnut_17", None, "refs/convert/parquet"): {"id": ["0"], "tokens": [["a"]], "ner_tags": [[0]]},
        ("rajpurkar/squad", None, None): {
            "id": ["q"],
            "title": ["t"],
            "context": ["a b"],
            "question": ["?"],
            "answers": [{"text": ["b"], "answer_start": [2]}],
        },
    }

    def load_dataset(place, subset, *, revision):
        part = datasets.Dataset.from_dict(forms[place, subset, revision])
        return datasets.DatasetDict({"train": part, "validation": part})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    text = load("wikitext2", split="validation")
    assert text.columns["text"] == [" = One = \n text \n", " = Two = \n more \n"]
    assert load("wnut17", split="validation").columns == {"words": [["a"]], "labels": [[0]]}
    assert load("squad", split="validation").columns["answers"] == [[("b", 2)]]
    assert "Hub" in text.provenance


def test_a_dataset_describes_itself():
    data = Dataset(
        "mine", "token-classification", "train", {"words": [["a"]], "labels": [[0]]}, ("O",), "typed in", ("x",)
    )
    assert data.report() == [
        "mine (train): 1 example of 1 words, 1 tags for token-classification; typed in",
        "mine (train): x",
    ]
