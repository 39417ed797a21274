"""The protocol game and population-based training on payoffs whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.game.population import train_population
from arena_jax.game.protocol import learn_protocol

NAMES = ("a", "b", "c")


def test_separable_payoff_is_solved_by_one_factor_at_a_time() -> None:
    target = np.log([2.0, 1.0, 0.5])
    found = learn_protocol(lambda m, seed: -float(((np.log(m) - target) ** 2).sum()), NAMES, seeds=[0])
    assert found.multipliers.tolist() == [2.0, 1.0, 0.5]
    assert found.settled
    assert [change[1] for change in found.path] == ["a", "c"]
    np.testing.assert_allclose(found.gain, 2 * np.log(2) ** 2)
    assert found.profiles == 1 + 2 * 3 + 1 + 4  # ones, one factor at a time, together, and its new neighbours


def test_what_helps_alone_and_hurts_together_ends_in_an_equilibrium() -> None:
    """Doubling any one gains 1, doubling two loses: one type alone is a pure equilibrium."""
    found = learn_protocol(
        lambda m, seed: [0.0, 1.0, -1.0, -4.0][int((m == 2).sum())], NAMES, actions=(1, 2), seeds=[0]
    )
    assert sorted(found.multipliers) == [1.0, 1.0, 2.0]
    assert found.settled
    assert found.gain == 1.0


def test_a_gain_within_its_noise_is_not_taken() -> None:
    noise = {0: 1.0, 1: -0.99}
    found = learn_protocol(lambda m, seed: noise[seed] if m[0] == 2 else 0.0, ("a",), actions=(1, 2), seeds=[0, 1])
    assert found.multipliers.tolist() == [1.0]
    assert found.effects[0, 1] > 0
    assert found.effect_errors[0, 1] > found.effects[0, 1]


def test_a_profile_that_diverges_is_bad_and_no_error() -> None:
    found = learn_protocol(lambda m, seed: np.nan if m[0] == 2 else float(-m[0]), ("a",), seeds=[0])
    assert found.multipliers.tolist() == [0.5]
    with pytest.raises(ArenaError, match="all ones is not finite"):
        learn_protocol(lambda m, seed: np.nan, ("a",), seeds=[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"actions": (0.5, 2.0)}, "with 1 among them"),
        ({"actions": (1.0, -1.0)}, "above 0"),
        ({"seeds": ()}, "one seed"),
    ],
)
def test_wrong_arguments(options: dict, said: str) -> None:
    with pytest.raises(ArenaError, match=said):
        learn_protocol(lambda m, seed: 0.0, NAMES, **{"seeds": [0], **options})


def test_a_population_walks_to_the_optimum_and_its_schedule_says_how() -> None:
    """The state is the sum of what its schedule earned, so replaying the schedule must give the score."""

    def earned(m: np.ndarray) -> float:
        return -float(np.abs(np.log(m) - np.log([2.0, 0.7])).sum())

    found = train_population(
        lambda i: 0.0, lambda s, m, turn: s + earned(m), lambda s: s, lambda s: s, components=2, members=20, rounds=10
    )
    np.testing.assert_allclose(sum(earned(row) for row in found.schedule), found.score)
    assert found.score > 10 * earned(np.ones(2)) / 2  # twice as near as all ones
    assert found.copied == 9 * 4
    assert found.scores.shape == (10, 20)


def test_states_that_an_advance_consumes_are_copied() -> None:
    found = train_population(
        lambda i: [0.0], lambda s, m, turn: s.append(m[0]) or s, lambda s: s[-1], list, components=1, members=5
    )
    assert len(found.state) == 1 + 5


def test_a_population_without_a_finite_score_says_so() -> None:
    with pytest.raises(ArenaError, match="no member"):
        train_population(lambda i: 0.0, lambda s, m, t: s, lambda s: np.nan, lambda s: s, components=1)
    with pytest.raises(ArenaError, match="at least 3"):
        train_population(lambda i: 0.0, lambda s, m, t: s, lambda s: s, lambda s: s, components=1, members=2)
