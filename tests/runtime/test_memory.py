"""Amounts of memory as people write them, and what the compiler says a step needs."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.runtime import memory
from arena_jax.runtime.out_of_memory import ran_out


def device(**stats):
    return types.SimpleNamespace(memory_stats=lambda: stats or None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("40GB", 40_000_000_000),
        ("512MiB", 512 * 2**20),
        (" 1.5 kib ", 1536),
        ("2e9", 2_000_000_000),
        ("7 b", 7),
        (123, 123),
        (1, 1),
        ("1", 1),
        (1.0, 1000),
        ("50%", 500),
        ("100 %", 1000),
        (0.25, 250),
        ("0.9", 900),
    ],
)
def test_amounts(text, expected):
    assert memory.parse_bytes(text, device(bytes_limit=1000)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "forty GB", "40 bananas", "-3GB", "0", "101%", "0%", "0.0", "nan", None, "1e400", "1e400GB", 1.5, "2.5 B"],
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ArenaError, match="memory budget"):
        memory.parse_bytes(text)


def test_bytes_for_people_lose_less_than_a_percent():
    for count in (1, 999, 1000, 123456, 999_999, 5.55e9, 4e13):
        assert memory.parse_bytes(memory.format_bytes(count)) == pytest.approx(count, rel=0.005)


def test_tree_bytes_of_abstract_arrays_equals_those_of_real_ones():
    tree = {"a": jnp.zeros((3, 5), jnp.bfloat16), "b": [np.zeros(7, np.int64), jnp.zeros((), bool)]}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    assert memory.tree_bytes(tree) == memory.tree_bytes(abstract) == 30 + 56 + 1


def test_estimate_counts_a_donated_buffer_once():
    def grow(params, x):
        return params + x.sum(), x * 2

    params, x = jax.ShapeDtypeStruct((1 << 16,), jnp.float32), jax.ShapeDtypeStruct((1 << 10,), jnp.float32)
    plain = memory.estimate(grow, params, x)
    donated = memory.estimate(jax.jit(grow, donate_argnums=0), params, x)
    assert plain.arguments == donated.arguments == 4 * (1 << 16) + 4 * (1 << 10)
    assert plain.aliased == 0
    assert donated.aliased == 4 << 16
    assert plain.total - donated.total == pytest.approx(4 << 16, abs=256)  # a few scalars in between
    result, _ = donated.executable(jnp.zeros(1 << 16), jnp.ones(1 << 10))
    assert float(result[0]) == 1024


def test_arguments_may_be_given_by_name():
    x = jax.ShapeDtypeStruct((10,), jnp.float32)
    assert memory.estimate(lambda x, *, y: x + y, x, y=x).arguments == 80


def test_code_is_told_beside_the_total(monkeypatch):
    """As a GPU's compiler tells it; the CPU's tells none."""
    told = {f"{kind}_size_in_bytes": size for kind, size in (("argument", 8), ("output", 4), ("temp", 2), ("alias", 1))}
    stats = types.SimpleNamespace(**told, generated_code_size_in_bytes=5000)
    program = types.SimpleNamespace(memory_analysis=lambda: stats)
    monkeypatch.setattr(memory, "compiled", lambda lowered: (program, 0.0, False))
    need = memory.estimate(lambda x: x, 1.0)
    assert (need.total, need.code, need.whole) == (13, 5000, 5013)


def test_only_exhausted_memory_is_taken_for_it():
    runtime = jax.errors.JaxRuntimeError
    assert ran_out(runtime("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes"))
    assert not ran_out(runtime("INTERNAL: ptxas failed"))
    assert not ran_out(RuntimeError("RESOURCE_EXHAUSTED"))


def test_calibration_compares_the_peak_with_the_estimate():
    need = memory.Estimate(100, 10, 90, 0, 200, None, 0.0)
    readings = iter(
        [
            {"bytes_in_use": 1100, "peak_bytes_in_use": 1100},
            {"bytes_in_use": 1110, "peak_bytes_in_use": 1220},  # 120 above what was there, 100 foretold
            {"bytes_in_use": 1100, "peak_bytes_in_use": 5000},
            {"bytes_in_use": 1110, "peak_bytes_in_use": 5000},  # hidden by an earlier peak
        ]
    )
    allocator = types.SimpleNamespace(memory_stats=lambda: next(readings))
    assert memory.calibrate(need, lambda: 7, [allocator]) == (7, pytest.approx(0.1))
    assert memory.calibrate(need, lambda: 7, [allocator]) == (7, None)
    assert memory.calibrate(need, lambda: 7, [device()]) == (7, None)


def test_the_limit_is_the_allocators_or_the_machines():
    assert memory.device_limit(device(bytes_limit=77)) == 77
    assert memory.device_limit(device()) > 10**8
