"""The scaling study itself: a fixed programme of trainings, each computed once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models
from arena_jax.compare.identity import identity_of
from arena_jax.compare.ledger import Ledger
from arena_jax.config.component_rates import BLOCKWISE
from arena_jax.equilibria.arguments import Array
from arena_jax.game.budget import budget_equilibrium
from arena_jax.game.players import type_players
from arena_jax.game.population import train_population
from arena_jax.game.protocol import Protocol, learn_protocol
from arena_jax.game.study import architecture
from arena_jax.game.study.corpus import Corpus, load_corpus
from arena_jax.game.study.plan import Plan
from arena_jax.game.study.trainer import COMPONENTS, ROWS, SEGMENTS, Size, Trained, Trainer
from arena_jax.game.windows import train_windows

SWEEP = 1000  # seed of every sweep of learning rates: none of the final runs'
SEARCH = 2000  # first seed of the protocol's search
POPULATION_ROUNDS = 5
WINDOWS, WINDOW_STEPS = 8, 20  # of the myopic arm's update game
CLIP = 4.0  # a myopic multiplier is at most this, at least its inverse


class Piece(NamedTuple):
    """One result of a study, by what it is the result of.

    Attributes:
        kind: "training", or a search.
        key: what tells it from others of its kind.
    """

    kind: str
    key: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its file in the ledger."""
        return f"{self.kind}.{hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:16]}"


class Study:
    """One study in its folder, which is a ledger of `arena_jax.compare`.

    What is trained next hangs on what came out before: grids of learning rates are extended, and arms have what a
    search learned. So the pieces are no list of cells, but a fixed programme that asks for them one by one.

    Args:
        plan: what is done.
        folder: of the ledger; a study that was stopped goes on.
        log: is told what is computed.

    Attributes:
        pausing: is called before each piece is computed; what it raises ends the study between two pieces.

    Raises:
        ArenaError: a folder of another study, or data that cannot be read.
    """

    def __init__(self, plan: Plan, folder: Path, log: Callable[[str], Any] = lambda text: None) -> None:
        # A plan whose data cannot be read is not kept: the corrected one could not take its place.
        self.corpus: Corpus = load_corpus(plan.data, elsewhere=plan.elsewhere)
        self.plan, self.folder, self.log = plan, folder, log
        self.pausing: Callable[[], Any] = lambda: None
        self.ledger = Ledger(folder)
        self._identity = identity_of(plan.to_json(), {})
        self._freeze()
        self._results: dict[str, dict[str, Any]] = {}
        self._trainers: dict[tuple[Size, float], Trainer] = {}

    def run(self) -> None:
        """Compute everything that the plan asks and the ledger lacks."""
        for arm in self.plan.arms:
            for k in range(len(self.plan.sizes)):
                self.tuned(arm, k)
        for k, count in enumerate(self.plan.seeds):
            for seed in range(count):
                for arm in self.plan.arms:
                    self.final(arm, k, seed)
        for arm in self.law_arms():
            for k in range(len(self.plan.sizes)):
                for tokens in self.plan.tokens:
                    for seed in range(self.plan.law_seeds):
                        self.final(arm, k, seed, tokens)

        self.ledger.tidy()

    def _freeze(self) -> None:
        self.ledger.freeze(self.plan.to_json(), self._identity)

    def once(self, kind: str, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A piece, computed now only if it never was.

        Args:
            kind: see `Piece`.
            key: see there.
            compute: makes it.

        Raises:
            Busy: another process is computing it.
        """
        piece = Piece(kind, key)
        if piece.name not in self._results:
            record = self.ledger.read(piece)
            if record is None:
                self.pausing()
                with self.ledger.working(piece):
                    result = compute()
                    if not self._results:  # until a piece is there, another plan may have taken the folder
                        self._freeze()
                    self.ledger.write(piece, {"status": "finished", "result": result})
                record = self.ledger.read(piece)  # as a later start reads it
                assert record is not None
            self._results[piece.name] = record["result"]
        return self._results[piece.name]

    def law_arms(self) -> tuple[str, ...]:
        """Whose laws are fitted."""
        return tuple(arm for arm in ("adamw", "both") if arm in self.plan.arms and self.plan.law_seeds)

    # ---- one training ----

    def trainer(self, k: int, *, spare: bool = False) -> Trainer:
        """The compiled size, with or without spare parts."""
        key = (self.plan.sizes[k], architecture.SPARE if spare else 0.0)
        if key not in self._trainers:
            self._trainers[key] = Trainer(key[0], self.corpus, spare=key[1])
        return self._trainers[key]

    def train(
        self, k: int, tokens: int, seed: int, rate: float, multipliers: Any, *, moves: bool = False
    ) -> dict[str, Any]:
        """One training: its losses, in and out of domain, and its operations.

        Args:
            k: the size's number.
            tokens: of the training; with ``moves`` what the games cost is taken off.
            seed: of weights and data order.
            rate: peak learning rate.
            multipliers: (components,), or (rounds, components) for a schedule.
            moves: prune and grow on the way.
        """
        table = np.round(np.atleast_2d(np.asarray(multipliers, np.float64)), 6)
        key = {
            "size": list(self.plan.sizes[k]),
            "tokens": tokens,
            "seed": seed,
            "rate": float(f"{rate:.6g}"),
            "multipliers": table.tolist(),
            "moves": moves,
        }
        return self.once("training", key, lambda: self._train(k, tokens, seed, key["rate"], table, moves))

    def _train(self, k: int, tokens: int, seed: int, rate: float, table: Array, moves: bool) -> dict[str, Any]:
        began = time.perf_counter()
        trainer = self.trainer(k, spare=moves)
        games = [round(moment * SEGMENTS) for moment in architecture.MOMENTS] if moves else []
        game_flops = len(games) * architecture.game_flops(trainer) if moves else 0.0
        paid = tokens - game_flops / trainer.flops(1)
        batches = self._cut(paid, seed)
        state, gates, moves_made = trainer.start(seed), trainer.open.copy(), []
        for segment, part in enumerate(batches):
            if segment in games:
                state, gates, trades = architecture.rearrange(trainer, state, gates, seed)
                moves_made += [move._asdict() for move in trades]
            state = trainer.advance(
                state,
                part,
                learning_rate=rate,
                multipliers=table[segment * len(table) // SEGMENTS],
                steps=sum(map(len, batches)),
                gates=gates,
            )
        trained = sum(part.size for part in batches)
        result: dict[str, Any] = {
            "loss": trainer.loss(state, self.corpus.validation, gates),
            "elsewhere": trainer.loss(state, self.corpus.elsewhere, gates),
            "flops": trainer.flops(trained) + game_flops,
            "game_flops": game_flops,
            "parameters": self.trainer(k).parameters,
            "seconds": time.perf_counter() - began,
        }
        self.log(
            f"{'-'.join(map(str, self.plan.sizes[k]))}, {tokens:,} bytes, seed {seed}, rate {rate:g}"
            f"{', moves' if moves else ''}: {result['loss']:.4f} nats in {result['seconds']:.0f} s"
        )
        # JSON has no NaN: a training that diverged says null.
        result = {name: value if np.isfinite(value) else None for name, value in result.items()}
        return result | ({"moves": moves_made, "gates": gates.tolist()} if moves else {})

    def _cut(self, tokens: float, seed: int) -> list[Array]:
        """A training's batches in segments of at most two lengths: two programs."""
        return np.array_split(self.corpus.batches(tokens=round(tokens), rows=ROWS, seed=seed), SEGMENTS)

    # ---- what the arms are ----

    def setting(self, arm: str, seed: int) -> tuple[Array, bool]:
        """An arm's multipliers for a run with a seed, and whether parts are pruned and grown."""
        if arm == "blockwise":
            return normalized(np.array([BLOCKWISE[name] for name in COMPONENTS])), False
        if arm == "population":
            return np.array(self.population()["schedule"]), False
        if arm == "myopic":
            return np.array(self.myopic()["multipliers"]), False
        learned = np.ones(len(COMPONENTS))
        if arm in ("protocol", "both", "shuffled"):
            learned = normalized(np.array(self.protocol()["multipliers"]))
        if arm == "shuffled":
            learned = np.random.default_rng(3000 + seed).permutation(learned)
        return learned, arm in ("architecture", "both")

    def protocol(self) -> dict[str, Any]:
        """The protocol learned at the two smallest sizes, from full trainings at the rates that suit AdamW."""

        def compute() -> dict[str, Any]:
            flops = 0.0
            rates = [self.tuned("adamw", k)["rate"] for k in (0, 1)]

            def payoff(profile: Array, seed: int) -> float:
                nonlocal flops
                runs = [
                    self.train(k, self.plan.tokens[0], SEARCH + seed, rates[k], normalized(profile)) for k in (0, 1)
                ]
                flops += sum(run["flops"] for run in runs)
                return float(np.mean([-np.inf if run["loss"] is None else -run["loss"] for run in runs]))

            protocol: Protocol = learn_protocol(
                payoff,
                COMPONENTS,
                actions=self.plan.actions,
                seeds=range(self.plan.search_seeds),
                rounds=self.plan.search_rounds,
                log=self.log,
            )
            self.log(str(protocol))
            return {
                "multipliers": protocol.multipliers.tolist(),
                "effects": protocol.effects.tolist(),
                "errors": [[None if np.isnan(e) else e for e in row] for row in protocol.effect_errors.tolist()],
                "gain": protocol.gain,
                "settled": protocol.settled,
                "profiles": protocol.profiles,
                "path": [list(change) for change in protocol.path],
                "flops": flops,
            }

        return self.once("protocol", {}, compute)

    def population(self) -> dict[str, Any]:
        """Population-based training at the second size, for as many operations as the protocol's search took."""

        def compute() -> dict[str, Any]:
            trainer, tokens = self.trainer(1), self.plan.tokens[1]
            rate = self.tuned("adamw", 1)["rate"]
            members = max(5, int(self.protocol()["flops"] // trainer.flops(tokens)))
            batches = [self._cut(tokens, SEARCH + i) for i in range(members)]
            segments_per_round = SEGMENTS // POPULATION_ROUNDS
            # The score that members are chosen by is not the one that is reported.
            chosen_by = self.corpus.train[-128:]

            def advance(member: tuple[int, Trained], multipliers: Array, turn: int) -> tuple[int, Trained]:
                which, state = member
                part = batches[which][turn * segments_per_round : (turn + 1) * segments_per_round]
                steps, now = sum(map(len, batches[which])), normalized(multipliers)
                return which, trainer.through(state, part, learning_rate=rate, multipliers=now, steps=steps)

            population = train_population(
                lambda i: (i, trainer.start(SEARCH + i)),
                advance,
                lambda member: -trainer.loss(member[1], chosen_by),
                lambda member: (member[0], jax.tree.map(jnp.copy, member[1])),
                components=len(COMPONENTS),
                members=members,
                rounds=POPULATION_ROUNDS,
            )
            self.log(f"population of {members}: {population.copied} copies, best {-population.score:.4f} nats")
            return {
                "schedule": [normalized(row).tolist() for row in population.schedule],
                "members": members,
                "copied": population.copied,
                "flops": members * trainer.flops(tokens),
            }

        return self.once("population", {}, compute)

    def myopic(self) -> dict[str, Any]:
        """What the update game says half-way through a training of the second size, window by window."""

        def compute() -> dict[str, Any]:
            trainer, tokens = self.trainer(1), self.plan.tokens[1]
            rate = self.tuned("adamw", 1)["rate"]
            batches = self._cut(tokens, SEARCH)
            state = trainer.through(
                trainer.start(SEARCH),
                batches[: SEGMENTS // 2],
                learning_rate=rate,
                multipliers=np.ones(len(COMPONENTS)),
                steps=sum(map(len, batches)),
            )
            rest = np.concatenate(batches[SEGMENTS // 2 :])
            windows = train_windows(
                models.merge(trainer.structure, state.params),
                trainer.objective,
                ({"input_ids": rows} for rows in np.resize(rest, (WINDOW_STEPS * (WINDOWS + 1), *rest.shape[1:]))),
                [{"input_ids": rows} for rows in self.corpus.train[-64:].reshape(-1, ROWS, self.corpus.train.shape[1])],
                type_players(trainer.config, state.params),
                windows=WINDOWS,
                steps=WINDOW_STEPS,
                learning_rate=rate / 2,
            )
            count = len(COMPONENTS)
            equilibrium = budget_equilibrium(windows.slope.mean(0), windows.curvature.mean(0), float(count))
            order = [windows.names.index(name) for name in COMPONENTS]
            multipliers = np.clip(count * equilibrium.shares[order], 1 / CLIP, CLIP)
            self.log(f"myopic equilibrium: {' '.join(f'{m:.2f}' for m in multipliers)}")
            return {
                "multipliers": normalized(multipliers).tolist(),
                "shares": equilibrium.shares[order].tolist(),
                "unique": equilibrium.unique,
                "flops": trainer.flops(tokens) / 2 + trainer.flops(WINDOWS * WINDOW_STEPS * ROWS * 128),
            }

        return self.once("myopic", {}, compute)

    # ---- sweeps and final runs ----

    def tuned(self, arm: str, k: int) -> dict[str, Any]:
        """An arm's learning rate at a size: the best of a grid that is extended until the best is inside it."""
        plan = self.plan
        multipliers, moves = self.setting(arm, SWEEP)

        def loss(rate: float) -> float:
            final_loss = self.train(k, plan.tokens[k], SWEEP, rate, multipliers, moves=moves)["loss"]
            return float(np.inf if final_loss is None else final_loss)

        if k == 0:
            grid = list(plan.rates)
        else:
            before = self.tuned(arm, k - 1)["rate"]
            grid = [before / 2, before, before * 2]
        tried = {rate: loss(rate) for rate in grid}
        step = 2.0
        for _ in range(plan.extensions):
            best = min(tried, key=lambda rate: tried[rate])
            if best == min(tried):
                tried[best / step] = loss(best / step)
            elif best == max(tried):
                tried[best * step] = loss(best * step)
            else:
                break
        best = min(tried, key=lambda rate: tried[rate])
        interior = min(tried) < best < max(tried)
        if arm == "global":
            for rate in (best / step**0.5, best * step**0.5):
                tried[rate] = loss(rate)
            best = min(tried, key=lambda rate: tried[rate])
        return {"rate": best, "interior": interior, "tried": len(tried)}

    def final(self, arm: str, k: int, seed: int, tokens: int | None = None) -> dict[str, Any]:
        """A run that counts: an arm at a size with a seed."""
        multipliers, moves = self.setting(arm, seed)
        rate = self.tuned(arm, k)["rate"]
        return self.train(k, tokens or self.plan.tokens[k], seed, rate, multipliers, moves=moves)


def normalized(multipliers: Array) -> Array:
    """Multipliers with a geometric mean of 1: what is left of them when the base rate is tuned apart.

    Example:
        >>> normalized(np.array([2.0, 8.0])).tolist()
        [0.5, 2.0]
    """
    return np.asarray(multipliers / np.exp(np.log(multipliers).mean()), np.float64)
