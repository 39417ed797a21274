"""Kill runs with SIGKILL at random moments, resume them, and compare every bit with the run that was never killed.

    python benchmarks/chaos.py                              # 50 kills, about a quarter of an hour on 2 busy cores
    python benchmarks/chaos.py --kills 4 --kind arena       # a few
    python benchmarks/chaos.py --seed 17 --only 3           # one run again: the seed and number that a failure printed

Two kinds of runs, joint and arena, tiny. Each killed run is killed one to three times (so resumed runs are killed too),
each time at a moment of one kind: while a checkpoint is being written, while models are scored, at a reallocation,
while batch sizes are compiled in the background, before the first checkpoint, or at any time. Compared at the end:
every array of the final checkpoint (parameters, optimizer state), its position (data, histories, shares, accounts),
which checkpoints are there, and the records line by line, less what a clock says (time, seconds, examples per second,
seconds waited), the folder's name, and whether a program was found on the disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax import config
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig, presets
from arena_jax.runs import checkpoint_files
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.records import FILE, read

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
MOMENTS = {
    "joint": ("save", "evaluation", "beginning", "any"),
    "arena": ("save", "evaluation", "reallocation", "compile", "beginning", "any"),
}
CLOCKS = {
    "time",
    "seconds",
    "compile_seconds",
    "speed",
    "evaluation_seconds",
    "compiling",
    "examples_per_second",
    "tokens_per_second",
    "mfu",
    "peak",
    "waited",
    "fraction",
    "cached",
}
CLOCKS |= {"run", "path", "output"}  # which differ as well
LIMIT = 300.0  # seconds a run may take at most


def configuration(kind: str) -> RunConfig:
    """A run of some seconds with everything that has a state switched on; its intervals cut through one another."""
    training: dict[str, Any] = {"tensorboard": False, "figures": False, "devices": 1, "evaluation_batch_size": 8}
    every = {"log_every": 6, "evaluate_every": 30, "checkpoint_every": 25}
    arena = None
    if kind == "arena":
        training |= {"steps": 24, "batch_size": 1, "log_every": 2, "evaluate_every": 2, "checkpoint_every": 3}
        sizes = (2, 4, 8, 16)
        arena = ArenaConfig("1MB", reallocate_every=4, batch_sizes=sizes, swap_after=2, late_swaps="wait")
    else:
        training |= {"steps": 300, "batch_size": 8, "accumulation": 2, **every}
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(ModelConfig("bert", preset="bert-tiny", **SIZES), ModelConfig("gpt2", preset="gpt2-tiny", **SIZES)),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=400, validation_limit=64),
        optimizer=OptimizerConfig(convergence_window=3, synchronize_every=2, warmup_steps=2),
        training=TrainingConfig(**training),
        arena=arena,
    )


class Run:
    """One run in a folder, in a process of its own at a time."""

    def __init__(self, folder: Path, kind: str, cache: Path) -> None:
        self.folder, self.kind = folder, kind
        self.given = folder.with_suffix(".json")
        config.save(configuration(kind), self.given)
        self.environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on where there is something to go on with."""
        begun = (self.folder / "config.json").exists()
        words = ["resume", str(self.folder)] if begun else ["train", "--config", str(self.given)]
        words += [] if begun else ["--output", str(self.folder)]
        code = "import sys; from arena_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
        output = open(self.folder.with_suffix(".out"), "ab")  # noqa: SIM115 - the child has it
        return subprocess.Popen(
            [sys.executable, "-c", code, *words], stdout=output, stderr=subprocess.STDOUT, env=self.environment
        )

    def finish(self) -> float:
        """Run to the end; seconds it took."""
        began = time.perf_counter()
        code = self.start().wait(timeout=LIMIT)
        if code:
            raise RuntimeError(f"exit code {code}: {self.folder.with_suffix('.out').read_text()[-2000:]}")
        return time.perf_counter() - began

    def kinds(self) -> list[str]:
        """The kinds of the records so far."""
        try:
            lines = (self.folder / FILE).read_bytes().split(b"\n")[:-1]
            return [json.loads(line)["kind"] for line in lines]
        except (OSError, ValueError):
            return []

    def kill(self, moment: str, choose: random.Random, length: float) -> str:
        """Run until a moment of some kind, and kill; what was hit."""
        process = self.start()
        sent = process.pid and self._await(process, moment, choose, length)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return f"{moment}{'' if sent else ' (ended before)'}"

    def _await(self, process: subprocess.Popen[bytes], moment: str, choose: random.Random, length: float) -> bool:
        before = len(self.kinds())
        wanted = choose.randrange(1, 4)  # the how-manieth of its kind since this start

        def partial() -> bool:
            return any((self.folder / "checkpoints").glob(".*.partial"))

        def since(kind: str) -> Callable[[], bool]:
            return lambda: self.kinds()[min(before, len(self.kinds())) :].count(kind) >= wanted

        seen, delay = {
            "save": (partial, 0.03),
            "evaluation": (since("train"), 0.05),
            "reallocation": (since("evaluation"), 0.03),
            "compile": (since("allocation"), 0.15),
            "beginning": (lambda: (self.folder / FILE).exists(), 0.5),
            "any": (lambda: len(self.kinds()) != before, length),
        }[moment]
        end = time.perf_counter() + LIMIT
        while not seen():
            if process.poll() is not None or time.perf_counter() > end:
                return False
            time.sleep(0.001)
        time.sleep(choose.uniform(0, delay))
        return process.poll() is None


def differences(run: Path, whole: Path) -> list[str]:
    """What differs between a run that was killed and the one that never was; nothing, if all is well."""
    found = []
    steps = [Checkpoints(folder / "checkpoints").steps for folder in (run, whole)]
    if steps[0] != steps[1]:
        found.append(f"checkpoints {steps[0]}, not {steps[1]}")
    ours, theirs = (checkpoint_files.read(folder / "checkpoints" / str(steps[1][-1])) for folder in (run, whole))
    for name in sorted(ours[0].keys() | theirs[0].keys()):
        if not np.array_equal(ours[0][name], theirs[0][name]):
            found.append(f"array {name}")
    if _timeless(ours[1]["position"]) != _timeless(theirs[1]["position"]):
        found.append("position")
    lines = [[_timeless(record) for record in read(folder)] for folder in (run, whole)]
    if lines[0] != lines[1]:
        number = next((i for i, (a, b) in enumerate(zip(*lines, strict=False)) if a != b), min(map(len, lines)))
        told = [str(one[number])[:300] if number < len(one) else "no line" for one in lines]
        found.append(f"{len(lines[0])} records, not {len(lines[1])}; the first that differs is {number}: {told}")
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        # The records' length in bytes goes by how many digits the clock's numbers have.
        return {key: _timeless(one) for key, one in value.items() if key not in CLOCKS | {"records"}}
    if isinstance(value, list):
        return [_timeless(one) for one in value]
    return "NaN" if isinstance(value, float) and value != value else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="in all [50]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(MOMENTS), help="only this kind of run")
    parser.add_argument("--only", type=int, help="only the run of this number")
    arguments = parser.parse_args()
    kinds = [arguments.kind] if arguments.kind else sorted(MOMENTS)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    whole, length = {}, {}
    for kind in kinds:
        for name in ("warm", "whole"):  # the first fills the cache of compiled programs, the second is timed
            run = Run(folder / f"{kind}-{name}", kind, folder / f"cache-{kind}")
            length[kind] = run.finish()
        whole[kind] = run.folder
        again = differences(folder / f"{kind}-warm", run.folder)
        if again:
            print(f"{kind}: two runs that nobody killed differ: {'; '.join(again)}")
            return 1
        records = read(run.folder)
        length[kind] = records[-1]["time"] - records[0]["time"]
        print(f"{kind}: the run that nobody kills has {len(records)} records; {length[kind]:.1f} s", flush=True)
    killed = same = number = 0
    hits: dict[str, int] = {}
    failed = []
    while killed < arguments.kills:
        choose = random.Random(f"{arguments.seed}/{number}")
        kind = kinds[number % len(kinds)]
        count = min(choose.choice((1, 2, 2, 3)), arguments.kills - killed)
        moments = [MOMENTS[kind][(killed // len(kinds) + i) % len(MOMENTS[kind])] for i in range(count)]
        killed += count
        if arguments.only in (None, number):
            run = Run(folder / f"{kind}-{number}", kind, folder / f"cache-{kind}")
            told = [run.kill(moment, choose, length[kind]) for moment in moments]
            try:
                run.finish()
                found = differences(run.folder, whole[kind])
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            for one in told:
                hits[f"{kind}, {one}"] = hits.get(f"{kind}, {one}", 0) + 1
            same += 0 if found else count
            print(f"{number}: {kind}, killed at {', '.join(told)}: {'; '.join(found) or 'identical'}", flush=True)
            if found:
                failed.append(f"--seed {arguments.seed} --kills {arguments.kills} --only {number}: {run.folder}")
            else:
                shutil.rmtree(run.folder)
        number += 1
    print("\n| killed | times |\n| --- | --- |")
    print("\n".join(f"| {name} | {count} |" for name, count in sorted(hits.items())))
    print(
        f"\n{same} of {sum(hits.values())} kills left nothing behind: the runs that went on are identical to the bit."
    )
    for one in failed:
        print(f"again with: python benchmarks/chaos.py {one}")
    if not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
