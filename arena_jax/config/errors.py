"""The one error type that people are meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArenaError(ValueError):
    """A mistake in what was asked for, told in one line: what, where, and what to do.

    The command line prints the message alone and exits with code 2; a traceback is shown only with ``--debug``.

    Example:
        >>> raise ArenaError("unknown preset 'joint-sst3'; the nearest is 'joint-sst2'")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: unknown preset 'joint-sst3'; the nearest is 'joint-sst2'
    """

    def __init__(self, message: object = "") -> None:
        # What comes from a file or a command line may hold line ends, or commands to a terminal.
        text = str(message)
        escaped = (c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)
        super().__init__(text if text.isprintable() else "".join(escaped))


ArenaError.__module__ = "arena_jax"  # where people import it from, and what a traceback shows


def nearest(name: str, names: Iterable[str], most: int = 20) -> str:
    """The name that was probably meant, or a list of the first few.

    Args:
        name: what was given.
        names: those that exist.
        most: names that are listed.

    Returns:
        A clause for the end of an error message.

    Example:
        >>> nearest("robrta", ["bert", "gpt2", "roberta"])
        "did you mean 'roberta'?"
        >>> nearest("x", ["b", "a"])
        'known: a, b'
    """
    ordered = sorted(names)
    close = difflib.get_close_matches(name, ordered, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f", … ({len(ordered)} in all)" if len(ordered) > most else ""
    return "known: " + (", ".join(ordered[:most]) or "none") + more


def few_sentences(sentences: Iterable[str], most: int = 3, more: int = 0) -> str:
    """The first few of many sentences, and how many more there are: the rest of them, and ``more``.

    Example:
        >>> few_sentences(["line 3 has no label", "line 4 has no label"], most=1)
        'line 3 has no label; and 1 more'
    """
    listed = list(sentences)
    rest = len(listed) - most + more
    return "; ".join(sentence[:300] for sentence in listed[:most]) + (f"; and {rest:,} more" if rest > 0 else "")


def first_line(error: BaseException, otherwise: str = "") -> str:
    """The first line of what an error of another library says.

    Args:
        error: any.
        otherwise: what to give where it says nothing.

    Example:
        >>> first_line(ValueError("\\nno such file\\nat line 3")), first_line(KeyError(), "without a message")
        ('no such file', 'without a message')
    """
    return next(iter(str(error).strip().splitlines()), otherwise)


def few(names: Iterable[object], most: int = 5) -> str:
    """The first few of many names, and how many more there are: a message is one line, never a page.

    Example:
        >>> few(["a", "b"]), few("abcdefgh")
        ('a, b', 'a, b, c, d, e and 3 more')
    """
    listed = [str(name)[:120] for name in names]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest:,} more" if rest > 0 else "")
