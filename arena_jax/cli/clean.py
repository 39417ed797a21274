"""`arena-jax clean`: free the disk of what no run needs."""

from __future__ import annotations

import argparse
import sys
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
        "clean",
        help="free the disk of older checkpoints of runs that have ended, and of what killed runs left half-written",
    )
    parser.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="a run, or a folder of runs [runs]")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--last", action="store_true", help="the last and the best checkpoint of runs that have ended, too"
    )
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.runs import cleaning, listing

    root = Path(arguments.folder)
    garbage: dict[Path, list[cleaning.Garbage]] = {}
    for summary in listing.list_runs(root):
        if summary.state in (listing.RUNNING, listing.UNREADABLE):
            print(f"{summary.folder} is {summary.state}: left as it is")
            continue
        entries = cleaning.find_garbage(summary.folder, last=arguments.last)
        for entry in entries:
            print(f"{entry.path}  {listing.size(entry.size)}  {entry.reason}")
        if entries:
            garbage[summary.folder] = entries
    total = listing.size(sum(entry.size for entries in garbage.values() for entry in entries))
    if not garbage:
        print(f"there is nothing to remove in {root}")
        return 0
    if not arguments.yes and not _agreed(total):
        print(f"nothing was removed; --yes removes these {total}")
        return 0
    for folder in garbage:
        cleaning.remove_garbage(folder, last=arguments.last)
    print(f"{total} are free")
    return 0


def _agreed(total: str) -> bool:
    """Ask, where somebody is there to answer."""
    return sys.stdin.isatty() and input(f"remove these {total}? [y/N] ").strip().lower() in ("y", "yes")
