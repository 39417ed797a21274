"""`arena-jax generate`: what language models write after texts, as JSON lines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from arena_jax.cli import program_cache
from arena_jax.cli.evaluate import add_checkpoint_option
from arena_jax.cli.predict import add_inputs, read_inputs
from arena_jax.cli.resume import add_run


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "generate", help="what causal language models write after texts, as JSON lines"
    )
    add_run(parser)
    add_inputs(parser, "text")
    parser.add_argument("--model", metavar="NAME", help="one model of a run [all that write]")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="new tokens at most [32]")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="X", help="of the draws; 0: always the likeliest token [0]"
    )
    parser.add_argument("--top-k", type=int, metavar="N", help="draw among so many of the likeliest [all]")
    parser.add_argument(
        "--top-p", type=float, metavar="X", help="draw among the likeliest that have this probability together [1]"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws [0]")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts at a time, at most [32]")
    add_checkpoint_option(parser)
    program_cache.add_options(parser)
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.training import predict
    from arena_jax.training.continuations import continuations

    inputs = read_inputs(arguments)
    subjects = predict.load_subjects(Path(arguments.run), arguments.model, arguments.checkpoint)
    writers = [subject for subject in subjects if subject.model.task == "causal-lm"]
    # Where nobody writes, the first is asked, and says why not.
    for subject in writers or subjects[:1]:
        answers = continuations(
            subject,
            inputs,
            tokens=arguments.tokens,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            top_p=arguments.top_p,
            seed=arguments.seed,
            batch_size=min(arguments.batch_size, len(inputs)) if inputs else arguments.batch_size,
        )
        for entry, answer in zip(inputs, answers, strict=True):
            print(json.dumps({"model": subject.name, **entry, **answer}, ensure_ascii=False))
    return 0
