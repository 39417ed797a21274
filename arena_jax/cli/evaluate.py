"""`arena-jax evaluate`: score a run's models on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from arena_jax.cli.resume import add_run


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser("evaluate", help="score a run's models on a data set")
    add_run(parser)
    add_checkpoint_option(parser)
    parser.add_argument("--data", metavar="DATA", help="another data set: name, file, folder or hub id")
    parser.add_argument("--split", default="validation", help="which part of it [validation]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(call=run)
    return parser


def add_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses one of a run's checkpoints."""
    parser.add_argument(
        "--checkpoint",
        default="newest",
        metavar="WHICH",
        help="newest, best (lowest mean validation loss over the models) or a step [newest]",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax import training
    from arena_jax.runs.log_lines import scores_table

    scores = training.evaluate(Path(arguments.run), arguments.data, arguments.split, arguments.checkpoint)
    if arguments.json:
        print(json.dumps(scores, indent=2))
    else:
        print("\n".join(scores_table(scores)))
    return 0
