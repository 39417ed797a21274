"""The players: which parameters are whose, in a fine resolution and by type."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.config.component_rates import TYPES
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array
from arena_jax.models import Gates, TransformerConfig
from arena_jax.models.components import component_of, path_names

Path = tuple[str, ...]

HEAD, NEURONS = "head", "neurons"  # the kinds of the fine players


@dataclass(frozen=True)
class Part:
    """A piece of one parameter: ``params[path][index]``; an empty index is all of it."""

    path: Path
    index: tuple[int | slice, ...] = ()


@dataclass(frozen=True)
class Player:
    """One player.

    Attributes:
        name: such as "1.head3", or the type.
        kind: "head", "neurons", or the type.
        layer: its block from 0; None for a type.
        index: its number within block and kind; None for a type.
        parts: its parameters.
    """

    name: str
    kind: str
    layer: int | None
    index: int | None
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class PlayerTable:
    """All players of one model; drives gates, multipliers, surgery and reports.

    Attributes:
        config: of the model.
        players: in order: by block, its heads, then its groups of neurons; or by type.
        groups: of neurons per block; 0 in the table by type.
    """

    config: TransformerConfig
    players: tuple[Player, ...]
    groups: int = 0

    def __len__(self) -> int:
        return len(self.players)

    @property
    def names(self) -> tuple[str, ...]:
        """The players' names."""
        return tuple(player.name for player in self.players)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Each player's kind."""
        return tuple(player.kind for player in self.players)

    def index(self, name: str) -> int:
        """The number of the player of that name.

        Raises:
            ArenaError: there is none.
        """
        if name not in self.names:
            raise ArenaError(f"there is no player '{name}'; there are {', '.join(self.names[:8])}, …")
        return self.names.index(name)

    def gates(self, opened: Any, means: tuple[Any, Any] | None = None) -> Gates:
        """The gates of one coalition.

        Args:
            opened: (n,) numbers or booleans, one per player, 1 = takes part; traced or not.
            means: μ of the heads (blocks, heads · head size) and of the neurons (blocks, F); None: 0.

        Returns:
            Gates in float32, as the models take them.

        Raises:
            ArenaError: the table by type: embeddings and norms have no gates.
        """
        if not self.groups:
            raise ArenaError("players by type have no gates: a model without its embeddings or norms is none")
        rows = jnp.asarray(opened, jnp.float32).reshape(self.config.num_layers, self.config.num_heads + self.groups)
        heads, neurons = rows[:, : self.config.num_heads], rows[:, self.config.num_heads :]
        return Gates(heads, neurons, *(means or (None, None)))

    def pieces(self, player: int | str, params: Any) -> list[Any]:
        """The player's own numbers, a piece per parameter.

        Args:
            player: its number or name.
            params: the model's parameters, or any tree of the same shapes.
        """
        owner = self.players[self.index(player) if isinstance(player, str) else player]
        return [_at(params, part.path)[part.index] for part in owner.parts]

    def sizes(self, params: Any) -> Array:
        """(n,) int64: parameters per player."""
        return np.array([sum(int(np.size(x)) for x in self.pieces(i, params)) for i in range(len(self))], np.int64)

    def labels(self, params: Any) -> Any:
        """A tree like the parameters with each leaf's player, as ``transforms.scale_by_component`` takes it.

        Raises:
            ArenaError: the fine table, whose players own pieces of leaves.
        """
        if self.groups:
            raise ArenaError("heads and neurons own pieces of parameters, not whole ones: take game.type_players")
        return jax.tree_util.tree_map_with_path(lambda path, _: component_of(path), params)


def fine_players(config: TransformerConfig, groups: int = 4) -> PlayerTable:
    """Every head, and every group of feed-forward neurons: the players that gates can close.

    A head owns its slices of query, key, value and of the output kernel, a group those of up and down. The output
    biases, norms and embeddings are nobody's.

    Args:
        config: of the model.
        groups: contiguous groups of neurons per block, of equal size.

    Returns:
        The table; blocks · (heads + groups) players.

    Raises:
        ArenaError: the groups do not divide the neurons.

    Example:
        >>> from arena_jax import models
        >>> table = fine_players(models.preset("gpt2-tiny"))
        >>> len(table), table.names[3:6], table.players[0].parts[0]
        (16, ('0.head3', '0.neurons0', '0.neurons1'), Part(path=('blocks', 'attention', 'query', 'kernel'), ...))
    """
    neurons = config.intermediate_size
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or neurons % groups:
        raise ArenaError(f"{groups} groups do not divide the {neurons} neurons of a block; give a divisor")
    players = []
    for layer in range(config.num_layers):
        for index in range(config.num_heads):
            columns = slice(index * config.head_size, (index + 1) * config.head_size)
            players.append(Player(f"{layer}.head{index}", HEAD, layer, index, head_parts(layer, columns)))
        width = neurons // groups
        for index in range(groups):
            columns = slice(index * width, (index + 1) * width)
            players.append(Player(f"{layer}.neurons{index}", NEURONS, layer, index, neuron_parts(layer, columns)))
    return PlayerTable(config, tuple(players), groups)


def head_parts(layer: int, columns: slice) -> tuple[Part, ...]:
    """What a head owns; the last part are its rows of the output kernel."""
    every = slice(None)
    parts = [Part(("blocks", "attention", m, "kernel"), (layer, every, columns)) for m in ("query", "key", "value")]
    parts += [Part(("blocks", "attention", m, "bias"), (layer, columns)) for m in ("query", "key", "value")]
    return (*parts, Part(("blocks", "attention", "output", "kernel"), (layer, columns)))


def neuron_parts(layer: int, columns: slice) -> tuple[Part, ...]:
    """What a group of neurons owns; the last part are its rows of the output kernel."""
    return (
        Part(("blocks", "feed_forward", "up", "kernel"), (layer, slice(None), columns)),
        Part(("blocks", "feed_forward", "up", "bias"), (layer, columns)),
        Part(("blocks", "feed_forward", "down", "kernel"), (layer, columns)),
    )


def type_players(config: TransformerConfig, params: Any) -> PlayerTable:
    """Every parameter in exactly one player: the six types, and the task's head where it has parameters of its own.

    Token types belong to the token embedding (in GPT-2 they are its rows), all norms to the norms (the head's too),
    an output projection's bias to value/output, and a language model's transform and vocabulary bias, a classifier and
    a pooler to the task head. A tied head has nothing of its own: the token embedding plays both parts.

    Args:
        config: of the model.
        params: its parameters, or any tree of the same names.

    Returns:
        The table; types without parameters are left out.

    Example:
        >>> from arena_jax import models
        >>> config = models.preset("gpt2-tiny")
        >>> type_players(config, models.split(models.create(config, "causal-lm"))[1]).names
        ('token embedding', 'position embedding', 'norms', 'query/key', 'value/output', 'feed-forward')
    """
    owned: dict[str, list[Part]] = collections.defaultdict(list)
    for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]:
        owned[component_of(path)].append(Part(path_names(path)))
    players = [Player(kind, kind, None, None, tuple(owned[kind])) for kind in TYPES if kind in owned]
    return PlayerTable(config, tuple(players))


def _at(params: Any, path: Path) -> Any:
    for name in path:
        params = params[name]
    return params
