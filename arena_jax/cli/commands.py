"""What each command does: a few lines that call the library.

What is slow to import is imported when it is needed.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path

from arena_jax import config
from arena_jax.cli import options
from arena_jax.config import presets
from arena_jax.config.errors import ArenaError

INTERRUPTED = 128 + 2  # what a shell reports for a program that Ctrl-C ended


def base(preset: str | None, file: str | None) -> config.RunConfig:
    """The configuration to start from: a preset's or a file's.

    Raises:
        ArenaError: neither or both are given, or there is no such preset or file.
    """
    if preset and file:
        raise ArenaError(f"both the preset '{preset}' and --config {file} are given: give one of the two")
    if file:
        return config.load(file)
    if not preset:
        raise ArenaError(f"nothing to train: give a preset ({', '.join(presets.PRESETS)}) or --config FILE")
    return presets.get(preset)


def train(arguments: argparse.Namespace) -> int:
    """`arena-jax train`: train the models of a preset or a file together."""
    run = options.apply(base(arguments.preset, arguments.config), vars(arguments))
    join_processes(arguments)
    return _train(run, None, resume=False, cache=arguments.compilation_cache)


def resume(arguments: argparse.Namespace) -> int:
    """`arena-jax resume`: go on where a run stopped."""
    from arena_jax.training import train

    folder = Path(arguments.run)
    join_processes(arguments)
    return _train(train.load_run(folder), folder, resume=True, cache=arguments.compilation_cache)


def _train(run: config.RunConfig, folder: Path | None, *, resume: bool, cache: str | None) -> int:
    from arena_jax.runs import signals
    from arena_jax.training import train

    if cache:
        from arena_jax.runtime.program import use_compilation_cache

        use_compilation_cache(cache)
    begin = train.train
    if run.arena:
        from arena_jax.arena import competition

        begin = competition.train
    try:
        begin(run, folder, resume=resume)
    except signals.Stopped as stopped:
        from arena_jax.runtime import processes

        if processes.first():
            print(stopped)
        return INTERRUPTED
    return 0


def join_processes(arguments: argparse.Namespace) -> None:
    """Become one of several processes, where any option asks for it."""
    given = (arguments.coordinator, arguments.process_count, arguments.process_index)
    if not arguments.distributed and all(value is None for value in given):
        return
    count = options.parse(arguments.process_count or "none", int | None, "--process-count")
    index = options.parse(arguments.process_index or "none", int | None, "--process-index")
    from arena_jax.runtime import processes

    processes.start(arguments.coordinator, count, index)


def leave_processes(code: int, *, failed: bool) -> None:
    """End this process' part in a run of several, if it has one."""
    # Looked up, as importing it would import JAX.
    processes = sys.modules.get("arena_jax.runtime.processes")
    if processes is not None:
        processes.leave(code, failed=failed)


def evaluate(arguments: argparse.Namespace) -> int:
    """`arena-jax evaluate`: score a run's models on a data set."""
    from arena_jax.runs.log_lines import scores_table
    from arena_jax.training import train

    scores = train.evaluate(Path(arguments.run), arguments.data, arguments.split, arguments.checkpoint)
    if arguments.json:
        print(json.dumps(scores, indent=2))
    else:
        print("\n".join(scores_table(scores)))
    return 0


def export(arguments: argparse.Namespace) -> int:
    """`arena-jax export`: write one model as a Hugging Face folder."""
    from arena_jax.training import train

    train.export(Path(arguments.run), arguments.model, Path(arguments.directory), arguments.checkpoint)
    print(f"{arguments.model} is in {arguments.directory}")
    return 0


def report(arguments: argparse.Namespace) -> int:
    """`arena-jax report`: compare competitions, policy against static control."""
    from arena_jax import reports

    output = Path(arguments.output) if arguments.output else Path(arguments.runs[0]).parent / "report"
    print(reports.report(arguments.runs, output))
    print(f"\nall of it is in {output}: report.html to look at, report.md, report.json and the figures")
    return 0


def show_presets(arguments: argparse.Namespace) -> int:
    """`arena-jax presets`: list the presets, or print one as a file to edit."""
    if arguments.preset:
        json.dump(config.to_dict(presets.get(arguments.preset)), sys.stdout, indent=2)
        print()
        return 0
    for name, make in presets.PRESETS.items():
        told = (inspect.getdoc(make) or "").replace("`", "")  # marks for code, which a terminal does not know
        print(f"{name}\n{_indented(told)}\n")
    return 0


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
