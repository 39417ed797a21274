"""Tolerances stand beside their measurements, none is looser than four times that, and none is left over."""

from __future__ import annotations

import pytest

from parity import measure, suite, tolerances

TABLE = tolerances.load()
MEASURED = [check for check in suite.all_checks() if check.tolerance is None]


@pytest.mark.parametrize("key", sorted(TABLE))
def test_no_tolerance_is_looser_than_four_measurements(key: str) -> None:
    entry = TABLE[key]
    assert 0 <= entry["measured"] <= entry["tolerance"]
    assert entry["tolerance"] <= max(4 * entry["measured"], tolerances.UNIT[key.rsplit("/", 1)[1]])


def test_every_measured_check_has_an_entry_and_no_entry_is_left_over() -> None:
    assert sorted(TABLE) == sorted(check.name for check in MEASURED)


def test_float64_is_as_strict_as_promised() -> None:
    for check in suite.all_checks():
        if check.dtype == "float64":
            limit = 1e-8 if check.layer == "trajectory" else 1e-10
            assert check.tolerance is not None
            assert check.tolerance <= limit, check.name


def test_errors_are_told() -> None:
    (same,) = measure.compare({"a": [1.0, 2.0]}, {"a": [1.0, 2.0]})
    assert same.error == 0
    (half,) = measure.compare({"a": [1.0, 3.5]}, {"a": [1.0, 3.0]})
    assert half.error == pytest.approx(0.5)  # of a standard deviation of 1
    found = measure.compare({"a": [1.0], "extra": [1.0]}, {"a": [float("nan")], "missing": [1.0]})
    assert all(m.error == float("inf") for m in found)
    assert len(found) == 3
    (shape,) = measure.compare({"a": [[1.0]]}, {"a": [1.0]})
    assert shape.error == float("inf")
