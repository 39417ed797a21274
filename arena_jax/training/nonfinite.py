"""What happens to a model whose loss or gradient is not finite: it sits the update out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def leave_out_nonfinite(
    gradients: Mapping[str, Any], metrics: Mapping[str, dict[str, Any]], extra: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take models with a non-finite loss or gradient out of an update, and say so in their metrics; pure.

    Args:
        gradients: ``{model: tree}``.
        metrics: ``{model: {"loss", "gradient_norm", …}}``, scalars; ``skipped`` is added to each.
        extra: what the optimizer is given; of its ``active`` are the models that take part.

    Returns:
        The gradients, those of models left out 0; and ``extra``, in which these are not ``active``.
    """
    taking_part = extra.get("active") or dict.fromkeys(gradients, True)
    active, selected = {}, {}
    for name, gradient in gradients.items():
        finite = jnp.isfinite(metrics[name]["loss"]) & jnp.isfinite(metrics[name]["gradient_norm"])
        metrics[name]["skipped"] = jnp.asarray(~finite, jnp.float32)
        active[name] = finite & taking_part[name]
        # An optimizer that knows nothing of `active` sees a gradient of 0, not a NaN that its moments would keep.
        selected[name] = jax.tree.map(lambda g, on=active[name]: jnp.where(on, g, 0).astype(g.dtype), gradient)
    return selected, {**extra, "active": active}
