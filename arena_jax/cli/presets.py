"""`arena-jax presets`: list the presets, or print one as a file to edit."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from typing import Any

from arena_jax import config
from arena_jax.config import presets


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "presets", help="list the presets, or print one as a configuration file"
    )
    parser.add_argument(
        "preset", nargs="?", metavar="PRESET", help="print this one as JSON, to be edited and given back"
    )
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.preset:
        json.dump(config.to_dict(presets.get(arguments.preset)), sys.stdout, indent=2)
        print()
        return 0
    for name, make in presets.PRESETS.items():
        description = (inspect.getdoc(make) or "").replace("`", "")  # marks for code, which a terminal does not know
        print(f"{name}\n{_indented(description)}\n")
    return 0


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
