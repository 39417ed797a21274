"""Plain text, divided into documents."""

from __future__ import annotations

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
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    first = next((line for line in lines if line.strip()), "")
    articles = _is_title(first)
    documents: list[str] = []
    current: list[str] = []
    blank = False
    for line in lines:
        begins = _is_title(line) if articles else blank and bool(line.strip())
        if begins and any(part.strip() for part in current):
            documents.append("".join(current))
            current = []
        current.append(line)
        blank = not line.strip()
    documents.append("".join(current))
    return [document for document in documents if document]


def _is_title(line: str) -> bool:
    return line.startswith(" = ") and line.rstrip().endswith(" =") and not line.startswith(" = = ")
