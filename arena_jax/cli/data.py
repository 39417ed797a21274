"""`arena-jax data`: what is kept of large texts, so that they are read and tokenised once."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "data", help="show, or remove, what is kept on disk of large texts and their tokens"
    )
    parser.add_argument("what", choices=("info", "clear"), help="list all of it, or remove all of it")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.data import store
    from arena_jax.runtime.memory import format_bytes

    folder = store.store_folder()
    if arguments.what == "clear":
        count, size = store.clear()
        print(f"{count} removed from {folder}, {format_bytes(size)}")
        return 0
    entries = store.entries()
    print(f"{folder}: {len(entries)} kept, {format_bytes(sum(entry.bytes for entry in entries))}")
    for entry in entries:
        print(f"{entry.name}  {format_bytes(entry.bytes)}  {entry.description}")
    return 0
