"""Every deliberate fault must be caught by a check that passes without it."""

from __future__ import annotations

import pytest

from parity import mutants


@pytest.mark.parametrize("mutant", mutants.ALL, ids=[mutant.name for mutant in mutants.ALL])
def test_fault_is_caught(mutant: mutants.Mutant) -> None:
    outcome = mutants.run_one(mutant)
    assert outcome.caught, f"nobody noticed: {mutant.name} ({outcome.how})"


def test_there_are_enough_and_no_two_are_alike() -> None:
    assert len(mutants.ALL) >= 40
    assert len({mutant.name for mutant in mutants.ALL}) == len(mutants.ALL)
    assert len({(mutant.where, mutant.edits) for mutant in mutants.ALL}) == len(mutants.ALL)


def test_every_check_that_is_named_exists() -> None:
    known = mutants.checks_by_name()
    for mutant in mutants.ALL:
        assert set(mutant.checks) <= set(known), mutant.name
