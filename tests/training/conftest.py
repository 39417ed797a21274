"""What the tests of training share: how their programs are compiled."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="module")
def compile_quickly() -> Iterator[None]:
    """Compile in half the time, for code that runs as fast on so little data; what is compared is compiled alike."""
    yield from _without_optimizations(True)


@pytest.fixture
def compile_as_a_run() -> Iterator[None]:
    """Compile as a user's run does, for one test of a file that compiles quickly."""
    yield from _without_optimizations(False)


def _without_optimizations(value: bool) -> Iterator[None]:
    option = "jax_disable_most_optimizations"
    before = jax.config.read(option)
    jax.config.update(option, value)
    yield
    jax.config.update(option, before)
