"""The command line `arena-jax`: it parses, calls the library, and turns mistakes into one line."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import arena_jax
from arena_jax.cli import (
    arena,
    clean,
    compare,
    completion,
    convert,
    data,
    doctor,
    ensemble,
    evaluate,
    export,
    game,
    generate,
    interrupts,
    options,
    plan,
    predict,
    presets,
    processes,
    program_cache,
    relate,
    report,
    reproduce,
    resume,
    runs,
    show,
    train,
)
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.presets import PRESETS, get

__all__ = ["main", "parser"]

COMMANDS = (
    "train",
    "resume",
    "evaluate",
    "ensemble",
    "relate",
    "export",
    "convert",
    "report",
    "compare",
    "reproduce",
    "plan",
    "presets",
    "data",
    "game",
    "arena",
    "predict",
    "generate",
    "doctor",
    "runs",
    "clean",
    "show",
    "completion",
)


class _Parser(argparse.ArgumentParser):
    """Raises our error instead of printing a page of usage; knows no abbreviations, which new options would break."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise ArenaError(f"{message}; `{self.prog} --help` tells more")

    def strictly(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse, and name the nearest option to one that does not exist."""
        arguments, rest = self.parse_known_args(argv)
        for text in rest:
            if text.startswith("-"):
                flag = text.split("=")[0]
                raise ArenaError(f"unknown option '{flag}'; {_nearest_option(flag, arguments.options)}")
        if rest:
            raise ArenaError(f"'{rest[0]}' is one word too many; `{self.prog} {arguments.command} --help` tells more")
        return arguments


def _nearest_option(flag: str, flags: Sequence[str]) -> str:
    if flag in options.OTHERWISE and "--batch-size" in flags:
        return options.OTHERWISE[flag]
    hint = nearest(flag, flags)
    # The whole list would fill a screen.
    return hint if hint.startswith("did") else "--help lists all"


def parser(run: RunConfig | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        run: the configuration whose values `train --help` shows.
    """
    top = _Parser(prog="arena-jax", description="Train several different transformers as one JAX program.")
    top.add_argument("--version", action="version", version=f"arena-jax {arena_jax.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = [
        train.add_parser(commands, run),
        resume.add_parser(commands),
        evaluate.add_parser(commands),
        ensemble.add_parser(commands),
        relate.add_parser(commands),
        export.add_parser(commands),
        convert.add_parser(commands),
        report.add_parser(commands),
        compare.add_parser(commands),
        reproduce.add_parser(commands),
        plan.add_parser(commands),
        presets.add_parser(commands),
        data.add_parser(commands),
        *game.add_parser(commands),
        *arena.add_parser(commands),
        predict.add_parser(commands),
        generate.add_parser(commands),
        doctor.add_parser(commands),
        runs.add_parser(commands),
        clean.add_parser(commands),
        show.add_parser(commands),
        completion.add_parser(commands),
    ]
    for command in parsers:
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(options=list(command._option_string_actions))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `arena-jax`; those of the process if not given.

    Returns:
        The exit code: 0 done, 2 a mistake in what was asked for, 130 interrupted, 1 a bug.
    """
    words = _with_values(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows ASCII alone shows "?" for "→", and the run goes on.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    debug = "--debug" in words
    _without_a_driver()
    # transformers tells everybody who has no PyTorch that they have none; here that is as it should be.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    failed = True
    try:
        with interrupts.raised_again():
            code = _run([word for word in words if word != "--debug"])
    except ArenaError as error:
        code = _fail(str(error), 2, debug)
    except KeyboardInterrupt:
        code = _fail("interrupted", train.INTERRUPTED, debug)
    except BrokenPipeError:
        # Who reads us has read enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _fail(f"this is a bug ({type(error).__name__}: {error}); --debug shows where", 1, debug)
    else:
        failed = False
    processes.leave(code, failed=failed)
    return code


def _without_a_driver() -> None:
    """Let JAX compute on the CPU where its plugin for GPUs is installed, for plans, and no driver is.

    It would look for the driver and print a traceback that is not about what was asked for.
    """
    if "JAX_PLATFORMS" not in os.environ and not os.path.exists("/dev/nvidiactl"):
        try:
            plugin = importlib.util.find_spec("jax_plugins.xla_cuda12")
        except ModuleNotFoundError:
            return
        if plugin is not None:
            os.environ["JAX_PLATFORMS"] = "cpu"


def _with_values(argv: Sequence[str]) -> list[str]:
    """The words: ``--a_flag`` is ``--a-flag``, and ``--flag -5GB`` becomes one, which argparse would take for two."""
    words: list[str] = []
    for word in argv:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            word = flag.replace("_", "-") + equals + value
        if words and re.match(r"-\.?\d", word) and re.fullmatch(r"--[^=]+", words[-1]):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _run(words: list[str]) -> int:
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise ArenaError(f"unknown command '{words[0]}'; {nearest(words[0], COMMANDS)}")
    run = None
    if words[:1] == ["train"] and {"-h", "--help"} & set(words):
        names = [word for word in words if word in PRESETS]
        run = get(names[0]) if names else None
    top = parser(run)
    if not words:
        top.print_help()
        return 2
    assert isinstance(top, _Parser)
    arguments = top.strictly(words)
    if "compilation_cache" in arguments:
        program_cache.use(arguments)
    code: int = arguments.call(arguments)
    return code


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"arena-jax: error: {' '.join(message.split())}", file=sys.stderr)
    return code
