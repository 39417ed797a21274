"""Faults at any moment of a competition, rehearsed: the short form of `python -m benchmarks.rehearsal`."""

import pytest

from benchmarks.rehearsal import draw, rehearse, run


@pytest.mark.parametrize("first", [0, 20])
def test_what_must_hold_holds_whatever_happens(first):
    for seed in range(first, first + 20):
        try:
            rehearse(seed)
        except AssertionError as error:
            raise AssertionError(f"python -m benchmarks.rehearsal --first {seed}: {error}") from error


def test_the_seeds_have_every_fault_and_the_runs_show_them():
    scripts = [draw(seed) for seed in range(40)]
    assert all(any(getattr(s, fault) for s in scripts) for fault in ("crashes", "out_of_memory", "nonfinite", "full"))
    troubles = {r["what"] for s in scripts[:20] for r in run(s, disturbed=True)[1].records if r["kind"] == "trouble"}
    assert troubles >= {"out of memory", "checkpoint", "non-finite"}


def test_a_seed_is_the_same_again():
    first, second = (run(draw(12), disturbed=True)[1].records for _ in range(2))
    assert [r["kind"] for r in first] == [r["kind"] for r in second]
