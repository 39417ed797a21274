"""The command line `arena-jax`: it parses, calls the library, and turns mistakes into one line."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import arena_jax
from arena_jax.cli import commands, game, options
from arena_jax.config import RunConfig, presets
from arena_jax.config.errors import ArenaError, nearest

__all__ = ["main", "parser"]

COMMANDS = ("train", "resume", "evaluate", "export", "report", "presets", "game")


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


def _nearest_option(flag: str, known: Sequence[str]) -> str:
    told = nearest(flag, known)
    # The whole list would fill a screen.
    return told if told.startswith("did") else "--help lists all"


def parser(shown: RunConfig | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        shown: the configuration whose values `train --help` shows.
    """
    top = _Parser(prog="arena-jax", description="Train several different transformers as one JAX program.")
    top.add_argument("--version", action="version", version=f"arena-jax {arena_jax.__version__}")
    below = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = below.add_parser(
        "train",
        help="train the models of a preset or a configuration file together",
        description="Train several models together. In brackets: the value if the option is not given"
        + ("." if shown is None else f" (of {shown.preset}); `none` leaves a value open."),
        usage="arena-jax train [PRESET] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=options.model_fields(),
    )
    train.add_argument("preset", nargs="?", metavar="PRESET", help=f"what to start from: {', '.join(presets.PRESETS)}")
    train.add_argument("--config", metavar="FILE", help="start from this file instead, e.g. a run's own config.json")
    options.add_options(train, shown)
    train.set_defaults(call=commands.train)

    resume = below.add_parser("resume", help="go on where a run stopped, to the bit")
    resume.set_defaults(call=commands.resume)
    for command in (train, resume):
        _add_processes(command)
    evaluate = below.add_parser("evaluate", help="score a run's models on a data set")
    evaluate.set_defaults(call=commands.evaluate)
    export = below.add_parser("export", help="write one model of a run as a Hugging Face folder")
    export.set_defaults(call=commands.export)
    for command in (train, resume):
        command.add_argument(
            "--compilation-cache",
            metavar="FOLDER",
            help="keep compiled programs here for later runs; they are executed: name a folder of your own",
        )
    for command in (resume, evaluate, export):
        command.add_argument("run", metavar="RUN", help="the run's folder, e.g. runs/joint-synthetic-1")
    for command in (evaluate, export):
        command.add_argument(
            "--checkpoint",
            default="newest",
            metavar="WHICH",
            help="newest, best (lowest mean validation loss over the models) or a step [newest]",
        )
    evaluate.add_argument("--data", metavar="DATA", help="another data set: name, file, folder or hub id")
    evaluate.add_argument("--split", default="validation", help="which part of it [validation]")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    export.add_argument("model", metavar="MODEL", help="the model's name in the run")
    export.add_argument("directory", metavar="FOLDER", help="where to; made if it is not there")

    report = below.add_parser(
        "report", help="compare competitions of several policies and seeds: the paper's tables, figures and claims"
    )
    report.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs; some of --policy static, the control")
    report.add_argument("--output", metavar="FOLDER", help="where to; the folder report beside the first run")
    report.set_defaults(call=commands.report)

    show = below.add_parser("presets", help="list the presets, or print one as a configuration file")
    show.add_argument("preset", nargs="?", metavar="PRESET", help="print this one as JSON, to be edited and given back")
    show.set_defaults(call=commands.show_presets)
    for each in (train, resume, evaluate, export, report, show, *game.add_parser(below)):
        each.add_argument("--debug", action="store_true", help="show the traceback of an error")
        each.set_defaults(options=list(each._option_string_actions))
    return top


def _add_processes(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "several processes: the same command on every machine, in one folder all can see"
    )
    group.add_argument(
        "--distributed", action="store_true", help="be one of several; Slurm, Open MPI and Kubernetes say which"
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="address of process 0 [JAX_COORDINATOR_ADDRESS, or the launcher's]"
    )
    group.add_argument("--process-count", metavar="N", help="how many there are [JAX_NUM_PROCESSES, or the launcher's]")
    group.add_argument(
        "--process-index", metavar="I", help="which one this is, from 0 [JAX_PROCESS_ID, or the launcher's]"
    )


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
    # transformers tells everybody who has no PyTorch that they have none; here that is as it should be.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    failed = True
    try:
        code = _run([word for word in words if word != "--debug"])
    except ArenaError as error:
        code = _fail(str(error), 2, debug)
    except KeyboardInterrupt:
        code = _fail("interrupted", commands.INTERRUPTED, debug)
    except BrokenPipeError:
        # Who reads us has read enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _fail(f"this is a bug ({type(error).__name__}: {error}); --debug shows where", 1, debug)
    else:
        failed = False
    commands.leave_processes(code, failed=failed)
    return code


def _with_values(given: Sequence[str]) -> list[str]:
    """The words; ``--flag -5GB`` becomes one, which argparse would take for two flags."""
    words: list[str] = []
    for word in given:
        if words and re.match(r"-\.?\d", word) and re.fullmatch(r"--[^=]+", words[-1]):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _run(words: list[str]) -> int:
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise ArenaError(f"unknown command '{words[0]}'; {nearest(words[0], COMMANDS)}")
    shown = None
    if words[:1] == ["train"] and {"-h", "--help"} & set(words):
        named = [word for word in words if word in presets.PRESETS]
        shown = presets.get(named[0]) if named else None
    made = parser(shown)
    if not words:
        made.print_help()
        return 2
    assert isinstance(made, _Parser)
    arguments = made.strictly(words)
    code: int = arguments.call(arguments)
    return code


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"arena-jax: error: {' '.join(message.split())}", file=sys.stderr)
    return code
