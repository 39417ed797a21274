"""Recorded curves on one axis, against NumPy, and every mistake in one line."""

import numpy as np
import pytest

from arena_jax.arena.recorded import Curve, as_curves, read_curves
from arena_jax.config.errors import ArenaError

TABLE = """run,model,seconds,score,note
a,small,10,-2,x
a,small,0,-4,
a,large,0,-4,
a,large,40,-1,
b,large,0,-5,
b,large,20,-2,
b,small,0,-5,
b,small,20,-3,
"""


def written(tmp_path, text):
    path = tmp_path / "curves.csv"
    path.write_text(text)
    return path


def test_a_table_is_read_whatever_the_order_of_its_lines(tmp_path):
    first, second = read_curves(written(tmp_path, "\ufeff" + TABLE))
    assert list(first) == ["small", "large"]
    np.testing.assert_array_equal(first["small"], [[0, 10], [-4, -2]])
    np.testing.assert_array_equal(second["small"], [[0, 20], [-5, -3]])


def test_curves_are_straight_between_evaluations_and_flat_behind_the_last(tmp_path):
    runs = read_curves(written(tmp_path, TABLE))
    curves, notes = as_curves(runs)
    assert curves.scores.shape == (2, 2, 401)
    assert curves.seconds[-1] == 40
    for run, scores in zip(runs, curves.scores, strict=True):
        for column, name in zip(scores, ("small", "large"), strict=True):
            np.testing.assert_allclose(column, np.interp(curves.seconds, *run[name]), rtol=1e-6)
    assert notes == [
        "small was trained for 10 s of the 40 s that its curve is taken for: it stays flat from there",
        "large was trained for 20 s of the 40 s that its curve is taken for: it stays flat from there",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run,model,time,score\na,b,1,2\n", "no column 'seconds'"),
        ("run,model,seconds,score\n", "holds no evaluation"),
        ("", "no column 'run'"),
        ("run,model,seconds,score\na,b,1,2\na,b,later,2\n", "line 3: seconds and score must be numbers"),
        ("run,model,seconds,score\na,b,-1,2\n", "line 2"),
        ("run,model,seconds,score\na,b,1\n", "line 2"),
        ("run,model,seconds,score\na,b,1,2,3\n", "line 2"),
        ("run,model,seconds,score\na,b,inf,2\n", "line 2"),
    ],
)
def test_a_bad_table_is_told_in_one_line(tmp_path, text, message):
    with pytest.raises(ArenaError, match=message) as error:
        read_curves(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_runs_that_do_not_belong_together_are_refused():
    good = Curve(np.array([0.0, 1.0]), np.array([-2.0, -1.0]))
    for runs, message in (
        ([{"a": good}, {"b": good}], "run 2 is of b, the first of a"),
        ([{"a": good._replace(seconds=np.array([0.0, 0.0]))}], "run 1, a: .*each at another time"),
        ([{"a": Curve(np.array([0.0]), np.array([1.0]))}], "two evaluations at least"),
    ):
        with pytest.raises(ArenaError, match=message):
            as_curves(runs)
