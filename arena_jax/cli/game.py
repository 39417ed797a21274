"""`arena-jax game …`: a model's parts as players."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from arena_jax.cli import game_scale, game_surgery


def add_parser(below: Any) -> list[argparse.ArgumentParser]:
    """Add the command and what stands under it.

    Args:
        below: where commands are added.

    Returns:
        The parsers of its actions.
    """
    top = below.add_parser("game", help="play a model's heads, neurons and parameters against each other")
    actions = top.add_subparsers(dest="action", metavar="ACTION", required=True)
    analyze = actions.add_parser(
        "analyze", help="what each part is worth, how they interact, their equilibria; with figures and a JSON file"
    )
    target(analyze)
    analyze.add_argument("--output", metavar="FOLDER", help="where game.json and figures go [TARGET/game]")
    number(analyze, "--sequences", 16, "rows of the probe and of the calibration")
    number(analyze, "--evaluations", None, "coalitions for banzhaf and for shapley each [their own default]")
    number(analyze, "--windows", 8, "windows of the update game; 0 leaves it out")
    number(analyze, "--window-steps", 20, "optimizer steps per window")
    analyze.add_argument("--learning-rate", type=float, metavar="X", help="of the windows [the run's own, or 0.001]")
    analyze.set_defaults(call=_analyze)

    prune = actions.add_parser("prune", help="remove the parts that are worth least; writes a Hugging Face folder")
    grow = actions.add_parser("grow", help="add parts that change nothing yet; writes a Hugging Face folder")
    for action in (prune, grow):
        target(action)
        number(action, "--sequences", 32, "rows that utilities, and the loss before and after, are measured on")
        action.add_argument("--output", metavar="FOLDER", required=True, help="where the new model goes")
    prune.add_argument("--share", type=float, metavar="X", help="part of the players that goes [0.25]")
    prune.add_argument("--threshold", type=float, metavar="X", help="instead: all who surely are worth less (nats)")
    prune.add_argument("--measure", default="banzhaf", metavar="NAME", help="by which utility [banzhaf]")
    prune.add_argument(
        "--form",
        choices=("masked", "compact"),
        default="masked",
        help="masked: zeros in every shape's place; compact: smaller arrays, where transformers can express them",
    )
    prune.add_argument("--regrow", action="store_true", help="split the most valuable parts into the free places")
    number(grow, "--widen", 0, "feed-forward neurons more per block")
    number(grow, "--insert-block", None, "place of a new block")
    number(grow, "--add-heads", 0, "heads more per block, where transformers can express them")
    prune.set_defaults(call=game_surgery.prune)
    grow.set_defaults(call=game_surgery.grow)
    return [analyze, prune, grow, game_scale.add_parser(actions)]


def target(parser: argparse.ArgumentParser) -> None:
    """Add what every action asks: the model, its data, and the players."""
    parser.add_argument("target", metavar="TARGET", help="a run's folder, or a Hugging Face folder with its tokenizer")
    parser.add_argument("--data", metavar="DATA", help="data set: name, file, folder or hub id [the run's own]")
    parser.add_argument("--model", metavar="NAME", help="which of the run's models [its first]")
    number(parser, "--max-length", 128, "longest input in tokens, for a Hugging Face folder")
    number(parser, "--groups", 4, "groups of feed-forward neurons per block")
    number(parser, "--seed", 0, "of samples")


def number(parser: argparse.ArgumentParser, flag: str, value: int | None, about: str) -> None:
    """Add an option that is a whole number."""
    shown = "" if value is None else f" [{value}]"
    parser.add_argument(flag, type=int, default=value, metavar="N", help=about + shown)


def _analyze(arguments: argparse.Namespace) -> int:
    """`arena-jax game analyze`."""
    from arena_jax.game import analysis, subject
    from arena_jax.reports import game_figures

    found = subject.load_subject(
        arguments.target, dataset=arguments.data, model=arguments.model, max_length=arguments.max_length
    )
    result = analysis.analyze_subject(
        found,
        sequences=arguments.sequences,
        groups=arguments.groups,
        evaluations=arguments.evaluations,
        windows=arguments.windows,
        steps=arguments.window_steps,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        tell=lambda text: print(f"… {text}", file=sys.stderr),
    )
    folder = Path(arguments.output) if arguments.output else Path(arguments.target) / "game"
    path = analysis.save(result, folder)
    print(result)
    figures = game_figures.draw(path)
    print(f"written: {path}, {', '.join(figure.name for figure in figures)}")
    return 0
