"""Several labels per text in columns of 0 and 1."""

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import load

TOXIC = "id,comment_text,toxic,obscene,threat\n10,bad,1,1,0\n11,good,0,0,0\n12,mean,1.0,0.0,1.0\n"
SEVERAL = {"problem_type": "multi_label_classification"}
EXPECTED = {"text": ["bad", "good", "mean"], "label": [[0, 1], [], [0, 2]]}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.csv").write_text(TOXIC)
    return tmp_path / "a.csv"


def test_columns_are_classes_where_several_labels_are_learnt(path):
    for task in (None, "sequence-classification"):
        data = load(path, split="all", task=task, **SEVERAL)
        assert (data.columns, data.label_names, data.numbered) == (EXPECTED, ("toxic", "obscene", "threat"), True)
        assert data.notes == ("classes are the columns toxic, obscene, threat", "columns not used: id")
    truths = {"text": ["a", "b"], "x": [True, False], "y": [1.0, 1.0]}
    assert load(truths, split="all", **SEVERAL).columns["label"] == [[0, 1], [1]]


def test_columns_may_be_named(path):
    data = load(path, split="all", columns={"label": "toxic + threat"}, **SEVERAL)
    assert (data.columns["label"], data.label_names) == ([[0], [], [0, 1]], ("toxic", "threat"))


def test_the_validation_split_has_the_training_splits_columns(tmp_path):
    (tmp_path / "train.csv").write_text(TOXIC)
    (tmp_path / "dev.csv").write_text("id,comment_text,threat,obscene,toxic\n10,bad,1,0,0\n")
    data = load(tmp_path, split="validation", **SEVERAL)
    assert (data.columns["label"], data.label_names) == ([[2]], ("toxic", "obscene", "threat"))
    (tmp_path / "dev.csv").write_text("id,comment_text,threat,toxic\n10,bad,1,0\n")
    with pytest.raises(ArenaError, match="no column 'obscene'"):
        load(tmp_path, split="validation", **SEVERAL)


def test_otherwise_they_are_refused_with_what_to_say(path):
    for task in (None, "sequence-classification"):
        with pytest.raises(ArenaError, match="toxic, obscene, threat hold 0 and 1: problem_type=multi_label_class"):
            load(path, split="all", task=task)
    with pytest.raises(ArenaError, match="has no column 'toxic\\+threat'"):
        load(path, split="all", task="sequence-classification", columns={"label": "toxic+threat"})


def test_another_number_costs_its_record(tmp_path):
    (tmp_path / "a.csv").write_text(TOXIC + "13,x,0,0,1\n" * 37 + "14,y,-1,0,0\n")
    data = load(tmp_path / "a.csv", split="all", columns={"label": "toxic+obscene+threat"}, **SEVERAL)
    assert len(data) == 40
    assert any("line 42 has '-1' in column 'toxic': a 0 or 1 is needed" in note for note in data.notes)


def test_a_first_line_that_is_an_example_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text('3,Wall St. Bears Claw Back Into the Black,"Short sellers, again"\n2,x,y\n')
    with pytest.raises(ArenaError, match="its first line seems to be an example: put a line above it"):
        load(tmp_path / "a.csv", split="all", task="sequence-classification")
