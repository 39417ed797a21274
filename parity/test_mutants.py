"""Every deliberate fault must be caught by a check that passes without it, compiled as it is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parity import mutants
from parity.mutants import node

CHECKOUT = (Path(__file__).parent.parent / "tests").is_dir()


def case(mutant: mutants.Mutant) -> Any:
    """Some are caught by tests, which only a checkout has."""
    marks = []
    if any(map(mutants.is_node, mutant.checks)):
        marks = [pytest.mark.slow] if CHECKOUT else [pytest.mark.skip(reason="caught by tests/, which is not here")]
    return pytest.param(mutant, id=mutant.name, marks=marks)


NAMES = sorted({name for mutant in mutants.ALL for name in mutant.checks})


@pytest.mark.parametrize("name", [name for name in NAMES if not mutants.is_node(name)])
def test_a_check_passes_without_a_fault(name: str) -> None:
    assert mutants.first_failure(mutants.checks_by_name()[name]) is None


@pytest.mark.slow
@pytest.mark.skipif(not CHECKOUT, reason="tests/ is not here")
@pytest.mark.parametrize("part", range(4))
def test_the_tests_pass_without_a_fault(part: int) -> None:
    code, output = node.run(None, list(filter(mutants.is_node, NAMES))[part::4])
    assert code == 0, output[-2000:]


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
        tests = set(filter(mutants.is_node, mutant.checks))
        assert set(mutant.checks) - tests <= set(known), mutant.name
        for test in tests:
            if not CHECKOUT:
                continue
            file, _, function = test.partition("::")
            text = (Path(__file__).parent.parent / file).read_text()
            assert f"def {function.partition('[')[0]}(" in text, test
