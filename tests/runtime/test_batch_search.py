"""The search against exhaustive answers, on needs that are straight, bent, stepped or refused, and on a real step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax.config.errors import ArenaError
from arena_jax.runtime import size_search as size_search_module
from arena_jax.runtime.batch_search import NothingFitsError, largest_batch
from arena_jax.runtime.program import Program, ProgramBytes, compile_program
from arena_jax.runtime.size_search import SizeSearch

MB = 1_000_000


def program(total, arguments=0, code=0):
    """What the compiler is made to report."""
    return Program(None, ProgramBytes(arguments=arguments, temporaries=total - arguments, code=code))


def search(need, budget, *, refuse_from=None, **options):
    """Run the search over a made-up need in bytes; returns the choice and the sizes that were compiled."""
    compiled = []

    def compile_program(_step, size):
        compiled.append(size)
        if refuse_from and size >= refuse_from:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        total = int(need(size))
        return program(total, arguments=total // 4)

    choice = largest_batch(None, lambda size: (size,), int(budget), compile_program=compile_program, **options)
    assert choice.batch_size in compiled or choice.batch_size in options.get("programs", {})
    assert len(compiled) == len(set(compiled)) == choice.compilations
    return choice, compiled


def truth(need, budget, sizes=range(1, 4097)):
    return max(size for size in sizes if need(size) <= budget)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 1000 * MB), st.integers(100_000, 50 * MB), st.floats(1, 4000))
def test_a_straight_line_takes_three_compilations(fixed, slope, reach):
    def need(size):
        return fixed + slope * size

    budget = need(reach)
    choice, compiled = search(need, budget)
    assert choice.batch_size == truth(need, budget)
    assert len(compiled) <= 4
    # The fourth is paid only where one size more is more than 5 %, and the edge is within the noise, or the batch 1.
    over = (need(choice.batch_size + 1) - budget) / slope
    assert len(compiled) <= 3 or choice.batch_size == 1 or (choice.batch_size < 22 and over < 0.1)


@settings(max_examples=500, deadline=None)
@given(st.floats(0.6, 1.4), st.integers(0, 500 * MB), st.floats(2, 3000), st.integers(1, 40))
def test_bent_and_stepped_needs_end_within_two_percent(power, fixed, reach, tile):
    def need(size):
        return fixed + MB * (-(-size // tile) * tile) ** power + 1000 * size

    budget = need(reach)
    choice, _ = search(need, budget)
    assert need(choice.batch_size) <= budget
    assert choice.batch_size >= 0.95 * truth(need, budget) - (tile if tile > 1 else 0)
    assert choice.compilations <= 16


@pytest.mark.parametrize("tile", [8, 32])
@pytest.mark.parametrize("copy", [0, 6], ids=["rises", "drops"])
def test_the_last_size_of_a_tile_is_chosen(tile, copy):
    """Once, 3 % of such searches ended below it, and 40 % where a size that fills its tiles needs less than others."""
    random, lost = np.random.default_rng(0), 0
    for _ in range(200):
        fixed, offset, last = random.uniform(0, 100 * MB), random.uniform(0, 5), tile * random.integers(1, 20)

        def need(size, fixed=fixed, offset=offset):
            return fixed + MB * (offset - (-size // tile) * tile + (copy if size % tile else 0))

        budget = max(need(last) + random.uniform(0, tile) * MB, need(1))
        choice, _ = search(need, budget)
        assert need(choice.batch_size) <= budget
        lost += choice.batch_size < 0.95 * truth(need, budget)
    assert lost <= 2


def test_where_larger_sizes_are_known_to_fit_a_smaller_one_that_does_not_is_passed_over():
    def need(size):
        return (size if size % 8 == 0 else size + 20) * MB

    programs = {size: program(need(size)) for size in (9, 16)}
    assert need(9) > 25 * MB > need(24)
    assert search(need, 25 * MB, sizes=(1, 9, 16, 24), programs=programs)[0].batch_size == 24


def test_a_candidates_is_kept_to():
    sizes = (1, 2, 4, 8, 16, 32, 64)
    choice, compiled = search(lambda b: (10 + 5 * b) * MB, 200 * MB, sizes=sizes)
    assert choice.batch_size == 32
    assert set(compiled) <= set(sizes)
    assert len(compiled) <= 3
    assert search(lambda b: (10 + 5 * b) * MB, 10**12, sizes=sizes)[0].batch_size == 64


def test_the_compilers_refusal_means_it_does_not_fit():
    choice, _ = search(lambda b: b * MB, 1000 * MB, refuse_from=40)
    assert choice.batch_size == 39
    with pytest.raises(ArenaError, match="more than the compiler could place"):
        search(lambda b: b * MB, 1000 * MB, refuse_from=1)


def test_too_small_a_budget_names_model_need_and_budget():
    with pytest.raises(
        ArenaError, match=r"bert-large: its smallest batch \(1\) needs 510 MB.*800 MB leaves 500 MB.*300 MB"
    ):
        search(lambda b: (500 + 10 * b) * MB, 800 * MB, resident=300 * MB, name="bert-large")
    with pytest.raises(ArenaError, match="nothing to choose from"):
        search(lambda b: b, 10, sizes=())


def test_resident_bytes_and_margin_are_taken_off():
    def need(b):
        return (10 + b) * MB

    assert search(need, 110 * MB)[0].batch_size == 100
    assert search(need, 110 * MB, resident=50 * MB)[0].batch_size == 50
    assert search(need, 110 * MB, margin=0.1)[0].batch_size == 90


def test_the_program_itself_is_taken_off():
    programs = {size: program(size * MB, code=10 * MB) for size in range(1, 65)}
    assert largest_batch(None, None, 50 * MB, programs=programs, limit=64).batch_size == 40
    with pytest.raises(ArenaError, match="needs 11 MB"):
        largest_batch(None, None, 10 * MB, programs=programs, limit=64)


def test_known_sizes_cost_nothing():
    def need(b):
        return (10 + b) * MB

    first, _ = search(need, 110 * MB)
    again, compiled = search(need, 110 * MB, programs=first.programs)
    assert again.batch_size == first.batch_size
    assert compiled == []
    assert "known before" in again.reason
    lower, compiled = search(need, 60 * MB, programs=first.programs)
    assert lower.batch_size == 50
    assert len(compiled) <= 1


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 200 * MB), st.integers(100_000, 50 * MB), st.floats(1, 64), st.integers(1, 100))
def test_where_a_search_begins_does_not_change_where_it_ends(fixed, slope, reach, start):
    def need(size):
        return fixed + slope * size

    candidates = (1, 2, 4, 8, 12, 16, 24, 32, 48)
    budget = need(reach)
    choice, compiled = search(need, budget, sizes=candidates, start=start)
    assert choice.batch_size == truth(need, budget, candidates)
    assert compiled[0] == max(size for size in candidates if size <= start)
    if compiled[0] == choice.batch_size:
        assert len(compiled) <= 2, "the answer, and the next one that does not fit"


def test_other_failures_of_the_compiler_are_not_swallowed():
    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        largest_batch(None, lambda b: (b,), "1GB", compile_program=fail)


def test_a_real_step_against_every_size():
    """The reference is every size compiled."""

    def loss(w, x):
        h = jnp.tanh(x @ w)
        return jnp.sum(jax.nn.softmax(h @ h.swapaxes(-1, -2)) @ x)

    step = jax.jit(jax.value_and_grad(loss))

    def arguments_at(b):
        return jax.ShapeDtypeStruct((16, 16), jnp.float32), jax.ShapeDtypeStruct((b, 32, 16), jnp.float32)

    sizes = range(1, 13)
    needs = {b: compile_program(step, *arguments_at(b)).bytes.total for b in sizes}
    budget = (needs[9] + needs[10]) // 2
    choice = largest_batch(step, arguments_at, budget, limit=12)
    assert choice.batch_size == max(b for b in sizes if needs[b] <= budget)
    assert choice.program.bytes.total == needs[choice.batch_size]
    assert choice.compilations <= 4
    value, _ = choice.program.executable(jnp.ones((16, 16)), jnp.ones((choice.batch_size, 32, 16)))
    assert jnp.isfinite(value)


def test_wrong_arguments_are_refused_in_a_line():
    step = jax.jit(lambda x: x + 1)

    def right(b):
        return (jax.ShapeDtypeStruct((b,), jnp.float32),)

    for at, options, message in (
        (right, {"margin": -1}, "margin is -1; it must be 0 or more"),
        (right, {"margin": -2.5}, "margin is -2.5"),
        (right, {"margin": float("nan")}, "margin is nan"),
        (right, {"sizes": (1.5, 2)}, "are not all integers"),
        (lambda b: (b,), {}, r"batches of 2 and 4096 need .* as arguments_at gives the same shapes"),
        (lambda b: right(1), {}, "whose shapes grow with the batch"),
        (lambda b: right(b)[0], {}, r"arguments_at\(2\) gave a ShapeDtypeStruct; it must give a tuple"),
    ):
        with pytest.raises(ArenaError, match=message):
            largest_batch(step, at, "1GB", **options)


def test_sizes_may_be_an_array_and_the_batch_is_an_integer():
    def at(b):
        return (jax.ShapeDtypeStruct((b,), jnp.float32),)

    assert type(largest_batch(jax.jit(lambda x: x + 1), at, "1GB", sizes=np.array([2, 4])).batch_size) is int
    # The same bytes at every size, as of a tile that none of them fills, are no mistake.
    programs = {size: program(MB) for size in (2, 4)}
    assert largest_batch(None, at, "1GB", sizes=(2, 4), programs=programs).batch_size == 4


def size_search(needs, budget, smallest):
    """A search of a competition over made-up needs, and the sizes that it compiles."""
    compiled = []

    def compile_size(_step, size):
        compiled.append(size)
        if needs[size] is None:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return program(needs[size])._replace(executable="alive")

    search = SizeSearch(
        name="m",
        step=None,
        arguments=lambda size: (size,),
        sizes=tuple(needs),
        programs={},
        earlier=(),
        budget=budget,
        resident=5 * MB,
        margin=0.0,
        smallest=smallest,
        start=8,
        compile_program=compile_size,
    )
    return size_search_module.run(search), compiled


def test_where_a_share_holds_nothing_the_smallest_size_is_compiled_once():
    """What the search compiled before it found nothing is kept and counted, sizes that were refused among it."""
    choice, compiled = size_search({1: 6 * MB, 2: 7 * MB, 4: 9 * MB, 8: None}, 10 * MB, smallest=(0, 0.0))
    assert choice.batch_size == 1
    assert compiled.count(1) == 1
    assert choice.compilations == len(compiled)
    assert set(choice.programs) == {size for size in compiled if size != 8}
    with pytest.raises(NothingFitsError, match="its smallest batch"):
        size_search({1: 6 * MB, 2: 7 * MB}, 10 * MB, smallest=None)
