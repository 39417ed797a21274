"""A value that is no number is an error of one line wherever one is needed; so is a user's function that fails."""

import numpy as np
import pytest

from arena_jax import equilibria, game, models
from arena_jax.config.errors import ArenaError
from arena_jax.game import scaling

CONFIG = models.preset("gpt2-tiny")
TABLE = game.fine_players(CONFIG, groups=2)
FOUND = game.Values(np.arange(12.0), np.ones(12), 0, "given")
HAWK_DOVE = np.array([[-0.5, 2], [0, 1]])
LAW = scaling.ScalingLaw(1.7, 406, 411, 0.34, 0.28, {}, 0.0, 25, 0, 0.95)
N, D = np.meshgrid(np.logspace(7.6, 10.2, 5), np.logspace(9.5, 11.8, 5))
SIZES, LOSSES = [1e13, 1e14, 1e15], [3.0, 2.0, 1.0]


def size(s):
    return s.sum(axis=1)


def protocol(payoff=lambda m, seed: 0.0, names=("a",), **options):
    return game.learn_protocol(payoff, names, **options)


def population(score=lambda s: s, advance=lambda s, m, turn: s, **options):
    return game.train_population(lambda i: 0.0, advance, score, lambda s: s, **{"components": 1, **options})


ARGUMENTS = {
    "keep": lambda x: game.banzhaf(size, 3, keep=x),
    "truncation": lambda x: game.shapley(size, 3, truncation=x),
    "evaluations": lambda x: game.banzhaf(size, 3, evaluations=x),
    "tolerance of the quadrature": lambda x: game.aumann_shapley(lambda g: g.sum(), 2, tolerance=x),
    "budget": lambda x: game.budget_equilibrium([1.0, 2.0], np.eye(2), x),
    "budget of the game": lambda x: game.potential_payoff([1.0, 2.0], np.eye(2), x),
    "interest": lambda x: game.protocol_payoffs([[1.0, 2.0], [3.0, 4.0]], interest=x),
    "compute": lambda x: LAW.compute_optimal(x),
    "flops_per_parameter_token": lambda x: LAW.compute_optimal(1e15, flops_per_parameter_token=x),
    "starts of a fit": lambda x: scaling.fit(N, D, LAW.loss(N, D), starts=x),
    "resamples of a fit": lambda x: scaling.fit(N, D, LAW.loss(N, D), resamples=x),
    "resamples of a gain": lambda x: scaling.compute_equivalent_gain(SIZES, LOSSES, LOSSES, resamples=x),
    "confidence of a gain": lambda x: scaling.compute_equivalent_gain(SIZES, LOSSES, LOSSES, confidence=x),
    "resamples": lambda x: game.bootstrap([HAWK_DOVE] * 2, resamples=x),
    "confidence": lambda x: game.bootstrap([HAWK_DOVE] * 2, confidence=x),
    "share": lambda x: game.choose(FOUND, TABLE, share=x),
    "threshold": lambda x: game.choose(FOUND, TABLE, threshold=x),
    "width": lambda x: game.choose(FOUND, TABLE, threshold=1.0, width=x),
    "per_flop": lambda x: game.choose(FOUND, TABLE, share=0.2, per_flop=x),
    "removed": lambda x: game.prune(TABLE, [x]),
    "heads": lambda x: game.split_heads(CONFIG, [x, x]),
    "population": lambda x: equilibria.alpha_rank(HAWK_DOVE, x),
    "intensity": lambda x: equilibria.alpha_rank(HAWK_DOVE, 50, x),
    "max_step": lambda x: equilibria.replicator(HAWK_DOVE, [0.5, 0.5], [0, 1.0], max_step=x),
    "starts": lambda x: equilibria.basins(HAWK_DOVE, starts=x),
    "tolerance": lambda x: equilibria.basins(HAWK_DOVE, tolerance=x),
    "temperatures": lambda x: game.analyze(HAWK_DOVE, temperatures=[x], starts=5),
    "actions": lambda x: protocol(actions=[1, x]),
    "rounds": lambda x: protocol(rounds=x),
    "members": lambda x: population(members=x),
    "components": lambda x: population(components=x),
    "rounds of a population": lambda x: population(rounds=x),
    "truncation of a population": lambda x: population(truncation=x),
    "spread": lambda x: population(spread=x),
    "factors": lambda x: population(factors=(0.8, x)),
}


def told(call):
    with pytest.raises(ArenaError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("given", ["a", "0.5", np.nan, [1, 2], 1j])
def test_no_number(name, given):
    assert told(lambda: ARGUMENTS[name](given))


def raising(*given):
    raise ZeroDivisionError("by\nzero")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: protocol(raising),
            "the payoff, asked for 1 with seed 0, raised ZeroDivisionError: by; call it alone to see where",
        ),
        (lambda: protocol(lambda m, seed: "good"), "what the payoff, asked for 1 with seed 0, returned is 'good'"),
        (lambda: protocol(lambda m, seed: None), "returned is None; give one number"),
        (lambda: protocol("payoff"), "raised TypeError: 'str' object is not callable"),
        (lambda: protocol(names="abc"), "names is 'abc'; give a list of texts"),
        (lambda: protocol(names=None), "names is None; give a list of texts"),
        (lambda: protocol(seeds=3), "seeds is 3; give a list"),
        (lambda: population(advance=raising), "advance, in round 0, raised ZeroDivisionError: by"),
        (lambda: population(raising), "score raised ZeroDivisionError: by"),
        (lambda: population(lambda s: "good"), "what score returned is 'good'; give one number"),
        (lambda: game.prune(TABLE, "ab"), "removed is 'ab'; give the numbers of the players to remove"),
        (lambda: game.split_heads(CONFIG, 1), "heads is 1; name one of 4 heads for each of 2 blocks"),
    ],
)
def test_what_a_user_gives_is_named(call, message):
    assert message in told(call)


def test_what_a_payoff_raises_stays_the_cause():
    with pytest.raises(ArenaError) as caught:
        protocol(raising)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt):
        protocol(lambda m, seed: (_ for _ in ()).throw(KeyboardInterrupt))


def test_nobody_is_surely_worth_less_where_one_sample_cannot_tell():
    unsure = game.Values(FOUND.values, np.full(12, np.nan), 0, "given")
    assert game.choose(unsure, TABLE, threshold=2.5) == ()
    assert game.choose(unsure, TABLE, share=0.25) == (0, 1, 2)
