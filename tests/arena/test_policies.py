"""What every policy must keep, over a table of all of them, and what each is for."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from arena_jax.arena import POLICIES, History, decide, history, policy
from arena_jax.arena import forecast as forecasts
from arena_jax.arena.policies import policy_for, prepare
from arena_jax.arena.policies.hyperband import schedule
from arena_jax.arena.policies.predictive import soonest, winning
from arena_jax.config.errors import ArenaError

ROWS, MODELS = 7, 4
EQUAL = np.full(MODELS, 1 / MODELS)
HAS_OPTUNA = importlib.util.find_spec("optuna") is not None
needs_optuna = pytest.mark.skipif(not HAS_OPTUNA, reason="an extra of its own: pip install 'arena-jax[optuna]'")
ALL = {
    **{name: policy(name) for name in POLICIES if HAS_OPTUNA or not name.startswith("optuna")},
    "modelarena, published code": policy("modelarena", variant="published-code"),
    "successive-halving by 3": policy("successive-halving", eta=3.0),
    "predictive, power laws": policy("predictive", family="power-law", smoothing=0.0),
    "predictive, best": policy_for("predictive", "best", patience=0.0),
    "predictive, target": policy_for("predictive", "target", 0.5, patience=0.0),
    "multi-objective, best": policy_for("multi-objective", "best"),
    "hyperband by 2": policy("hyperband", eta=2.0),
}
COMPILED = {name: jax.jit(each) for name, each in ALL.items()}
floats = st.floats(width=32, allow_nan=True, allow_infinity=True)


@st.composite
def histories(draw):
    """Any scores at all, with the bookkeeping of a run that went on while they came in."""
    scores = draw(hnp.arrays(np.float64, (ROWS, MODELS), elements=floats))
    spent = draw(hnp.arrays(np.float64, (ROWS, MODELS), elements=st.floats(0, 1e4)))
    shares = draw(hnp.arrays(np.float64, (ROWS, MODELS), elements=st.floats(0.05, 1)))
    fraction = np.sort(draw(hnp.arrays(np.float64, ROWS, elements=st.floats(0, 1))))
    return History(scores, shares / shares.sum(1, keepdims=True), spent.cumsum(0), np.floor(spent).cumsum(0), fraction)


def a_run(scores, seconds=None):
    """An undisturbed run: every model a second per evaluation, equal shares."""
    scores = np.asarray(scores, float)
    clock = np.arange(len(scores), dtype=float)[:, None] * np.ones_like(scores)
    shares = np.full_like(scores, 1 / scores.shape[1])
    return History(scores, shares, clock if seconds is None else seconds, 10 * clock, clock[:, 0] / (2 * len(scores)))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None)
@given(record=histories(), order=st.permutations(range(MODELS)))
def test_invariants_of_any_history(name, record, order):
    shares = np.asarray(COMPILED[name](record))
    assert np.isfinite(shares).all()
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    floor = getattr(ALL[name], "floor", record.shares[-1].min())
    assert shares.min() >= min(floor, record.shares[-1].min()) / (1 + MODELS * floor) - 1e-6
    order = np.array(order)
    moved = History(*(x[:, order] for x in record[:4]), record.fraction)
    np.testing.assert_allclose(COMPILED[name](moved), shares[order], atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_equal_curves_are_a_fixed_point(name):
    curve = -4 + 2 * (1 - np.exp(-np.arange(ROWS) / 3))
    record = a_run(curve[:, None] * np.ones(MODELS))
    np.testing.assert_allclose(COMPILED[name](record), EQUAL, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_padding_changes_nothing(name):
    rng = np.random.default_rng(1)
    record = a_run(np.cumsum(rng.uniform(0, 1, (5, MODELS)), 0))
    np.testing.assert_allclose(COMPILED[name](history.pad(record, 8)), COMPILED[name](record), atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_one_evaluation_is_enough(name):
    shares = decide(ALL[name], history.start([-4.0, -3.0, -2.0, np.nan]))
    assert shares.dtype == np.float64
    assert shares.sum() == pytest.approx(1, abs=1e-15)


def test_static_keeps_what_there_is():
    record = history.start([-1.0, -2.0], shares=[0.9, 0.1])
    np.testing.assert_allclose(decide(policy("static"), record), [0.9, 0.1], rtol=1e-6)


def test_successive_halving_drops_the_worse_half_at_each_rung():
    scores = np.array([[0.0, 0, 0, 0], [4, 3, 2, 1], [5, 6, 9, 9], [5, 6, 9, 9]])
    record = a_run(scores)._replace(fraction=np.array([0, 1 / 3, 2 / 3, 1.0]))
    halving = policy("successive-halving", floor=0.0)

    def shares_after(rows):
        return decide(halving, History(*(x[:rows] for x in record[:5]))).tolist()

    assert shares_after(1) == [0.25, 0.25, 0.25, 0.25]
    assert shares_after(2) == [0.5, 0.5, 0, 0]  # the last two are out, and their later scores do not bring them back
    assert shares_after(3) == shares_after(4) == [0, 1, 0, 0]


def test_rising_bandit_drops_who_cannot_become_the_best():
    """By hand: 4 seconds spent of 8 each; the first could gain 0.5 a second × 8 more, the second 0.25, the third 0."""
    scores = np.array([[-9.0, -9.0, -1.0], [-7.0, -8.0, -1.0], [-6.0, -7.5, -2.0]])
    seconds = np.array([[0.0, 0, 0], [2, 2, 2], [4, 4, 4]])
    record = a_run(scores, seconds)._replace(fraction=np.array([0.0, 0.25, 0.5]))  # 12 seconds are left
    bandit = policy("rising-bandit", window=1, floor=0.0)
    # Tangents end at −6 + 0.5·12 = 0 and −7.5 + 0.25·12 = −4.5, where the best of today is −2: only the second is out.
    assert decide(bandit, record).tolist() == [0.5, 0.0, 0.5]
    assert decide(policy("rising-bandit", window=1, floor=0.0, margin=2.6), record).tolist() == pytest.approx(
        [1 / 3] * 3
    )
    late = history.extend(
        record, scores=[-6, 0, -2.0], shares=[0.5, 0, 0.5], seconds=[6, 4, 6], steps=[3, 2, 3], fraction=0.7
    )
    assert decide(bandit, late)[1] == 0  # does not come back
    gone = record._replace(scores=np.where(np.arange(3) == 2, np.nan, record.scores))
    assert decide(bandit, gone)[2] == 0  # diverged


@given(seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_without_noise_a_rising_bandit_keeps_the_best(seed):
    """Concave curves lie below their tangents: who would be the best with all that is left is never dropped."""
    rng = np.random.default_rng(seed)
    end, scale = rng.uniform(-3, 0, MODELS), rng.uniform(1, 60, MODELS)
    clock = np.arange(ROWS, dtype=float)[:, None] * np.ones(MODELS)
    scores = end - 9 * np.exp(-clock / scale)
    total = 2.0 * ROWS * MODELS
    record = a_run(scores, clock)._replace(fraction=clock.sum(1) / total)
    reachable = end - 9 * np.exp(-(clock[-1] + total - clock[-1].sum()) / scale)
    assert decide(policy("rising-bandit", window=2, floor=0.0), record)[np.argmax(reachable)] > 0


def test_hyperband_follows_the_published_schedule():
    """Algorithm 1 of arXiv:1603.06560 with R = 81 and η = 3, and the table of R package mlr3hyperband for 8 and 2."""
    published = {4: [81, 27, 9, 3, 1], 3: [34, 11, 3, 1], 2: [15, 5, 1], 1: [8, 2], 0: [5]}
    rungs = schedule(81)
    assert {s: [rung.keep for rung in rungs if rung.bracket == s] for s in published} == published
    by_two = {s: [rung.keep for rung in schedule(8, 2.0) if rung.bracket == s] for s in (3, 2, 1, 0)}
    assert by_two == {3: [8, 4, 2, 1], 2: [6, 3, 1], 1: [4, 2], 0: [4]}
    begins = [rung.begin for rung in rungs]
    assert begins == sorted(begins)
    assert [rung.begin for rung in rungs if rung.keep == [81, 34, 15, 8, 5][4 - rung.bracket]] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8]
    )


def test_hyperband_lets_the_dropped_come_back():
    """4 models, η 2: brackets of 4-2-1, 3-1 and 3 models; the last is behind at first and ahead in the end."""
    assert [rung.keep for rung in schedule(4, 2.0)] == [4, 2, 1, 3, 1, 3]
    scores = np.array([[0.0, 0, 0, 0], [4, 3, 2, 1], [5, 3, 2, 1], [5, 3, 2, 4], [5, 3, 2, 6], [6, 3, 2, 7]])
    record = a_run(scores)._replace(fraction=np.array([0, 1 / 9, 2 / 9, 1 / 3, 1 / 2, 2 / 3]))
    hyperband = policy("hyperband", eta=2.0, floor=0.0)

    def alive_after(rows):
        return (decide(hyperband, History(*(x[:rows] for x in record[:5]))) > 0).tolist()

    assert alive_after(2) == [True, True, False, False]
    assert alive_after(3) == [True, False, False, False]
    assert alive_after(4) == [True, True, False, True]
    assert alive_after(5) == [False, False, False, True]
    assert alive_after(6) == [True, True, False, True]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6])
def test_padding_is_no_verdict_of_hyperband(rows):
    """The first rung of bracket 1 begins at 0, where the model is last that is ahead in the end."""
    scores = np.array([[0.3, 0.2, 0.1, 0.0], [4, 3, 2, 1], [5, 3, 2, 1], [5, 3, 2, 4], [5, 3, 2, 6], [6, 3, 2, 7]])
    record = a_run(scores)._replace(fraction=np.array([0, 1 / 9, 2 / 9, 1 / 3, 1 / 2, 2 / 3]))
    record = History(*(x[:rows] for x in record[:5]))
    for hyperband in (policy("hyperband", floor=0.0), policy("hyperband", eta=2.0, floor=0.0)):
        np.testing.assert_array_equal(hyperband(history.pad(record, 8)), hyperband(record))
    if rows == 1:  # the best of 4, η 3
        assert np.argmax(policy("hyperband", floor=0.0)(history.pad(record, 8))) == 0


@needs_optuna
def test_optuna_decides_in_its_own_code():
    scores = np.array([[0.0, 0, 0, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 9], [6, 5, 4, 9]])
    median = policy("optuna-median", warmup=2, floor=0.0)
    # Below the median of the three others at an evaluation after the first: the last two, and then the second.
    assert (decide(median, a_run(scores[:2])) > 0).tolist() == [True, True, True, True]
    assert (decide(median, a_run(scores[:3])) > 0).tolist() == [True, True, False, False]
    assert (decide(median, a_run(scores)) > 0)[3] == np.False_  # does not come back
    halving = policy("optuna-halving", warmup=1, floor=0.0)
    left = decide(halving, a_run(scores[:2])) > 0
    assert left.tolist() == [True, True, False, False]  # the best half at the first rung


def test_what_a_competition_is_for_changes_what_predictive_does():
    """Three learn alike, the third is ahead: to the best most goes to it, to the mean it does not."""
    clock = np.arange(8.0)[:, None] * np.ones(3)
    record = a_run(np.array([-3.0, -3.0, -1.0]) - np.exp(-clock / 5))._replace(fraction=np.linspace(0, 0.8, 8))
    mean = decide(policy_for("predictive", "mean", smoothing=0.0), record)
    best = decide(policy_for("predictive", "best", smoothing=0.0), record)
    assert best[2] > 0.8 > mean[2]
    assert policy_for("modelarena", "best") == policy("modelarena")
    worth = record._replace(worth=np.array([0.8, 0.1, 0.1]))
    ensemble = decide(policy_for("predictive", "ensemble", smoothing=0.0, insurance=0.0), worth)
    assert np.argmax(ensemble) == 0
    small_is_weak = record._replace(cost=np.array([1.0, 2.0, 3.0]))
    pareto = decide(policy_for("predictive", "pareto", smoothing=0.0, ambition=1.0), small_is_weak)
    assert pareto[0] > 0.2 > best[0], "the smallest has no rival of its size"


def test_the_parts_of_likely_winners_are_as_written():
    gains, deviations = jax.numpy.array([0.0, 0.3]), jax.numpy.array([0.3, 0.4])
    # F = -1 and -0.7; the favourite against itself 1/2, the other Φ(-0.3 / 0.5).
    expected = np.array([norm.cdf(-0.6), 0.5])
    np.testing.assert_allclose(winning([-1.0, -1.0], gains, deviations), expected / expected.sum(), rtol=1e-5)
    alone = winning([-1.0, -1.0], gains, deviations, costs=np.array([1.0, 2.0]))
    np.testing.assert_allclose(alone, [0.5, 0.5], rtol=1e-5)  # each leads among those of its size
    efforts, otherwise = jax.numpy.array([1.0, 3.0]), jax.numpy.array([0.9, 0.1])
    ahead = jax.numpy.array([[0.5, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(soonest([-1.0, -1.0], ahead, efforts, -0.5, otherwise), [0.9, 0.1], rtol=1e-5)
    np.testing.assert_allclose(soonest([-1.0, -1.0], ahead[::-1] * 0, efforts, -0.5, otherwise), [0.9, 0.1])
    np.testing.assert_allclose(soonest([-2.0, -1.0], ahead, efforts, -0.5, otherwise), [0.0, 1.0])


def test_multi_objective_weighs_each_wish():
    scores = np.array([[-4.0, -2.0, -3.0], [-2.0, -1.9, -3.0]])
    seconds = np.array([[0, 0, 0], [8.0, 4.0, 1.0]])
    record = a_run(scores, seconds)
    only = {
        wish: decide(policy("multi-objective", **{"progress": 0, "level": 0, "cost": 0, wish: 1}, smoothing=0), record)
        for wish in ("progress", "level", "cost")
    }
    assert [int(np.argmax(shares)) for shares in only.values()] == [0, 1, 2]
    np.testing.assert_allclose(only["cost"], np.array([1, 2, 8]) / 11, rtol=1e-5)


def test_forecast_of_known_curves():
    """The references are the curves themselves; the grid holds neither exactly."""
    x = np.arange(1.0, 25)[:, None] * np.ones(2)
    power, exponential = (lambda u: -2 - 3 * (1 + u / 4) ** -0.5), (lambda u: -2 - 3 * np.exp(-u / 9))
    scores = np.stack([power(x[:, 0]), exponential(x[:, 1])], 1)
    truth = np.array([power(48.0) - power(24.0), exponential(48.0) - exponential(24.0)])
    mean, deviation = forecasts.gain(forecasts.fit(x, scores), np.full(2, 24.0))
    assert np.abs(np.asarray(mean) - truth).max() < 0.05 * 3
    noisy = scores + np.random.default_rng(0).normal(0, 0.1, scores.shape)
    mean_noisy, deviation_noisy = forecasts.gain(forecasts.fit(x, noisy), np.full(2, 24.0))
    assert (np.asarray(deviation_noisy) > np.asarray(deviation)).all()
    assert (np.abs(np.asarray(mean_noisy) - truth) < 3 * np.asarray(deviation_noisy)).all()


def named(name, answer):
    def policy(history):
        return answer

    policy.__name__ = name
    return policy


def test_what_your_own_function_returns_is_checked():
    record = history.start([-4.0, -3.0])
    np.testing.assert_array_equal(decide(lambda h: [0.25, 0.75], record), [0.25, 0.75])
    for wrong, message in (
        ([1.0], "2 shares"),
        ([np.nan, 1], "be finite"),
        ([-0.5, 1.5], "not below 0"),
        ([1, 1], "sum"),
        ("abc", "returned 'abc', .* no numbers"),
        ({"a": 1}, "no numbers"),
        (None, r"returned None, of shape \(\)"),
    ):
        with pytest.raises(ArenaError, match=f"policy mine: .*{message}") as error:
            decide(named("mine", wrong), record)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="read-only"):
        decide(lambda h: h.scores.fill(0), record)
    np.testing.assert_array_equal(record.scores, [[-4.0, -3.0]])


def test_names_and_options_are_checked():
    with pytest.raises(ArenaError, match="did you mean 'static'"):
        policy("statik")
    with pytest.raises(ArenaError, match="did you mean 'window'"):
        policy("modelarena", windw=3)
    for instance in ALL.values():
        assert dataclasses.replace(instance) == instance
        assert hash(instance) == hash(dataclasses.replace(instance))


@pytest.fixture
def compiled():
    """Programs that JAX has compiled since the test began."""
    programs = []

    def count(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    yield programs
    jax.monitoring.unregister_event_duration_listener(count)


def rising(rows):
    return a_run(np.arange(float(rows))[:, None] * np.ones(MODELS))


def test_a_prepared_policy_compiles_nothing_when_it_decides(compiled):
    """The short form of `test_competition_options.test_a_reallocation_compiles_nothing_while_training_waits`."""
    modelarena = policy("modelarena", window=6)
    prepare(modelarena, rising(40))
    decide(modelarena, rising(1))
    compiled.clear()
    for rows in (2, 64, 65, 128):
        decide(modelarena, rising(rows))
    assert compiled == []
    decide(modelarena, rising(129))
    assert compiled, "what is not prepared is compiled, and seen"


def test_deciding_compiles_once_for_a_growing_history(compiled):
    modelarena = policy("modelarena", window=4)
    decide(modelarena, rising(1))
    assert compiled
    compiled.clear()
    for rows in range(2, 12):
        decide(modelarena, rising(rows))
    assert compiled == []
