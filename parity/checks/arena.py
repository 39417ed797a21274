"""Layer 5: ModelArena's progress, shares, batch sizes and steps over random score histories."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from arena_jax import arena
from arena_jax.arena.history import extend, start
from arena_jax.runtime.batch_search import largest_batch
from arena_jax.runtime.program import Program, ProgramBytes
from parity.case import precision
from parity.measure import Measurement, compare, exactly
from parity.reference import model_arena as reference
from parity.registry import ALL, Check

TOLERANCE = {"float64": 1e-10}
MODELS, EVALUATIONS = 4, 9
VARIANTS = ("paper", "published-code")


def histories(count: int = 12) -> dict[str, np.ndarray]:
    """Scores [evaluations, models]: random walks, and everything that is not one."""
    found: dict[str, np.ndarray] = {}
    for seed in range(count):
        generator = np.random.default_rng(seed)
        steps = generator.normal(0.1, 0.5, (EVALUATIONS, MODELS)) * 10.0 ** generator.integers(-3, 3, MODELS)
        found[f"random walk {seed}"] = -5 + steps.cumsum(0)
    walk, t = found["random walk 0"], np.arange(float(EVALUATIONS))[:, None]
    found["all tied"] = np.repeat(walk[:, :1], MODELS, axis=1)
    found["two tied"] = np.stack([walk[:, 0], walk[:, 0], walk[:, 2], walk[:, 2]], axis=1)
    found["constant"] = np.full((EVALUATIONS, MODELS), -1.5)
    found["falling"] = -1 - t * np.array([0.1, 0.2, 0.3, 0.4])
    found["rising and falling"] = -1 + t * np.array([0.3, 0.01, -0.2, 0.0])
    holes = walk.copy()
    holes[2, 0] = holes[5, 1] = holes[6, 1] = holes[8, 2] = np.nan
    holes[:, 3] = np.nan
    found["NaN"] = holes
    infinite = walk.copy()
    infinite[4, 0], infinite[8, 1] = -np.inf, -np.inf
    found["infinite"] = infinite
    return found


def progress(dtype: str) -> Iterator[Measurement]:
    """Equation 1, for every length of history and several windows."""
    with precision(dtype):
        for name, scores in histories().items():
            for window in (1, 3, 5):
                for t in range(1, EVALUATIONS + 1):
                    ours = arena.learning_progress(scores[:t].astype(dtype), window)
                    columns = scores[:t].astype(dtype).astype(float).T
                    wanted = np.array([reference.learning_rate(list(column), window) for column in columns])
                    where = f"{name}, window {window}, {t} scores: "
                    yield from compare({"progress": ours}, {"progress": wanted}, where)


def allocation(dtype: str, variant: Any) -> Iterator[Measurement]:
    """Equations 2 to 6, share after share, through each history and several settings."""
    settings = {"defaults": (0.7, 0.05), "no smoothing": (0.0, 0.05), "high floor": (0.5, 0.2), "no floor": (0.9, 0.0)}
    with precision(dtype):
        for name, scores in histories().items():
            for setting, (alpha, delta) in settings.items():
                ours: Any = np.full(MODELS, 1 / MODELS)
                wanted = ours.tolist()
                for t in range(1, EVALUATIONS + 1):
                    rates = [reference.learning_rate(list(column), 5) for column in scores[:t].T]
                    given = np.asarray(rates, dtype)
                    ours = arena.allocate(given, np.asarray(ours, dtype), smoothing=alpha, floor=delta, variant=variant)
                    if variant == "paper":
                        wanted = reference.allocate(given.tolist(), wanted, alpha=alpha, delta=delta)
                    else:
                        wanted = reference.allocate_published(given.tolist(), wanted, alpha=alpha, delta=delta)
                    where = f"{name}, {setting}, allocation {t}: "
                    found = {f"share {i}": ours[i] for i in range(MODELS)}
                    yield from compare(found, {f"share {i}": np.asarray(wanted[i]) for i in range(MODELS)}, where)


def steps() -> Iterator[Measurement]:
    """Line 14: whole numbers of steps, also where a share lies exactly on the edge."""
    generator = np.random.default_rng(3)
    with precision("float64"):
        for share in generator.uniform(0.001, 1, 300):
            wanted = reference.steps_per_round(float(share))
            yield exactly(f"share {share:.6f}", int(arena.steps_per_round(share)) == wanted)
        for below in range(2, 41):
            for above in range(1, below + 1):
                exact = Fraction(above, below)
                wanted = reference.steps_per_round(exact)
                yield exactly(f"share {exact}", int(arena.steps_per_round(above / below)) == wanted)


def memory(fixed: float, per_example: float, bend: float, b: int) -> float:
    """Bytes at batch b."""
    return fixed + per_example * b + bend * b * b


def whole_bytes(curve: tuple[float, float, float], b: int) -> int:
    """As the compiler tells it."""
    return int(memory(*curve, b))


def compiled(fixed: float, per_example: float, bend: float, sizes: int = 64) -> dict[int, Program]:
    """Programs as the compiler would report them, so that nothing has to be compiled."""
    totals = {b: int(memory(fixed, per_example, bend, b)) for b in range(1, sizes + 1)}
    return {b: Program(None, ProgramBytes(arguments=total)) for b, total in totals.items()}


def sizes() -> Iterator[Measurement]:
    """Equation 7: the largest batch that fits, for straight and bent memory curves."""
    generator = np.random.default_rng(4)
    for number in range(40):
        fixed, per_example = generator.integers(1_000, 50_000), generator.integers(10, 3_000)
        curve = (float(fixed), float(per_example), float(generator.choice([0.0, 5.0])))
        budget = int(generator.uniform(fixed + per_example * 1.5 + 5, fixed + per_example * 70))
        table = compiled(*curve)
        wanted = reference.batch_size(partial(whole_bytes, curve), budget, 64)
        ours = largest_batch(None, None, budget, limit=64, programs=table)  # type: ignore[arg-type]
        yield exactly(f"curve {number}, budget {budget}: {ours.batch_size}, wanted {wanted}", ours.batch_size == wanted)


def efficiency(dtype: str) -> Iterator[Measurement]:
    """Equation 8."""
    generator = np.random.default_rng(5)
    with precision(dtype):
        for number in range(10):
            gains, held = generator.normal(size=MODELS).astype(dtype), generator.uniform(0.05, 1, MODELS).astype(dtype)
            ours = arena.resource_utilization_efficiency(gains, held)
            wanted = reference.resource_utilization_efficiency(gains.tolist(), held.tolist())
            yield from compare({"RUE": ours}, {"RUE": wanted}, f"case {number}: ")


def score_at(scores: np.ndarray, evaluate_every: int, i: int, t: int) -> float:
    """Evaluate: a history read off, again from its start when it ends."""
    return float(scores[t // evaluate_every % EVALUATIONS, i])


def rounds() -> Iterator[Measurement]:
    """Algorithm 1: shares, batch sizes and steps of every round, from the library's parts."""
    evaluate_every, reallocate_every, count, budget = 2, 4, 18, 400_000.0
    curves = [(9_000.0, 900.0 * (i + 1), 0.0) for i in range(MODELS)]
    with precision("float64"):
        for name, scores in histories(4).items():
            at = [partial(whole_bytes, curve) for curve in curves]
            wanted = reference.train(
                partial(score_at, scores, evaluate_every),
                at,
                budget=budget,
                rounds=count,
                evaluate_every=evaluate_every,
                reallocate_every=reallocate_every,
            )
            shares = np.full(MODELS, 1 / MODELS)
            history = start(scores[0])
            policy = arena.policy("modelarena")
            for t in range(1, count + 1):
                record, where = wanted[t - 1], f"{name}, round {t}: "
                yield from compare({"shares": shares}, {"shares": np.array(record["shares"])}, where)
                steps_now = np.asarray(arena.steps_per_round(shares)).tolist()
                yield exactly(where + "steps", steps_now == record["steps"])
                for i, curve in enumerate(curves):
                    ours = largest_batch(None, None, int(shares[i] * budget), limit=64, programs=compiled(*curve))  # type: ignore[arg-type]
                    yield exactly(where + f"batch of model {i}", ours.batch_size == min(64, record["sizes"][i]))
                if t % evaluate_every == 0:
                    row, nothing = scores[t // evaluate_every % EVALUATIONS], np.zeros(MODELS)
                    history = extend(history, scores=row, shares=shares, seconds=nothing, steps=nothing, fraction=0.0)
                if t % reallocate_every == 0:
                    shares = np.asarray(policy(history._replace(shares=np.broadcast_to(shares, history.scores.shape))))
                    yield exactly(where + "shares sum to 1", math.isclose(float(shares.sum()), 1))


def checks() -> list[Check]:
    """The layer's checks."""
    found = []
    for dtype in ("float64", "float32"):
        allowed = TOLERANCE.get(dtype)
        found.append(Check("learning progress", ALL, "paper", dtype, partial(progress, dtype), allowed))
        for variant in VARIANTS:
            found.append(Check("memory shares", ALL, variant, dtype, partial(allocation, dtype, variant), allowed))
        found.append(Check("memory efficiency", ALL, "paper", dtype, partial(efficiency, dtype), allowed))
    found.append(Check("steps per round", ALL, "paper", "float64", steps, 0.0))
    found.append(Check("batch sizes", ALL, "paper", "float64", sizes, 0.0))
    found.append(Check("arena rounds", ALL, "paper", "float64", rounds, TOLERANCE["float64"]))
    return found
