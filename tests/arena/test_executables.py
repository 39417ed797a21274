"""Programs by batch size: few live, evicted ones come back, and what memory teaches is heeded."""

import concurrent.futures
import gc
import threading
import types
import weakref

import jax
import numpy as np
import optax
import pytest

from arena_jax import models, training
from arena_jax.arena import executables
from arena_jax.arena.executables import Executables
from arena_jax.config.errors import ArenaError
from arena_jax.runtime import batch_search, devices, memory

SIZES = (1, 2, 3, 4, 6, 8)
BUDGET = 100_000_000
PER_EXAMPLE = 1_000_000
pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(scope="module")
def step():
    config = models.preset(
        "gpt2-tiny", vocab_size=32, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, max_positions=8
    )
    return training.make_step({"m": models.create(config, task="causal-lm", seed=0)}, optax.sgd(0.1))


@pytest.fixture
def programs(step, monkeypatch):
    """Programs whose bytes are said to be a million an example, beside the model's own."""

    def as_if(jitted, *arguments):
        made = memory.estimate(jitted, *arguments)
        rows = arguments[1]["input_ids"].shape[1]
        return made._replace(total=programs._own("m") + rows * PER_EXAMPLE, temporaries=rows * PER_EXAMPLE)

    for module in (executables, batch_search):
        monkeypatch.setattr(module, "estimate", as_if)
    example = {"input_ids": np.ones((1, 8), np.int32), "attention_mask": np.ones((1, 8), np.int32)}
    programs = Executables(
        step,
        step.init().params,
        {"m": example},
        sizes=SIZES,
        microbatches=lambda name, size: 1,
        budget=BUDGET,
        resident=0,
        margin=0.0,
    )
    with programs:
        yield programs


def find(programs, megabytes, **options):
    choice = programs.find("m", megabytes * PER_EXAMPLE, **options).result()
    return choice, programs.adopt("m", choice)


def run(programs, step, size):
    batch = {"input_ids": np.ones((size, 8), np.int32), "attention_mask": np.ones((size, 8), np.int32)}
    placed = devices.place_batch(batch, step.mesh)
    return programs("m", size, step.init().params["m"], placed, 0)


def test_an_evicted_size_is_compiled_again_when_it_is_chosen(programs, step):
    made = [size for megabytes in (1, 2, 3, 4, 6, 8) for size in [find(programs, megabytes)[0].batch]]
    assert made == list(SIZES)
    assert programs.alive("m") == 4
    assert programs.evicted["m"] == 2
    with pytest.raises(KeyError):
        run(programs, step, 1)
    choice, compiled = find(programs, 1)
    assert (choice.batch, choice.compiles, len(compiled)) == (1, 1, 1), "one compilation, and it is told"
    assert (programs.alive("m"), programs.evicted["m"]) == (4, 3)
    _, metrics = run(programs, step, 1)
    assert np.isfinite(float(metrics["loss"]))
    choice, compiled = find(programs, 8)
    assert (choice.batch, choice.compiles, compiled) == (8, 0, []), "what is alive costs nothing"


def test_what_was_only_asked_about_makes_way_first(programs):
    for megabytes in (1, 3, 4):
        find(programs, megabytes)
    asked = executables.estimate(programs._jitted["m"], *programs.arguments("m", 8))
    chosen = programs._known["m"][3]
    programs.adopt("m", batch_search.Choice(3, chosen, {8: asked}, 1, "8 was asked about, and was too large"))
    assert list(programs._alive["m"]) == [2, 1, 4, 3], "8 has gone; of the rest 2, asked about, would be the next"
    choice, compiled = find(programs, 3)
    assert (choice.compiles, compiled) == (0, [])
    assert programs.needs("m", 8) > programs.needs("m", 4), "what it needs is known"


def test_what_is_known_is_answered_while_another_program_is_compiled(programs):
    find(programs, 3)
    compiled = threading.Event()
    programs.beside(lambda: compiled.wait(timeout=60))
    known, unknown = (programs.find("m", megabytes * PER_EXAMPLE) for megabytes in (3, 8))
    assert known.done()
    assert (known.result().batch, known.result().compiles) == (3, 0)
    assert not unknown.done()
    compiled.set()
    assert unknown.result().batch == 8


def test_a_search_that_was_given_up_leaves_what_it_made(programs):
    first, second = (programs.find("m", megabytes * PER_EXAMPLE) for megabytes in (3, 6))
    programs.give_up("m", first, keep=True)
    programs.give_up("m", second, keep=False)
    concurrent.futures.wait([one for one in (first, second) if not one.cancelled()])
    made = {} if first.cancelled() else first.result().compiled
    assert len(programs.left_over()) == len(made)
    assert programs.alive("m") == len(made)
    assert programs.left_over() == []
    choice, compiled = find(programs, 3)
    assert choice.batch == 3
    assert (compiled == []) == bool(made), "it need not be compiled again"
    for megabytes in (4, 6, 8):
        find(programs, megabytes)
    in_force = list(programs._alive["m"])
    assert len(in_force) == 4
    late = programs.find("m", PER_EXAMPLE)
    assert late.result().batch == 1
    programs.give_up("m", late, keep=True)
    assert len(programs.left_over()) == 1
    assert list(programs._alive["m"]) == [*in_force[1:3], 1, in_force[3]], "what is in force does not make way for it"
    assert find(programs, 1)[0].compiles == 0, "it is not made again and again"


def test_a_search_knows_what_the_one_before_it_made_that_was_given_up(programs, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(jitted, *arguments):
        begun.set()
        assert go_on.wait(timeout=60)
        return as_if(jitted, *arguments)

    as_if = batch_search.estimate
    monkeypatch.setattr(batch_search, "estimate", slow)
    first = programs.find("m", 3 * PER_EXAMPLE)
    assert begun.wait(timeout=60)
    programs.give_up("m", first, keep=True)
    second = programs.find("m", 3 * PER_EXAMPLE)
    go_on.set()
    assert (second.result().batch, second.result().compiles) == (3, 0)
    assert len(first.result().compiled) > 0
    assert programs.adopt("m", second.result()) == []
    assert len(programs.left_over()) == len(first.result().compiled), "told once, by who made them"
    assert list(programs._alive["m"])[-1] == 3


def test_what_a_model_steps_down_to_is_in_force(programs):
    """Out of memory with a search under way, whose program takes the place of another: not of the smaller size's."""
    for megabytes in (1, 2, 4, 6):
        find(programs, megabytes)
    programs.adopt("m", find(programs, 4)[0])
    find(programs, 6)
    dropped = programs.find("m", 3 * PER_EXAMPLE)
    assert programs.ran_out("m", 6) == 4
    assert programs.compile("m", 4) == []
    dropped.result()
    programs.give_up("m", dropped, keep=True)
    assert len(programs.left_over()) == 1
    assert list(programs._alive["m"])[-2:] == [3, 4]


def test_no_search_compiles_a_size_twice(programs, monkeypatch):
    """One that asks about new sizes, and then takes one that was evicted, makes this one alone."""
    made = []

    def counted(jitted, *arguments):
        made.append(arguments[1]["input_ids"].shape[1])
        return as_if(jitted, *arguments)

    as_if = batch_search.estimate
    for module in (executables, batch_search):
        monkeypatch.setattr(module, "estimate", counted)
    find(programs, 3)
    programs._known["m"] = {
        2: programs._known["m"][3]._replace(executable=None, total=programs._own("m") + 2 * PER_EXAMPLE)
    }
    programs._alive["m"] = {}
    made.clear()
    choice, compiled = find(programs, 2)
    assert choice.batch == 2
    assert len(made) == len(set(made)) == len(compiled) == choice.compiles
    assert set(made) == {2, 3}, "the next size was asked about, too"


def test_an_evicted_program_is_gone_from_memory(programs):
    """JAX would keep it as long as its jitted function lives; an executable that nobody has is collected."""
    held = {}
    for megabytes in (1, 2, 3, 4, 6, 8):
        choice, _ = find(programs, megabytes)
        held |= {size: weakref.ref(made.executable._executable) for size, made in choice.compiled.items()}
        del choice
    gc.collect()
    assert (
        sorted(size for size, one in held.items() if one() is not None) == sorted(programs._alive["m"]) == [3, 4, 6, 8]
    )


def test_the_compilers_refusal_means_too_large_also_when_compiled_again(programs, monkeypatch):
    for megabytes in (6, 1, 2, 3, 4):
        find(programs, megabytes)
    assert 6 not in programs._alive["m"], "evicted, and about to be compiled again"
    honest = batch_search.estimate

    def out_of_memory_above_4(jitted, *arguments):
        if arguments[1]["input_ids"].shape[1] > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes")
        return honest(jitted, *arguments)

    for module in (executables, batch_search):
        monkeypatch.setattr(module, "estimate", out_of_memory_above_4)
    assert find(programs, 6)[0].batch == 4
    assert find(programs, 50)[0].batch == 4

    def broken(jitted, *arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: ptxas failed")

    for module in (executables, batch_search):
        monkeypatch.setattr(module, "estimate", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="ptxas"):
        find(programs, 50)


def test_a_margin_rises_and_later_searches_leave_that_much_room(programs):
    assert find(programs, 4)[0].batch == 4
    under_way = programs.find("m", 4 * PER_EXAMPLE)
    assert programs.raise_margin("m", 0.5) == 0.5
    assert programs.raise_margin("m", 0.1) == 0.5, "it never falls"
    assert under_way.result().batch == 4, "what was asked before goes by what was known then"
    assert not programs.allowed("m", 4, 4 * PER_EXAMPLE)
    assert programs.allowed("m", 2, 4 * PER_EXAMPLE)
    assert find(programs, 4)[0].batch == 2
    programs.raise_margin("m", 1000.0)
    assert find(programs, 4)[0].batch == 1, "the smallest is kept: at the start it fitted"


def test_a_size_that_ran_out_is_not_chosen_again(programs, step):
    assert find(programs, 6)[0].batch == 6
    assert programs.ran_out("m", 6) == 4
    assert programs.margins["m"] == pytest.approx(0.1)
    programs.compile("m", 4)
    run(programs, step, 4)
    assert find(programs, 50)[0].batch == 4
    other = programs.learned()
    programs.ceilings, programs.margins = {}, {"m": 0.0}
    programs.learn(other)
    assert find(programs, 50)[0].batch == 4
    assert programs.ran_out("m", 1) is None
    with pytest.raises(ArenaError, match="hold nothing to choose from"):
        find(programs, 50)


def test_the_code_of_programs_that_may_be_alive_is_in_the_account(programs, monkeypatch):
    """As a GPU's compiler tells it: here a million bytes a program, and half a million more of each example's."""
    known = batch_search.estimate

    def with_code(jitted, *arguments):
        made = known(jitted, *arguments)
        return made._replace(code=PER_EXAMPLE + (made.total - programs._own("m")) // 2)

    for module in (executables, batch_search):
        monkeypatch.setattr(module, "estimate", with_code)
    programs.other_code["update"] = 2 * PER_EXAMPLE
    assert programs.pool == BUDGET - (2 + 3 * 2) * PER_EXAMPLE, "before anything is known: three like the largest"
    assert find(programs, 4)[0].batch == 2, "two examples take two million, their program two"
    assert find(programs, 7)[0].batch == 4
    assert programs.needs("m", 4) == (4 + 3) * PER_EXAMPLE
    assert programs.allowed("m", 4, 7 * PER_EXAMPLE)
    assert not programs.allowed("m", 4, 7 * PER_EXAMPLE - 1)
    largest = max(one.code for one in programs._known["m"].values())
    assert programs.pool == BUDGET - 2 * PER_EXAMPLE - 3 * largest
    told, pool = (programs.remembered(), programs.learned()), programs.pool
    programs._known["m"], programs.other_code = {}, {}
    programs.remember(told[0], {"m": 4})
    programs.learn(told[1])
    assert programs.pool == pool, "a run that goes on has the same"


def test_the_first_run_of_a_program_measures_its_margin(programs, step):
    (total,) = (find(programs, megabytes)[0].estimate.total for megabytes in [4])
    arguments = programs._known["m"][4].arguments
    # 1000 bytes in use, then a peak: an eighth above what the compiler said of the whole.
    peaks = iter([1000, 1000 + total * 9 // 8 - arguments])
    gpu = types.SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 1000, "peak_bytes_in_use": next(peaks)})
    programs._local = [gpu]
    run(programs, step, 4)
    run(programs, step, 4)  # the allocator is asked once: its readings are at an end
    (one,) = programs.calibrations()
    assert (one.model, one.size, one.margin, one.raised) == ("m", 4, 0.13, True), "rounded up to a percent"
    assert one.estimated == total
    assert one.measured == pytest.approx(total * 1.125, rel=1e-6)
    assert programs.calibrations() == []
    assert find(programs, 4)[0].batch == 3


def test_on_cpu_the_margin_stays(programs, step):
    find(programs, 4)
    run(programs, step, 4)
    assert programs.calibrations() == []
    assert programs.margins == {"m": 0.0}
