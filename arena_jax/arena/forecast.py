"""Where a score curve is going: power laws and exponentials, fitted in closed form, with their uncertainty."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from arena_jax.equilibria.arguments import as_floats

Family = Literal["power-law", "exponential", "both"]

# Shapes of saturating curves, in units of the effort spent so far; the last ones are almost straight.
_POWER = np.array([(c, p) for c in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8) for p in (0.3, 0.5, 0.8, 1.2)])
_EXPONENTIAL = np.geomspace(0.04, 3.0, 20)


class Fit(NamedTuple):
    """Straight-line fits of each model's scores against every shape, and how far to believe each.

    Attributes:
        belief: [shapes, models], sums to 1 over the shapes.
        slope: [shapes, models], score per unit of the shape; never negative where the curve is taken to rise.
        error: [shapes, models], standard error of the slope.
        effort: [models], effort until the last evaluation, the unit in which shapes are measured.
        is_determined: [models], whether there were two finite scores at different efforts.
    """

    belief: jax.Array
    slope: jax.Array
    error: jax.Array
    effort: jax.Array
    is_determined: jax.Array


def _shapes(z: jax.Array, family: Family) -> jax.Array:
    """Evaluate the shapes, [shapes, *z.shape]; all rise from 0 at z = 0 towards 1."""
    column = (slice(None),) + (None,) * z.ndim
    power = 1 - (1 + z[None] / _POWER[:, 0].astype(z.dtype)[column]) ** -_POWER[:, 1].astype(z.dtype)[column]
    exponential = -jnp.expm1(-z[None] / _EXPONENTIAL.astype(z.dtype)[column])
    if family == "power-law":
        return power
    return exponential if family == "exponential" else jnp.concatenate([power, exponential])


def fit(effort: ArrayLike, scores: ArrayLike, *, half_life: float = 8.0, family: Family = "both") -> Fit:
    """Fit S(x) = a + b·φ(x) for every shape φ, by least squares that forget old evaluations.

    φ(x) = 1 − (1 + x/c)^(−p)   or   φ(x) = 1 − exp(−x/τ)

    over a fixed grid of (c, p) and τ in units of the effort so far, so that a and b have a closed form and the whole
    is a handful of sums. A shape is believed in proportion to SSE^(−n/2), its likelihood with the noise integrated out.

    Args:
        effort: [evaluations, models], rising; seconds or steps since the start.
        scores: [evaluations, models]; what is not finite is left out.
        half_life: evaluations after which an observation weighs half.
        family: which shapes to use.

    Returns:
        The fit; see `gain`.

    Example:
        >>> import numpy as np
        >>> x = np.arange(9.0)[:, None]
        >>> f = fit(x, 3 - 2 * np.exp(-x / 8))   # towards 3; e-folding 8
        >>> mean, deviation = gain(f, np.array([8.0]))
        >>> bool(abs(mean[0] - 2 * (np.exp(-1) - np.exp(-2))) < 0.03)
        True

    Source: ModelArena, equation 10, with f_φ a mixture of learning curves.
    """
    effort, scores = as_floats(effort), as_floats(scores)
    big = jnp.finfo(scores.dtype).max ** 0.5  # a division compiled as a multiplication must not underflow
    there = jnp.isfinite(scores) & jnp.isfinite(effort)
    x = jnp.where(there, jnp.clip(effort, 0, big), 0)
    last = jnp.max(x, axis=0)
    unit = jnp.where(last > 0, last, 1)
    age = jnp.arange(scores.shape[0], dtype=scores.dtype)[::-1, None]
    weight = there * 0.5 ** (age / half_life)
    n = jnp.maximum(jnp.sum(weight, 0), 1e-3)

    y = jnp.where(there, jnp.clip(scores, -big, big), 0)
    centre = jnp.sum(weight / n[None] * y, 0)
    y = jnp.where(there, y - centre[None], 0)
    scale = jnp.max(jnp.abs(y), 0)  # squares of huge scores would overflow
    scale = jnp.where(scale > 0, scale, 1)
    y = y / scale[None]

    phi = _shapes(x / unit[None], family)  # [shapes, evaluations, models]
    phi = phi - jnp.sum(weight[None] * phi, 1, keepdims=True) / n[None, None]
    spread = jnp.sum(weight[None] * phi**2, 1)
    usable = spread > 1e-6
    slope = jnp.sum(weight[None] * phi * y[None], 1) / jnp.where(usable, spread, 1)
    residual = y[None] - slope[:, None] * phi
    squares = jnp.sum(weight[None] * residual**2, 1) + 1e-6 * n[None]
    error = jnp.sqrt(squares / jnp.maximum(n - 2, 1)[None] / jnp.where(usable, spread, 1))
    logits = jnp.where(usable, -0.5 * n[None] * jnp.log(squares), -jnp.inf)
    is_determined = usable.any(0) & (jnp.sum(there, 0) > 1)
    belief = jax.nn.softmax(jnp.where(is_determined[None], logits, 0.0), axis=0)
    return Fit(
        belief=belief,
        slope=jnp.where(usable & is_determined[None], slope, 0) * scale[None],
        error=jnp.where(usable & is_determined[None], error, 0) * scale[None],
        effort=unit,
        is_determined=is_determined,
    )


def gain(fitted: Fit, extra: ArrayLike, *, family: Family = "both") -> tuple[jax.Array, jax.Array]:
    """Forecast how much each score rises with some more effort, and how sure that is.

    Args:
        fitted: from `fit`, with the same ``family``.
        extra: [..., models], effort beyond the last evaluation, in the unit of the fit.
        family: which shapes were fitted.

    Returns:
        Expected gain and its standard deviation, both [..., models]: the spread between believable shapes and the error
        within each.

    Example:
        >>> import numpy as np
        >>> mean, deviation = gain(fit(np.zeros((1, 2)), np.zeros((1, 2))), np.ones(2))
        >>> mean.tolist()   # nothing is known, nothing is promised
        [0.0, 0.0]
    """
    extra = as_floats(extra)
    lead = (None,) * (extra.ndim - 1)
    z = jnp.maximum(extra, 0) / fitted.effort[(*lead, slice(None))]
    rise = _shapes(1 + z, family) - _shapes(jnp.ones_like(z), family)
    index = (slice(None), *lead, slice(None))
    each = fitted.slope[index] * rise
    mean = jnp.sum(fitted.belief[index] * each, 0)
    variance = jnp.sum(fitted.belief[index] * ((each - mean[None]) ** 2 + (fitted.error[index] * rise) ** 2), 0)
    deviation = jnp.sqrt(variance)
    return jnp.where(jnp.isfinite(mean), mean, 0), jnp.where(jnp.isfinite(deviation), deviation, 0)
