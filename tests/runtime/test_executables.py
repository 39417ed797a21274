"""Programs by batch size: few live, evicted ones come back, and what memory teaches is heeded."""

import concurrent.futures
import functools
import gc
import threading
import weakref

import jax
import numpy as np
import optax
import pytest

from arena_jax import models, training
from arena_jax.config.errors import ArenaError
from arena_jax.runtime import devices
from arena_jax.runtime.batch_search import BatchChoice
from arena_jax.runtime.executables import Executables
from arena_jax.runtime.memory import tree_bytes
from arena_jax.runtime.program import compile_program

SIZES = (1, 2, 3, 4, 6, 8)
BUDGET = 100_000_000
PER_EXAMPLE = 1_000_000


@pytest.fixture(scope="module")
def step():
    config = models.preset(
        "gpt2-tiny", vocab_size=32, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, max_positions=8
    )
    return training.make_step({"m": models.create(config, task="causal-lm", seed=0)}, optax.sgd(0.1))


class Compiler:
    """Compiles, and reports a million bytes an example beside the model's own; notes the sizes."""

    def __init__(self, model_bytes):
        self.model_bytes, self.sizes = model_bytes, []
        self.before = lambda size: None  # may raise, or wait
        self.code = lambda size: 0

    def __call__(self, function, *arguments):
        size = arguments[1]["input_ids"].shape[1]
        self.before(size)
        program = compile_program(function, *arguments)
        self.sizes.append(size)
        counts = program.bytes._replace(
            arguments=self.model_bytes, outputs=0, aliased=0, temporaries=size * PER_EXAMPLE, code=self.code(size)
        )
        return program._replace(bytes=counts)


@pytest.fixture
def compiler(step):
    return Compiler(2 * tree_bytes(step.init().params))


@pytest.fixture
def peaks():
    """The allocator's: none, as on a CPU, or bytes in use before and at the peak of the next run."""
    return []


@pytest.fixture
def programs(step, compiler, peaks):
    def calibrate(program, run, devices):
        return run(), peaks.pop(0) / program.bytes.total - 1 if peaks else None

    example = {"input_ids": np.ones((1, 8), np.int32), "attention_mask": np.ones((1, 8), np.int32)}
    executables = Executables(
        {"m": functools.partial(step.measured_gradients, "m")},
        step.keys,
        step.mesh,
        step.init().params,
        {"m": example},
        sizes=SIZES,
        microbatches=lambda name, size: 1,
        budget=BUDGET,
        resident=0,
        margin=0.0,
        compile_program=compiler,
        calibrate=calibrate,
    )
    with executables:
        yield executables


def search(programs, megabytes, **options):
    choice = programs.search("m", megabytes * PER_EXAMPLE, **options).result()
    return choice, programs.adopt("m", choice)


def run(programs, step, size):
    batch = {"input_ids": np.ones((size, 8), np.int32), "attention_mask": np.ones((size, 8), np.int32)}
    placed = devices.place_batch(batch, step.mesh)
    return programs("m", size, step.init().params["m"], placed, 0)


@pytest.mark.slow
def test_an_evicted_size_is_compiled_again_when_it_is_chosen(programs, step):
    sizes = [search(programs, megabytes)[0].batch_size for megabytes in (1, 2, 3, 4, 6, 8)]
    assert sizes == list(SIZES)
    assert len(programs.alive("m")) == 4
    assert programs.evicted["m"] == 2
    with pytest.raises(KeyError):
        run(programs, step, 1)
    choice, compiled = search(programs, 1)
    assert (choice.batch_size, choice.compilations, len(compiled)) == (1, 1, 1), "one compilation, and it is reported"
    assert compiled[0].name == "gradients of m in batches of 1"
    assert (len(programs.alive("m")), programs.evicted["m"]) == (4, 3)
    _, metrics = run(programs, step, 1)
    assert np.isfinite(float(metrics["loss"]))
    choice, compiled = search(programs, 8)
    assert (choice.batch_size, choice.compilations, compiled) == (8, 0, []), "what is alive costs nothing"


@pytest.mark.slow
def test_what_was_only_asked_about_makes_way_first(programs, compiler):
    for megabytes in (1, 3, 4):
        search(programs, megabytes)
    larger = compiler(training_function(programs), *programs.arguments("m", 8))
    programs.adopt("m", BatchChoice(3, programs.program("m", 3), {8: larger}, 1, "8 was compiled, and was too large"))
    assert programs.alive("m") == (2, 1, 4, 3), "8 has gone; of the rest 2, asked about, would be the next"
    choice, compiled = search(programs, 3)
    assert (choice.compilations, compiled) == (0, [])
    assert programs.step_bytes("m", 8) > programs.step_bytes("m", 4), "what it needs is known"


def training_function(programs):
    return lambda params, batch, key, step: (params, {"loss": batch["input_ids"].sum() + step})


def test_what_is_known_is_answered_while_another_program_is_compiled(programs):
    search(programs, 3)
    compiled = threading.Event()
    programs.run_in_background(lambda: compiled.wait(timeout=60))
    compiled_size, new_size = (programs.search("m", megabytes * PER_EXAMPLE) for megabytes in (3, 8))
    assert compiled_size.done()
    assert (compiled_size.result().batch_size, compiled_size.result().compilations) == (3, 0)
    assert not new_size.done()
    compiled.set()
    assert new_size.result().batch_size == 8


def test_an_abandoned_search_leaves_what_it_compiled(programs):
    first, second = (programs.search("m", megabytes * PER_EXAMPLE) for megabytes in (3, 6))
    programs.abandon("m", first, keep=True)
    programs.abandon("m", second, keep=False)
    concurrent.futures.wait([future for future in (first, second) if not future.cancelled()])
    left = {} if first.cancelled() else first.result().programs
    assert len(programs.adopt_abandoned()) == len(left)
    assert len(programs.alive("m")) == len(left)
    assert programs.adopt_abandoned() == []
    choice, compiled = search(programs, 3)
    assert choice.batch_size == 3
    assert (compiled == []) == bool(left), "it need not be compiled again"
    for megabytes in (4, 6, 8):
        search(programs, megabytes)
    alive = programs.alive("m")
    assert len(alive) == 4
    late = programs.search("m", PER_EXAMPLE)
    assert late.result().batch_size == 1
    programs.abandon("m", late, keep=True)
    assert len(programs.adopt_abandoned()) == 1
    assert programs.alive("m") == (*alive[1:3], 1, alive[3]), "what is in force does not make way for it"
    assert search(programs, 1)[0].compilations == 0, "it is not compiled again and again"


def test_a_search_knows_what_an_abandoned_one_before_it_compiled(programs, compiler):
    begun, go_on = threading.Event(), threading.Event()

    def slowly(size):
        begun.set()
        assert go_on.wait(timeout=60)

    compiler.before = slowly
    first = programs.search("m", 3 * PER_EXAMPLE)
    assert begun.wait(timeout=60)
    programs.abandon("m", first, keep=True)
    assert programs.searching()
    second = programs.search("m", 3 * PER_EXAMPLE)
    go_on.set()
    assert (second.result().batch_size, second.result().compilations) == (3, 0)
    assert len(first.result().programs) > 0
    assert programs.adopt("m", second.result()) == []
    assert len(programs.adopt_abandoned()) == len(first.result().programs), "reported once, by who compiled them"
    assert programs.alive("m")[-1] == 3


def test_the_size_that_a_model_steps_down_to_is_in_force(programs):
    """Out of memory with a search under way, whose program takes the place of another: not of the smaller size's."""
    for megabytes in (1, 2, 4, 6):
        search(programs, megabytes)
    programs.adopt("m", search(programs, 4)[0])
    search(programs, 6)
    dropped = programs.search("m", 3 * PER_EXAMPLE)
    assert programs.limits.lower_ceiling("m", 6) == 4
    assert programs.compile("m", 4) == []
    dropped.result()
    programs.abandon("m", dropped, keep=True)
    assert len(programs.adopt_abandoned()) == 1
    assert programs.alive("m")[-2:] == (3, 4)


def test_no_search_compiles_a_size_twice(programs, compiler):
    """One that asks about new sizes, and then takes one that was evicted, compiles this one alone."""
    state = programs.state()
    need = [compiler.model_bytes, 0, 2 * PER_EXAMPLE, 0, 0]
    programs.restore({**state, "programs": {"m": {2: need}}, "alive": {"m": []}}, {})
    assert programs.restore({**state, "programs": {"m": {2: need}}, "alive": {"m": [2]}}, {"m": 8})[0].bytes
    for megabytes in (3, 4, 6, 8):
        search(programs, megabytes)
    assert 2 not in programs.alive("m")
    compiler.sizes.clear()
    choice, compiled = search(programs, 2)
    assert choice.batch_size == 2
    assert len(compiler.sizes) == len(set(compiler.sizes)) == len(compiled) == choice.compilations == 1


def test_an_evicted_program_is_gone_from_memory(programs):
    """JAX would keep it as long as its jitted function lives; an executable that nobody has is collected."""
    executables = {}
    for megabytes in (1, 2, 3, 4, 6, 8):
        choice, _ = search(programs, megabytes)
        executables |= {size: weakref.ref(program.executable._executable) for size, program in choice.programs.items()}
        del choice
    gc.collect()
    living = sorted(size for size, executable in executables.items() if executable() is not None)
    assert living == sorted(programs.alive("m")) == [3, 4, 6, 8]


def test_the_compilers_refusal_means_too_large_also_when_compiled_again(programs, compiler):
    for megabytes in (6, 1, 2, 3, 4):
        search(programs, megabytes)
    assert 6 not in programs.alive("m"), "evicted, and about to be compiled again"

    def out_of_memory_above_4(size):
        if size > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes")

    compiler.before = out_of_memory_above_4
    assert search(programs, 6)[0].batch_size == 4
    assert search(programs, 50)[0].batch_size == 4

    def broken(size):
        raise jax.errors.JaxRuntimeError("INTERNAL: ptxas failed")

    compiler.before = broken
    with pytest.raises(jax.errors.JaxRuntimeError, match="ptxas"):
        search(programs, 50)


def test_a_margin_rises_and_later_searches_leave_that_much(programs):
    assert search(programs, 4)[0].batch_size == 4
    under_way = programs.search("m", 4 * PER_EXAMPLE)
    assert programs.limits.raise_margin("m", 0.5) == 0.5
    assert programs.limits.raise_margin("m", 0.1) == 0.5, "it never falls"
    assert under_way.result().batch_size == 4, "an earlier search goes by what was known when it began"
    assert not programs.fits("m", 4, 4 * PER_EXAMPLE)
    assert programs.fits("m", 2, 4 * PER_EXAMPLE)
    assert search(programs, 4)[0].batch_size == 2
    programs.limits.raise_margin("m", 1000.0)
    assert search(programs, 4)[0].batch_size == 1, "the smallest is kept: at the start it fitted"


def test_a_size_that_ran_out_is_not_chosen_again(programs, step):
    assert search(programs, 6)[0].batch_size == 6
    assert programs.limits.lower_ceiling("m", 6) == 4
    assert programs.limits.margins["m"] == pytest.approx(0.1)
    programs.compile("m", 4)
    run(programs, step, 4)
    assert search(programs, 50)[0].batch_size == 4
    state = programs.limits.state()
    programs.limits.ceilings, programs.limits.margins = {}, {"m": 0.0}
    programs.limits.restore(state)
    assert search(programs, 50)[0].batch_size == 4
    assert programs.limits.lower_ceiling("m", 1) is None
    with pytest.raises(ArenaError, match="hold nothing to choose from"):
        search(programs, 50)


def test_the_code_of_programs_that_may_be_alive_is_in_the_account(programs, compiler):
    """As a GPU's compiler reports it: here a million bytes a program, and half a million more of each example's."""
    compiler.code = lambda size: PER_EXAMPLE + size * PER_EXAMPLE // 2
    programs.other_code["update"] = 2 * PER_EXAMPLE
    assert programs.pool == BUDGET - (2 + 3 * 2) * PER_EXAMPLE, "before anything is known: three like the largest"
    assert search(programs, 4)[0].batch_size == 2, "two examples take two million, their program two"
    assert search(programs, 7)[0].batch_size == 4
    assert programs.step_bytes("m", 4) == (4 + 3) * PER_EXAMPLE
    assert programs.fits("m", 4, 7 * PER_EXAMPLE)
    assert not programs.fits("m", 4, 7 * PER_EXAMPLE - 1)
    largest = max(compiler.code(size) for size in compiler.sizes)
    assert programs.pool == BUDGET - 2 * PER_EXAMPLE - 3 * largest
    state, pool = programs.state(), programs.pool
    programs.restore({**state, "programs": {"m": {}}}, {"m": 1})
    programs.other_code = {}
    assert programs.pool != pool
    programs.restore(state, {"m": 4})
    assert programs.pool == pool, "a run that goes on has the same"


def test_the_first_run_of_a_program_measures_its_margin(programs, step, peaks):
    total = search(programs, 4)[0].program.bytes.total
    peaks.append(total * 9 / 8)
    run(programs, step, 4)
    run(programs, step, 4)  # the allocator is read once
    (calibration,) = programs.take_calibrations()
    assert calibration[:2] == ("m", 4)
    assert (calibration.margin, calibration.raised) == (0.13, True), "rounded up to a percent"
    assert calibration.estimated == total
    assert calibration.measured == pytest.approx(total * 1.125, rel=1e-6)
    assert programs.take_calibrations() == []
    assert search(programs, 4)[0].batch_size == 3


def test_without_a_peak_the_margin_stays(programs, step):
    search(programs, 4)
    run(programs, step, 4)
    assert programs.take_calibrations() == []
    assert programs.limits.margins == {"m": 0.0}
