"""Competitions rehearsed with faults: a fake clock, fake programs, a disk in memory; the rounds and the state are real.

    python -m benchmarks.rehearsal --seeds 10000     # minutes on 2 cores
    python -m benchmarks.rehearsal --first 4711      # a seed that failed, again

`arena_jax.arena.competition.train` itself runs, with its own setup, allocation, batch sizes, memory limits, divergence
and checkpoints' contents. Fake are the programs (a parameter that follows the rows it is shown), the clock (a second is
what a program says it takes), the compiler (it takes as many rounds as the seed says) and the disk. A seed draws the
options and the faults: crashes at any moment, programs that come late, models that run out of memory, gradients that
are not finite, a disk that is full. What must hold, whatever happens, is in `watch` and `rehearse`. Real kills of real
runs are `benchmarks/chaos.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import functools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.arena import competition, rounds
from arena_jax.arena.state import to_position
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs.checkpoints import flatten
from arena_jax.runtime.executables import Executables
from arena_jax.runtime.program import Program, ProgramBytes
from arena_jax.training.state import TrainState
from benchmarks.rehearsal_world import (
    CODE_BYTES,
    MODEL_BYTES,
    SIZES,
    Clock,
    Compiler,
    Crash,
    Disk,
    RehearsalSession,
    Script,
    compile_fake,
    update_fake,
)

BUDGET = 100_000
_MOST_SESSIONS = 12


def draw(seed: int) -> Script:
    """A seed's options and faults."""
    rng = np.random.default_rng(seed)

    def some(count: int, most: int) -> frozenset[tuple[str, int]]:
        return frozenset((str(rng.choice(["bert", "gpt2"])), int(rng.integers(0, most))) for _ in range(count))

    start, reallocate = int(rng.integers(0, 10)), int(rng.integers(1, 4))
    streak = {(str(rng.choice(["bert", "gpt2"])), start + i) for i in range(int(rng.integers(2, 6)))}
    return Script(
        crashes=tuple(int(x) for x in rng.integers(1, 60, rng.integers(0, 4))),
        out_of_memory=some(int(rng.integers(0, 3)), 20),
        nonfinite=some(int(rng.integers(0, 3)), 20) | (streak if rng.random() < 0.4 else set()),
        full=frozenset(int(x) for x in rng.integers(0, 5, rng.integers(0, 3))) if rng.random() < 0.4 else frozenset(),
        delay=int(rng.integers(0, 4)),
        late=str(rng.choice(["wait", "defer"])),
        rounds=int(rng.integers(2, 7)),
        evaluate=int(rng.integers(1, 3)),
        reallocate=reallocate,
        save=int(rng.integers(1, 4)),
        swap=int(rng.integers(0, reallocate)),
        on_nonfinite=str(rng.choice(["freeze", "restore"])),
        limit=int(rng.integers(2, 4)),
        seed=seed,
    )


# ---- a rehearsal ----


@functools.cache
def stage() -> tuple[Any, Any]:
    """The real setup of a tiny competition, built once."""
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
    config = dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(ModelConfig("bert", preset="bert-tiny", **sizes), ModelConfig("gpt2", preset="gpt2-tiny", **sizes)),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(warmup_steps=2, convergence_window=3),
        training=TrainingConfig(
            steps=4, batch_size=1, devices=1, evaluate_every=1, tensorboard=False, figures=False, log_every=2
        ),
        arena=ArenaConfig(memory_budget="1MB", batch_sizes=SIZES, round_scale=4, reallocate_every=1),
    )
    with tempfile.TemporaryDirectory() as folder:
        setup, _ = competition.build_setup(config, Path(folder))
    setup.executables.__exit__()
    return config, setup


def configure(script: Script) -> RunConfig:
    """The run's configuration as the script has it."""
    config, _ = stage()
    training = dataclasses.replace(
        config.training,
        steps=script.rounds,
        evaluate_every=script.evaluate,
        checkpoint_every=script.save,
        on_nonfinite=script.on_nonfinite,
        max_nonfinite_steps=script.limit,
    )
    arena = dataclasses.replace(
        config.arena, reallocate_every=script.reallocate, swap_after=script.swap, late_swaps=script.late
    )
    return dataclasses.replace(config, training=training, arena=arena)


@contextlib.contextmanager
def scenery(script: Script, disk: Disk, clock: Clock, moments: list[int], crashes: list[int]) -> Iterator[None]:
    """Everything fake put where the competition looks for it."""
    compiler, (_, real) = Compiler(script.delay), stage()
    params = {name: {"w": jnp.float32(0.5)} for name in real.names}
    compile_program = functools.partial(compile_fake, script, clock)

    def decide(history: Any) -> np.ndarray:
        return np.random.default_rng((script.seed, len(history.scores))).dirichlet([1.0, 1.0])

    def evaluate(step: Any, params: Any, name: str, rows: Any, size: int) -> dict[str, float]:
        clock.now += 1 / 16
        return {"loss": float(np.float32(params["w"]) ** 2), "accuracy": 0.5}

    def observe(moment: str, rounds_: int, setup: Any, state: Any) -> None:
        moments[0] += 1
        if moment == "round":
            compiler.advance()
        watch(setup, state)
        if crashes and moments[0] >= crashes[0]:
            crashes.pop(0)
            moments[0] = 0
            raise Crash

    def build(config: RunConfig, folder: Path, **options: Any) -> tuple[Any, TrainState]:
        executables = Executables(
            {name: lambda *arguments: None for name in real.names},
            real.step.keys,
            real.mesh,
            params,
            {name: rows.batch(np.zeros(1, np.int64), rows.lengths[-1]) for name, rows in real.parts.train.items()},
            sizes=SIZES,
            microbatches=lambda name, size: 1,
            budget=BUDGET,
            resident=4 * MODEL_BYTES,
            compile_program=compile_program,
            calibrate=lambda program, run, devices: (run(), None),
            executor=compiler,
        )
        setup = dataclasses.replace(
            real,
            config=config,
            arena=config.arena,
            budget=BUDGET,
            executables=executables,
            rounds=config.training.steps,
            policy=decide,
            policy_name="rehearsal",
            evaluate=evaluate,
            observe=observe,
            compile_program=compile_program,
        )
        return setup, TrainState(jnp.asarray(0), dict(params), {name: {"w": jnp.float32(0)} for name in params})

    update = Program(functools.partial(update_fake, clock), ProgramBytes(code=CODE_BYTES), name="update of all models")
    with contextlib.ExitStack() as stack:
        for module, fakes in (
            (
                competition,
                {
                    "Session": functools.partial(RehearsalSession, disk),
                    "build_setup": build,
                    "compile_update": lambda setup, state, gradients: update,
                    "compile_evaluations": lambda setup, params: {},
                    "admit_evaluations": lambda setup, programs, params: None,
                    "zeros_like": lambda tree, mesh: jax.tree.map(np.zeros_like, tree),
                    "describe_models": lambda parts, records: {},
                    "derived_values": lambda setup, state: [],
                },
            ),
            (rounds, {"place_batch": lambda batch, mesh, k: place(batch, k)}),
            *((module, {"time": clock}) for module in clock_readers()),
        ):
            stack.enter_context(mock.patch.multiple(module, **fakes))
        yield


def clock_readers() -> list[ModuleType]:
    """The modules of the arena that look at a clock."""
    ours = [module for name, module in sys.modules.items() if name.startswith("arena_jax.arena.")]
    return [module for module in ours if getattr(module, "time", None) is time]


def place(batch: Any, k: int) -> dict[str, np.ndarray]:
    """As `place_batch`, and nothing is copied to a device."""
    return {name: array.reshape(k, len(array) // k, *array.shape[1:]) for name, array in batch.items()}


def watch(setup: Any, state: Any) -> None:
    """What must hold at every moment."""
    executables = setup.executables
    assert abs(state.shares.sum() - 1) < 1e-12, f"shares sum to {state.shares.sum()}"
    assert (state.shares >= 0).all(), f"shares are {state.shares}"
    for name in setup.names:
        size = state.sizes[name]
        assert size in executables.limits.sizes(name), f"{name} has {size}, which ran out of memory"
        program = executables.program(name, size)
        assert size in executables.alive(name), f"the program of {name} in batches of {size} is lost"
        assert program.executable is not None, f"the program of {name} in batches of {size} is gone"
        assert executables.step_bytes(name, size) <= executables.pool, f"{name} in batches of {size} is over the budget"
        stream, account = state.streams[name], state.accounts[name]
        assert stream.examples_seen == account.examples, f"{name} lost rows"
        assert name not in state.pending or not state.pending[name].search.cancelled(), f"{name} waits for nothing"


def run(script: Script, *, disturbed: bool) -> tuple[Any, Disk]:
    """One competition to its end, through all its sessions; the state at its end, and its disk."""
    if not disturbed:
        script = dataclasses.replace(script, crashes=(), full=frozenset())
    disk, clock, moments, crashes = Disk(script.full), Clock(), [0], list(script.crashes)
    config = configure(script)
    for session in range(_MOST_SESSIONS):
        states: list[Any] = []

        def keep(setup: Any, state: Any, into: list[Any] = states) -> Any:
            into[:] = [(copy.deepcopy(disk_free(to_position(setup, state))), state.train)]
            return to_position(setup, state)

        with scenery(script, disk, clock, moments, crashes), mock.patch.object(competition, "to_position", keep):
            try:
                competition.train(config, None, resume=session > 0)
            except Crash:
                continue
            except ArenaError as error:
                if "could not be saved" in str(error):
                    continue
                return str(error), disk
        return (states[-1] if states else last_state(disk)), disk
    raise AssertionError(f"the run did not end in {_MOST_SESSIONS} sessions")


def last_state(disk: Disk) -> Any:
    """What the newest checkpoint holds, where the last session had nothing to do."""
    assert disk.latest is not None
    arrays, text = disk.kept[disk.latest]
    return disk_free(json.loads(text)["position"]), arrays


def disk_free(position: Any) -> Any:
    """A position less which programs a resumed run has not compiled again, as JSON has it."""
    position = json.loads(json.dumps(position))
    position["executables"] = {"limits": position["executables"]["limits"]}
    return position


def rehearse(seed: int) -> Script:
    """Play a seed, and hold it against the run that was never interrupted.

    Returns:
        The script.

    Raises:
        AssertionError: something does not hold.
    """
    script = draw(seed)
    end, disk = run(script, disturbed=True)
    allocations = [record for record in disk.records if record["kind"] == "allocation"]
    for record in allocations:
        total = sum(model["share"] for model in record["models"].values())
        assert abs(total - 1) < 1e-12, f"recorded shares sum to {total}"
    # What compiles late, and a model that a missing checkpoint cannot restore, are another run's by intent.
    if script.late == "defer" and script.delay:
        return script
    if script.full and script.on_nonfinite == "restore" and script.nonfinite:
        return script
    undisturbed, whole = run(script, disturbed=False)
    same(end, undisturbed)
    assert comparable(disk.records) == comparable(whole.records), "the records differ"
    return script


def comparable(records: Sequence[dict[str, Any]]) -> list[Any]:
    """Records less clocks, less what a resumed run compiles again, and less what went wrong with the disk."""
    clocks = {"seconds", "waited", "executables", "evicted", "reason", "examples_per_second", "compiling"}

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items() if key not in clocks}
        return repr(value)

    return [
        clean(record)
        for record in records
        if record["kind"] not in ("compile", "checkpoint")
        and not (record["kind"] == "trouble" and record["what"] == "checkpoint")
    ]


def same(end: Any, undisturbed: Any) -> None:
    """The same end, to the bit."""
    if isinstance(end, str) or isinstance(undisturbed, str):
        assert end == undisturbed, f"{end!r} and not {undisturbed!r}"
        return
    (position, train), (other, reference) = end, undisturbed
    for key in other:
        assert json.dumps(position[key]) == json.dumps(other[key]), f"{key}: {position[key]} and not {other[key]}"
    ours, theirs = (x if isinstance(x, dict) else flatten(x) for x in (train, reference))
    for path, leaf in theirs.items():
        assert np.array_equal(np.asarray(ours[path]), np.asarray(leaf), equal_nan=True), f"{path} differs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many [1]")
    parser.add_argument("--first", type=int, default=0, help="the first [0]")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no seed after so many")
    options = parser.parse_args()
    began, failures, count = time.perf_counter(), 0, 0
    for seed in range(options.first, options.first + options.seeds):
        if time.perf_counter() - began > options.seconds:
            break
        count += 1
        try:
            rehearse(seed)
        except Exception as error:
            failures += 1
            print(f"seed {seed}: {type(error).__name__}: {error}\n  {draw(seed)}", flush=True)
            print(f"  again: python -m benchmarks.rehearsal --first {seed}", flush=True)
    seconds = time.perf_counter() - began
    print(f"{count:,} seeds, {failures} failures, {seconds:.0f} s: {1000 * seconds / max(count, 1):.0f} ms a seed")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
