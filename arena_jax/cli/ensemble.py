"""`arena-jax ensemble`: the models of a run as one answer, beside each of them."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from arena_jax.cli.evaluate import add_checkpoint_option
from arena_jax.cli.resume import add_run
from arena_jax.config.errors import ArenaError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "ensemble", help="score a run's models as one answer, and say what each of them adds"
    )
    add_run(parser)
    add_checkpoint_option(parser)
    parser.add_argument("--split", default="validation", help="what is scored; the fit is by validation [validation]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--distil-into",
        metavar="MODEL",
        help="then train this model of the run on what all of them say together, by the fitted weights",
    )
    parser.add_argument("--output", metavar="FOLDER", help="of that training [RUN/distilled-MODEL]")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax import training
    from arena_jax.runs.ensemble_lines import ensemble_lines

    if arguments.distil_into is None and arguments.output:
        raise ArenaError("--output is the folder of a training: give --distil-into MODEL, or remove it")
    if arguments.distil_into is not None and arguments.json:
        raise ArenaError("--distil-into trains, and says so in lines: remove --json")
    result = dataclasses.asdict(training.ensemble(Path(arguments.run), arguments.split, arguments.checkpoint))
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(ensemble_lines(result)))
    if arguments.distil_into is not None:
        output = None if arguments.output is None else Path(arguments.output)
        training.distil_into(
            Path(arguments.run), arguments.distil_into, output, arguments.checkpoint, weights=result["weights"]
        )
    return 0
