"""Optuna decides who is dropped: its pruners, in its own code, look at a history as at trials."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from arena_jax.arena.allocation import blend
from arena_jax.arena.history import History
from arena_jax.equilibria.arguments import as_floats

_LARGEST = 1e100  # Optuna's percentiles multiply differences of scores


@dataclass(frozen=True)
class _OptunaPruner:
    """Every model is a trial of a study, every evaluation an intermediate value; who is pruned keeps the floor.

    Trials of a study mostly come one after the other, and pruners ask those that were there before. In a competition
    all run at once, and no order is better than another: so each model is judged in a study of its own, in which all
    others have come as far as it has, those that were pruned as far as they came. Models that are left share equally;
    where all would be pruned, those stay who were left before. What is pruned does not come back.

    The work grows with the square of the models: it is meant for up to about sixteen.

    Attributes:
        warmup: evaluations before the first verdict.
        floor: δ, what a model that is out keeps (before normalisation); 0 stops it.
    """

    warmup: int = 3
    floor: float = 0.05

    def pruner(self, optuna: Any) -> Any:
        """The pruner, made by Optuna."""
        raise NotImplementedError

    def __call__(self, history: History, /) -> jax.Array:
        """Compute the next shares [models]; Optuna is called from within the compiled program."""
        scores = as_floats(history.scores)
        import_optuna()
        alive = jax.pure_callback(
            self._alive, jax.ShapeDtypeStruct(scores.shape[1:], np.bool_), scores, vmap_method="sequential"
        )
        return blend(alive.astype(scores.dtype), as_floats(history.shares[-1]), smoothing=0.0, floor=self.floor)

    def _alive(self, scores: Any) -> np.ndarray:
        curves = np.asarray(scores, float)
        curves = np.where(np.isfinite(curves), np.clip(curves, -_LARGEST, _LARGEST), np.nan)
        curves = curves[np.isfinite(curves).any(axis=1)]  # rows before the first evaluation
        models = np.asarray(scores).shape[1]
        optuna = import_optuna()
        alive, rows = np.ones(models, bool), np.zeros(models, int)  # evaluations that each has come to
        with _quiet(optuna):
            for step in range(len(curves)):
                rows[alive] = step + 1
                others = [self._trial(optuna, [], curves[: rows[i], i])[0] for i in range(models)]
                left = alive.copy()
                for i in np.flatnonzero(alive):
                    left[i] = not self._trial(optuna, others[:i] + others[i + 1 :], curves[: step + 1, i])[1]
                alive = left if left.any() else alive
        return alive

    def _trial(self, optuna: Any, others: list[Any], curve: np.ndarray) -> tuple[Any, bool]:
        """A curve as a trial beside others: the trial, as complete, and whether its last report prunes it."""
        study = optuna.create_study(direction="maximize", pruner=self.pruner(optuna))
        study.add_trials(others)
        trial, pruned = study.ask(), False
        for step, value in enumerate(curve):
            pruned = not np.isfinite(value)  # it diverged: there is nothing to be asked
            if not pruned:
                trial.report(float(value), step)
                pruned = trial.should_prune()
        finite = curve[np.isfinite(curve)]
        study.tell(trial, float(finite[-1]) if len(finite) else 0.0)
        return study.trials[-1], pruned


@dataclass(frozen=True)
class OptunaMedian(_OptunaPruner):
    """Optuna's median pruner: out is who stays below the median of the curves at an evaluation.

    Attributes:
        warmup: evaluations before the first verdict.
        floor: δ, what a model that is out keeps (before normalisation); 0 stops it.

    Source: `optuna.pruners.MedianPruner`.
    """

    def pruner(self, optuna: Any) -> Any:
        """The pruner, made by Optuna."""
        return optuna.pruners.MedianPruner(n_startup_trials=0, n_warmup_steps=self.warmup)


@dataclass(frozen=True)
class OptunaHalving(_OptunaPruner):
    """Optuna's asynchronous successive halving: out is who is not among the best 1/η that have come to a rung.

    Attributes:
        warmup: evaluations before the first rung.
        floor: δ, what a model that is out keeps (before normalisation); 0 stops it.
        eta: η, the reduction per rung.

    Source: `optuna.pruners.SuccessiveHalvingPruner`; Li et al. 2020, arXiv:1810.05934.
    """

    eta: int = 2

    def pruner(self, optuna: Any) -> Any:
        """The pruner, made by Optuna."""
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=self.warmup, reduction_factor=self.eta)


def import_optuna() -> Any:
    """Optuna.

    Raises:
        ArenaError: it is not installed.
    """
    import optuna

    return optuna


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna says each study's name; a competition makes one at every reallocation."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
