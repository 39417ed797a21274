"""`arena-jax resume`: go on where a run stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from arena_jax.cli import processes, program_cache, train


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser("resume", help="go on where a run stopped, to the bit")
    processes.add_options(parser)
    program_cache.add_options(parser)
    add_run(parser, "or the address of its --mirror, s3://bucket/run")
    parser.set_defaults(call=run)
    return parser


def add_run(parser: argparse.ArgumentParser, instead: str = "") -> None:
    """Add the argument that names a run."""
    words = f"the run's folder, e.g. runs/joint-synthetic-1{instead and f'; {instead}'}"
    parser.add_argument("run", metavar="RUN", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.config.address import is_address
    from arena_jax.runs import load_run
    from arena_jax.runs.mirror import bring

    processes.join(arguments)
    folder = (
        bring(arguments.run, lambda note: print(note, file=sys.stderr))
        if is_address(arguments.run)
        else Path(arguments.run)
    )
    return train.execute(load_run(folder), folder, resume=True)
