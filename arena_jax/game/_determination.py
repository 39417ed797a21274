"""Whether data determine a parameter of a curve: robust standard errors, and the worth of a term."""

from __future__ import annotations

import numpy as np
from scipy import stats

from arena_jax.equilibria.arguments import Array
from arena_jax.game._least_squares import dispersion

_SINGULAR = 1e-14  # of the largest eigenvalue: directions below it are not determined at all
_ROUNDING = 1e-12  # residuals of exact data


def standard_errors(residuals: Array, jacobian: Array, delta: float, cells: int) -> Array:
    """Standard errors of the parameters of a Huber fit.

    κ² (J'J)⁻¹ with κ² = Σψ² / (m − p) / mean(ψ')², times m / cells: runs of one cell share the law's error.

    Args:
        residuals: (m,) at the optimum.
        jacobian: (m, p) derivatives of the residuals.
        delta: of the Huber loss, in units of the residuals.
        cells: number of distinct settings among the m runs.

    Returns:
        (p,), in the units of the parameters.

    Example:
        >>> x = np.stack([np.ones(4), np.arange(4.0)], axis=1)
        >>> standard_errors(np.array([1.0, -1, -1, 1]), x, 10.0, 4).round(3).tolist()  # least squares
        [1.183, 0.632]

    Source: Huber 1981 (Robust Statistics), section 7.6.
    """
    count, size = jacobian.shape
    influence = np.clip(residuals, -delta, delta)
    slope = max(float(np.mean(np.abs(residuals) <= delta)), 1 / count)
    scale = (influence @ influence / max(count - size, 1) + _ROUNDING**2) / slope**2 * count / cells
    values, vectors = np.linalg.eigh(jacobian.T @ jacobian)
    inverse = 1 / np.maximum(values, _SINGULAR * values[-1])
    return np.asarray(np.sqrt(scale * (vectors**2 @ inverse)))


def is_needed(
    with_term: Array, without: Array, delta: float, *, parameters: int, all_parameters: int, cells: int
) -> bool:
    """Whether a term improves a Huber fit beyond noise, by the drop in dispersion: 2 (ρ₀ − ρ₁) / (q λ) against F(0.99).

    λ = Σψ² / (m − p) / mean(ψ'), F with q and cells − p degrees of freedom; the drop is divided by the runs per cell.

    Args:
        with_term: (m,) residuals of the fit with the term.
        without: (m,) residuals of the fit without it.
        delta: of the Huber loss.
        parameters: q, of the term.
        all_parameters: p, of the fit with the term.
        cells: number of distinct settings among the m runs.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 1, 100)
        >>> size = {"parameters": 1, "all_parameters": 2, "cells": 100}
        >>> is_needed(noise, noise + 1.0, 1.0, **size), is_needed(noise, noise + 0.01, 1.0, **size)
        (True, False)

    Source: Schrader and Hettmansperger 1980 (Biometrika 67).
    """
    influence = np.clip(with_term, -delta, delta)
    count = len(with_term)
    slope = max(float(np.mean(np.abs(with_term) <= delta)), 1 / count)
    scale = (float(influence @ influence) / max(count - all_parameters, 1) + _ROUNDING**2) / slope
    drop = (dispersion(without, delta) - dispersion(with_term, delta)) * cells / count
    return bool(2 * drop / (parameters * scale) > stats.f.ppf(0.99, parameters, max(cells - all_parameters, 1)))
