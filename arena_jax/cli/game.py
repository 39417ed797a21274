"""`arena-jax game …`: a model's parts as players."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from arena_jax.cli import game_across, game_learn, game_prune, game_scale, game_surgery, program_cache
from arena_jax.config.errors import ArenaError


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
    number(analyze, "--groups", 4, "groups of feed-forward neurons per block")
    number(analyze, "--seed", 0, "of samples")
    analyze.add_argument("--output", metavar="FOLDER", help="where game.json and figures go [TARGET/game]")
    number(analyze, "--sequences", 16, "rows of the probe and of the calibration")
    number(analyze, "--evaluations", None, "coalitions for banzhaf and for shapley each [their own default]")
    number(analyze, "--windows", 8, "windows of the update game: at least 2, or 0 to leave it out")
    number(analyze, "--window-steps", 20, "optimizer steps per window, at least 1")
    analyze.add_argument("--learning-rate", type=float, metavar="X", help="of the windows [the run's own, or 0.001]")
    analyze.set_defaults(call=_analyze)

    prune = actions.add_parser("prune", help="remove the parts that are worth least; writes a Hugging Face folder")
    grow = actions.add_parser(
        "grow",
        help="add parts that change no output yet (but for rounding); writes a Hugging Face folder",
        description="Add neurons or a block that change no output yet, but for rounding; writes a Hugging Face "
        "folder. More heads of the same width fit into none, as its heads share out the hidden size: add them in "
        "Python, game.add_heads.",
    )
    for action in (prune, grow):
        target(action)
        number(action, "--seed", 0, "of samples" if action is prune else "of the new parts' weights")
        number(action, "--sequences", 32, "rows that utilities, and the loss before and after, are measured on")
        action.add_argument("--output", metavar="FOLDER", required=True, help="where the new model goes")
    game_prune.options(prune)
    number(grow, "--widen", 0, "feed-forward neurons more per block")
    number(grow, "--insert-block", None, "place of a new block")
    prune.set_defaults(call=game_prune.prune)
    grow.set_defaults(call=game_surgery.grow)

    evaluate = actions.add_parser("evaluate", help="a language model in and out of its domain, with floors beside")
    target(evaluate)
    evaluate.add_argument("--other", metavar="DATA", action="append", default=[], help="text of another domain; repeat")
    evaluate.add_argument("--summaries", metavar="FILE", help="JSON lines with source and target, such as SciTLDR's")
    number(evaluate, "--papers", 100, "how many of them")
    evaluate.set_defaults(call=_evaluate)
    others = [action.add_parser(actions) for action in (game_across, game_learn, game_scale)]
    parsers = [analyze, prune, grow, evaluate, *others]
    for parser in parsers:
        program_cache.add_options(parser)
    return parsers


def target(parser: argparse.ArgumentParser) -> None:
    """Add what every action asks: the model and its data."""
    parser.add_argument("target", metavar="TARGET", help="a run's folder, or a Hugging Face folder with its tokenizer")
    parser.add_argument("--data", metavar="DATA", help="data set: name, file, folder or hub id [the run's own]")
    parser.add_argument("--model", metavar="NAME", help="which of the run's models [its first]")
    number(parser, "--max-length", 128, "longest input in tokens, for a Hugging Face folder")


def number(parser: argparse.ArgumentParser, flag: str, value: int | None, about: str) -> None:
    """Add an option that is a whole number."""
    default = "" if value is None else f" [{value}]"
    parser.add_argument(flag, type=int, default=value, metavar="N", help=about + default)


def _analyze(arguments: argparse.Namespace) -> int:
    """`arena-jax game analyze`."""
    from arena_jax.game import analysis, subject
    from arena_jax.reports import game_figures, game_page

    folder = Path(arguments.output) if arguments.output else Path(arguments.target) / "game"
    if folder.exists() and not folder.is_dir():
        raise ArenaError(f"'{folder}' is a file; give a folder with --output")
    model = subject.load_subject(
        arguments.target, dataset=arguments.data, model=arguments.model, max_length=arguments.max_length
    )
    result = analysis.analyze_subject(
        model,
        sequences=arguments.sequences,
        groups=arguments.groups,
        evaluations=arguments.evaluations,
        windows=arguments.windows,
        steps=arguments.window_steps,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        tell=lambda text: print(f"… {text}", file=sys.stderr),
    )
    path = analysis.save(result, folder)
    print(result)
    figures = game_figures.draw(path)
    page = game_page.write(path)
    print(f"written: {path}, {page.name}, {', '.join(figure.name for figure in figures)}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    """`arena-jax game evaluate`."""
    from arena_jax import data
    from arena_jax.game import domains, subject, summaries
    from arena_jax.runs.competition_lines import bits_note

    # Before the model, which takes longer to read.
    papers = summaries.load_papers(arguments.summaries, arguments.papers) if arguments.summaries else None
    owner = subject.load_subject(
        arguments.target,
        dataset=arguments.data,
        model=arguments.model,
        max_length=arguments.max_length,
        language=True,
    )
    domain = owner.validation.source.name
    rows = {f"{domain} (its own)": owner.validation}
    for name in arguments.other:
        text = data.load(name, task="language-model", split="validation")
        length = owner.validation.lengths[-1]
        rows[name] = data.encode(text, owner.tokenizer, task=owner.model.task, max_length=length)
    print(f"{'text':<40} {'nats':>8} {'perplexity':>11} {'bits/byte':>10}   floor: {'nats':>8} {'bits/byte':>10}")
    for name, encoded in rows.items():
        scores = domains.language_scores(owner, encoded)
        print(
            f"{name[-40:]:<40} {scores['loss']:>8.4f} {scores['perplexity']:>11.1f} {scores['bits_per_byte']:>10.4f}"
            f"          {scores['floor_loss']:>8.4f} {scores['floor_bits_per_byte']:>10.4f}"
        )
    note = bits_note({owner.name: {"task": owner.model.task, "left_out": owner.tokenizer.left_out}})
    if note:
        print(note)
    if papers is not None:
        print(f"\n{'summaries of ' + str(len(papers.sentences)):<24}" + "".join(f"{m:>9}" for m in summaries.METRICS))
        for name, row in summaries.evaluate_summaries(owner.model, owner.tokenizer, papers).items():
            print(f"{name:<24}" + "".join(f"{row[metric]:>9.2f}" for metric in summaries.METRICS))
    return 0
