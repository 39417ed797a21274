"""A run's folder: how it is made or opened again, and the number of its format."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.runtime import processes

# Raised when versions before and after could not go on with each other's runs, or would misunderstand them.
FORMAT = 2
_FORMAT_FILE = "format"
_START = {_FORMAT_FILE, "config.json", "tokenizers", "lock", "checkpoints"}  # what is there before the first record


def load_run(run: Path) -> RunConfig:
    """The configuration of a run's folder.

    Raises:
        ArenaError: it is none, or one of another format.
    """
    if not (run / "config.json").is_file():
        beside = [p.name for p in run.parent.glob("*") if (p / "config.json").is_file()] if run.parent.is_dir() else []
        raise ArenaError(f"'{run}' is not a run's folder: it has no config.json; {nearest(run.name, beside)}")
    config = configuration.load(run / "config.json")
    _check_format(run)
    return config


def _check_format(run: Path) -> None:
    try:
        number = (run / _FORMAT_FILE).read_text(encoding="utf-8").strip()[:20]
    except (OSError, ValueError):
        number = ""
    if number != str(FORMAT):
        wrote = f"is of format {number}" if number else "has no format number, as an older arena-jax wrote it"
        raise ArenaError(
            f"'{run}' {wrote}; this arena-jax reads format {FORMAT}: use the version that wrote it, or begin anew with "
            f"`arena-jax train --config {run / 'config.json'}`"
        )


def open_folder(config: RunConfig, output: Path | None, *, resume: bool) -> Path:
    """Make a new run's folder and write its configuration, or check an old one's; process 0 does it for all."""
    return Path(processes.on_first(lambda: str(_open_folder(config, output, resume=resume))))


def _open_folder(config: RunConfig, output: Path | None, *, resume: bool) -> Path:
    named = output or (Path(config.training.output) if config.training.output else None)
    if resume:
        assert named is not None
        refuse_links(named)
        changed = configuration.differences(load_run(named), config)
        if changed:
            raise ArenaError(f"'{named}' was begun with another configuration: {'; '.join(changed)}; start a new run")
        if not any((named / "checkpoints").glob("[0-9]*")):
            # Killed before it saved anything: it begins again, and trains its tokenizers as it did.
            shutil.rmtree(named / "tokenizers", ignore_errors=True)
        return named
    folder = named or _next_folder(config.preset)
    if ".." in folder.parts:
        # Looked at and made must be one folder: "nope/../run" is none before "nope" is made, and then a run.
        folder = Path(os.path.realpath(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror}; choose another --output"
        raise ArenaError(f"cannot make the run's folder '{folder}': {reason}") from None
    entries = {entry.name for entry in folder.iterdir()}
    refuse_links(folder)
    if _FORMAT_FILE in entries and entries <= _START and not any((folder / "checkpoints").glob("*")):
        # A start that failed before its first record: there is no run in it, and its tokenizers may be of other data.
        shutil.rmtree(folder / "tokenizers", ignore_errors=True)
    elif entries:
        advice = f"go on with `arena-jax resume {folder}`, or give" if "config.json" in entries else "give"
        raise ArenaError(f"'{folder}' is not empty; {advice} another folder with --output")
    try:
        (folder / _FORMAT_FILE).write_text(f"{FORMAT}\n", encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write to '{folder}': {error.strerror}; choose another --output") from None
    configuration.save(config, folder / "config.json")
    return folder


def refuse_links(folder: Path) -> None:
    """Refuse a run's folder in which a link leads out of it: what is written there would land elsewhere.

    The folder itself may be a link: whoever named it chose where it leads.

    Raises:
        ArenaError: naming the first such link.
    """
    inside = Path(os.path.realpath(folder))
    for place, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(place) / name
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                raise ArenaError(
                    f"'{path}' is a link out of the run's folder, to '{os.readlink(path)}': nothing is written through"
                    " it; remove it, or give another --output"
                )


def _next_folder(preset: str) -> Path:
    number = 1
    while (folder := Path("runs") / f"{preset}-{number}").exists():
        number += 1
    return folder
