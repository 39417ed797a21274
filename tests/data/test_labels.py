"""What class a label is: nothing is merged, nothing is invented, and the rule is said."""

import json
import math

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import load


def labelled(tmp_path, values, **options):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{i}", "label": value}) + "\n" for i, value in enumerate(values)))
    return load(path, split="all", task="sequence-classification", **options)


@pytest.mark.parametrize(
    ("values", "names", "numbers", "numbered", "note"),
    [
        ([0, 1, 1], ("0", "1"), [0, 1, 1], True, None),
        (["0", "1", "1"], ("0", "1"), [0, 1, 1], True, None),
        ([100, 300, 200], ("100", "200", "300"), [0, 2, 1], False, "each the name of a class: 100, 200, 300"),
        (["1", "5", "10"], ("1", "5", "10"), [0, 1, 2], False, "each the name of a class"),
        ([1.0, 0.0, 1.0], ("0", "1"), [1, 0, 1], True, "whole numbers written with .0"),
        (["1.0", "0.0"], ("0", "1"), [1, 0], True, "whole numbers written with .0"),
        (["01", "1", "1"], ("01", "1"), [0, 1, 1], False, "codes"),
        (["007", "008"], ("007", "008"), [0, 1], False, "codes, each the name of a class as written: 007, 008"),
        ([True, False], ("false", "true"), [1, 0], True, "false (0) and true (1)"),
        ([-1, 1], ("-1", "1"), [0, 1], False, "each the name of a class: -1, 1"),
        ([0, 2], ("0", "2"), [0, 1], False, "each the name of a class"),
        (["1.0", "good", "1"], ("1", "1.0", "good"), [1, 2, 0], False, "names as written"),
        (["yes", "no"], ("no", "yes"), [1, 0], False, None),
        ([10**30, 0], ("0", f"{10**30}"), [1, 0], False, "codes"),
    ],
)
def test_rules(tmp_path, values, names, numbers, numbered, note):
    data = labelled(tmp_path, values)
    assert (data.label_names, data.columns["label"], data.numbered) == (names, numbers, numbered)
    assert note is None or any(note in line for line in data.notes), data.notes


def test_names_given_by_the_user(tmp_path):
    assert labelled(tmp_path, [1, 0], label_names=["no", "yes"]).columns["label"] == [1, 0]
    data = labelled(tmp_path, ["pos", "neg"], label_names=["pos", "neg"])
    assert (data.columns["label"], data.numbered) == ([0, 1], True)
    with pytest.raises(ArenaError, match="twice"):
        labelled(tmp_path, [0, 1], label_names=["a", "a"])
    with pytest.raises(ArenaError, match="not one of the training labels; did you mean 'pos'"):
        labelled(tmp_path, ["poss", "neg"], label_names=["pos", "neg"])


def test_secret_labels_are_bad_records(tmp_path):
    data = labelled(tmp_path, [0, 1] * 30 + [-1])
    assert len(data) == 60
    assert data.label_names == ("0", "1")
    with pytest.raises(ArenaError, match="label_names=-1,0,1"):
        labelled(tmp_path, [-1, 0, 1])
    assert labelled(tmp_path, [-1, 0, 1], label_names=["-1", "0", "1"]).columns["label"] == [0, 1, 2]


def test_what_is_no_class_is_refused(tmp_path):
    for values in ([0.5, 1.0], ["3.8", "good"], [math.pi, 2]):
        with pytest.raises(ArenaError, match="problem_type=regression"):
            labelled(tmp_path, values)
    with pytest.raises(ArenaError, match="30 different values"):
        labelled(tmp_path, [f"comment {index}" for index in range(30)])


def test_regression(tmp_path):
    data = labelled(tmp_path, [3.5, "2", 0, "-1e-1"], problem_type="regression")
    assert data.columns["label"] == [3.5, 2.0, 0.0, -0.1]
    assert "values from -0.1 to 3.5" in data.report()[0]
    data = labelled(tmp_path, [1.5] * 30 + ["1,5"], problem_type="regression")
    assert len(data) == 30
    assert any("'1,5' is no number" in note for note in data.notes)


@pytest.mark.parametrize(
    ("values", "names", "classes"),
    [
        ([["a", "b"], [], ["b"]], ("a", "b"), [[0, 1], [], [1]]),
        (["a|b", "", "b"], ("a", "b"), [[0, 1], [], [1]]),
        (["a, b", "a"], ("a", "b"), [[0, 1], [0]]),
        ([[0, 2], [1]], ("0", "1", "2"), [[0, 2], [1]]),
        ([[1, 0, 1], [0, 0, 1]], ("0", "1", "2"), [[0, 2], [2]]),
        ([[1.0, 0.0], [0.0, 1.0]], ("0", "1"), [[0], [1]]),
        (["['a', 'b']", "[]", '["b"]'], ("a", "b"), [[0, 1], [], [1]]),  # as pandas writes lists
        (["[1, 0, 1]", "[0, 0, 1]"], ("0", "1", "2"), [[0, 2], [2]]),
        (["1 0 1", "0 0 1"], ("0", "1", "2"), [[0, 2], [2]]),
    ],
)
def test_several_labels(tmp_path, values, names, classes):
    data = labelled(tmp_path, values, problem_type="multi_label_classification")
    assert (data.label_names, data.columns["label"]) == (names, classes)
    assert "any of" in data.report()[0]


@pytest.mark.parametrize("text", ["['a' 'b']", "['a', b]", "[1 0]", "[" * 9 + "]" * 9 + "x]"])
def test_what_is_no_list_is_refused_and_no_class(text):
    with pytest.raises(ArenaError, match=r"no list that can be read|no record has a label|is no class|not a list"):
        load({"text": ["x"], "label": [text]}, split="all", problem_type="multi_label_classification")


def test_classes_that_look_alike_are_kept_apart_and_named():
    data = load({"text": ["x", "y", "z"], "label": ["Good", "good", "bad"]}, split="all")
    assert data.label_names == ("Good", "bad", "good")
    assert "classes that differ in case or quotation marks alone: Good and good; are they one?" in data.notes


def test_how_labels_are_read_is_said_once():
    source = {"train": {"text": ["x", "y"], "label": ["a|b", "b"]}, "dev": {"text": ["z"], "label": ["b|a"]}}
    notes = [
        note
        for split in ("train", "validation")
        for note in load(source, split=split, problem_type="multi_label_classification").notes
    ]
    assert notes == ["labels of one record are divided at '|'"] * 2  # each split has a column of its own
    source = {"train": {"text": ["x", "y"], "label": [1, 2]}, "dev": {"text": ["z"], "label": [2]}}
    assert load(source, split="validation").notes == ()


def test_problem_types_are_of_classification_alone(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ArenaError, match="not of language-model"):
        load(tmp_path / "a.txt", problem_type="regression")
    with pytest.raises(ArenaError, match="did you mean 'regression'"):
        labelled(tmp_path, [1], problem_type="regresion")
