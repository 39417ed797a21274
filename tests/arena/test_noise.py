"""The gradient noise scale, against a distribution whose gradient and noise are known, and what it does to batches."""

import math
from concurrent.futures import Future

import numpy as np
import pytest

from arena_jax.arena import noise_probe, rounds
from arena_jax.arena.noise import GradientNoise, signal_and_variance
from arena_jax.arena.state import largest_size
from arena_jax.config.errors import ArenaError


def test_signal_and_variance_of_gaussian_gradients_are_what_they_were_drawn_with():
    """Gradients of examples G + N(0, σ²) in 5 dimensions: |G|² and tr Σ = 5σ² are known; means of B have 5σ²/B."""
    rng = np.random.default_rng(0)
    gradient, deviation, small, large = np.array([0.5, -1.0, 2.0, 0.0, 0.1]), 3.0, 4, 12
    draws = 200_000

    def squares(batch):
        return (rng.normal(gradient, deviation / math.sqrt(batch), (draws, 5)) ** 2).sum(1).mean()

    signal, variance = signal_and_variance(squares(small), squares(large), small, large)
    assert signal == pytest.approx(gradient @ gradient, rel=0.02)
    assert variance == pytest.approx(5 * deviation**2, rel=0.02)


def test_the_two_parts_are_exact_without_chance_and_averaged_apart():
    exact = [signal_and_variance(2.0 + 6.0 / s, 2.0 + 6.0 / b, s, b) for s, b in ((1, 2), (3, 7), (64, 128))]
    np.testing.assert_allclose(exact, [(2.0, 6.0)] * 3, rtol=1e-12)
    noise = GradientNoise().after(2 + 6 / 1, 2 + 6 / 2, 1, 2).after(4 + 2 / 1, 4 + 2 / 2, 1, 2)
    assert (noise.signal, noise.variance, noise.scale) == pytest.approx((3.0, 4.0, 4 / 3))
    assert noise.after(math.nan, 1.0, 1, 2) == noise
    assert math.isnan(GradientNoise().scale)
    assert GradientNoise(-1.0, 5.0, 1).scale == math.inf
    with pytest.raises(ArenaError, match="a smaller and a larger"):
        signal_and_variance(1.0, 1.0, 4, 4)


class Anything:
    def __init__(self, **fields):
        self.__dict__ |= fields


@pytest.mark.parametrize(("scale", "largest"), [(20.0, 16), (3.0, 8), (1000.0, 32), (math.inf, None)])
def test_batches_are_raised_no_further_than_they_help(scale, largest):
    """Sizes 4 to 32 with an effective batch of 8: below it none is capped, between them the last that helps."""
    config = Anything(batch_size=lambda name: 8, accumulation=lambda name: 1)
    setup = Anything(config=config, mesh=Anything(size=1), arena=Anything(batch_sizes=(4, 8, 16, 32)))
    noise = GradientNoise(1.0, scale, 1) if math.isfinite(scale) else GradientNoise(-1.0, 1.0, 1)
    assert largest_size(setup, Anything(noise={"a": noise}, sizes={}), "a") == largest
    assert largest_size(setup, Anything(noise={}, sizes={}), "a") is None


def test_the_two_gradients_have_masks_of_their_own(monkeypatch):
    """Dropout goes by the step: the second gradient is that of the step after."""
    steps = []

    def executables(name, size, params, placed, step):
        steps.append(step)
        return {"w": np.ones(2)}, {}

    stream = Anything(state=lambda: 0, restore=lambda position: None)
    stream.next = lambda rows: {"attention_mask": np.ones((rows, 3))}
    monkeypatch.setattr(rounds, "place_batch", lambda batch, mesh, k: batch)
    monkeypatch.setattr(rounds, "local_rows", lambda batch, k: batch)
    monkeypatch.setattr(noise_probe, "row_flops", lambda setup, name, length: 1.0)
    config = Anything(batch_size=lambda name: 8, accumulation=lambda name: 1)
    setup = Anything(
        names=("a",), config=config, mesh=Anything(size=1), arena=Anything(batch_cap="noise"), executables=executables
    )
    account = Anything(steps=7, seconds=0.0, flops=0.0)
    state = Anything(
        streams={"a": stream}, sizes={"a": 4}, gradients={}, accounts={"a": account}, noise={},
        train=Anything(params={"a": {}}),
    )  # fmt: skip
    noise_probe.measure_noise(setup, state, Anything(divergence=Anything(frozen=())), 0)
    assert steps == [7, 8]
    assert (account.steps, account.flops) == (7, 16.0)


def test_a_search_takes_no_size_beyond_what_helps(monkeypatch):
    from arena_jax.runtime import executables

    searches = []

    def run(search):
        searches.append(tuple(search.sizes))
        return "a choice"

    monkeypatch.setattr(executables.size_search, "run_without_compiling", run)
    stub = object.__new__(executables.Executables)
    stub.__dict__ |= {
        "limits": Anything(sizes=lambda name: (4, 8, 16), margins={"a": 0.0}),
        "_jitted": {"a": None},
        "_programs": {"a": {}},
        "_abandoned": [],
        "_budget": 100,
        "resident": 10,
        "_margin": 0.0,
        "_compile_program": None,
        "_model_bytes": lambda name: 1,
    }
    for most in (None, 8, 2):
        assert isinstance(stub.search("a", 50.0, most=most), Future)
    assert searches == [(4, 8, 16), (4, 8), (4,)]
