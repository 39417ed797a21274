"""`arena-jax train`: train the models of a preset or a file together, or let them compete."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from arena_jax import config
from arena_jax.cli import game_learn, options, plan_file, processes, program_cache
from arena_jax.config import presets
from arena_jax.config.baselines import baseline
from arena_jax.config.errors import ArenaError

INTERRUPTED = 128 + 2  # what a shell reports for a program that Ctrl-C ended


def add_parser(commands: Any, defaults: config.RunConfig | None) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.
        defaults: the configuration whose values the help shows.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train the models of a preset or a configuration file together",
        description="Train several models together. In brackets: the value if the option is not given"
        + ("." if defaults is None else f" (of {defaults.preset}); `none` leaves a value open."),
        usage="arena-jax train [PRESET] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=options.model_fields(),
    )
    parser.add_argument("preset", nargs="?", metavar="PRESET", help=f"what to start from: {', '.join(presets.PRESETS)}")
    parser.add_argument("--config", metavar="FILE", help="start from this file instead, e.g. a run's own config.json")
    options.add_options(parser, defaults)
    parser.add_argument(
        "--baseline",
        metavar="WORD",
        help="train a baseline of it: independent (AdamW for each model), muon (the same by Muon), joint (no sharing,"
        " no synchronisation), distillation (a teacher first, that guides the others then), tuned (independent, with"
        " the learning rate that a study chose)",
    )
    processes.add_options(parser)
    parser.add_argument(
        "--plan",
        metavar="FILE",
        help="take batch sizes, precision, attention and remat from `arena-jax plan … --output FILE.json`",
    )
    program_cache.add_options(parser)
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    run = options.apply(base(arguments.preset, arguments.config), vars(arguments))
    if arguments.baseline:
        run = baseline(run, arguments.baseline)
    for note in game_learn.notes(run, vars(arguments)):
        print(note, file=sys.stderr)
    plan = plan_file.read(arguments.plan) if arguments.plan else None
    if plan:
        run = plan_file.take(plan, run, vars(arguments))
    processes.join(arguments)
    if plan:
        _say_devices(plan)
    return execute(run, None, resume=False)


def _say_devices(plan: plan_file.PlanFile) -> None:
    import jax

    from arena_jax.runtime.processes import first

    devices = jax.devices()
    if first():
        print(plan_file.described(plan, len(devices), devices[0].device_kind))


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


def execute(run: config.RunConfig, folder: Path | None, *, resume: bool) -> int:
    """Train, or let compete, and draw the figures.

    Args:
        run: the configuration.
        folder: of the run; a new one if not given.
        resume: go on in it.

    Returns:
        The exit code.
    """
    from arena_jax.runs import Stopped
    from arena_jax.runtime import processes

    try:
        if run.arena:
            from arena_jax.arena import competition

            folder = competition.train(run, folder, resume=resume)
        else:
            from arena_jax import training

            folder = training.train(run, folder, resume=resume)
    except Stopped as stopped:
        if processes.first():
            print(stopped)
        return INTERRUPTED if stopped.limit is None else 0
    if run.training.figures and processes.first():
        from arena_jax import reports

        reports.draw(folder)
    return 0
