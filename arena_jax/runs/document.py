"""A report as blocks — headings, lists, tables, pictures, charts, … — as plain text, Markdown or HTML."""

from __future__ import annotations

import base64
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from arena_jax.runs.columns import columns

WIDTH = 100
_POINTS = 1000  # of a line: more than a page is wide


@dataclass(frozen=True)
class Heading:
    """A heading; the first of a document is its title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows under a heading; columns from ``numbers`` on are flush right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 1


@dataclass(frozen=True)
class Listing:
    """Text whose line ends and blanks count, such as a file's."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    file: Path
    caption: str


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: in the legend.
        x: positions, rising.
        y: as many values; NaN is a gap.
        colour: "#RRGGBB".
        thin: whether it stands behind the others.
        dashed: whether it is dashed.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    thin: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one axis; in HTML one can hover, and turn lines on and off."""

    title: str
    x: str
    lines: Sequence[Line]
    logarithmic: bool = False

    def data(self) -> dict[str, Any]:
        """What the page's script draws: at most `_POINTS` points a line, the last among them; None for a gap."""
        lines = []
        for line in self.lines:
            every = max(1, math.ceil(len(line.x) / _POINTS))
            points = [(x, y if math.isfinite(y) else None) for x, y in zip(line.x, line.y, strict=True)]
            lines.append({**line._asdict(), "x": None, "y": None, "points": points[::-1][::every][::-1]})
        return {"title": self.title, "x": self.x, "logarithmic": self.logarithmic, "lines": lines}


class GridCell(NamedTuple):
    """A cell of a grid.

    Attributes:
        row: its place.
        column: its place.
        name: its own; no two are alike.
        value: what it is coloured by.
        facts: (name, value in words), shown when one points at it.
        partners: (name of another cell, number): marked when one points at it.
    """

    row: int
    column: int
    name: str
    value: float
    facts: Sequence[tuple[str, str]] = ()
    partners: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Grid:
    """Coloured cells under headings; in HTML one can point at each and read what is known of it."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[GridCell]
    hint: str = ""
    partners: str = ""

    def data(self) -> dict[str, Any]:
        """What the page's script builds."""
        return {**self.__dict__, "cells": [cell._asdict() for cell in self.cells]}


Block = Heading | Paragraph | Items | Table | Listing | Picture | Chart | Grid


def text(blocks: Sequence[Block]) -> str:
    """Write blocks for a terminal; pictures are named.

    Example:
        >>> print(text([Table(("model", "score"), [("bert", "-1.5")])]))
          model  score
          ─────  ─────
          bert    -1.5
    """
    parts = []
    for block in blocks:
        match block:
            case Heading(title, level):
                parts.append(title if level > 1 else f"{title}\n{'═' * len(title)}")
            case Paragraph(words):
                parts.append(_wrapped(words, "  ", "  "))
            case Items(texts):
                parts.append("\n".join(_wrapped(sentence, "  · ", "    ") for sentence in texts))
            case Table():
                numbers = range(block.numbers, len(block.header))
                parts.append("\n".join(columns([block.header, *block.rows], right=numbers, rule=True)))
            case Listing(lines):
                parts.append(textwrap.indent(lines, "  "))
            case Picture(file, caption):
                parts.append(_wrapped(f"{caption} {file}", "  ", "  "))
            case Chart():
                parts.append(_wrapped(_last_values(block), "  ", "  "))
            case Grid():
                parts.append(_wrapped(_highest(block), "  ", "  "))
    return "\n\n".join(parts)


def markdown(blocks: Sequence[Block]) -> str:
    """Write blocks as Markdown; pictures are linked by their file's name, beside the document.

    Example:
        >>> print(markdown([Heading("Scores"), Items(["one"])]))
        ## Scores
        <BLANKLINE>
        - one
    """
    parts = []
    for block in blocks:
        match block:
            case Heading(title, level):
                parts.append(f"{'#' * level} {title}")
            case Paragraph(words):
                parts.append(words)
            case Items(texts):
                parts.append("\n".join(f"- {sentence}" for sentence in texts))
            case Table(header, rows, numbers):
                marks = ["---" if i < numbers else "---:" for i in range(len(header))]
                lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, *rows)]
                parts.append("\n".join([lines[0], "| " + " | ".join(marks) + " |", *lines[1:]]))
            case Listing(listing):
                parts.append(f"```text\n{listing}\n```")
            case Picture(file, caption):
                parts.append(f"![{caption}]({file.name})\n\n*{caption}*")
            case Chart():
                parts.append(_last_values(block))
            case Grid():
                parts.append(_highest(block))
    return "\n\n".join(parts)


def page(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as one HTML file that needs no other: pictures and the script of its charts are in it.

    Example:
        >>> "<h2>Scores &lt;1</h2>" in page("run", [Heading("Scores <1")])
        True
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds = [(type(block).__name__, block) for block in blocks]
    return environment.get_template("page.html").render(
        title=title, blocks=kinds, kinds={kind for kind, _ in kinds}, png=_png
    )


def _last_values(chart: Chart) -> str:
    """A chart in words, where none can be drawn."""
    return f"{chart.title}, at the end: {', '.join(f'{line.name} {line.y[-1]:.4g}' for line in chart.lines if line.y)}"


def _highest(grid: Grid) -> str:
    """A grid in words."""
    order = sorted(grid.cells, key=lambda cell: -cell.value)[:5]
    return f"{grid.title}; the highest: {', '.join(f'{cell.name} {cell.value:.4g}' for cell in order)}"


def _png(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")


def _wrapped(words: str, first: str, rest: str) -> str:
    return textwrap.fill(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
