"""A run's folder and what is written at its start: how it is made or found again, and what its numbers depend on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.runtime import processes


def load_run(run: Path) -> RunConfig:
    """The configuration of a run's folder.

    Raises:
        ArenaError: it is not one.
    """
    if not (run / "config.json").is_file():
        beside = [p.name for p in run.parent.glob("*") if (p / "config.json").is_file()] if run.parent.is_dir() else []
        raise ArenaError(f"'{run}' is not a run's folder: it has no config.json; {nearest(run.name, beside)}")
    return configuration.load(run / "config.json")


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
    given = named or _next_folder(config.preset)
    if ".." in given.parts:
        # Looked at and made must be one folder: "nope/../run" is none before "nope" is made, and then a run.
        given = Path(os.path.realpath(given))
    try:
        given.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArenaError(f"cannot make the run's folder '{given}': {error.strerror}; choose another --output") from None
    held = {entry.name for entry in given.iterdir()}
    refuse_links(given)
    empty = not any((given / "checkpoints").glob("*"))
    if "config.json" in held and empty and held <= {"config.json", "tokenizers", "lock", "checkpoints"}:
        # A start that failed before its first record: there is no run in it, and its tokenizers may be of other data.
        shutil.rmtree(given / "tokenizers", ignore_errors=True)
    elif held:
        begun = "config.json" in held
        advice = f"go on with `arena-jax resume {given}`, or give" if begun else "give"
        raise ArenaError(f"'{given}' is not empty; {advice} another folder with --output")
    configuration.save(config, given / "config.json")
    return given


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
