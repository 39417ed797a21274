"""`arena-jax report`: compare competitions of several policies and seeds with their static controls."""

from __future__ import annotations

import argparse
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
        "report", help="compare competitions of several policies and seeds: the paper's tables, figures and claims"
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs; some of --policy static, the control")
    parser.add_argument("--output", metavar="FOLDER", help="where to; the folder report beside the first run")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax import reports

    output = Path(arguments.output) if arguments.output else Path(arguments.runs[0]).parent / "report"
    print(reports.report(arguments.runs, output))
    print(f"\nall of it is in {output}: report.html to look at, report.md, report.json and the figures")
    return 0
