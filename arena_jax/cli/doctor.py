"""`arena-jax doctor`: what this installation has, and whether a joint step works on it."""

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
        "doctor", help="say versions, devices, memory, caches and data, and run one small joint step"
    )
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.training.doctor import examine

    works = True
    for finding in examine():
        works &= finding.works
        print(f"{finding.what:12}{'' if finding.works else 'FAILS: '}{finding.text}", flush=True)
    return 0 if works else 1
