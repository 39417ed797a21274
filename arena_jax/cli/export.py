"""`arena-jax export`: write one model of a run as a Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from arena_jax.cli.evaluate import add_checkpoint_option
from arena_jax.cli.resume import add_run
from arena_jax.config.address import is_address
from arena_jax.config.errors import ArenaError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "export", help="write one model of a run as a Hugging Face folder"
    )
    add_run(parser)
    parser.add_argument("model", metavar="MODEL", help="the model's name in the run")
    parser.add_argument("directory", metavar="FOLDER", help="where to; made if it is not there")
    add_checkpoint_option(parser)
    parser.add_argument(
        "--card", action="store_true", help="write README.md, too: data, configuration, scores with intervals"
    )
    parser.add_argument("--push", metavar="OWNER/NAME", help="send the folder to the Hugging Face Hub, private")
    parser.add_argument("--public", action="store_true", help="with --push: everybody may see it")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax import training
    from arena_jax.models.huggingface.push import check_repository, push_folder

    if is_address(arguments.directory):
        raise ArenaError(
            f"a model is exported to a folder on this machine, not to {arguments.directory}: copy it there"
        )
    if arguments.public and not arguments.push:
        raise ArenaError("--public says who may see what is pushed: give --push OWNER/NAME, too")
    if arguments.push:
        check_repository(arguments.push)
    run_folder, folder = Path(arguments.run), Path(arguments.directory)
    training.export(run_folder, arguments.model, folder, arguments.checkpoint)
    print(f"{arguments.model} is in {folder}")
    if arguments.card:
        from arena_jax.reports.model_card import write_card

        print(f"its card is {write_card(run_folder, arguments.model, folder, arguments.checkpoint)}")
    if arguments.push:
        print(f"pushed: {push_folder(folder, arguments.push, public=arguments.public)}")
    return 0
