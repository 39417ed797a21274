"""Every check of ``python -m parity`` as a test."""

from __future__ import annotations

import pytest

from parity import registry, report, suite

CHECKS = suite.all_checks()


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_check(check: registry.Check) -> None:
    row = registry.run(check)
    assert row.comparisons > 0
    assert row.passed, report.as_text([row])


def test_names_are_unique() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
