"""Does a reallocation stop training? 200 of them over four models, each step timed.

    python benchmarks/reallocation.py                 # both runs: about 10 minutes each on 2 idle cores
    python benchmarks/reallocation.py --run many    # one of them: warm or many
    python benchmarks/reallocation.py --quick         # a few reallocations of tiny models; timings mean nothing
    python benchmarks/reallocation.py --records RUN…  # what compiling took in runs that were made before

The runs are competitions as `arena-jax train` makes them (arena-small's models and data; new batch sizes
are due 5 rounds after a reallocation, not 20, as the next one follows soon), with a policy that turns the shares on
at every reallocation whatever the scores are. One that is asked to stop (Ctrl-C, SIGTERM) is judged by what it has done
so far.

- warm: each model goes round four sizes. After the first round nothing is compiled any more, which is how a run spends
  most of its time; 12 rounds between reallocations make it about ten minutes long.
- many: the shares move through many sizes, 6 rounds apart, so that programs are evicted and compiled again all the
  time: the worst case for memory, for what waits, and for the cores that compiling takes from training.

What is measured, with the device made to finish after every step:

- a step's *usual* time is the median over steps of the same models at the same sizes while nothing is compiled;
- the *stall* of a reallocation is what the loop spends on it outside its steps: asking the policy, starting the
  searches, and letting a batch size take over; in steps of all the models that step in a turn. It is *warm* if it asks
  for no size that must be compiled while nothing else is being compiled; of those the longest is judged;
- *blocked* is the longest time the loop stood still for a program that was not there yet;
- *slowed* is a step's time while something is compiled in the background, over its usual time. On a CPU compiling takes
  cores from training; that is no wait, and stands beside it;
- *memory* is the process's own, over the last half of the reallocations. JAX keeps what it has traced for every size
  that a model ever had (its caches are full in the end), so a run must be long enough to have had them all. Beside it
  stands what of glibc's heaps is in use: what compiling has freed is not given back, and is taken in steps.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import statistics
import sys
import tempfile
import time
from array import array
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measure import machine, process_bytes, table, verdict

from arena_jax.arena import competition
from arena_jax.arena.setup import Moment, Setup
from arena_jax.arena.state import PendingSize, State
from arena_jax.config import DataConfig, RunConfig, presets
from arena_jax.runs import signals
from arena_jax.runs.records import read
from arena_jax.runtime.batch_search import BatchChoice

FOUR = ((0.55, 0.25, 0.13, 0.07),)
# Shares that do not repeat for long: many sizes of each model, few of them alive.
MANY = ((0.62, 0.22, 0.10, 0.06), (0.40, 0.30, 0.18, 0.12), (0.50, 0.32, 0.13, 0.05), (0.34, 0.28, 0.24, 0.14))
FLAT = 0.02


# The models of a step, and their batch sizes.
Stepping = tuple[tuple[str, int], ...]


def is_compiling(setup: Setup, state: State) -> bool:
    """Whether a search is under way that has not been answered; also one that was abandoned, and still compiles."""
    return setup.executables.searching() or any(not pending.search.done() for pending in state.pending.values())


class Watch:
    """Measures one competition from outside, as its ``observe``."""

    def __init__(self) -> None:
        # Seconds of the steps while nothing was compiled, and while something was; 8 bytes each, as memory is watched.
        self.quiet: dict[Stepping, array[float]] = defaultdict(lambda: array("d"))
        self.disturbed: dict[Stepping, array[float]] = defaultdict(lambda: array("d"))
        self.reallocations: list[float] = []  # seconds of each
        self.compiled_for: list[bool] = []  # whether something was compiled for each, or by another at the time
        self.searches: list[Future[BatchChoice]] = []  # of the last one
        self.warm_swaps: list[float] = []
        self.cold_swaps: list[float] = []
        self.resident: list[int] = []  # bytes of the process after each reallocation
        self.in_use: list[int] = []  # bytes of the heaps that are in use, then
        self.alive = 0
        self.seconds = 0.0  # of the whole run, less what watching it took
        self.since = 0.0  # the last step's end, or the round's begin
        self.busy = False  # whether something was compiled then
        self.before_swap: tuple[float, dict[str, int], dict[str, PendingSize]] = (0.0, {}, {})
        self.before_reallocation = (0.0, False)

    def run(self, config: RunConfig, turns: Sequence[Sequence[float]], folder: Path) -> Path:
        """Make a run with shares that go round."""
        calls = iter(range(10**9))

        def policy(history: Any) -> list[float]:
            turn = next(calls)
            shares = turns[turn // 4 % len(turns)]
            return [shares[(turn + model) % len(shares)] for model in range(len(config.models))]

        start = time.perf_counter()
        try:
            return competition.train(config, folder, policy=policy, observe=self.observe)
        except signals.Stopped:
            return folder
        finally:
            self.seconds += time.perf_counter() - start

    def observe(self, moment: Moment, rounds: int, setup: Setup, state: State) -> None:
        """Note what happens; see `arena_jax.arena.competition.train`."""
        now = time.perf_counter()
        if moment == "round":
            self.note_alive(setup)
            # What came before is the loop's: swaps, evaluations, records.
            self.since, self.busy = now, is_compiling(setup, state)
        elif moment == "step":
            jax.block_until_ready((state.train, state.gradients))
            busy = is_compiling(setup, state)
            stepping = tuple((name, state.sizes[name]) for name in state.stepping)
            now = time.perf_counter()
            (self.disturbed if self.busy or busy else self.quiet)[stepping].append(now - self.since)
            self.since, self.busy = now, busy
        elif moment == "before swap":
            self.before_swap = now, dict(state.sizes), dict(state.pending)
        elif moment == "after swap":
            start, sizes, pending = self.before_swap
            changed = [name for name, size in state.sizes.items() if size != sizes[name]]
            if changed:
                cold = any(pending[name].search.result().programs for name in changed)
                (self.cold_swaps if cold else self.warm_swaps).append(now - start)
        elif moment == "before reallocation":
            self.judge_last()
            self.before_reallocation = time.perf_counter(), is_compiling(setup, state)
        elif moment == "after reallocation":
            start, busy = self.before_reallocation
            self.reallocations.append(now - start)
            self.compiled_for.append(busy)
            self.searches = [pending.search for pending in state.pending.values()]
            gc.collect()
            self.resident.append(process_bytes("VmRSS"))
            self.in_use.append(_in_use())
            self.note_alive(setup)
            self.seconds -= time.perf_counter() - now

    def note_alive(self, setup: Setup) -> None:
        """Note the most programs that any model has."""
        self.alive = max(self.alive, *(len(setup.executables.alive(name)) for name in setup.names))

    def judge_last(self) -> None:
        """Note whether the last reallocation's searches compiled anything, and let go of them and their programs."""
        if self.searches:
            choices = [search.result() for search in self.searches if search.done() and not search.cancelled()]
            compiled = any(choice.compilations for choice in choices)
            self.compiled_for[-1] |= len(choices) < len(self.searches) or compiled
        self.searches = []

    # ---- what it amounts to ----

    def steps(self) -> tuple[int, int]:
        """How many there were, and how many of them while something was compiled."""
        quiet, disturbed = (sum(map(len, steps.values())) for steps in (self.quiet, self.disturbed))
        return quiet + disturbed, disturbed

    def usual(self) -> dict[Stepping, float]:
        """The median seconds of a step while nothing is compiled, by its models and their sizes."""
        return {stepping: statistics.median(seconds) for stepping, seconds in self.quiet.items() if len(seconds) >= 3}

    def whole(self) -> float:
        """The median seconds of the steps in which as many models stepped as ever did."""
        steps = [*self.quiet.items(), *self.disturbed.items()]
        most = max(len(stepping) for stepping, _ in steps)
        return statistics.median(second for stepping, seconds in steps if len(stepping) == most for second in seconds)

    def slowed(self) -> list[float]:
        """Of steps during which something was compiled: their time over their usual time."""
        usual = self.usual()
        return [
            second / usual[stepping]
            for stepping, seconds in self.disturbed.items()
            if stepping in usual
            for second in seconds
        ]


def slope(values: Sequence[int]) -> tuple[float, float, float]:
    """The line through the last half of some values: its rise a step, half the 95 % interval of that, and their mean.

    The interval takes their errors for independent.
    """
    last = np.array(values[len(values) // 2 :], float)
    x = np.arange(len(last)) - (len(last) - 1) / 2
    rise = float(x @ last / (x @ x))
    error = last - last.mean() - rise * x
    return rise, 1.96 * float(np.sqrt(error @ error / max(len(last) - 2, 1) / (x @ x))), float(last.mean())


def configuration(kind: str, reallocations: int, quick: bool) -> RunConfig:
    """The run: arena-small's models, or tiny ones."""
    small = presets.get("arena-small")
    assert small.arena is not None
    every = 2 if quick else {"warm": 12, "many": 6}[kind]
    rounds = every * (reallocations + 1)
    training = {"evaluate_every": 4 * every, "log_every": 4 * every, "checkpoint_every": None, "figures": False}
    arena = {"swap_after": min(5, every - 1), "spend": None, "reallocate_every": every}
    sizes = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    if quick:
        shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
        models = tuple(dataclasses.replace(model, **shape) for model in small.models)
        data = DataConfig(name="synthetic-sentiment", max_length=16, train_limit=64, validation_limit=8)
        task, training = "sequence-classification", {**training, "evaluation_batch_size": 8}
        arena |= {"memory_budget": "2MB"}
    else:
        models, data, task = small.models, small.data, small.task
    return dataclasses.replace(
        small,
        preset=f"reallocation-{kind}",
        task=task,
        models=models,
        data=data,
        training=dataclasses.replace(small.training, steps=rounds, tensorboard=False, **training),
        arena=dataclasses.replace(small.arena, batch_sizes=sizes, **arena),
    )


def criteria(kind: str, watch: Watch, run: Path) -> list[list[object]]:
    """Each criterion with what was measured."""
    records = read(run)
    compiled = [r for r in records if r["kind"] == "compile"]
    updates = sum(r["program"].startswith("update") for r in compiled)
    spent = sum(r["seconds"] for r in compiled)
    swaps = [r for r in records if r["kind"] == "swap"]
    waited = max((r["waited"] for r in swaps), default=0.0)
    late = sorted(r["late"] for r in swaps) or [0]
    models = [r for r in records if r["kind"] == "allocation"][-1]["models"]
    evicted = sum(model["evicted"] for model in models.values())
    whole, (steps, disturbed) = watch.whole(), watch.steps()
    watch.judge_last()
    timed = list(zip(watch.reallocations, watch.compiled_for, strict=True))
    warm, cold = ([seconds for seconds, compiled_for in timed if compiled_for == kind] for kind in (False, True))
    asking, asking_cold, warm_swaps, cold_swaps = (
        sorted(seconds / whole for seconds in times) or [0.0]
        for times in (warm, cold, watch.warm_swaps, watch.cold_swaps)
    )
    stall = asking[-1] + warm_swaps[-1]
    half_way = records[-1]["step"] / 2
    new = len({r["program"] for r in compiled} - {r["program"] for r in compiled if r["step"] < half_way})
    window = len(watch.resident) // 2
    rise, half, mean = slope(watch.resident)
    grown = rise * window / mean
    used, used_half, used_mean = slope(watch.in_use)
    tenths = np.linspace(0, len(watch.resident) - 1, 11).astype(int)
    curve, used_curve = (
        ", ".join(f"{values[at] / 1e6:.0f}" for at in tenths) for values in (watch.resident, watch.in_use)
    )
    slowed = watch.slowed() or [1.0]
    share = spent / watch.seconds
    rows = [
        ["reallocations", len(watch.reallocations), f"{steps} steps in {watch.seconds:.0f} s"],
        [
            "programs alive of any model, most",
            watch.alive,
            f"{verdict(watch.alive, 4, at_least=False)}; {evicted} evicted",
        ],
        ["times the update was compiled", updates, verdict(updates, 1, at_least=False)],
        [
            f"stall of the {len(warm)} warm reallocations, longest",
            f"{stall:.2f} steps (asking {asking[-1]:.2f}, median {statistics.median(asking):.2f}; a size takes over "
            f"{warm_swaps[-1]:.2f}, median {statistics.median(warm_swaps):.2f})",
            f"{verdict(stall, 1, at_least=False) if warm else 'not judged'}; a step of all models takes "
            f"{1000 * whole:.1f} ms",
        ],
        [
            f"stall of the {len(cold)} cold ones, longest",
            f"asking {asking_cold[-1]:.2f} steps, median {statistics.median(asking_cold):.2f}",
            "no criterion: beside a compilation Python is shared",
        ],
        [
            "blocked by a cold size, longest",
            f"{waited / whole:.3f} steps ({1000 * waited:.2f} ms); swap to a cold size, longest {cold_swaps[-1]:.2f}",
            f"{verdict(waited / whole, 1, at_least=False)}; {sum(rounds > 0 for rounds in late)} of {len(late)} "
            f"changes of size deferred, by up to {late[-1]} rounds",
        ],
        [
            "slowed while compiling",
            f"× {statistics.median(slowed):.2f} (worst step × {max(slowed):.1f})",
            f"{disturbed} steps of {steps}; no criterion",
        ],
        [
            f"memory over the last {window}",
            f"{rise / 1e3:+.1f} ± {half / 1e3:.1f} kB a reallocation, of {mean / 1e6:.0f} MB",
            f"{100 * grown:+.2f} % in all, {verdict(grown, FLAT, at_least=False)}; {new} sizes then were new",
        ],
        [
            "of its heaps in use",
            f"{used / 1e3:+.1f} ± {used_half / 1e3:.1f} kB a reallocation, of {used_mean / 1e6:.0f} MB",
            f"{100 * used * window / max(used_mean, 1):+.2f} % in all; no criterion",
        ],
        ["memory after each tenth, MB", curve, f"in use {used_curve}"],
        ["compiling", f"{len(compiled)} programs, {spent:.1f} s of {watch.seconds:.0f} s: {100 * share:.1f} %"],
    ]
    rows[-1].append(verdict(share, 0.05, at_least=False) if kind == "warm" else "no criterion: compiles all the time")
    return rows


def of_records(run: Path) -> list[object]:
    """What compiling took in a run."""
    records = read(run)
    programs = sum(r["kind"] == "compile" for r in records)
    end = next(r for r in reversed(records) if r["kind"] == "end")
    seconds, spent = end["seconds"], end["compiling"]
    share = spent / seconds
    text = f"{spent:.1f} s of {seconds:.0f} s: {100 * share:.1f} %"
    return [run.name, programs, text, verdict(share, 0.05, at_least=False)]


class _MallInfo(ctypes.Structure):
    _fields_ = tuple((f"field{k}", ctypes.c_size_t) for k in range(10))


def _in_use() -> int:
    """Bytes that malloc has given out, by its own count: in heaps, and mapped alone; 0 before glibc 2.33."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _MallInfo
    counts = mallinfo()
    return int(counts.field4 + counts.field7)  # hblkhd and uordblks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", choices=("warm", "many"), help="only this one")
    parser.add_argument("--quick", action="store_true", help="a few reallocations of tiny models")
    parser.add_argument("--reallocations", type=int, help="how many; 200, or 16 with --quick")
    parser.add_argument("--records", nargs="+", type=Path, metavar="RUN", help="only what compiling took in these runs")
    arguments = parser.parse_args()
    if arguments.records:
        return print(table(["run", "programs", "compiling", "limit"], [of_records(run) for run in arguments.records]))
    print(f"{machine()}\n")
    count = arguments.reallocations or (16 if arguments.quick else 200)
    for kind in [arguments.run] if arguments.run else ["warm", "many"]:
        watch = Watch()
        with tempfile.TemporaryDirectory() as folder:
            # The run's own lines would fill pages.
            standard, sys.stdout = sys.stdout, sys.stderr
            try:
                turns = FOUR if kind == "warm" else MANY
                run = watch.run(configuration(kind, count, arguments.quick), turns, Path(folder) / "run")
            finally:
                sys.stdout = standard
            print(table([f"{kind}: what", "measured", "limit"], criteria(kind, watch, run)) + "\n", flush=True)


if __name__ == "__main__":
    main()
