"""`arena-jax convert`: write a Hugging Face folder, of the old Flax models too, as safetensors."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert", help="write a model of transformers' Flax classes (flax_model.msgpack) as safetensors"
    )
    parser.add_argument("source", metavar="SOURCE", help="Hugging Face folder or hub id")
    parser.add_argument("target", metavar="TARGET", help="where to; made if it is not there")
    parser.add_argument("--task", metavar="TASK", help="what its head is for, where config.json does not say")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.models.huggingface.convert import convert

    model = convert(arguments.source, arguments.target, arguments.task)
    print(f"{model.config.model_type} for {model.task} is in {arguments.target}/model.safetensors")
    return 0
