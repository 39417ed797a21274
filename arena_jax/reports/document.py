"""A report as blocks — headings, paragraphs, lists, tables, listings, pictures — as plain text, Markdown or HTML."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arena_jax.runs.columns import columns

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
class Listing:
    """Text whose line ends and blanks count, such as a file's."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    file: Path
    caption: str


Block = Heading | Paragraph | Items | Table | Listing | Picture


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
    return "\n\n".join(parts)


def page(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as one HTML file that needs no other: pictures are in it.

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
    return environment.get_template("page.html").render(title=title, blocks=kinds, png=_png)


def _png(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")


def _wrapped(words: str, first: str, rest: str) -> str:
    return textwrap.fill(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
