"""The options about compiled programs on disk, of every command that compiles."""

from __future__ import annotations

import argparse
import sys

from arena_jax.config.errors import ArenaError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--compilation-cache",
        metavar="FOLDER",
        help="keep compiled programs here for later starts; they are executed: name a folder of your own "
        "[JAX_COMPILATION_CACHE_DIR, or ~/.cache/arena_jax]",
    )
    group.add_argument("--no-compilation-cache", action="store_true", help="keep no compiled programs, and take none")


def use(arguments: argparse.Namespace) -> None:
    """Set JAX's cache up as the options say; without any, a folder that does not do is no reason not to start.

    Raises:
        ArenaError: the folder that was named does not do.
    """
    from arena_jax.runtime import program_cache

    if arguments.no_compilation_cache:
        program_cache.use_no_compilation_cache()
    elif arguments.compilation_cache:
        program_cache.use_compilation_cache(arguments.compilation_cache)
    else:
        try:
            program_cache.use_compilation_cache()
        except ArenaError as error:
            print(f"note: {error}", file=sys.stderr)
