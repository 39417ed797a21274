"""The page of an analysis, made from its ``game.json`` alone: hover a head to see its worth and its partners."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.runs.document import Block, Grid, GridCell, Heading, Items, Paragraph, Picture, Table, page

PARTNERS = 4  # of each sign are shown


def write(record: str | Path) -> Path:
    """Write ``game.html`` beside a record, with the figures that are there.

    Args:
        record: ``game.json``, as ``arena-jax game analyze`` writes it.

    Returns:
        The page: one file that needs no other.

    Raises:
        ArenaError: no such record, or a folder that cannot be written.
    """
    path = Path(record)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        title = f"{content['subject']}: its parts as players"
        blocks = document(content, path.parent)
    except (OSError, ValueError, KeyError, TypeError):
        raise ArenaError(f"'{path}' is no game's record: write one with `arena-jax game analyze`") from None
    file = path.with_name("game.html")
    try:
        file.write_text(page(title, blocks), encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write {file}: {error.strerror or error}") from None
    return file


def document(content: Mapping[str, Any], folder: Path) -> list[Block]:
    """The page's blocks.

    Args:
        content: of ``game.json``.
        folder: where its figures are.
    """
    names = [player["name"] for player in content["players"]]
    blocks: list[Block] = [
        Heading(f"{content['subject']}: its parts as players", 1),
        Paragraph(
            f"{content['family']}, {content['task']}; loss {content['loss']:.4f} nats on {content['probe_tokens']:,} "
            f"tokens. What a part is worth is what the loss rises by, in the mean, when it is replaced by its "
            f"{content['ablation']} (banzhaf). Of two parts below zero together, one can replace the other."
        ),
        grid(content),
    ]
    if content["warnings"]:
        blocks += [Heading("Before you believe it"), Items(content["warnings"])]
    figures = [
        (name, folder / f"{name}.png") for name in ("importance", "interactions", "entropy", "update", "simplex")
    ]
    blocks += [Picture(file, name) for name, file in figures if file.is_file()]
    header = ["player", *content["utilities"]]
    columns = [measure["values"] for measure in content["utilities"].values()]
    rows = [[name, *(_number(column[i]) for column in columns)] for i, name in enumerate(names)]
    return [*blocks, Heading("Every measure, nats; entropy from 0 to 1"), Table(header, rows)]


def grid(content: Mapping[str, Any]) -> Grid:
    """Blocks × parts, coloured by banzhaf.

    Args:
        content: of ``game.json``.
    """
    players, pairs = content["players"], np.array(content["interactions"], float)
    layers = sorted({player["layer"] for player in players})
    columns = list(dict.fromkeys((player["kind"], player["index"]) for player in players))
    cells = []
    for i, player in enumerate(players):
        order = np.argsort(pairs[i], kind="stable")
        ends = dict.fromkeys([*order[:PARTNERS].tolist(), *order[::-1][:PARTNERS].tolist()])
        partners = [(players[j]["name"], float(pairs[i, j])) for j in ends if j != i and pairs[i, j] != 0]
        facts = [(name, _with_error(measure, i)) for name, measure in content["utilities"].items()]
        facts.append(("operations per token", f"{player['flops_per_token']:,.0f}"))
        cells.append(
            GridCell(
                layers.index(player["layer"]),
                columns.index((player["kind"], player["index"])),
                player["name"],
                float(content["utilities"]["banzhaf"]["values"][i]),
                facts,
                sorted(partners, key=lambda partner: partner[1]),
            )
        )
    return Grid(
        "What each part is worth: blue helps, red does harm",
        [f"block {layer}" for layer in layers],
        [f"{kind} {index}" for kind, index in columns],
        cells,
        hint="Point at a part, or walk through them with the tab key.",
        partners="together with, nats (below zero: one can replace the other)",
    )


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:+.4f}"


def _with_error(measure: Mapping[str, Any], player: int) -> str:
    error = measure["standard_errors"][player]
    text = _number(measure["values"][player])
    return f"{text} ± {error:.1e}" if error and measure["samples"] else text
