"""Solvers of games: Nash equilibria, dynamics, stability and ranking; the game and the arena use them.

Payoff entry (i, j) is what i earns against j.
"""

from arena_jax.equilibria.concave import best_division, price_of_division, proportional_share_of
from arena_jax.equilibria.dynamics import Basins, basins, replicator
from arena_jax.equilibria.logit import logit_equilibrium
from arena_jax.equilibria.markets import fisher_market, proportional_share, second_price
from arena_jax.equilibria.nash import (
    ZeroSum,
    bimatrix_equilibria,
    nash_gap,
    pure_equilibria,
    symmetric_equilibria,
    zero_sum,
)
from arena_jax.equilibria.ranking import alpha_rank
from arena_jax.equilibria.stability import (
    Stability,
    cyclic_ratio,
    evolutionarily_stable_strategies,
    is_evolutionarily_stable,
    jacobian_eigenvalues,
)

__all__ = [
    "nash_gap",
    "symmetric_equilibria",
    "bimatrix_equilibria",
    "pure_equilibria",
    "ZeroSum",
    "zero_sum",
    "logit_equilibrium",
    "Stability",
    "is_evolutionarily_stable",
    "evolutionarily_stable_strategies",
    "cyclic_ratio",
    "jacobian_eigenvalues",
    "Basins",
    "basins",
    "replicator",
    "alpha_rank",
    "best_division",
    "price_of_division",
    "fisher_market",
    "proportional_share",
    "proportional_share_of",
    "second_price",
]
