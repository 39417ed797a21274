"""Amounts of memory as people write them, and what the compiler says a step needs."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.runtime import memory
from arena_jax.runtime.program import Program, ProgramBytes, compile_program, is_out_of_memory


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


def test_a_program_counts_a_donated_buffer_once():
    def grow(params, x):
        return params + x.sum(), x * 2

    params, x = jax.ShapeDtypeStruct((1 << 16,), jnp.float32), jax.ShapeDtypeStruct((1 << 10,), jnp.float32)
    plain = compile_program(grow, params, x)
    donated = compile_program(jax.jit(grow, donate_argnums=0), params, x)
    assert plain.bytes.arguments == donated.bytes.arguments == 4 * (1 << 16) + 4 * (1 << 10)
    assert plain.bytes.aliased == 0
    assert donated.bytes.aliased == 4 << 16
    assert plain.bytes.total - donated.bytes.total == pytest.approx(4 << 16, abs=256)  # a few scalars in between
    result, _ = donated.executable(jnp.zeros(1 << 16), jnp.ones(1 << 10))
    assert float(result[0]) == 1024


def test_arguments_may_be_given_by_name():
    x = jax.ShapeDtypeStruct((10,), jnp.float32)
    assert compile_program(lambda x, *, y: x + y, x, y=x).bytes.arguments == 80


class Compiler:
    """As a jitted function whose compiler reports some bytes, or none."""

    def __init__(self, analysis):
        self.analysis = analysis

    def lower(self, *_):
        return types.SimpleNamespace(compile=lambda: types.SimpleNamespace(memory_analysis=lambda: self.analysis))


def test_code_is_counted_beside_the_total():
    """As a GPU's compiler reports it; the CPU's reports none."""
    sizes = {
        f"{kind}_size_in_bytes": size for kind, size in (("argument", 8), ("output", 4), ("temp", 2), ("alias", 1))
    }
    counts = compile_program(Compiler(types.SimpleNamespace(**sizes, generated_code_size_in_bytes=5000))).bytes
    assert (counts.total, counts.code, counts.with_code) == (13, 5000, 5013)


def test_a_backend_that_does_not_say_what_a_program_needs_is_refused():
    with pytest.raises(ArenaError, match="does not say what a compiled program needs"):
        compile_program(Compiler(None))


def test_only_exhausted_memory_is_taken_for_it():
    runtime = jax.errors.JaxRuntimeError
    assert is_out_of_memory(runtime("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes"))
    assert not is_out_of_memory(runtime("INTERNAL: ptxas failed"))
    assert not is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED"))


def test_calibration_compares_the_peak_with_the_estimate():
    program = Program(None, ProgramBytes(arguments=100, outputs=10, temporaries=90))
    readings = iter(
        [
            {"bytes_in_use": 1100, "peak_bytes_in_use": 1100},
            {"bytes_in_use": 1110, "peak_bytes_in_use": 1220},  # 120 above what was there, 100 expected
            {"bytes_in_use": 1100, "peak_bytes_in_use": 5000},
            {"bytes_in_use": 1110, "peak_bytes_in_use": 5000},  # hidden by an earlier peak
        ]
    )
    allocator = types.SimpleNamespace(memory_stats=lambda: next(readings))
    assert memory.calibrate(program, lambda: 7, [allocator]) == (7, pytest.approx(0.1))
    assert memory.calibrate(program, lambda: 7, [allocator]) == (7, None)
    assert memory.calibrate(program, lambda: 7, [device()]) == (7, None)


def test_the_limit_is_the_allocators_or_the_machines():
    assert memory.device_limit(device(bytes_limit=77)) == 77
    assert memory.device_limit(device()) > 10**8
