"""The three forms of the MultiModelOptimizer: what each says where an argument is left open.

Plain data, without jax, so that the command line's help can show it. `arena_jax.transforms.multi_model_adamw` reads it,
and its arguments are the names.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

_COMMON: dict[str, Any] = {
    "alpha": 0.2,
    "share_every": 1,
    "sync_every": 10,
    "warmup_steps": 100,
    "decay_steps": 10_000,
    "decay": "cosine",
    "convergence_decay": 0.9,
    "convergence_every": 1,
    "low": 0.5,
    "high": 1.5,
}

# What `transforms.kind_of` calls the parameters of a transformer.
KINDS = ("attention", "feed-forward", "embedding", "normalisation", "bias", "head")

_ASKED_FOR_BETA = 0.1  # of who says how often models move together, and not how far

# "paper" is Algorithms 1 to 3 to the letter, "published" what the authors' code does instead, and "default" what
# measurements on this project support (benchmarks/results).
FORMS: MappingProxyType[str, MappingProxyType[str, Any]] = MappingProxyType(
    {
        "default": MappingProxyType(
            {
                **_COMMON,
                "max_norm": 1.0,
                "reduce": "mean",
                "correspondence": "by_role",
                "alone": False,
                "normalize": False,
                "beta": 0.1,
                "weight_decay": 0.01,
                "window": 0,
                "slope": "signed",
            }
        ),
        "paper": MappingProxyType(
            {
                **_COMMON,
                "max_norm": 0.0,
                "reduce": "sum",
                "correspondence": "by_kind",
                "alone": True,
                "normalize": False,
                "beta": 0.1,
                "weight_decay": 0.01,
                "window": 100,
                "slope": "absolute",
            }
        ),
        "published": MappingProxyType(
            {
                **_COMMON,
                "max_norm": 0.0,
                "reduce": "sum",
                "correspondence": "by_kind",
                "alone": False,
                "normalize": True,
                "beta": 0.0,
                "weight_decay": 0.0,
                "warmup_steps": 1000,
                "window": 0,
                "slope": "absolute",
            }
        ),
    }
)


def default_beta(form: str, sync_every: Any) -> float:
    """How far models move together where that is left open: as the form says, or 0.1 where that is 0 and they shall.

    Args:
        form: its name.
        sync_every: what is given for how often they do; None: nothing.

    Example:
        >>> default_beta("published", None), default_beta("published", 5)
        (0.0, 0.1)
    """
    beta: float = FORMS[form]["beta"]
    return beta if sync_every is None else beta or _ASKED_FOR_BETA
