"""Examples that are in memory already give what a file with the same content gives."""

import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import load

ROWS = {"text": ["a", "b", "c"], "label": ["x", "y", "x"]}
EXPECTED = {"text": ["a", "b", "c"], "label": [0, 1, 0]}


def test_lists_and_dictionaries():
    records = [{"text": text, "label": label} for text, label in zip(*ROWS.values(), strict=True)]
    for source in (ROWS, records, {"train": ROWS}, {"train": records}, (ROWS["text"], ROWS["label"])):
        data = load(source, split="all")
        assert data.columns == EXPECTED
    assert load(ROWS["text"], ROWS["label"], split="all").columns == EXPECTED
    assert load(np.array(ROWS["text"]), np.array([0, 1, 0]), split="all").columns == EXPECTED
    assert load(ROWS["text"], split="all").task == "language-model"
    pairs = load([("a", "b"), ("c", "d")], [1, 0], split="all")
    assert pairs.columns == {"text": ["a", "c"], "text_pair": ["b", "d"], "label": [1, 0]}
    tagged = load([["Anna", "sings"]], [["B-PER", "O"]], split="all")
    assert (tagged.task, tagged.label_names) == ("token-classification", ("O", "B-PER", "I-PER"))
    assert "in memory" in tagged.report()[0]


def test_splits_keep_the_training_splits_numbers():
    source = {"train": ROWS, "dev": {"text": ["d"], "label": ["y"]}}
    assert load(source, split="validation").columns["label"] == [1]


def test_of_datasets():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["y", "x"])})
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    assert load(part, split="all").label_names == ("y", "x")
    both = datasets.DatasetDict({"train": part, "validation": part.select([1])})
    assert load(both, split="validation").columns == {"text": ["b"], "label": [1]}
    matched = datasets.DatasetDict({"train": part, "validation_matched": part, "validation_mismatched": part})
    with pytest.raises(ArenaError, match="validation_mismatched are the split validation: leave one out"):
        load(matched, split="validation")
    with pytest.raises(ArenaError, match="'train' of train holds splits itself"):
        load({"train": both})
    with pytest.raises(ArenaError, match=r"Dataset\.from_list"):
        load(part.to_iterable_dataset())


def test_of_pandas_and_pyarrow():
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    assert load(pandas.DataFrame(ROWS), split="all").columns == EXPECTED
    assert load(pyarrow.table(ROWS), split="all").columns == EXPECTED
    frame = pandas.DataFrame({"text": ["t"] * 40, "label": [0.0, 1.0] * 19 + [None, 1.0]})
    data = load(frame, split="all")
    assert (len(data), data.label_names) == (39, ("0", "1"))
    assert any("row 38 has no label" in note for note in data.notes)
    assert load({"train": pandas.DataFrame(ROWS)}, split="all").columns == EXPECTED


@pytest.mark.parametrize(
    ("source", "labels", "expected"),
    [
        ([], None, "no examples"),
        (3, None, "a data set's name"),
        (None, None, "a data set's name"),
        (["a", 3], None, "one of them is a int"),
        ([("a", "pos"), ("b", "neg")], None, "may be pairs of texts, or texts with labels"),
        ({0: ["a"]}, None, "a column is called 0, which is no text"),
        (["a", "b"], [1], "different lengths"),
        ({"text": "a"}, None, "must be a list"),
        ({"a\nb": [1]}, None, "control characters"),
        ({"a": {"b": [{"text": "x"}]}}, None, "'a' of a holds splits itself"),
        ({"dev": ROWS, "validation": ROWS}, None, "are the split validation"),
        (ROWS, [1], "labels go with a list of texts"),
        ("python-docs", [1], "labels go with a list of texts"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(source, labels, expected):
    with pytest.raises(ArenaError) as caught:
        load(source, labels, split="all")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
