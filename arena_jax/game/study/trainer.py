"""One training of the scaling study: a byte-level GPT-2, compiled once per size for all arms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arena_jax import models
from arena_jax.config.component_rates import TYPES
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.game.flops import player_flops
from arena_jax.game.players import HEAD, NEURONS, PlayerTable, component_of, fine_players
from arena_jax.game.study.corpus import LENGTH, Corpus
from arena_jax.models import Gated
from arena_jax.models.flops import BACKWARD
from arena_jax.training.objectives import objective_for
from arena_jax.transforms import scale_by_component

COMPONENTS = TYPES[:-1]  # a tied language model's head has nothing of its own
GROUPS = 4  # of neurons per block, before spare ones
SEGMENTS = 20  # pieces of a training between which an arm may act
ROWS = 16  # per step
WARMUP, FINAL = 0.05, 0.1  # fraction of the steps the rate rises over, and what is left of it at the end


class Size(NamedTuple):
    """The shape of one model of a study: width of a token, blocks, heads per block."""

    hidden: int
    layers: int
    heads: int

    def config(self, spare: float = 0.0) -> models.TransformerConfig:
        """The model; ``spare`` more heads and groups of neurons than it starts with, closed at first."""
        return models.TransformerConfig(
            family="gpt2",
            vocab_size=256,
            hidden_size=self.hidden,
            num_layers=self.layers,
            num_heads=round(self.heads * (1 + spare)),
            head_width=self.hidden // self.heads,
            intermediate_size=self.hidden * round(GROUPS * (1 + spare)),
            max_positions=LENGTH,
            hidden_dropout=0.0,
            attention_dropout=0.0,
        )


class Trained(NamedTuple):
    """Where a training stands: parameters, moments of Adam, steps taken."""

    params: Any
    optimizer: Any
    step: jax.Array


class Trainer:
    """Trains one size; every number that an arm may change is an argument of one compiled program.

    AdamW (0.9, 0.99, weight decay 0.1 on kernels and embeddings), gradients clipped to norm 1, the rate rising over the
    first 5 % and falling along a cosine to a tenth.

    Args:
        size: of the model.
        corpus: what it reads.
        spare: heads and groups of neurons beside those it starts with, as a fraction; they are closed by gates.

    Raises:
        ArenaError: a size that makes no model.
    """

    def __init__(self, size: Size, corpus: Corpus, *, spare: float = 0.0) -> None:
        if size.hidden % size.heads:
            raise ArenaError(f"{size.heads} heads do not divide a hidden size of {size.hidden}")
        self.size, self.corpus = size, corpus
        self.config = size.config(spare)
        self.table: PlayerTable = fine_players(self.config, round(GROUPS * (1 + spare)))
        self.open = self._first_open()
        model = models.create(self.config, task="causal-lm")
        self.structure, params = models.split(model)
        self.parameters = sum(int(leaf.size) for leaf in jax.tree.leaves(params))
        self.objective = objective_for("causal-lm")
        self.transformation = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.scale_by_adam(b1=0.9, b2=0.99),
            optax.add_decayed_weights(0.1, mask=_decayed),
            scale_by_component(component_of, dict.fromkeys(COMPONENTS, 1.0)),
        )
        self._advance = jax.jit(self._advance_from, donate_argnums=0)
        self._losses = jax.jit(self._losses_of)

    def _first_open(self) -> Array:
        """(players,) the gates that the size starts with: its own heads and groups, the spare ones closed."""
        initial = {HEAD: self.size.heads, NEURONS: GROUPS}
        return np.array([player.index < initial[player.kind] for player in self.table.players], np.float32)  # type: ignore[operator]

    # ---- arithmetic ----

    def forward_flops(self, gates: Array | None = None) -> float:
        """Operations per token of a forward pass through the open parts."""
        gates = self.open if gates is None else gates
        closed = [p.kind for p, g in zip(self.table.players, gates, strict=True) if not g]
        total = models.forward_flops(self.config, LENGTH)
        return total - sum(player_flops(self.config, LENGTH, kind, self.table.groups) for kind in closed)

    def flops(self, tokens: float, gates: Array | None = None) -> float:
        """Operations of a training on so many tokens."""
        return (1 + BACKWARD) * self.forward_flops(gates) * tokens

    # ---- training ----

    def start(self, seed: int) -> Trained:
        """New weights."""
        _, params = models.split(models.create(self.config, task="causal-lm", seed=seed))
        return Trained(params, self.transformation.init(params), jnp.zeros((), jnp.int32))

    def advance(
        self,
        state: Trained,
        batches: Array,
        *,
        learning_rate: float,
        multipliers: Array,
        steps: int,
        gates: Array | None = None,
    ) -> Trained:
        """Train on some batches. The state that goes in is given away.

        Args:
            state: where training stands.
            batches: (n, rows, LENGTH).
            learning_rate: its peak.
            multipliers: (components,), of ``COMPONENTS``.
            steps: of the whole training, which the schedule is spread over.
            gates: (players,), 1 = open; the size's own if not given.
        """
        gate_values = np.asarray(self.open if gates is None else gates, np.float32)
        scalars = np.float32(learning_rate), np.asarray(multipliers, np.float32), np.float32(steps)
        return self._advance(state, jnp.asarray(batches), gate_values, *scalars)

    def through(
        self, state: Trained, segments: Iterable[Array], *, learning_rate: float, multipliers: Array, steps: int
    ) -> Trained:
        """Train on several segments in turn, with the same settings; see `advance`."""
        for batches in segments:
            state = self.advance(state, batches, learning_rate=learning_rate, multipliers=multipliers, steps=steps)
        return state

    def _advance_from(
        self, state: Trained, batches: jax.Array, gates: jax.Array, rate: jax.Array, m: jax.Array, steps: jax.Array
    ) -> Trained:
        named = {name: m[i] for i, name in enumerate(COMPONENTS)}

        def step(state: Trained, ids: jax.Array) -> tuple[Trained, None]:
            gradients = jax.grad(lambda p: self._mean_loss(p, gates, ids))(state.params)
            updates, moments = self.transformation.update(gradients, state.optimizer, state.params, multipliers=named)
            now = rate * _schedule(state.step / steps)
            params = jax.tree.map(lambda p, u: p - now * u, state.params, updates)
            return Trained(params, moments, state.step + 1), None

        return jax.lax.scan(step, state, batches)[0]

    # ---- scores ----

    def loss(self, state: Trained, rows: Array, gates: Array | None = None) -> float:
        """Mean loss in nats per byte; averaged over batches in float64."""
        gate_values = np.asarray(self.open if gates is None else gates, np.float32)
        usable = len(rows) // ROWS * ROWS
        batches = jnp.asarray(rows[:usable].reshape(-1, ROWS, LENGTH))
        return float(np.asarray(self._losses(state.params, gate_values, batches), np.float64).mean())

    def _losses_of(self, params: Any, gates: jax.Array, batches: jax.Array) -> jax.Array:
        return jax.lax.map(lambda ids: self._mean_loss(params, gates, ids), batches)

    def _mean_loss(self, params: Any, gates: jax.Array, ids: jax.Array) -> jax.Array:
        gated = Gated(models.merge(self.structure, params), self.table.gates(gates))
        sums = self.objective(gated, {"input_ids": ids}, jax.random.key(0), False).sums
        return sums["loss_sum"] / sums["count"]


def _schedule(fraction: jax.Array) -> jax.Array:
    falling = FINAL + (1 - FINAL) * 0.5 * (1 + jnp.cos(jnp.pi * (fraction - WARMUP) / (1 - WARMUP)))
    return jnp.where(fraction < WARMUP, (fraction + 1e-3) / (WARMUP + 1e-3), falling)


def _decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, leaf: path[-1].key in ("kernel", "embedding"), params)
