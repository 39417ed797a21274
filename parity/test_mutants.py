"""Every deliberate fault must be caught by a check that passes without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parity import mutants

CHECKOUT = (Path(__file__).parent.parent / "tests").is_dir()


def case(mutant: mutants.Mutant) -> Any:
    """Some are caught by tests, which only a checkout has."""
    marks = []
    if any(map(mutants.is_node, mutant.checks)):
        marks = [pytest.mark.slow] if CHECKOUT else [pytest.mark.skip(reason="caught by tests/, which is not here")]
    return pytest.param(mutant, id=mutant.name, marks=marks)


@pytest.mark.parametrize("mutant", [case(mutant) for mutant in mutants.ALL])
def test_fault_is_caught(mutant: mutants.Mutant) -> None:
    outcome = mutants.run_one(mutant)
    assert outcome.caught, f"nobody noticed: {mutant.name} ({outcome.how})"


def test_there_are_enough_and_no_two_are_alike() -> None:
    assert len(mutants.ALL) >= 140
    assert len({mutant.name for mutant in mutants.ALL}) == len(mutants.ALL)
    assert len({(mutant.where, mutant.edits) for mutant in mutants.ALL}) == len(mutants.ALL)


def test_every_check_that_is_named_exists() -> None:
    known = mutants.checks_by_name()
    for mutant in mutants.ALL:
        nodes = set(filter(mutants.is_node, mutant.checks))
        assert set(mutant.checks) - nodes <= set(known), mutant.name
        for node in nodes:
            if not CHECKOUT:
                continue
            file, _, function = node.partition("::")
            text = (Path(__file__).parent.parent / file).read_text()
            assert f"def {function.partition('[')[0]}(" in text, node
