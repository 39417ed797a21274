"""Everything about one model as a game: players, utilities, interactions, equilibria; printed, or as JSON."""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import seed_number
from arena_jax.game.ablation import AblationGame
from arena_jax.game.coalitions import Values
from arena_jax.game.flops import player_flops
from arena_jax.game.gradients import TOLERANCE
from arena_jax.game.noise import select_equilibrium
from arena_jax.game.payoffs import UpdateGame, update_game
from arena_jax.game.players import fine_players, type_players
from arena_jax.game.report import EquilibriumReport, analyze
from arena_jax.game.subject import Subject
from arena_jax.game.utilities import measure
from arena_jax.game.windows import Windows, check_windows, train_windows
from arena_jax.game.worth import interactions

MEASURES = ("banzhaf", "leave-one-out", "shapley", "sensitivity", "second-order", "aumann-shapley", "entropy")
RECORD = "game.json"


@dataclass(frozen=True)
class GameAnalysis:
    """What is known of one model's parts.

    Attributes:
        subject: the model's name.
        task: of the model.
        game: the ablation game: players, probe, means.
        loss: of the whole model on the probe, nats.
        utilities: {measure: values}, the default first.
        pairs: (n, n) interactions at the grand coalition.
        windows: of the update game; None if none was asked for.
        update: the update game of the mean window.
        potential: equilibria of the shared step budget: optimisation, by construction.
        directed: equilibria of the directed game, where cycles can exist.
        seconds: {part: what it took}.
    """

    subject: str
    task: str
    game: AblationGame
    loss: float
    utilities: dict[str, Values]
    pairs: Values
    windows: Windows | None
    update: UpdateGame | None
    potential: EquilibriumReport | None
    directed: EquilibriumReport | None
    seconds: dict[str, float]

    @property
    def flops(self) -> float:
        """Floating-point operations of all evaluations and gradients on the probe."""
        return sum(values.flops for values in self.utilities.values()) + self.pairs.evaluations * self.game.flops

    def correlations(self) -> dict[str, dict[str, float | None]]:
        """Spearman's rank correlation of every two measures, over the players that both know."""
        table: dict[str, dict[str, float | None]] = {name: {} for name in self.utilities}
        for (a, first), (b, second) in itertools.product(self.utilities.items(), repeat=2):
            finite = np.isfinite(first.values) & np.isfinite(second.values)
            x, y = first.values[finite], second.values[finite]
            flat = len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0
            table[a][b] = None if flat else float(stats.spearmanr(x, y).statistic)
        return table

    def naive_equilibrium(self) -> tuple[str, ...]:
        """Who is left in the population game "my own worth, plus what I do for you": known to collapse."""
        payoff = self.pairs.values + np.diag(self.utilities["leave-one-out"].values)
        x = select_equilibrium(payoff)
        return tuple(name for name, share in zip(self.game.table.names, x, strict=True) if share > 1e-3)

    def warnings(self) -> list[str]:
        """What a reader must know before believing an equilibrium."""
        warnings = []
        left = self.naive_equilibrium()
        if len(left) <= max(1, len(self.game.table) // 4):
            warnings.append(
                f"the population game of worth and pairwise interaction leaves {', '.join(left)} of "
                f"{len(self.game.table)} players: degenerate, of no use as an allocation"
            )
        quadrature = self.utilities.get("aumann-shapley")
        if quadrature is not None and quadrature.gap is not None:
            gap = quadrature.gap / max(float(np.abs(quadrature.values).sum()), 1e-300)
            if abs(gap) > TOLERANCE:
                warnings.append(
                    f"the aumann-shapley values miss their sum v(N) − v(∅) by {gap:+.1%}: "
                    f"{quadrature.method} is too coarse for this model; rank by another measure"
                )
        if self.potential is not None and len(self.potential.support) == 1:
            warnings.append(
                f"the shared step budget goes to {self.potential.names[self.potential.support[0]]} alone: use the "
                "logit shares (τ) instead, and no equilibrium of 20-step windows for long training: it is short-sighted"
            )
        if self.directed is not None and self.directed.bootstrap is not None and not self.directed.bootstrap.is_game:
            warnings.append(
                "the directed game's cycles are not above what noise alone gives: no game, but optimisation"
            )
        return warnings

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able content."""
        table = self.game.table
        length = self.game.tokens // max(1, self.game.probe["input_ids"][..., 0].size)
        players = [
            {
                "name": p.name,
                "kind": p.kind,
                "layer": p.layer,
                "index": p.index,
                "flops_per_token": player_flops(table.config, length, p.kind, table.groups),
            }
            for p in table.players
        ]
        content: dict[str, Any] = {
            "subject": self.subject,
            "task": self.task,
            "family": table.config.family,
            "loss": self.loss,
            "probe_tokens": self.game.tokens,
            "ablation": self.game.ablation,
            "players": players,
            "utilities": {name: _finite(values.to_dict()) for name, values in self.utilities.items()},
            "correlations": self.correlations(),
            "interactions": self.pairs.values.tolist(),
            "flops": self.flops,
            "warnings": self.warnings(),
            "seconds": self.seconds,
            "update": None,
        }
        if self.windows is not None and self.update and self.potential and self.directed:
            content["update"] = {
                "game": self.update.to_dict(),
                "potential": self.potential.to_dict(),
                "potential_payoff": self.windows.potential.mean(axis=0).tolist(),
                "directed": self.directed.to_dict(),
                "directed_payoff": self.windows.directed.mean(axis=0).tolist(),
                "losses": self.windows.losses.tolist(),
                "gains": (self.windows.gains[:, -1]).tolist(),
                "steps_per_window": self.windows.steps,
            }
        return content

    def __str__(self) -> str:
        table, banzhaf = self.game.table, self.utilities["banzhaf"]
        order = banzhaf.ranking()
        rows = order if len(order) <= 24 else [*order[:12], *order[-12:]]
        columns = [["player", *(table.names[i] for i in rows)]]
        columns += [[name, *(_cell(name, values, i) for i in rows)] for name, values in self.utilities.items()]
        widths = [max(map(len, column)) for column in columns]
        lines = [
            f"{self.subject} ({table.config.family}, {self.task}): {len(table)} players, loss {self.loss:.4f} nats on "
            f"{self.game.tokens:,} tokens; closed parts give their {self.game.ablation}",
            "worth in nats, ± standard error where it is sampled (- = one sample cannot tell)"
            + ("; entropy of attention: 0 = one token, 1 = all alike, - = none" if "entropy" in self.utilities else ""),
        ]
        for name, *cells in zip(*columns, strict=True):
            row = [f"{name:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))]
            lines.append("  ".join(row))
        if len(rows) < len(order):
            lines.insert(-12, f"… {len(order) - len(rows)} players between …")
        pairs = self.pairs.values[np.triu_indices(len(table), 1)]
        if len(pairs):
            lines.append(
                f"interactions: mean {pairs.mean():+.4f}, {np.mean(pairs < 0):.0%} substitutes, "
                f"from {pairs.min():+.4f} to {pairs.max():+.4f} nats"
            )
        for title, part in (
            ("update game, the mean window, in nats", self.update),
            ("equilibrium of the shared step budget, payoffs in nats", self.potential),
            ("directed game, payoffs in nats", self.directed),
        ):
            if part is not None:
                lines += ["", f"{title}:", str(part)]
        lines += [f"warning: {text}" for text in self.warnings()]
        spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items())
        return "\n".join([*lines, f"{self.flops:.3g} operations on the probe; seconds: {spent}"])


def analyze_subject(
    subject: Subject,
    *,
    sequences: int = 16,
    groups: int = 4,
    evaluations: int | None = None,
    windows: int = 8,
    steps: int = 20,
    learning_rate: float | None = None,
    measures: Sequence[str] = MEASURES,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> GameAnalysis:
    """Play all games on one model.

    Args:
        subject: the model and its data.
        sequences: rows of the probe, and of the calibration (which is drawn from the training rows).
        groups: of neurons per block.
        evaluations: coalitions for banzhaf and for shapley each; their own default if not given.
        windows: of the update game, at least 2; 0 leaves it out.
        steps: optimizer steps per window.
        learning_rate: of the windows; the run's own, or 1e-3, if not given.
        measures: which utilities; banzhaf and leave-one-out are always there.
        seed: of samples and windows.
        tell: is told what is being done.

    Returns:
        The analysis.

    Raises:
        ArenaError: numbers that make no sense, or a loss that is not finite.
    """
    if sequences < 1:
        raise ArenaError(f"{sequences} sequences: the probe needs at least 1")
    rate = learning_rate if learning_rate is not None else subject.learning_rate or 1e-3
    if windows:
        check_windows(windows, steps, rate)  # now, not after minutes in which the other games are played
    seed_number(seed)
    model = subject.model
    probe = subject.batches(subject.validation, sequences, 8)
    calibration = subject.batches(subject.train, sequences, 8)
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        tell(name)
        began = time.perf_counter()
        result = call()
        seconds[name] = round(time.perf_counter() - began, 3)
        return result

    game = timed(
        "observing",
        lambda: AblationGame(
            model,
            probe,
            subject.objective,
            table=fine_players(model.config, groups),
            calibration=calibration,
            seed=seed,
        ),
    )
    n = len(game.table)
    utilities = {
        name: timed(name, functools.partial(measure, game, name, evaluations=evaluations, seed=seed))
        for name in dict.fromkeys(["banzhaf", "leave-one-out", *measures])
    }
    pairs = timed("interactions", lambda: interactions(game, n))
    loss = -float(game(np.ones((1, n), bool))[0])
    measurements: Windows | None = None
    update = potential = directed = None
    if windows:
        table = type_players(model.config, game.params)
        length = subject.train.lengths[-1]
        size = min(8, len(subject.train))

        def batches() -> Any:
            order = np.random.default_rng(seed)
            while True:
                yield subject.train.batch(order.choice(len(subject.train), size, replace=False), length)

        measurements = timed(
            "windows",
            lambda: train_windows(
                model,
                subject.objective,
                batches(),
                probe,
                table,
                windows=windows,
                steps=steps,
                learning_rate=rate,
                seed=seed,
            ),
        )
        assert measurements is not None
        update = update_game(measurements.gains.mean(axis=0), measurements.names)
        potential, directed = (
            timed(name, functools.partial(analyze, payoff, names=measurements.names, seed=seed))
            for name, payoff in (
                ("budget equilibrium", measurements.potential),
                ("directed game", measurements.directed),
            )
        )
    return GameAnalysis(
        subject.name, model.task, game, loss, utilities, pairs, measurements, update, potential, directed, seconds
    )


def save(analysis: GameAnalysis, folder: str | Path) -> Path:
    """Write ``game.json``; the figures are drawn from it.

    Returns:
        The file.

    Raises:
        ArenaError: the folder cannot be written.
    """
    path = Path(folder) / RECORD
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write {path}: {error.strerror or error}; choose another --output") from None
    return path


def _cell(name: str, values: Values, player: int) -> str:
    """One player's value in the table, with its standard error where it has one."""
    value, error = values.values[player], values.standard_errors[player]
    if np.isnan(value):
        return "-"
    text = f"{value:.4f}" if name == "entropy" else f"{value:+.4f}"
    return text if not values.samples else f"{text} ± -" if np.isnan(error) else f"{text} ± {error:.1e}"


def _finite(content: dict[str, Any]) -> dict[str, Any]:
    """NaN (no such number for this player) becomes None."""
    return {**content, "values": [None if not np.isfinite(v) else v for v in content["values"]]}
