"""What recorded runs teach of sizes and memory: regression and quantiles by references, planted truths come out."""

import json

import numpy as np
import pytest

from arena_jax.arena.forecast import fit, gain
from arena_jax.arena.history import History, pad
from arena_jax.arena.policies import Predictive
from arena_jax.arena.predictor import (
    Predictor,
    RecordedRun,
    Samples,
    _quantile,
    calibration,
    features,
    fit_predictor,
    predict,
    samples_of,
)
from arena_jax.cli.main import main
from arena_jax.config import presets
from arena_jax.config.change import change
from arena_jax.config.errors import ArenaError
from tests.reports.test_experiment import write_run

TRUTH = np.array([0.3, -0.8, 0.5, 0.2])


def planted(runs=12, each=200, spread=1.0, seed=0):
    """Gains that are forecasts corrected by `TRUTH`, and noise of the forecasts' uncertainty times ``spread``."""
    random = np.random.default_rng(seed)
    count = runs * each
    inputs = np.concatenate([np.ones((count, 1)), random.normal(size=(count, 3))], axis=1)
    mean, uncertainty = random.uniform(0.1, 1, count), random.uniform(0.05, 0.3, count)
    noise = spread * random.normal(size=count)
    return Samples(
        np.repeat(np.arange(runs), each), inputs, mean, uncertainty, mean + uncertainty * (inputs @ TRUTH + noise)
    )


def test_what_a_predictor_knows_beside_the_curve():
    rows = np.asarray(features([1e6, 4e6], [[0.25, 0.75], [0.5, 0.5]], [10.0, 20.0], [[10.0, 20.0], [30.0, 0.0]]))
    log = np.log
    expected = [
        [[1, -log(2), log(0.5), log(2)], [1, log(2), log(1.5), log(2)]],
        [[1, -log(2), 0, log(4)], [1, log(2), 0, 0]],
    ]
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_weights_are_those_of_ridge_regression():
    """By SciPy's least squares, of the rows under one another with those of the ridge."""
    samples = planted(runs=1, each=50)
    aim = (samples.gain - samples.mean) / samples.uncertainty
    design = np.concatenate([samples.features, np.eye(4)])
    reference = np.linalg.lstsq(design, np.concatenate([aim, np.zeros(4)]), rcond=None)[0]
    np.testing.assert_allclose(fit_predictor(samples).weights, reference, atol=1e-10)
    without = fit_predictor(samples, inputs=False).weights
    reduced = np.linalg.lstsq(design[:, [0, 3]], np.concatenate([aim, np.zeros(4)]), rcond=None)[0]
    np.testing.assert_allclose(without, [reduced[0], 0, 0, reduced[1]], atol=1e-10)


def test_all_runs_count_alike():
    samples = planted(runs=2, each=40)
    once, thrice = samples.run == 0, np.concatenate([np.flatnonzero(samples.run == 1)] * 3)
    rows = np.concatenate([np.flatnonzero(once), thrice])
    repeated = Samples(*(column[rows] for column in samples))
    # 80 against 160 samples: the ridge, which counts as one, is all that differs.
    np.testing.assert_allclose(fit_predictor(repeated).weights, fit_predictor(samples).weights, atol=0.02)
    np.testing.assert_allclose(fit_predictor(repeated).width, fit_predictor(samples).width, atol=0.02)


def test_the_quantile_is_numpys():
    random = np.random.default_rng(1)
    values, counts = random.normal(size=99), random.uniform(size=99)
    for level in (0.1, 0.5, 0.8):
        reference = np.quantile(values, level, method="inverted_cdf", weights=counts)
        assert _quantile(values, counts / counts.sum(), level) == reference


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_a_planted_truth_is_found_and_its_band_holds(spread):
    samples = planted(spread=spread)
    fitted = fit_predictor(samples)
    np.testing.assert_allclose(fitted.weights, TRUTH, atol=0.1 * spread)
    assert fitted.width == pytest.approx(1.2816 * spread, rel=0.06)
    by_inputs = calibration(samples, "inputs")
    # 2,400 forecasts: their standard error is 0.008.
    assert by_inputs.coverage.mean() == pytest.approx(0.8, abs=0.025)
    assert calibration(samples, "horizon").error.mean() > 1.2 * by_inputs.error.mean() or spread == 3.0
    raw = calibration(samples, "curve").coverage.mean()
    assert abs(raw - 0.8) > 0.06, "what no other run corrects is off"


def test_no_correction_is_the_curve_alone():
    mean, deviation = predict(Predictor(), [0.5, 0.0], [0.1, 0.2], features([1, 2], [0.5, 0.5], [1, 1], [1, 1]))
    np.testing.assert_allclose(mean, [0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(deviation, [0.125, 0.2], atol=1e-6)


def test_a_correction_is_in_units_of_the_uncertainty():
    inputs = np.array([[1.0, 0.5, -1.0, 2.0]])
    mean, deviation = predict(Predictor((0.1, 0.2, 0.3, 0.4), 2.0), [-1.0], [0.1], inputs)
    np.testing.assert_allclose(mean, [-1 + 0.15 * (0.1 + 0.1 - 0.3 + 0.8)], rtol=1e-6)
    np.testing.assert_allclose(deviation, [0.15 * 2 / 1.2815515655446], rtol=1e-6)


def exponential(rates, evaluations=16):
    seconds = np.arange(evaluations)[:, None] * np.ones(len(rates))
    scores = -np.exp(-seconds / np.array(rates))
    shares = np.full(scores.shape, 1 / len(rates))
    return RecordedRun(scores, seconds, shares, np.array([1e6, 4e6])[: len(rates)])


def test_forecasts_are_those_of_the_curves():
    run = exponential([4.0, 40.0])
    samples = samples_of([run, run])
    assert set(samples.run) == {0, 1}
    # From evaluation 3 on: horizons 1, 2, 4 and 8 within 15.
    assert len(samples.gain) == 2 * 2 * sum(sum(now + h < 16 for h in (1, 2, 4, 8)) for now in range(3, 15))
    curve = fit(run.seconds[:4], run.scores[:4])
    mean, deviation = gain(curve, [1.0, 1.0])
    np.testing.assert_allclose(samples.mean[:2], mean, rtol=2e-5)
    np.testing.assert_allclose(samples.gain[:2], run.scores[4] - run.scores[3], rtol=1e-6)
    np.testing.assert_allclose(samples.uncertainty[:2], deviation + 0.05 * np.abs(mean), rtol=2e-4)


def test_the_policy_goes_by_sizes_where_it_is_told_to():
    run = exponential([8.0, 8.0])
    history = pad(History(run.scores, run.shares, run.seconds, run.seconds, np.linspace(0, 0.8, 16)))
    alone = Predictive()(history)
    sized = history._replace(parameters=run.parameters)
    np.testing.assert_array_equal(alone, Predictive()(sized))
    np.testing.assert_array_equal(alone, Predictive(predictor=Predictor((0.0, 5.0, 0.0, 0.0)))(history))
    larger = Predictive(predictor=Predictor((0.0, 5.0, 0.0, 0.0)))(sized)
    assert float(larger[1]) > float(alone[1]) + 0.01
    assert float(larger.sum()) == pytest.approx(1, abs=1e-6)


def test_the_command_writes_what_training_reads(tmp_path, capsys):
    fractions = [k / 11 for k in range(12)]
    for seed in range(3):
        random = np.random.default_rng(seed)
        losses = {
            name: (2 + 3 * np.exp(-np.arange(12) / scale) + 0.01 * random.normal(size=12)).tolist()
            for name, scale in (("bert", 3.0), ("gpt2", 6.0))
        }
        shares = {"bert": [0.5, 0.6], "gpt2": [0.5, 0.4]}
        write_run(tmp_path / str(seed), "static", seed, losses, shares, fractions=fractions, dealt=[0.0, fractions[6]])
    runs = [str(tmp_path / str(seed)) for seed in range(3)]
    file = tmp_path / "predictor.json"
    assert main(["arena", "calibrate", *runs, "--output", str(file)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "held by the 80 % band" in text
    written = json.loads(file.read_text())
    config = change(presets.get("arena-small"), {"arena.predictor": str(file)})
    assert list(config.arena.predictor) == written["predictor"]
    assert main(["arena", "calibrate", *runs[:2]]) == 2
    assert "give 3 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arena.predictor": "1,2"}, "it has 5 numbers"),
        ({"arena.predictor": "0,0,0,0,0"}, "the last above 0"),
        ({"arena.predictor": "nowhere.json"}, "neither numbers nor a file"),
        ({"arena.predictor": "0,0,0,0,1", "arena.policy": "static"}, "belongs to policy predictive"),
    ],
)
def test_refusals(changes, told):
    with pytest.raises(ArenaError, match=told):
        change(presets.get("arena-small"), changes)
