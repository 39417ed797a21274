"""Two functions share a program that is alive where they are the same, and only there."""

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.runtime.program import compile_program

A, B = np.full(3, 1.0, np.float32), np.full(3, 5.0, np.float32)


def named_run(function):
    """As the programs of models are: of one name, whatever they compute."""

    def run(a, b):
        return function(a, b)

    return jax.jit(run)


def test_equal_functions_share():
    first = compile_program(named_run(lambda a, b: a + b), A, B)
    second = compile_program(named_run(lambda a, b: a + b), A, B)
    assert second.cached
    assert second.executable is first.executable


def test_which_argument_is_read_is_part_of_a_program():
    first = compile_program(named_run(lambda a, b: a + 1), A, B)
    second = compile_program(named_run(lambda a, b: b + 1), A, B)
    assert float(first.executable(A, B)[0]) == 2
    assert float(second.executable(A, B)[0]) == 6


def test_an_argument_that_is_not_read_is_part_of_a_program():
    other = np.zeros((2, 2), np.float32)
    first = compile_program(named_run(lambda a, b: a * 2), A, B)
    second = compile_program(named_run(lambda a, b: a * 2), A, other)
    assert float(first.executable(A, B)[0]) == float(second.executable(A, other)[0]) == 2


def test_what_calls_back_is_shared_with_nobody():
    def adding(number):
        shape = jax.ShapeDtypeStruct((3,), jnp.float32)
        return named_run(lambda a, b: jax.pure_callback(lambda x: x + np.float32(number), shape, a) + b)

    first, second = compile_program(adding(1), A, B), compile_program(adding(2), A, B)
    assert float(first.executable(A, B)[0]) == 7
    assert float(second.executable(A, B)[0]) == 8
