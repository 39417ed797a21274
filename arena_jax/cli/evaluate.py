"""`arena-jax evaluate`: score a run's models, or any Hugging Face folder, on a data set."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from arena_jax.cli import options, program_cache
from arena_jax.cli.resume import add_run
from arena_jax.config import DataConfig
from arena_jax.config.errors import ArenaError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate", help="score a run's models, or a Hugging Face folder's, on a data set"
    )
    add_run(parser)
    add_checkpoint_option(parser, several=True)
    parser.add_argument("--data", metavar="DATA", help="another data set: name, file, folder or hub id")
    parser.add_argument("--split", default="validation", help="which part of it [validation]")
    parser.add_argument(
        "--columns", metavar="PART=COLUMN,…", help="which column plays which part; guessed where the names are usual"
    )
    parser.add_argument(
        "--label-names", metavar="NAME,…", help="names of class 0, 1, … where data hold numbers, or their order"
    )
    parser.add_argument(
        "--max-length", metavar="N", default="512", help="longest input of a Hugging Face folder, in tokens [512]"
    )
    parser.add_argument(
        "--floor", action="store_true", help="beside the models: what one scores who knows the training labels alone"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    program_cache.add_options(parser)
    parser.set_defaults(call=run)
    return parser


def add_checkpoint_option(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the option that chooses one of a run's checkpoints, or several, to be compared."""
    parser.add_argument(
        "--checkpoint",
        default="newest",
        metavar="WHICH",
        help="newest, best (by the run's --score), a step, ema (running averages, where training"
        " kept them) or mean:K (of the last K checkpoints)"
        + (", or several: newest,ema" if several else "")
        + " [newest]",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax import training
    from arena_jax.runs.log_lines import scores_table
    from arena_jax.training.folder_model import evaluate_folder, is_model_folder

    columns = options.parse(arguments.columns or "none", tuple[tuple[str, str], ...], "--columns")
    label_names = options.parse(arguments.label_names or "none", tuple[str, ...], "--label-names")
    folder = Path(arguments.run)
    if is_model_folder(folder):
        if arguments.data is None:
            raise ArenaError(f"'{folder}' is a model without data: name a data set with --data")
        if arguments.floor:
            raise ArenaError(
                f"--floor reads the training split of a run, and '{folder}' is a model's folder; remove it"
            )
        length = options.parse(arguments.max_length, int, "--max-length")
        source = DataConfig(name=arguments.data, columns=columns, label_names=label_names, max_length=length)
        scores, notes = evaluate_folder(folder, source, arguments.split)
        for note in notes:
            print(note, file=sys.stderr)
    else:
        checkpoints = options.parse(arguments.checkpoint, tuple[str, ...], "--checkpoint")
        floor = {}
        if arguments.floor:
            if arguments.data is not None:
                raise ArenaError("--floor is of a run's own data: leave --data out")
            floor["floor"] = training.floor_of_run(folder, arguments.split)
        scores = {}
        for checkpoint in checkpoints:
            of_one = training.evaluate(
                folder, arguments.data, arguments.split, checkpoint, columns=columns, label_names=label_names
            )
            mark = f" {checkpoint}" if len(checkpoints) > 1 else ""
            scores |= {name + mark: metrics for name, metrics in of_one.items()}
        if floor.keys() & scores:
            raise ArenaError("a model of the run is named floor: leave --floor out")
        scores |= floor
    if arguments.json:
        print(json.dumps(scores, indent=2))
    else:
        print("\n".join(scores_table(scores)))
    return 0
