"""The ablation game of a model: what a coalition of its heads and neurons is worth on a probe, many at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.game.players import PlayerTable, fine_players
from arena_jax.game.prefixes import Plan, plan, shared_sums
from arena_jax.models import Gated
from arena_jax.training.objectives import Objective, head_positions, objective_for
from arena_jax.training.observe import Observed, observe

CHUNK = 32  # coalitions per compiled call, at most
STORED = 2**28  # bytes of hidden states kept per compiled call: fewer coalitions, if these are large


class AblationGame:
    """v(S) = −(mean loss on the probe when only the parts in S work): call it as a value function.

    The loss is summed in the program per batch of the probe and averaged over batches in float64. Coalitions that agree
    on the first blocks share what these compute; one that was asked for before is remembered, not computed again.

    Args:
        model: any model of this package.
        batches: the probe, batches of one shape.
        objective: of the model's task; needed for masked language models, whose mask token it knows.
        table: the players; ``fine_players(model.config)`` if not given.
        ablation: what a closed part gives: its "mean" over the calibration batches, or "zero".
        calibration: batches for the means; the probe itself if not given.
        seed: of the masked tokens, the same in all coalitions.
        together: states computed side by side; what is fastest on this kind of device if not given.

    Raises:
        ArenaError: an empty probe, batches of different shapes, or an unknown ablation.

    Example:
        >>> from arena_jax import game, models
        >>> probe = [{"input_ids": np.arange(24, dtype=np.int32).reshape(3, 8)}]
        >>> played = AblationGame(models.create("gpt2-tiny", task="causal-lm"), probe)
        >>> game.leave_one_out(played, len(played.table)).values.shape
        (16,)
    """

    def __init__(
        self,
        model: models.Transformer,
        batches: Sequence[Mapping[str, Any]],
        objective: Objective | None = None,
        *,
        table: PlayerTable | None = None,
        ablation: Literal["mean", "zero"] = "mean",
        calibration: Sequence[Mapping[str, Any]] | None = None,
        seed: int = 0,
        together: int | None = None,
    ) -> None:
        if ablation not in ("mean", "zero"):
            raise ArenaError(f"ablation is {ablation!r}; a closed part gives its 'mean' or 'zero'")
        shapes = {tuple(np.shape(batch["input_ids"])) for batch in batches}
        if len(shapes) != 1:
            raise ArenaError(
                f"the probe has batches of {len(shapes)} shapes; give at least one batch, all of one shape"
            )
        self.model = model
        self.objective = objective or objective_for(model.task)
        self.table = table or fine_players(model.config)
        self.table.gates(np.ones(len(self.table)))  # players by type have none
        self.ablation = ablation
        self.structure, self.params = models.split(model)
        self.probe = _stacked(batches)
        self.calibration = calibration or batches
        self.observed: Observed = observe(model, self.calibration)
        self.means = tuple(map(jnp.asarray, self.observed.means)) if ablation == "mean" else None
        self.keys = jax.random.split(jax.random.key(seed), len(batches))
        rows, length = next(iter(shapes))
        self.tokens = rows * length * len(batches)
        row = models.row_flops(model.config, model.task, length, head_positions(model.task, length))
        self.flops = row * rows * len(batches)  # of one coalition
        if together is None:
            # Measured on one core: more side by side fall out of the cache; an accelerator is idle with so few.
            together = 1 if jax.default_backend() == "cpu" else 16
        self._together = together
        config = model.config
        width = 2 * config.hidden_size + config.num_heads * config.head_size
        state = rows * length * width * jnp.dtype(config.compute_dtype).itemsize
        # The same number of places in every call, whatever the number of coalitions: one program does for all.
        self._places = together * max(1, min(CHUNK, STORED // state) // together)
        self._values: dict[bytes, float] = {}
        self._run = jax.jit(self._chunk)
        self._gradients = jax.jit(self._example_gradients)

    def __call__(self, members: Any) -> Array:
        """Values of coalitions: (m, n) booleans → (m,) float64, in −nats."""
        members = np.ascontiguousarray(members, bool)
        if members.ndim != 2 or members.shape[1] != len(self.table):
            raise ArenaError(f"coalitions have shape {members.shape}; give (m, {len(self.table)}) booleans")
        names = [row.tobytes() for row in members]
        new = {name: row for name, row in zip(names, members, strict=True) if name not in self._values}
        self._values.update(zip(new, self.evaluate(np.array([*new.values()])) if new else (), strict=True))
        return np.array([self._values[name] for name in names])

    def evaluate(self, gates: Any) -> Array:
        """Values of any gates, nothing remembered: (m, n) numbers → (m,) float64, in −nats.

        Raises:
            ArenaError: gates of another shape, or an objective that does not encode its batch exactly once.
        """
        rows = np.asarray(gates, np.float32)
        if rows.ndim != 2 or rows.shape[1] != len(self.table) or not len(rows):
            raise ArenaError(f"gates have shape {rows.shape}; give (m, {len(self.table)}) numbers")
        unique, which = np.unique(rows, axis=0, return_inverse=True)
        starts = range(0, len(unique), self._places)

        def evaluate_from(start: int) -> Array:
            part = unique[start : start + self._places]
            todo = plan(part, self.model.config.num_layers, self.model.config.num_heads, self._places)
            loss, count = self._run(self.params, self.means, todo, np.int32(len(part)), self.probe, self.keys)
            totals = np.asarray(loss, np.float64).sum(0)[: len(part)]
            return np.asarray(-totals / np.asarray(count, np.float64).sum(0)[: len(part)])

        if len(starts) == 1 or jax.default_backend() != "cpu":
            values = np.concatenate([evaluate_from(start) for start in starts])
        else:
            # Small products keep one core busy: calls side by side keep all of them.
            first = evaluate_from(0)  # compiles once, not once per thread
            with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2) as threads:
                values = np.concatenate([first, *threads.map(evaluate_from, starts[1:])])
        return values[which.ravel()]

    def loss(self, gates: jax.Array) -> jax.Array:
        """The mean loss as a differentiable function of the gates (n,)."""
        loss, count = self._sums(self.params, self.means, gates, self.probe, self.keys)
        return loss.sum() / count.sum()

    def example_gradients(self) -> Array:
        """∂L(x)/∂g at open gates for each example x of the probe: (examples, n) float64, in nats.

        Examples without a target, such as rows that only fill a batch, are left out.
        """
        gradients, count = self._gradients(self.params, self.means, self.probe, self.keys)
        rows = np.asarray(gradients, np.float64).reshape(-1, len(self.table))
        return rows[np.asarray(count).reshape(-1) > 0]

    def _example_gradients(self, params: Any, means: Any, probe: Any, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(batches, examples, n) gradients, and what each example's loss is averaged over."""
        ones = jnp.ones(len(self.table), jnp.float32)

        def example_gradient(row: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            batch = {name: value[None] for name, value in row.items()}

            def loss(gates: jax.Array) -> tuple[jax.Array, jax.Array]:
                total, count = self._batch_sums(params, means, gates, batch, key)
                return total / jnp.maximum(count, 1), count

            return jax.grad(loss, has_aux=True)(ones)

        def batch_gradients(batch: tuple[Any, jax.Array]) -> tuple[jax.Array, jax.Array]:
            rows, key = batch
            count = rows["input_ids"].shape[0]
            return jax.vmap(example_gradient)(rows, jax.random.split(key, count))

        return jax.lax.map(batch_gradients, (probe, keys))

    def _chunk(self, params: Any, means: Any, todo: Plan, count: jax.Array, probe: Any, keys: jax.Array) -> Any:
        """(batches, places) sums of the loss, and what they are averaged over."""
        model = models.merge(self.structure, params)

        def batch_sums(batch: tuple[Any, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return shared_sums(model, self.objective, means, todo, count, *batch, self._together)

        return jax.lax.map(batch_sums, (probe, keys))

    def _sums(self, params: Any, means: Any, gates: jax.Array, probe: Any, keys: jax.Array) -> Any:
        """(batches,) sums of the loss, and what it is averaged over."""
        return jax.lax.map(lambda b: self._batch_sums(params, means, gates, *b), (probe, keys))

    def _batch_sums(
        self, params: Any, means: Any, gates: jax.Array, batch: Any, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        gated = Gated(models.merge(self.structure, params), self.table.gates(gates, means))
        sums = self.objective(gated, batch, key, False).sums
        return sums["loss_sum"], sums["count"]


def _stacked(batches: Sequence[Mapping[str, Any]]) -> dict[str, jax.Array]:
    numeric = [name for name, value in batches[0].items() if np.asarray(value).dtype != object]
    return {name: jnp.stack([jnp.asarray(batch[name]) for batch in batches]) for name in numeric}
