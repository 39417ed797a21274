"""The protocol game: every type chooses its learning-rate multiplier, and full short trainings say what that pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, ask, count, finite_array, labels, real_number

Payoff = Callable[[Array, int], float]


@dataclass(frozen=True)
class Protocol:
    """A learned protocol: what each type multiplies its learning rate by.

    Attributes:
        names: the K types.
        multipliers: (K,) actions chosen.
        effects: (K, actions) mean gain of changing one type alone from all ones; 0 where the action is 1.
        effect_errors: the same, standard errors over seeds; NaN with one seed.
        actions: what a type may choose.
        gain: mean payoff of the chosen profile over that of all ones, on the same seeds.
        settled: no type gains by changing alone more than its standard error: a pure equilibrium up to noise.
        profiles: how many were tried; each with every seed.
        path: each accepted change, (round, name, before, after, gain).
    """

    names: tuple[str, ...]
    multipliers: Array
    effects: Array
    effect_errors: Array
    actions: tuple[float, ...]
    gain: float
    settled: bool
    profiles: int
    path: tuple[tuple[int, str, float, float, float], ...] = field(default=())

    def __str__(self) -> str:
        width = max(map(len, self.names))
        rows = [f"{'':<{width}}  chosen  " + "  ".join(f"gain at {a:g}" for a in self.actions)]
        for k, name in enumerate(self.names):
            columns = zip(self.actions, self.effects[k], strict=True)
            effects = "  ".join(f"{effect:+{len(f'gain at {action:g}')}.4f}" for action, effect in columns)
            rows.append(f"{name:<{width}}  {self.multipliers[k]:<6g}  {effects}")
        ended = "settled" if self.settled else "stopped before it settled"
        return "\n".join([*rows, f"together {self.gain:+.4f}; {self.profiles} profiles, {ended}"])


def learn_protocol(
    payoff: Payoff,
    names: Sequence[str],
    *,
    actions: Sequence[float] = (0.5, 1.0, 2.0),
    seeds: Sequence[int] = (0, 1),
    rounds: int = 2,
    log: Callable[[str], Any] = lambda text: None,
) -> Protocol:
    """Change one factor at a time from all ones, then let each type in turn give its best response.

    All types share one payoff, so each accepted response raises it, and where no type can gain alone the profile is a
    pure equilibrium. A change is accepted only if its mean paired gain over the seeds is above the standard error of
    that mean (above 0 with one seed): below it, choosing the largest of several noisy gains would choose noise.

    Args:
        payoff: what a profile of multipliers (K,) pays with a seed, higher is better: minus the final loss of a
            whole training. A short horizon misleads here (MASGA's pilot: it chose rates far too low).
        names: of the types.
        actions: what each may choose; 1 is among them.
        seeds: paired: each profile is tried with each.
        rounds: of best responses, at most.
        log: is called with a line for each profile tried.

    Returns:
        The protocol. No profile is tried twice.

    Raises:
        ArenaError: actions without 1 or not above 0, no seeds, a payoff that raises or returns no number, or one that
            is not finite for all ones.

    Example:
        >>> found = learn_protocol(lambda m, seed: -abs(m[0] - 2) - abs(m[1] - 1), ["a", "b"], seeds=[0])
        >>> found.multipliers.tolist(), found.settled, found.gain
        ([2.0, 1.0], True, 1.0)

    Source: MASGA, step 5; empirical game-theoretic analysis by best responses (PSRO, Lanctot et al. 2017).
    """
    types = labels(names, None)
    choices = tuple(finite_array(actions, "actions", 1).tolist())
    if 1.0 not in choices or min(choices) <= 0:
        raise ArenaError(f"actions are {choices}; give multipliers above 0, with 1 among them")
    if isinstance(seeds, str) or not isinstance(seeds, Sequence | np.ndarray) or not len(seeds):
        raise ArenaError(f"seeds is {seeds!r}; give a list of at least one seed")
    count(rounds, "rounds", "how many rounds of best responses there are at most", 0)
    payoffs: dict[tuple[float, ...], Array] = {}

    def evaluate(profile: Array, seed: int) -> float:
        name = f"the payoff, asked for {' '.join(f'{m:g}' for m in profile)} with seed {seed},"
        return real_number(
            ask(payoff, name, profile.copy(), seed), f"what {name} returned", "one number", lambda x: True
        )

    def paid(profile: Array) -> Array:
        key = tuple(profile.tolist())
        if key not in payoffs:
            values = np.array([evaluate(profile, seed) for seed in seeds])
            # A training that diverged is a bad profile, not an error.
            payoffs[key] = np.where(np.isfinite(values), values, -np.inf)
            log(f"profile {len(payoffs)}: {' '.join(f'{m:g}' for m in key)} pays {payoffs[key].mean():.4f}")
        return payoffs[key]

    def gain(profile: Array, over: Array) -> tuple[float, float]:
        with np.errstate(invalid="ignore"):
            difference = paid(profile) - paid(over)
        if not np.isfinite(difference).all():
            return -np.inf, 0.0
        error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else np.nan
        return float(difference.mean()), error

    def best(profile: Array, k: int) -> tuple[float, float]:
        """The action of type k that gains most beyond its noise, and that gain; its own action if there is none."""
        best_action, most = float(profile[k]), 0.0
        for action in choices:
            if action == profile[k]:
                continue
            gained, error = gain(_with(profile, k, action), profile)
            if gained > max(most, np.nan_to_num(error)):
                best_action, most = action, gained
        return best_action, most

    ones = np.ones(len(types))
    if not np.isfinite(paid(ones)).all():
        raise ArenaError("the payoff of all ones is not finite: choose a smaller base learning rate")
    effects, errors = np.zeros((2, len(types), len(choices)))
    for k in range(len(types)):
        for j, action in enumerate(choices):
            if action != 1:
                effects[k, j], errors[k, j] = gain(_with(ones, k, action), ones)
    now = np.array([best(ones, k)[0] for k in range(len(types))])
    path = [(0, types[k], 1.0, float(m), best(ones, k)[1]) for k, m in enumerate(now) if m != 1]
    if not gain(now, ones)[0] > 0:  # what helps alone need not help together
        now, path = ones.copy(), []
    settled = False
    for turn in range(1, rounds + 1):
        before = now.copy()
        for k in range(len(types)):
            action, gained = best(now, k)
            if action != now[k]:
                path.append((turn, types[k], float(now[k]), action, gained))
                now = _with(now, k, action)
        if (now == before).all():
            settled = True
            break
    return Protocol(
        names=types,
        multipliers=now,
        effects=effects,
        effect_errors=errors,
        actions=choices,
        gain=gain(now, ones)[0],
        settled=settled,
        profiles=len(payoffs),
        path=tuple(path),
    )


def _with(profile: Array, k: int, action: float) -> Array:
    deviation = np.array(profile, np.float64)
    deviation[k] = action
    return deviation
