"""The table of what belongs to what, for people."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from arena_jax.transforms.correspondence import Correspondence, by_kind
from arena_jax.transforms.pools import groups
from arena_jax.transforms.trees import Name, models_of, read


class CorrespondenceRow(NamedTuple):
    """One group of corresponding parameters."""

    key: Any  # as the correspondence returned it; None for what is never shared
    shape: tuple[int, ...]  # of one parameter, without its layer axis
    members: dict[Name, int]  # parameters per model (a stacked leaf counts once per layer)
    share: float  # part of all numbers in all models, 0 to 1


def explain_correspondence(params: Any, correspondence: Correspondence = by_kind) -> list[CorrespondenceRow]:
    """Print which parameters share with which, and return the table.

    Args:
        params: ``{model: parameters}``: arrays, or their abstract shapes from ``jax.eval_shape``.
        correspondence: ``(path, shape) -> key or None``.

    Returns:
        One row per group, the greatest share first. The shares sum to 1. A group with one member is left alone.

    Example:
        >>> import jax.numpy as jnp
        >>> block = {"attention": {"query": {"kernel": jnp.ones((2, 4, 4))}, "key": {"kernel": jnp.ones((2, 4, 4))}}}
        >>> params = {"a": {"blocks": block}, "b": {"blocks": block, "head": {"bias": jnp.ones(3)}}}
        >>> rows = explain_correspondence(params)
        key                    shape   a  b   share
        ('attention', (4, 4))  (4, 4)  4  4  97.7 %
        ('head', (3,))         (3,)    0  1   2.3 %  alone
        >>> rows[0].members
        {'a': 4, 'b': 4}
    """
    _, _, leaves = read(params)
    models = models_of(params)
    parameter_groups = groups(leaves, correspondence)
    total = sum(math.prod(group.shape) * len(group.members) for group in parameter_groups)
    rows = []
    for group in parameter_groups:
        members = dict.fromkeys(models, 0)
        for leaf, _ in group.members:
            members[leaves[leaf].model] += 1
        size = math.prod(group.shape) * len(group.members)
        rows.append(CorrespondenceRow(group.key, group.shape, members, size / max(1, total)))
    rows.sort(key=lambda row: -row.share)  # stable: ties stay in the order of the tree

    table = [["key", "shape", *map(str, models), "share"]]
    for row in rows:
        table.append(
            [
                "not shared" if row.key is None else str(row.key),
                str(row.shape),
                *(str(row.members[model]) for model in models),
                f"{100 * row.share:.1f} %",
            ]
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for number, line in enumerate(table):
        text = "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        alone = number > 0 and rows[number - 1].key is not None and sum(rows[number - 1].members.values()) == 1
        print(text + ("  alone" if alone else ""))
    return rows
