"""What the tests of training share: their programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the programs of all files: they make the same few runs again and again."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def compile_once(programs: Path) -> Iterator[None]:
    """Compile each program once and quickly: what these tests compare was made by the same programs."""
    quick = "jax_disable_most_optimizations"  # half the time; the code runs as fast on so little data
    options: dict[str, Any] = {
        "jax_compilation_cache_dir": str(programs),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options} | {quick: jax.config.read(quick)}
    options[quick] = True
    for values in (options, before):
        for name, value in values.items():
            jax.config.update(name, value)
        jax_cache.reset_cache()  # it is opened once, and keeps its folder
        if values is options:
            yield
