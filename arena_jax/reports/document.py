"""A report as blocks — headings, paragraphs, lists, tables, pictures — written as plain text, Markdown or HTML."""

from __future__ import annotations

import base64
import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH = 100


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
class Picture:
    """A PNG and what it shows."""

    file: Path
    caption: str


Block = Heading | Paragraph | Items | Table | Picture


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
                parts.append(_aligned(block))
            case Picture(file, caption):
                parts.append(_wrapped(f"{caption} {file}", "  ", "  "))
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
            case Picture(file, caption):
                parts.append(f"![{caption}]({file.name})\n\n*{caption}*")
    return "\n\n".join(parts)


def page(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as one HTML file that needs no other: pictures are in it.

    Example:
        >>> "<h2>Scores &lt;1</h2>" in page("run", [Heading("Scores <1")])
        True
    """
    parts = []
    for block in blocks:
        match block:
            case Heading(words, level):
                parts.append(f"<h{level}>{html.escape(words)}</h{level}>")
            case Paragraph(words):
                parts.append(f"<p>{html.escape(words)}</p>")
            case Items(texts):
                parts.append("<ul>" + "".join(f"<li>{html.escape(sentence)}</li>" for sentence in texts) + "</ul>")
            case Table(header, rows, numbers):
                kinds = ["" if i < numbers else ' class="n"' for i in range(len(header))]
                top = "".join(f"<th{k}>{html.escape(cell)}</th>" for k, cell in zip(kinds, header, strict=True))
                body = "\n".join(
                    "<tr>" + "".join(f"<td{k}>{html.escape(c)}</td>" for k, c in zip(kinds, row, strict=True)) + "</tr>"
                    for row in rows
                )
                parts.append(f'<div class="t"><table><tr>{top}</tr>\n{body}</table></div>')
            case Picture(file, caption):
                data = base64.b64encode(file.read_bytes()).decode("ascii")
                alt = html.escape(caption)
                image = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
                parts.append(f"<figure>{image}<figcaption>{alt}</figcaption></figure>")
    head = f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
    return f"{head}<style>{_STYLE}</style>\n<main>\n" + "\n".join(parts) + "\n</main>\n</html>\n"


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #333; background: #fff; margin: 2rem 1rem }
main { max-width: 62rem; margin: auto }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem }
.t { overflow-x: auto }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e4e4e4; white-space: nowrap }
.n { text-align: right }
figure { margin: 1.5rem 0 }
img { max-width: 100% }
figcaption { color: #666; font-size: 14px }
"""


def _wrapped(words: str, first: str, rest: str) -> str:
    return textwrap.fill(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _aligned(table: Table) -> str:
    rows = [tuple(table.header), *map(tuple, table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    cells = [
        [f"{cell:{widths[i]}}" if i < table.numbers else f"{cell:>{widths[i]}}" for i, cell in enumerate(row)]
        for row in rows
    ]
    lines = ["  " + "  ".join(row).rstrip() for row in cells]
    return "\n".join([lines[0], "  " + "  ".join("─" * width for width in widths), *lines[1:]])
