"""Evolutionary stability, proved or refuted, and the measures that say what kind of game it is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import Array, distribution, square
from arena_jax.equilibria.nash import symmetric_equilibria

Certificate = Literal["pd", "copositive", "unverified", "none"]
_COPOSITIVE_LIMIT = 12
_MARGIN = 1e-9


@dataclass(frozen=True)
class Stability:
    """Whether a state withstands every small invasion; true in a condition only if that was proved.

    Attributes:
        x: (n,) the state.
        certificate: "pd" (a positive definite form) or "copositive" (a strictly copositive one) prove stability;
            "unverified": more than 12 unused best replies, and no proof either way; "none": refuted.
        reason: one clause for people.
    """

    x: Array
    certificate: Certificate
    reason: str

    def __bool__(self) -> bool:
        return self.certificate in ("pd", "copositive")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """A list of stable states can be stacked by numpy."""
        return np.array(self.x, dtype=dtype)

    @property
    def support(self) -> tuple[int, ...]:
        """The strategies that are played."""
        return tuple(int(i) for i in np.flatnonzero(self.x > 1e-7))


def is_evolutionarily_stable(payoff: Any, x: Any) -> Stability:
    """Decide whether x is an evolutionarily stable strategy, and give the proof.

    x is one iff it is a symmetric equilibrium and, on the differences between its best replies and itself, the form
    −(A + A') is strictly copositive: positive definite on the support, with a strictly copositive Schur complement
    on the unused best replies.

    Args:
        payoff: (n, n).
        x: (n,) shares.

    Returns:
        A ``Stability``: true if proved; see its certificate otherwise.

    Raises:
        ArenaError: a payoff that is not square, or shares that are none.

    Example:
        >>> found = is_evolutionarily_stable([[-0.5, 2], [0, 1]], [2 / 3, 1 / 3])
        >>> bool(found), found.certificate
        (True, 'pd')
        >>> is_evolutionarily_stable([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], [1 / 3, 1 / 3, 1 / 3]).reason
        'a mutant within the support is not driven out'

    Source: Haigh 1975; Abakuks 1980; Bomze 1992.
    """
    matrix = square(payoff)
    n = len(matrix)
    shares = distribution(x, n)
    if shares.ndim != 1:
        raise ArenaError(f"x has shape {shares.shape}; give one vector of shares")
    unit = (matrix - matrix.min()) / max(float(np.ptp(matrix)), 1e-300)
    fitness = unit @ shares
    best = fitness.max()
    if best - shares @ fitness > 1e-7:
        return Stability(shares, "none", "not a symmetric Nash equilibrium")
    support = np.flatnonzero(shares > 1e-7)
    unused = np.flatnonzero((shares <= 1e-7) & (fitness > best - 1e-7))
    pivot = int(support[np.argmax(shares[support])])
    rest = [int(i) for i in support if i != pivot]
    index = np.array([*rest, *unused], dtype=int)
    differences = unit[np.ix_(index, index)] - unit[pivot][index] - unit[index, pivot][:, None] + unit[pivot, pivot]
    form = -(differences + differences.T) / 2
    k = len(rest)
    inner = form[:k, :k]
    if k and np.linalg.eigvalsh(inner)[0] <= _MARGIN:
        return Stability(shares, "none", "a mutant within the support is not driven out")
    if len(unused) == 0:
        return Stability(shares, "pd", "every mutant is driven out: a positive definite form")
    across = form[:k, k:]
    outer = form[k:, k:] - (across.T @ np.linalg.solve(inner, across) if k else 0.0)
    if np.linalg.eigvalsh(outer)[0] > _MARGIN:
        return Stability(shares, "pd", "every mutant is driven out: a positive definite form")
    if len(unused) > _COPOSITIVE_LIMIT:
        reason = f"{len(unused)} unused best replies; the proof is exponential and the limit is {_COPOSITIVE_LIMIT}"
        return Stability(shares, "unverified", reason)
    if _strictly_copositive(outer):
        return Stability(shares, "copositive", "every mutant is driven out: a strictly copositive form")
    return Stability(shares, "none", "a mixture of unused best replies is not driven out")


def _strictly_copositive(form: Array) -> bool:
    """Check u'Mu > 0 for all u ≥ 0, u ≠ 0: face by face, an inner minimum must not be below or at zero.

    If all proper faces pass, a face fails iff its stationary point M⁻¹1 lies inside and has a value ≤ 0, that is, iff
    M⁻¹1 ≤ 0 (Hadeler 1983). The margin makes the singular case decidable.
    """
    shifted = form - _MARGIN * np.eye(len(form))
    for size in range(1, len(form) + 1):
        for face in combinations(range(len(form)), size):
            block = shifted[np.ix_(face, face)]
            if size == 1:
                if block[0, 0] <= 0:
                    return False
                continue
            values, vectors = np.linalg.eigh(block)
            if values[0] > 0:
                continue
            if abs(values[0]) < 10 * _MARGIN and (vectors[:, 0] * np.sign(vectors[:, 0].sum())).min() >= 0:
                return False
            if np.linalg.solve(block, np.ones(size)).max() <= 0:
                return False
    return True


def evolutionarily_stable_strategies(payoff: Any) -> list[Stability]:
    """Find all evolutionarily stable strategies of a game with at most 10 strategies, each with its proof.

    Args:
        payoff: (n, n), n ≤ 10.

    Returns:
        ``Stability`` objects with ``.x`` and ``.certificate``, small supports first; maybe none. Equilibria that could
        be neither proved nor refuted are listed as "unverified" (they are false in a condition).

    Raises:
        ArenaError: the payoff is not square, or n is above 10.

    Example:
        >>> [(s.x.tolist(), s.certificate) for s in evolutionarily_stable_strategies([[4, 0], [3, 3]])]
        [([1.0, 0.0], 'pd'), ([0.0, 1.0], 'pd')]
    """
    matrix = square(payoff)
    verdicts = [is_evolutionarily_stable(matrix, x) for x in symmetric_equilibria(matrix)]
    return [verdict for verdict in verdicts if verdict.certificate != "none"]


def cyclic_ratio(payoff: Any) -> float:
    """The part of a game that is rivalry rather than optimisation: ρ = ‖(PAP − (PAP)')/2‖ / ‖PAP‖, P = I − 11'/n.

    Constants added to columns, which never change the dynamics, do not change it.

    Args:
        payoff: (n, n).

    Returns:
        0 for a potential game (optimisation in disguise) up to 1 for a purely cyclic one (rock-paper-scissors); 0 when
        no strategy ever differs from another.

    Raises:
        ArenaError: the payoff is not square.

    Example:
        >>> cyclic_ratio([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]), cyclic_ratio([[2, 1], [1, 5]])
        (1.0, 0.0)
    """
    matrix = square(payoff)
    centred = matrix - matrix.mean(axis=0) - matrix.mean(axis=1, keepdims=True) + matrix.mean()
    size = float(np.linalg.norm(centred))
    if size <= 1e-12 * max(float(np.linalg.norm(matrix)), 1e-300):
        return 0.0
    return min(float(np.linalg.norm(centred - centred.T)) / 2 / size, 1.0)


def jacobian_eigenvalues(payoff: Any, x: Any) -> np.ndarray:
    """Linearise the replicator equation at x and return its eigenvalues along the simplex.

    Args:
        payoff: (n, n).
        x: (n,) shares.

    Returns:
        (n − 1,) complex, largest real part first: all negative means attracting, any positive repelling.

    Raises:
        ArenaError: a payoff that is not square, or shares that are none.

    Example:
        >>> jacobian_eigenvalues([[0, -1, 2], [2, 0, -1], [-1, 2, 0]], [1 / 3, 1 / 3, 1 / 3]).round(4).tolist()
        [(-0.1667+0.866j), (-0.1667-0.866j)]
    """
    matrix = square(payoff)
    n = len(matrix)
    shares = distribution(x, n)
    fitness = matrix @ shares
    jacobian = np.diag(fitness - shares @ fitness) + shares[:, None] * (matrix - shares @ (matrix + matrix.T))
    if n == 1:
        return np.zeros(0, complex)
    # An orthonormal basis of the directions that keep the sum: the columns of Q after the first, which is 1/sqrt(n).
    basis = np.linalg.qr(np.hstack([np.ones((n, 1)), np.eye(n)[:, : n - 1]]))[0][:, 1:]
    values = np.linalg.eigvals(basis.T @ jacobian @ basis).astype(complex)
    return values[np.lexsort((-values.imag, -values.real.round(12)))]
