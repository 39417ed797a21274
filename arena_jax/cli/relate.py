"""`arena-jax relate`: what models have to do with one another, joint runs beside lone ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from arena_jax.cli import program_cache


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "relate",
        help="what a run's models share, gain from one another, and have in common; beside models trained alone",
        description="Measure joint runs beside lone ones of the same seeds: which parameters are shared, whose gradient"
        " lowers whose loss (against shuffled numbers), how alike representations and attention are, how often models"
        " agree, and what an ensemble of them adds. Killed, it goes on when started again. `arena-jax compare PLAN"
        " --keep-runs` leaves such runs in FOLDER/work.",
    )
    parser.add_argument("joint", metavar="RUN", nargs="+", help="folders of joint runs")
    parser.add_argument("--alone", metavar="RUN", nargs="+", required=True, help="folders of lone runs, the same seeds")
    parser.add_argument("--split", default="validation", help="what answers are scored on [validation]")
    parser.add_argument("--output", metavar="FOLDER", default="relations", help="of the page and figures [relations]")
    program_cache.add_options(parser)
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    import sklearn  # noqa: F401 - of the figures: whether it is there is known before anything is measured

    from arena_jax.compare.related_runs import related_pairs
    from arena_jax.reports import relations
    from arena_jax.runs.folder import load_run

    joint, lone = (
        [(Path(folder), load_run(Path(folder))) for folder in folders] for folders in (arguments.joint, arguments.alone)
    )
    output = Path(arguments.output)
    pairs = related_pairs(joint, lone, arguments.split, output, _show)
    print(relations.write(pairs, output, arguments.split))
    print(f"all of it is in {output}: relations.html to look at, relations.md and relations.json")
    return 0


def _show(line: str) -> None:
    print(f"… {line}", file=sys.stderr, flush=True)
