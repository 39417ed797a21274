"""The games: what an update gains (G2), how components share a budget (G3), and which protocol to play (G4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import (
    Array,
    ask,
    count,
    finite_array,
    labels,
    one_number,
    player_tables,
    real_number,
    square,
)
from arena_jax.game.worth import interactions, shapley


@dataclass(frozen=True)
class UpdateGame:
    """Which component's step helps, alone and together. Gains are reductions of the loss (nats).

    Attributes:
        names: the components.
        solo: (K,) gain of each step alone.
        last: (K,) what is lost when one step is left out of all.
        shapley: (K,) fair shares of ``joint``.
        interactions: (K, K) Shapley interaction index: negative where two steps do the same work twice.
        joint: gain of all steps together.
        overshoot: (Σ solo − joint) / |joint|: 0 if the steps do not disturb each other; large if they overshoot.
    """

    names: tuple[str, ...]
    solo: Array
    last: Array
    shapley: Array
    interactions: Array
    joint: float
    overshoot: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able content; an infinite overshoot becomes None."""
        content = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}
        return {
            **content,
            "names": list(self.names),
            "overshoot": self.overshoot if np.isfinite(self.overshoot) else None,
        }

    def __str__(self) -> str:
        width = max(map(len, [*self.names, "component"]))
        rows = [f"{'component':<{width}}  {'solo':>9} {'last':>9} {'Shapley':>9}"]
        for name, *numbers in zip(self.names, self.solo, self.last, self.shapley, strict=True):
            rows.append(f"{name:<{width}}  " + " ".join(f"{number:>+9.4f}" for number in numbers))
        return "\n".join([*rows, f"joint gain {self.joint:+.4f}, overshoot {self.overshoot:.3g}"])


def update_game(gains: Any, names: Sequence[str] | None = None) -> UpdateGame:
    """Analyse the gains of all subsets of a window's parameter steps: w(S) = L(θ) − L(θ + Σ_{i∈S} uᵢ).

    Args:
        gains: (2^K,) w(S) in the order of ``coalitions(K)``: bit i of the index says whether step i is taken.
        names: the K components.

    Returns:
        Solo gains, Shapley shares (they sum to w(N) − w(∅)), interactions and overshoot.

    Raises:
        ArenaError: the length is no power of 2, or above 2^16.

    Example:
        >>> both_do_the_same = update_game([0.0, 1.0, 1.0, 1.0], ["qk", "vo"])
        >>> both_do_the_same.shapley.tolist(), both_do_the_same.overshoot
        ([0.5, 0.5], 1.0)
    """
    w = finite_array(gains, "gains", 1)
    n = len(w).bit_length() - 1
    if n < 1 or len(w) != 2**n:
        raise ArenaError(f"gains holds {len(w)} numbers; give one per subset of K components, 2^K")
    w = w - w[0]
    bits = 1 << np.arange(n)

    def value(members: Any) -> Array:
        return np.asarray(w[members @ bits])

    joint, solo = float(w[-1]), w[bits]
    excess = float(solo.sum()) - joint
    if abs(joint) <= 1e-12 * float(np.abs(w).max()):
        overshoot = float(np.sign(excess)) * np.inf if abs(excess) > 1e-12 * float(np.abs(w).max()) else 0.0
    else:
        overshoot = excess / abs(joint)
    return UpdateGame(
        names=labels(names, n),
        solo=solo,
        last=joint - w[-1 - bits],
        shapley=shapley(value, n, exact=True).values,
        interactions=interactions(value, n, index="shapley").values,
        joint=joint,
        overshoot=overshoot,
    )


def quadratic_gains(loss: Callable[[jax.Array], Any], n: int) -> tuple[Array, Array]:
    """Expand the gain of scaled steps to second order: w(m) ≈ b·m − ½ m'Cm at m = 0.

    Args:
        loss: multipliers (n,) → L(θ + Σ mᵢuᵢ), twice differentiable by jax.
        n: number of components.

    Returns:
        b (n,) = −∂L/∂m and C (n, n) = ∂²L/∂m², symmetric; float64.

    Raises:
        ArenaError: the loss raises, is not one real number, or has a derivative that is not finite.

    Example:
        >>> b, c = quadratic_gains(lambda m: (m[0] - 1) ** 2 + m[0] * m[1], 2)
        >>> b.tolist(), c.tolist()
        ([2.0, -0.0], [[2.0, 1.0], [1.0, 0.0]])
    """
    origin = jnp.zeros(count(n, "n", "the number of components"))
    slope = jax.grad(lambda m: one_number(ask(loss, "the loss", m), "the loss"))

    @jax.jit
    def derivatives() -> tuple[jax.Array, jax.Array]:
        rows = jax.lax.map(lambda direction: jax.jvp(slope, (origin,), (direction,))[1], jnp.eye(n))
        return -slope(origin), rows

    gain, curvature = derivatives()
    gain = finite_array(gain, "the gradient of the loss", 1)
    curvature = finite_array(curvature, "the Hessian of the loss", 2)
    return gain, (curvature + curvature.T) / 2


def potential_payoff(gain: Any, curvature: Any, budget: float) -> Array:
    """Build the population game of a shared step budget: A = b1' − B·C, so that fitness is b − B·Cx.

    Args:
        gain: (n,) b, first-order gain per unit of step.
        curvature: (n, n) C, symmetric.
        budget: B > 0, sum of the multipliers.

    Returns:
        (n, n) payoff of a potential game: its stable states maximise b·m − ½ m'Cm over m = Bx.

    Raises:
        ArenaError: shapes that do not fit, an asymmetric curvature, or a budget that is not positive.

    Example:
        >>> potential_payoff([1.0, 2.0], [[1.0, 0.0], [0.0, 3.0]], 2.0).tolist()
        [[-1.0, 1.0], [2.0, -4.0]]
    """
    b = finite_array(gain, "gain", 1)
    c = square(curvature, "curvature", symmetric=True)
    if len(b) != len(c):
        raise ArenaError(f"gain has {len(b)} entries and curvature {len(c)}; both have one per component")
    real_number(budget, "budget", "a positive sum of multipliers", lambda x: 0 < x < np.inf)
    return b[:, None] - budget * (c + c.T) / 2


def directed_payoff(before: Any, after: Any) -> Array:
    """Build the directed population game: Aᵢⱼ = (worth of i after j has learned) − (worth of i before).

    Args:
        before: (n,) each component's worth, e.g. leave-one-out.
        after: (n, n); entry (i, j) is i's worth after only j's step was applied. A leading axis of windows is kept.

    Returns:
        (n, n), or (windows, n, n): positive where j's learning makes i more valuable.

    Raises:
        ArenaError: shapes that do not fit.

    Example:
        >>> directed_payoff([1.0, 2.0], [[1.5, 1.0], [2.0, 1.0]]).tolist()
        [[0.5, 0.0], [0.0, -1.0]]
    """
    old = finite_array(before, "before", (1, 2))
    new = finite_array(after, "after", (2, 3))
    n = old.shape[-1]
    if new.shape[-2:] != (n, n) or new.shape[:-2] != old.shape[:-1]:
        raise ArenaError(f"before has shape {old.shape} and after {new.shape}; give (…, n) and (…, n, n)")
    return new - old[..., :, None]


def protocol_payoffs(losses: Any, utilities: Any = None, interest: float = 0.0) -> list[Array]:
    """Build the protocol game's payoff tables: −(final loss) + λ · (the player's own utility).

    Args:
        losses: (s₁, …, s_k) final loss of a full training under each profile of actions.
        utilities: (k, s₁, …, s_k) each player's own utility; None for none.
        interest: λ; 0 is a game of identical interests, whose best profile is a pure equilibrium.

    Returns:
        k tables (s₁, …, s_k), as ``alpha_rank`` and ``pure_equilibria`` read them.

    Raises:
        ArenaError: shapes that do not fit.

    Example:
        >>> [table.tolist() for table in protocol_payoffs([[1.0, 2.0], [3.0, 4.0]])]
        [[[-1.0, -2.0], [-3.0, -4.0]], [[-1.0, -2.0], [-3.0, -4.0]]]
    """
    loss = finite_array(losses, "losses", tuple(range(1, 33)))
    real_number(interest, "interest", "a finite weight of the players' own utilities")
    tables = np.zeros((loss.ndim, *loss.shape))
    if utilities is not None:
        tables = finite_array(utilities, "utilities", loss.ndim + 1)
    if tables.shape != (loss.ndim, *loss.shape):
        raise ArenaError(f"utilities has shape {tables.shape}; with these losses it must be {(loss.ndim, *loss.shape)}")
    return [-loss + interest * table for table in tables]


def pure_equilibria(payoffs: Any) -> list[tuple[int, ...]]:
    """List the profiles in which nobody gains by changing alone.

    Args:
        payoffs: k tables (s₁, …, s_k), one per player.

    Returns:
        Profiles as tuples of actions, the one with the largest total payoff first; maybe none.

    Raises:
        ArenaError: tables of different or wrong shapes.

    Example:
        >>> pure_equilibria([[[3, 0], [5, 1]], [[3, 5], [0, 1]]])  # the prisoner's dilemma
        [(1, 1)]
    """
    tables = player_tables(payoffs)
    best = np.ones(tables[0].shape, bool)
    for player, table in enumerate(tables):
        best &= table >= table.max(axis=player, keepdims=True) - 1e-12 * np.abs(table).max()
    total = np.sum(tables, axis=0)
    profiles = [tuple(int(i) for i in profile) for profile in np.argwhere(best)]
    return sorted(profiles, key=lambda profile: -total[profile])
