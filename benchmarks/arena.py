"""ModelArena's experiment: policies against their static control, several seeds each, at equal device-seconds.

    python benchmarks/arena.py --output runs/arena         # 3 policies × 3 seeds of arena-small, 8 minutes each
    python benchmarks/arena.py --output runs/arena --spend 100s -- --evaluate-every 25 --reallocate-every 25

Runs go one after the other, the policies of a seed side by side, so that what else the machine does hits all of them.
What is finished is not run again and what was stopped goes on: give the same command again. Ends with `arena-jax
report`. Words after ``--`` are options of `arena-jax train`.

Before the first run every program that a run may need is compiled into a cache in the output folder: on a CPU the
compiler would otherwise take the cores from the training that is timed, and from the first runs more than from the
last. What compiling costs a run is `benchmarks/reallocation.py`'s question. ``--compile-only`` does this beforehand.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from arena_jax.config import load, presets
from arena_jax.config.errors import ArenaError
from arena_jax.config.sections import POLICIES
from arena_jax.runs.records import read

COMMAND = (sys.executable, "-c", "import sys; from arena_jax.cli.main import main; sys.exit(main())")


def environment(output: Path) -> dict[str, str]:
    """That of all runs: programs come from the output folder's cache."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(output.resolve() / "compiled")}
    return {**os.environ, **cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def compile_all(words: Sequence[str]) -> None:
    """Compile what a run with these words may need, in a process of its own; programs hold the run's seed."""
    from arena_jax.arena.admission import compile_update
    from arena_jax.arena.setup import build_setup
    from arena_jax.cli import options
    from arena_jax.cli import train as command
    from arena_jax.cli.main import parser
    from arena_jax.runtime.devices import zeros_like
    from arena_jax.training.evaluation import score

    arguments = parser().parse_args(words)
    run = options.apply(command.base(arguments.preset, None), vars(arguments))
    assert run.arena is not None
    with tempfile.TemporaryDirectory() as folder:
        setup, state = build_setup(run, Path(folder))
        compile_update(setup, state, zeros_like(state.params, setup.mesh))
        with setup.executables as executables:
            for name in setup.names:
                for size in run.arena.batch_sizes:
                    executables.compile(name, size)
                    if executables.step_bytes(name, size) > executables.pool:
                        break  # no share holds more
                rows, batch_size = setup.parts.validation[name], run.training.evaluation_batch_size
                score(setup.step, state.params[name], name, rows, batch_size)


def finished(run: Path) -> bool:
    """Whether a run came to its end."""
    return (run / "records.jsonl").is_file() and any(record["kind"] == "end" for record in read(run))


def begin_or_go_on(run: Path, policy: str, seed: int, arguments: argparse.Namespace) -> int:
    """Run one arm with one seed; returns the exit code."""
    words = ["resume", str(run)]
    if not any((run / "checkpoints").glob("[0-9]*")):
        if run.exists():
            run.rename(run.with_name(f"{run.name}.failed-{int(time.time())}"))
        words = [*train_words(arguments), "--policy", policy, "--seed", str(seed), "--output", str(run)]
    with open(arguments.output / f"{run.name}.log", "a") as log:
        done = subprocess.run(
            [*COMMAND, *words], env=environment(arguments.output), stdout=log, stderr=subprocess.STDOUT
        )
    return done.returncode


def train_words(arguments: argparse.Namespace) -> list[str]:
    """What all runs have in common."""
    words = ["train", arguments.preset, "--spend", arguments.spend, "--no-tensorboard", "--no-figures"]
    return [*words, *arguments.options]


def main() -> int:
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="arena-small", choices=[n for n in presets.PRESETS if presets.get(n).arena])
    parser.add_argument("--policies", nargs="+", default=["static", "modelarena", "predictive"], choices=POLICIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--spend", default="8min", help="of each run, all models together [8min]")
    parser.add_argument("--compile-only", action="store_true", help="compile for all runs, and run none")
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs and the report")
    arguments = parser.parse_args(words[:split])
    arguments.options = words[split + 1 :]
    arguments.output.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        done = arguments.output / f"compiled-{seed}"
        if not done.exists():
            began = time.perf_counter()
            call = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import arena; "
            call += f"arena.compile_all({[*train_words(arguments), '--seed', str(seed)]!r})"
            subprocess.run([sys.executable, "-c", call], env=environment(arguments.output), check=True)
            done.touch()
            print(f"compiled for seed {seed} in {time.perf_counter() - began:.0f} s", flush=True)
    if arguments.compile_only:
        return 0

    runs = [(policy, seed) for seed in arguments.seeds for policy in arguments.policies]
    folders = {(policy, seed): arguments.output / f"{policy}-{seed}" for policy, seed in runs}
    for number, (policy, seed) in enumerate(runs, start=1):
        run = folders[policy, seed]
        if finished(run):
            print(f"{number:3} of {len(runs)}: {run} is there", flush=True)
            if load(run / "config.json").arena.spend != arguments.spend:
                raise ArenaError(f"{run} was run with another --spend; give another --output")
            continue
        began = time.perf_counter()
        code = begin_or_go_on(run, policy, seed, arguments)
        print(f"{number:3} of {len(runs)}: {run}, {time.perf_counter() - began:.0f} s", flush=True)
        if code:
            print((arguments.output / f"{run.name}.log").read_text().splitlines()[-1], file=sys.stderr)
            return code
    report = ["report", *map(str, folders.values()), "--output", str(arguments.output / "report")]
    return subprocess.run([*COMMAND, *report]).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ArenaError as error:
        sys.exit(f"{error}")
