"""`arena-jax predict`: labels, entities, answers or perplexity of texts, as JSON lines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from arena_jax.cli import program_cache
from arena_jax.cli.evaluate import add_checkpoint_option
from arena_jax.cli.resume import add_run
from arena_jax.config.errors import ArenaError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict", help="labels, entities, answers or perplexity of texts, as JSON lines"
    )
    add_run(parser)
    add_inputs(parser, "text, text_pair, question, context")
    parser.add_argument("--model", metavar="NAME", help="one model of a run [all]")
    add_checkpoint_option(parser)
    program_cache.add_options(parser)
    parser.set_defaults(call=run)
    return parser


def add_inputs(parser: argparse.ArgumentParser, fields: str) -> None:
    """Add where the texts come from, which :func:`read_inputs` reads.

    Args:
        parser: of the command.
        fields: that an object of a .jsonl file may have.
    """
    parser.add_argument("file", nargs="?", metavar="FILE", help=f"a text per line, or .jsonl with {fields}")
    parser.add_argument("--text", action="append", metavar="TEXT", help="a text; can be repeated")


def read_inputs(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """The texts that a command was given.

    Raises:
        ArenaError: both a file and texts, or neither; or a file that cannot be read.
    """
    from arena_jax.training import predict

    if (arguments.file is None) == (arguments.text is None):
        raise ArenaError("give either a FILE or --text, one of the two")
    return [{"text": text} for text in arguments.text or ()] or predict.read_inputs(Path(arguments.file))


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.training import predict

    inputs = read_inputs(arguments)
    for subject in predict.load_subjects(Path(arguments.run), arguments.model, arguments.checkpoint):
        for entry, answer in zip(inputs, predict.predict(subject, inputs), strict=True):
            print(json.dumps({"model": subject.name, **entry, **answer}, ensure_ascii=False))
    return 0
