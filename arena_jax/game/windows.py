"""The update game of a model: windows of real optimizer steps, split by type, and what each part of a step gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.game.coalitions import coalitions
from arena_jax.game.payoffs import directed_payoff, potential_payoff
from arena_jax.game.players import PlayerTable, component_of
from arena_jax.training.objectives import Objective

CHUNK = 32  # parameter vectors evaluated per compiled call, one after the other: each is a copy of the model


class Windows(NamedTuple):
    """What was measured over windows of training.

    Attributes:
        names: the K types.
        gains: (windows, 2^K) L(θ) − L(θ + Σ_{i∈S} uᵢ), in the order of ``coalitions(K)``; nats.
        slope: (windows, K) −⟨∇L, uᵢ⟩, the first-order gains.
        curvature: (windows, K, K) uᵢ'Huⱼ.
        potential: (windows, K, K) payoffs of the shared step budget, ``potential_payoff`` with budget K.
        directed: (windows, K, K) how j's step changes what i's last window is worth, ``directed_payoff``.
        losses: (windows + 1,) on the probe, before each window and after the last.
        steps: optimizer steps per window.
    """

    names: tuple[str, ...]
    gains: Array
    slope: Array
    curvature: Array
    potential: Array
    directed: Array
    losses: Array
    steps: int


def check_windows(windows: int, steps: int, learning_rate: float) -> None:
    """Refuse windows that cannot be trained.

    Raises:
        ArenaError: fewer than two windows, no step in them, or a learning rate that is not finite and above 0.
    """
    if windows < 2 or steps < 1:
        raise ArenaError(f"{windows} windows of {steps} steps: give at least 2 windows of at least 1 step")
    if not 0 < learning_rate < np.inf:
        raise ArenaError(f"learning_rate is {learning_rate}; give a finite number above 0")


def train_windows(
    model: models.Transformer,
    objective: Objective,
    batches: Iterator[Mapping[str, Any]],
    probe: Sequence[Mapping[str, Any]],
    table: PlayerTable,
    *,
    windows: int = 8,
    steps: int = 20,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Windows:
    """Train on for some windows with AdamW, and play the update game on each.

    The directed game asks what the last window of type i is worth: what the loss on the probe becomes when that window
    is taken back. Aᵢⱼ is by how much j's next step raises this.

    Args:
        model: where training goes on; it is not changed.
        objective: of its task.
        batches: training batches of one shape, without end.
        probe: batches on which losses are measured, of one shape.
        table: by type.
        windows: at least 2; 8 or more for a bootstrap that says something.
        steps: per window; one step is the noise of a batch.
        learning_rate: of AdamW, after 20 steps that only fill its moments.
        seed: of dropout and hidden tokens.

    Returns:
        All measurements.

    Raises:
        ArenaError: a table of heads and neurons, as `check_windows`, or a loss that is not finite.
    """
    if table.groups:
        raise ArenaError("the update game is played by types: give game.type_players(config, params)")
    check_windows(windows, steps, learning_rate)
    structure, params = models.split(model)
    names, n = table.names, len(table)
    labels = jax.tree_util.tree_map_with_path(lambda path, _: names.index(component_of(path)), params)
    optimizer = optax.adamw(learning_rate)
    key = jax.random.key(seed)
    probe_batches = {name: jnp.stack([jnp.asarray(b[name]) for b in probe]) for name in probe[0]}
    keys = jax.random.split(jax.random.fold_in(key, 0), len(probe))

    def mean_loss(params: Any) -> jax.Array:
        def batch_sums(batch: tuple[Any, jax.Array]) -> tuple[jax.Array, jax.Array]:
            sums = objective(models.merge(structure, params), batch[0], batch[1], False).sums
            return sums["loss_sum"], sums["count"]

        loss, count = jax.lax.map(batch_sums, (probe_batches, keys))
        return loss.sum() / count.sum()

    def stepped(params: Any, next_step: Any, last_step: Any, m: jax.Array) -> Any:
        """θ + Σ mₖ uₖ with the K parts of the next step, then the K parts of the last one."""
        return jax.tree.map(
            lambda p, u, w, k: p + (m[k] * u + m[n + k] * w).astype(p.dtype), params, next_step, last_step, labels
        )

    @jax.jit
    def train(params: Any, state: Any, batch: Any, key: jax.Array) -> tuple[Any, Any]:
        def loss(p: Any) -> jax.Array:
            sums = objective(models.merge(structure, p), batch, key, True).sums
            return sums["loss_sum"] / sums["count"]

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def losses(params: Any, next_step: Any, last_step: Any, rows: jax.Array) -> jax.Array:
        return jax.lax.map(lambda m: mean_loss(stepped(params, next_step, last_step, m)), rows)

    @jax.jit
    def derivatives(params: Any, step: Any) -> tuple[jax.Array, jax.Array]:
        def at(m: jax.Array) -> jax.Array:
            return mean_loss(stepped(params, step, step, jnp.concatenate([m, jnp.zeros(n)])))

        origin, slope = jnp.zeros(n), jax.grad(at)
        rows = jax.lax.map(lambda direction: jax.jvp(slope, (origin,), (direction,))[1], jnp.eye(n))
        return -slope(origin), (rows + rows.T) / 2

    def advance(params: Any, state: Any, at: int) -> tuple[Any, Any]:
        for i in range(steps):
            batch = {name: jnp.asarray(value) for name, value in next(batches).items()}
            params, state = train(params, state, batch, jax.random.fold_in(key, 1 + at * steps + i))
        return params, state

    evaluate = _chunked(losses, 2 * n)
    members = np.concatenate([coalitions(n), np.zeros((2**n, n), bool)], axis=1).astype(np.float32)
    rows = np.concatenate([members, _directed_rows(n)])
    # A window before the first: the moments are filled, and there is a last step to take back.
    now, state = params, optimizer.init(params)
    before, (now, state) = now, advance(now, state, 0)
    last = jax.tree.map(jnp.subtract, now, before)
    measurements: dict[str, list[Array]] = {
        name: [] for name in ("gains", "slope", "curvature", "potential", "directed")
    }
    on_probe = []
    for window in range(1, windows + 1):
        before, (now, state) = now, advance(now, state, window)
        step = jax.tree.map(jnp.subtract, now, before)
        values = evaluate(before, step, last, rows)
        if not np.isfinite(values).all():
            raise ArenaError(f"the loss on the probe is not finite in window {window}; lower the learning rate")
        gains, table_ = values[0] - values[: 2**n], values[2**n :].reshape(n + 1, n + 1)
        worth = table_[:, 1:] - table_[:, :1]  # (nothing or step j, i): the loss without i's last window, minus with it
        slope, curvature = (np.asarray(x, np.float64) for x in derivatives(before, step))
        measurements["gains"].append(gains)
        measurements["slope"].append(slope)
        measurements["curvature"].append(curvature)
        measurements["potential"].append(potential_payoff(slope, (curvature + curvature.T) / 2, float(n)))
        measurements["directed"].append(directed_payoff(worth[0], worth[1:].T))
        on_probe.append(values[0])
        last = step
    on_probe.append(evaluate(now, last, last, np.zeros((1, 2 * n), np.float32))[0])
    stacked = {name: np.stack(values) for name, values in measurements.items()}
    return Windows(names=names, losses=np.array(on_probe), steps=steps, **stacked)


def _directed_rows(n: int) -> Array:
    """Multipliers of every state (nothing, or the next step of one type) without each type's last window, or with all.

    Returns:
        ((n + 1)², 2n): by state, then by what is taken back (nothing first).
    """
    states = np.concatenate([np.zeros((1, n)), np.eye(n)])
    rows = [np.concatenate([state, -back]) for state in states for back in states]
    return np.asarray(rows, np.float32)


def _chunked(losses: Any, width: int) -> Any:
    """Evaluate any number of rows with one compiled shape."""

    def run(params: Any, next_step: Any, last_step: Any, rows: Array) -> Array:
        chunks = []
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            filled = np.concatenate([part, np.zeros((CHUNK - len(part), width), np.float32)])
            chunks.append(np.asarray(losses(params, next_step, last_step, filled), np.float64)[: len(part)])
        return np.concatenate(chunks)

    return run
