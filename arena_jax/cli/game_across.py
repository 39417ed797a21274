"""`arena-jax game across`: the same game at several sizes."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from arena_jax.cli import json_file


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Add the action.

    Args:
        actions: where the actions of `arena-jax game` are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        "across", help="the same game in several sizes of one family: what stays, what moves with the size"
    )
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="runs' folders, or Hugging Face folders")
    parser.add_argument("--data", metavar="DATA", help="data set: name, file, folder or hub id [each run's own]")
    parser.add_argument("--model", metavar="NAME", help="which of each run's models [its first]")
    parser.add_argument("--output", metavar="FILE", help="where the record goes, as JSON")
    for flag, value, about in (
        ("--max-length", 128, "longest input in tokens, for Hugging Face folders"),
        ("--groups", 4, "groups of feed-forward neurons per block"),
        ("--sequences", 16, "rows of each text that is looked at"),
        ("--seed", 0, "of samples"),
    ):
        parser.add_argument(flag, type=int, default=value, metavar="N", help=f"{about} [{value}]")
    parser.set_defaults(call=_across)
    return parser


def _across(arguments: argparse.Namespace) -> int:
    from arena_jax.equilibria.arguments import count, seed_number
    from arena_jax.game import across

    count(arguments.sequences, "--sequences", "how many rows are looked at")
    seed_number(arguments.seed)
    json_file.check(arguments.output)
    result = across.across(
        arguments.targets,
        dataset=arguments.data,
        model=arguments.model,
        max_length=arguments.max_length,
        sequences=arguments.sequences,
        groups=arguments.groups,
        seed=arguments.seed,
        tell=lambda target: print(f"… {target}", file=sys.stderr),
    )
    print(across.text(result))
    json_file.write(arguments.output, result)
    if arguments.output is not None:
        print(f"\nwritten: {arguments.output}")
    return 0
