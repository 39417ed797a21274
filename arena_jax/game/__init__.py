"""The parts of a model as players: what each is worth, what they do together, and what the game is good for.

``value`` functions map (m, n) booleans to (m,) numbers; payoff entry (i, j) is what i earns against j. For the heads
and neurons of a model `AblationGame` is such a function.

Example:
    Two heads do the same work, neurons help beside either:

    >>> value = lambda s: (s[:, 0] | s[:, 1]) * (2.0 + s[:, 2])
    >>> print(with_names(shapley(value, 3), ["head 0", "head 1", "neurons"]))
    Shapley (exact): 8 evaluations, 0 gradients
      head 0   +1.16667 ± 0
      head 1   +1.16667 ± 0
      neurons  +0.666667 ± 0
    >>> print(interactions(value, 3).values[0, 1])  # below 0: one can replace the other
    -3.0

    Who shares a budget of steps, if what two of three learn overlaps:

    >>> payoff = potential_payoff([1, 1, 1], [[2, 1, 0], [1, 2, 0], [0, 0, 2]], budget=1.0)
    >>> report = analyze(payoff, names=["embeddings", "norms", "heads"])
    >>> report.x.round(3).tolist(), report.is_ess
    ([0.286, 0.286, 0.429], True)
"""

from arena_jax.game import scaling
from arena_jax.game.ablation import AblationGame
from arena_jax.game.analysis import GameAnalysis, analyze_subject
from arena_jax.game.blocks import BLOCK_CRITERIA, choose_blocks, score_blocks
from arena_jax.game.budget import BudgetEquilibrium, budget_equilibrium
from arena_jax.game.coalitions import Values, coalitions, with_names
from arena_jax.game.criteria import CRITERIA, score
from arena_jax.game.flops import player_flops
from arena_jax.game.gradients import attention_entropy, aumann_shapley, second_order, sensitivity
from arena_jax.game.learn import learn_rates
from arena_jax.game.nested import between, groups_of_blocks, myerson, neighbouring_parts, owen
from arena_jax.game.noise import Bootstrap, bootstrap, select_equilibrium
from arena_jax.game.payoffs import (
    UpdateGame,
    directed_payoff,
    potential_payoff,
    protocol_payoffs,
    pure_equilibria,
    quadratic_gains,
    update_game,
)
from arena_jax.game.players import Part, Player, PlayerTable, component_of, fine_players, type_players
from arena_jax.game.population import Population, train_population
from arena_jax.game.protocol import Protocol, learn_protocol
from arena_jax.game.pruning import choose, prune
from arena_jax.game.repair import recover, refit_without
from arena_jax.game.report import EquilibriumReport, analyze
from arena_jax.game.sparsity import WEIGHT_CRITERIA, sparsify
from arena_jax.game.subject import Subject, load_subject
from arena_jax.game.utilities import METHODS, measure
from arena_jax.game.windows import Windows, train_windows
from arena_jax.game.worth import banzhaf, interactions, leave_one_out, shapley
from arena_jax.models.growth import add_heads, insert_block, split_heads, stack_blocks, widen
from arena_jax.models.pruning import remove_blocks
from arena_jax.models.surgery import Surgery
from arena_jax.training.observe import Observed, observe

__all__ = [
    # a model's parts as players
    "Part",
    "Player",
    "PlayerTable",
    "fine_players",
    "type_players",
    "component_of",
    "AblationGame",
    "METHODS",
    "measure",
    "Observed",
    "observe",
    "player_flops",
    # what players are worth
    "Values",
    "leave_one_out",
    "shapley",
    "banzhaf",
    "interactions",
    "owen",
    "myerson",
    "between",
    "groups_of_blocks",
    "neighbouring_parts",
    "coalitions",
    "with_names",
    "aumann_shapley",
    "sensitivity",
    "second_order",
    "attention_entropy",
    # growth and pruning
    "Surgery",
    "add_heads",
    "split_heads",
    "widen",
    "insert_block",
    "stack_blocks",
    "CRITERIA",
    "score",
    "choose",
    "prune",
    "BLOCK_CRITERIA",
    "score_blocks",
    "choose_blocks",
    "remove_blocks",
    "WEIGHT_CRITERIA",
    "sparsify",
    "refit_without",
    "recover",
    # the games
    "UpdateGame",
    "update_game",
    "quadratic_gains",
    "potential_payoff",
    "directed_payoff",
    "protocol_payoffs",
    "pure_equilibria",
    "Windows",
    "train_windows",
    # what is learned from them
    "Protocol",
    "learn_protocol",
    "learn_rates",
    "Population",
    "train_population",
    # equilibria
    "BudgetEquilibrium",
    "budget_equilibrium",
    "select_equilibrium",
    # all of it
    "Bootstrap",
    "bootstrap",
    "EquilibriumReport",
    "analyze",
    "Subject",
    "load_subject",
    "GameAnalysis",
    "analyze_subject",
    # scaling laws
    "scaling",
]
