"""`arena-jax runs`: what runs there are."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "runs", help="list the runs of a folder: task, models, step, validation loss, state, age, disk"
    )
    parser.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="where they are [runs]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.runs import listing

    runs = listing.list_runs(Path(arguments.folder))
    if arguments.json:
        print(json.dumps([summary.json() for summary in runs], indent=2))
    elif runs:
        print("\n".join(listing.table(runs)))
    else:
        print(f"there is no run in {arguments.folder}")
    return 0
