"""`parity.compare` finds functions that are twins alike, and each planted difference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import parity

pytest_plugins = ["parity.fixture"]


def inputs():
    random = np.random.default_rng(0)
    return {
        "x": random.standard_normal((4, 3)).astype(np.float32),
        "kernel": random.standard_normal((3, 5)),
        "bias": random.standard_normal((1, 5)),
        "labels": np.array([0, 4, 2, 1]),
    }


def ours(x, kernel, bias, labels):
    hidden = jax.nn.gelu(x @ kernel + bias, approximate=False)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(hidden), labels[:, None], axis=1)
    return {"hidden": hidden, "loss": -chosen.mean()}


def theirs(x, kernel, bias, labels):
    hidden = torch.nn.functional.gelu(x @ kernel + bias)
    return {"hidden": hidden, "loss": torch.nn.functional.cross_entropy(hidden, labels)}


def test_twins_agree_in_all_three(assert_twins):
    report = assert_twins(ours, theirs, inputs(), trained=("kernel", "bias"), steps=20)
    names = [one.where for kind in report for one in kind]
    assert names == [
        "forward: hidden",
        "forward: loss",
        "gradient: x",
        "gradient: kernel",
        "gradient: bias",
        "after 20 steps: kernel",
        "after 20 steps: bias",
    ]
    assert report.worst.error < 1e-12
    assert str(report).count("\n") == 6


def test_an_approximation_is_seen_in_all_three():
    def approximate(x, kernel, bias, labels):
        hidden = jax.nn.gelu(x @ kernel + bias, approximate=True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(hidden), labels[:, None], axis=1)
        return {"hidden": hidden, "loss": -chosen.mean()}

    report = parity.compare(approximate, theirs, inputs(), trained=("kernel",), steps=3)
    assert all(max(one.error for one in kind) > 1e-6 for kind in report)
    with pytest.raises(AssertionError, match="is above 1e-10"):
        report.check()


def test_a_gradient_that_is_cut_is_seen_although_the_outputs_agree():
    def cut(x, kernel, bias, labels):
        return ours(x, jax.lax.stop_gradient(kernel), bias, labels)

    report = parity.compare(cut, theirs, inputs())
    assert max(one.error for one in report.forward) < 1e-12
    errors = {one.where: one.error for one in report.gradients}
    assert errors["gradient: kernel"] > 0.1
    assert errors["gradient: bias"] < 1e-12


def test_outputs_that_only_one_side_has_and_single_ones():
    report = parity.compare(lambda x: (x, x), lambda x: (x,), {"x": np.ones(3)})
    assert report.worst.where == "forward: output 1 (missing on one side)"
    parity.compare(lambda x: x * 2, lambda x: x * 2, {"x": np.arange(3)}).check()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"trained": ("x",)}, "needs both"),
        ({"steps": 3}, "needs both"),
        ({"trained": ("y",), "steps": 3}, "trained names y, which is no floating input"),
    ],
)
def test_what_cannot_be_compared_is_said(options, text):
    with pytest.raises(ValueError, match=text):
        parity.compare(lambda x: x, lambda x: x, {"x": np.ones(3)}, **options)
    with pytest.raises(ValueError, match="inputs is empty"):
        parity.compare(lambda: 1, lambda: 1, {})
