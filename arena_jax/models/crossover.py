"""Two models of one architecture mixed: units matched first, and only where nothing stands between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from arena_jax.config.errors import ArenaError
from arena_jax.models.surgery import Array, rewire
from arena_jax.models.transformer import Transformer, merge, split


class Crossover(NamedTuple):
    """What came of mixing two models.

    Attributes:
        model: the mixture; None where the barrier is above the threshold.
        barrier: by how much the loss between them exceeds the straight line from one's to the other's, at most; nats.
        losses: at equal distances from the first model to the second, both included.
    """

    model: Transformer | None
    barrier: float
    losses: tuple[float, ...]

    @property
    def report(self) -> str:
        """One line for a person."""
        ends = f"{self.losses[0]:.4f} and {self.losses[-1]:.4f}"
        verdict = "not mixed" if self.model is None else "mixed"
        return f"{verdict}: the barrier between losses of {ends} is {self.barrier:.4f} nats"


def match_units(reference: Transformer, model: Transformer) -> tuple[Array, Array]:
    r"""Which head and neuron of a model stands for which of another one: weight matching.

    In each block, the permutation π that maximises :math:`\sum_i \langle w_i, w'_{\pi(i)} \rangle`, where w is all that
    leads into and out of a unit: of a head its columns of query, key and value and its rows of the output map, of a
    neuron its columns of the map up and its rows of the map down, biases included.

    Args:
        reference: the model that stays as it is.
        model: of the same configuration.

    Returns:
        Heads (blocks, heads) and neurons (blocks, neurons): the model's unit in the place of each of the reference's.

    Source:
        Ainsworth, Hayase and Srinivasa 2023, section 3.2; the assignment is SciPy's.
    """
    _check(reference, model)
    config = reference.config
    features = [_unit_features(x) for x in (reference, model)]
    layers = range(config.num_layers)
    heads, neurons = (
        np.stack([linear_sum_assignment(a[i] @ b[i].T, maximize=True)[1] for i in layers])
        for a, b in zip(*features, strict=True)
    )
    return heads, neurons


def _unit_features(model: Transformer) -> tuple[Array, Array]:
    """Of heads (blocks, heads, …) and neurons (blocks, neurons, …), float64."""
    config = model.config
    blocks = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), split(model)[1]["blocks"])
    layers, heads, width = config.num_layers, config.num_heads, config.head_size

    def incoming(part: Any) -> Array:  # (blocks, in + 1, units)
        return np.concatenate([part["kernel"], part["bias"][:, None]], axis=1)

    attention, feed_forward = blocks["attention"], blocks["feed_forward"]
    parts = [np.swapaxes(incoming(attention[name]), 1, 2) for name in ("query", "key", "value")]
    columns = np.concatenate([*parts, attention["output"]["kernel"]], axis=2)  # (blocks, heads · width, …)
    neurons = np.concatenate([np.swapaxes(incoming(feed_forward["up"]), 1, 2), feed_forward["down"]["kernel"]], axis=2)
    return columns.reshape(layers, heads, width * columns.shape[2]), neurons


def align(reference: Transformer, model: Transformer) -> Transformer:
    """The same function as ``model``, its heads and neurons in the order of the reference's that they stand for.

    Args:
        reference: a model of the same configuration.
        model: it is not changed.

    Example:
        >>> from arena_jax import models
        >>> first, second = (models.create("bert-tiny", task="masked-lm", seed=seed) for seed in (0, 1))
        >>> align(first, second).config == second.config
        True
    """
    heads, neurons = match_units(reference, model)
    surgery = rewire(
        model.config,
        name="units in another's order",
        heads=(heads, np.ones(heads.shape)),
        neurons=(neurons, np.ones(neurons.shape)),
    )
    return surgery.model(model)


def between(first: Transformer, second: Transformer, part: float) -> Transformer:
    """The model whose parameters are (1 − part) · first + part · second."""
    structure, params = split(first)
    return merge(structure, jax.tree.map(lambda a, b: (1 - part) * a + part * b, params, split(second)[1]))


def barrier(losses: Sequence[float]) -> float:
    """By how much losses along a line exceed the straight line between the first and the last, at most.

    Example:
        >>> barrier([1.0, 2.5, 2.0])
        1.0
    """
    line = np.linspace(losses[0], losses[-1], len(losses))
    return float(np.max(np.asarray(losses) - line))


def crossover(
    first: Transformer,
    second: Transformer,
    loss: Callable[[Transformer], float],
    *,
    threshold: float,
    part: float = 0.5,
    points: int = 5,
) -> Crossover:
    r"""Mix two models, :math:`(1 - c)\,\theta_1 + c\,\pi(\theta_2)`, if the way between them is free.

    The paper names a function Crossover and does not define it (ModelArena, equation 12). Here the second model's units
    are matched with the first's, π; the loss is measured along the line between them; and a mixture is made only where
    its barrier is at most the threshold.

    Args:
        first: a model.
        second: of the same configuration and tokenizer.
        loss: of a model on rows that neither was trained on, nats.
        threshold: nats.
        part: c, of the second model.
        points: losses measured along the line, both ends included; 3 or more.

    Returns:
        The mixture, or none, with the barrier.

    Raises:
        ArenaError: models of different configurations or tasks, or too few points.
    """
    if points < 3:
        raise ArenaError(f"{points} points say nothing of what lies between two models: give 3 or more")
    aligned = align(first, second)
    losses = tuple(float(loss(between(first, aligned, place))) for place in np.linspace(0, 1, points).tolist())
    height = barrier(losses)
    passable = bool(np.isfinite(losses).all()) and height <= threshold
    return Crossover(between(first, aligned, part) if passable else None, height, losses)


def _check(first: Transformer, second: Transformer) -> None:
    if first.config != second.config or first.task != second.task:
        raise ArenaError("only models of one configuration and task can be mixed unit by unit: these two differ")
