"""A pytest fixture for twins of your own: write ``pytest_plugins = ["parity.fixture"]`` into conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import parity


@pytest.fixture
def assert_twins() -> Callable[..., Any]:
    """``assert_twins(jax_fn, torch_fn, inputs, tolerance=1e-10, …)``: `parity.compare`, and fail where they differ."""

    def check(
        jax_fn: Callable[..., Any],
        torch_fn: Callable[..., Any],
        inputs: Mapping[str, Any],
        *,
        tolerance: float = 1e-10,
        **options: Any,
    ) -> Any:
        report = parity.compare(jax_fn, torch_fn, inputs, **options)
        report.check(tolerance)
        return report

    return check
