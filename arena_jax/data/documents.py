"""Plain text, divided into documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from arena_jax.data.content import read_text


def read_documents(path: Path) -> list[str]:
    """Divide a text into documents: WikiText's articles, else paragraphs with blank lines between them.

    Args:
        path: of a text file.

    Returns:
        Documents; joined together they are the file's text.

    Raises:
        ArenaError: as `read_text`.
    """
    return split_documents(read_text(path))


def split_documents(text: str) -> list[str]:
    """Divide a text into documents: WikiText's articles if it begins with " = Title = ", else paragraphs.

    Args:
        text: the whole text.

    Returns:
        Documents; joined together they are the text.

    Example:
        >>> split_documents("one\\ntwo\\n\\nthree\\n")
        ['one\\ntwo\\n\\n', 'three\\n']
        >>> split_documents(" = A = \\n x\\n = = part = = \\n = B = \\n y\\n")
        [' = A = \\n x\\n = = part = = \\n', ' = B = \\n y\\n']
    """
    return [document for document, _ in documents_of([text])]


def documents_of(blocks: Iterable[str], longest: int | None = None) -> Iterator[tuple[str, bool]]:
    """Divide a text that comes in blocks, as `split_documents` divides it.

    Args:
        blocks: of the text; each but the last ends with a line.
        longest: characters after which a document is ended, before the next line that begins without a blank.

    Yields:
        (document, whether it goes on in the next one because it was too long).

    Example:
        >>> list(documents_of(["one\\n", "two\\n\\nthree\\n"], longest=2))
        [('one\\n', True), ('two\\n\\n', False), ('three\\n', False)]
    """
    articles: bool | None = None  # not known before the first line that is not blank
    current: list[str] = []
    size, any_text, blank = 0, False, False
    for block in blocks:
        for line in block.splitlines(keepends=True) if _plain(block) else _lines(block):
            has_text = not line.isspace()
            if articles is None and has_text:
                articles = _is_title(line)
            begins = has_text and (_is_title(line) if articles else blank)
            long = longest is not None and size > longest and not line[0].isspace() and not blank
            if any_text and (begins or long):
                yield "".join(current), not begins
                current, size, any_text = [], 0, False
            current.append(line)
            size += len(line)
            any_text |= has_text
            blank = not has_text
    if current:
        yield "".join(current), False


def _plain(text: str) -> bool:
    """Whether Python divides a text into lines at its line ends alone: not so at form feeds and the like."""
    return text.isascii() and not any(mark in text for mark in "\r\v\f\x1c\x1d\x1e")


def _lines(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _is_title(line: str) -> bool:
    return line.startswith(" = ") and line.rstrip().endswith(" =") and not line.startswith(" = = ")
