"""`arena-jax reproduce`: the study of a paper's claims, plan by plan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from arena_jax.cli import compare, program_cache


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "reproduce",
        help="run the plans behind a paper's claims, and judge them",
        description="Run the plans of a study, one after the other, as `arena-jax compare` does. Killed, it goes on"
        " when it is started again. mmo: the MultiModelOptimizer's steps to a target, its tables,"
        " its baselines, and sharing by kind of parameters; on SST-2, WNUT-17 and SQuAD, too.",
    )
    parser.add_argument("paper", metavar="PAPER", help="mmo")
    parser.add_argument("--quick", action="store_true", help="fewer seeds: an answer within minutes, and less of one")
    parser.add_argument("--output", metavar="FOLDER", default="runs", help="in which each plan has its folder [runs]")
    compare.add_cell_options(parser)
    program_cache.add_options(parser)
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.compare import Ledger
    from arena_jax.compare.studies import plans

    for plan in plans(arguments.paper, quick=arguments.quick):
        ledger = Ledger(Path(arguments.output) / plan.name)
        code = compare.dry_run(plan, ledger) if arguments.dry_run else compare.study(arguments, plan, ledger)
        if code:
            return code
    return 0
