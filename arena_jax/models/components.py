"""The types of a model's parameters, as a game plays them and as a run's rates by part name them."""

from __future__ import annotations

from typing import Any

from arena_jax.config.errors import ArenaError


def component_of(path: Any) -> str:
    """The type that a parameter belongs to, by its path; a leading model name does no harm.

    Args:
        path: names from the root, as strings or as JAX's path entries.

    Returns:
        One of ``TYPES``: also what ``transforms.scale_by_component(component_of, {type: multiplier})`` asks.

    Raises:
        ArenaError: no parameter of our models.

    Example:
        >>> component_of(("bert", "blocks", "attention", "output", "bias"))
        'value/output'
    """
    names = path_names(path)
    owner = names[-2] if len(names) > 1 else ""
    if owner.endswith("norm") and names[-1] in ("scale", "bias"):
        return "norms"
    if "attention" in names:
        return "query/key" if owner in ("query", "key") else "value/output"
    if "feed_forward" in names:
        return "feed-forward"
    if "embeddings" in names:
        return "position embedding" if owner == "position" else "token embedding"
    if "head" in names or "pooler" in names:
        return "task head"
    raise ArenaError(f"'{'/'.join(names)}' is no parameter of a transformer of this package")


def path_names(path: Any) -> tuple[str, ...]:
    """The bare names of a path of strings or of JAX's path entries."""
    return tuple(entry if isinstance(entry, str) else str(getattr(entry, "key", entry)) for entry in path)
