"""When a model changes its shape in the middle of a run, and to what: how a text says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from arena_jax.config.errors import ArenaError, nearest

# Parts of a block, or blocks: what is wider or deeper afterwards keeps its function; "stack" copies blocks instead.
TARGETS = ("layers", "stack", "heads", "neurons")


class Resize(NamedTuple):
    """One change of a model's shape.

    Attributes:
        step: after so many steps (of a competition: rounds).
        targets: (of `TARGETS`, how many there are afterwards), in the order in which they are carried out.
    """

    step: int
    targets: tuple[tuple[str, int], ...]


def read_resizes(texts: Sequence[str], where: str) -> tuple[Resize, ...]:
    """Read the changes of a model's shape.

    Args:
        texts: of the form ``STEP:WHAT=COUNT``, several changes at a step with ``/`` between them.
        where: the field, for an error.

    Returns:
        A change each.

    Raises:
        ArenaError: another form, steps that do not rise, or a count below 1.

    Example:
        >>> read_resizes(("200:layers=4", "300:neurons=256/heads=6"), "resize")[1]
        Resize(step=300, targets=(('neurons', 256), ('heads', 6)))
        >>> read_resizes(("200:layer=4",), "resize")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: resize 200:layer=4 changes 'layer'; did you mean 'layers'?
    """
    resizes: list[Resize] = []
    for text in texts:
        at, colon, changes = text.partition(":")
        if not colon or not at.strip().isdecimal() or int(at) < 1:
            raise ArenaError(
                f"{where} is '{text}': write STEP:WHAT=COUNT, such as 200:layers=4, with a step of 1 or more"
            )
        targets = tuple(_target(change, text, where) for change in changes.split("/"))
        names = [name for name, _ in targets]
        if len(set(names)) < len(names) or {"layers", "stack"} <= set(names):
            raise ArenaError(f"{where} {text} changes one thing twice; keep one")
        if resizes and int(at) <= resizes[-1].step:
            raise ArenaError(f"{where} has step {int(at)} after step {resizes[-1].step}: steps must rise")
        resizes.append(Resize(int(at), targets))
    return tuple(resizes)


def _target(change: str, text: str, where: str) -> tuple[str, int]:
    name, equals, count = (part.strip() for part in change.partition("="))
    if name not in TARGETS:
        raise ArenaError(f"{where} {text} changes '{name}'; {nearest(name, TARGETS)}")
    if not equals or not count.isdecimal() or int(count) < 1:
        raise ArenaError(f"{where} {text}: write how many {name} there are afterwards, such as {name}=4")
    return name, int(count)
