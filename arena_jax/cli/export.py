"""`arena-jax export`: write one model of a run as a Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from arena_jax.cli.evaluate import add_checkpoint_option
from arena_jax.cli.resume import add_run


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "export", help="write one model of a run as a Hugging Face folder"
    )
    add_run(parser)
    parser.add_argument("model", metavar="MODEL", help="the model's name in the run")
    parser.add_argument("directory", metavar="FOLDER", help="where to; made if it is not there")
    add_checkpoint_option(parser)
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax import training

    training.export(Path(arguments.run), arguments.model, Path(arguments.directory), arguments.checkpoint)
    print(f"{arguments.model} is in {arguments.directory}")
    return 0
