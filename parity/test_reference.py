"""The reference against what it stands for: ``transformers``' losses, PyTorch's AdamW, algorithms by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parity import inputs
from parity.case import random_case, tensors
from parity.ensemble import WEIGHTS, ensemble
from parity.reference import algorithms, models, parameters
from parity.reference.multi_model_optimizer import MultiModelOptimizer


@pytest.mark.parametrize(("family", "task"), models.CLASSES)
def test_losses_are_those_of_transformers(family: str, task: str) -> None:
    case = random_case(family, task)
    batch = inputs.variants(case.sizes)["right padding"]
    labels = inputs.labels(task, case.sizes, batch, case.classes, np.random.default_rng(0))
    theirs = case.reference(**tensors({**batch, **labels})).loss
    ours = case.torch_loss({**batch, **labels})
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize(("family", "task"), models.CLASSES)
def test_no_parameter_is_left_as_it_was_initialised(family: str, task: str) -> None:
    seen = set()
    for name, parameter in random_case(family, task).reference.named_parameters():
        assert float(parameter.detach().std()) > 0.05, name
        key = parameter.detach().numpy().tobytes()[:64]
        assert key not in seen, f"{name} equals another parameter"
        seen.add(key)


def test_literal_parameters_cover_the_model_and_are_views_of_it() -> None:
    model = models.create("gpt2", "causal-lm")
    literal = parameters.literal_parameters(model)
    assert sum(p.data.numel() for p in literal) == sum(p.numel() for p in model.parameters())
    key = next(p for p in literal if p.name.endswith("h.1.attn.c_attn.weight[key]"))
    key.data.fill_(7)
    fused = model.transformer.h[1].attn.c_attn.weight
    size = fused.shape[0]
    assert bool((fused[:, size : 2 * size] == 7).all())
    assert not bool((fused[:, :size] == 7).any())


def test_kinds() -> None:
    kinds = {p.name: p.kind for p in parameters.literal_parameters(models.create("bert", "sequence-classification"))}
    assert kinds["bert.encoder.layer.0.attention.self.query.weight"] == "attention"
    assert kinds["bert.encoder.layer.0.attention.output.LayerNorm.bias"] == "normalisation"
    assert kinds["bert.encoder.layer.0.output.dense.weight"] == "feed-forward"
    assert kinds["bert.encoder.layer.0.output.dense.bias"] == "bias"
    assert kinds["bert.embeddings.position_embeddings.weight"] == "embedding"
    assert kinds["bert.pooler.dense.weight"] == kinds["classifier.bias"] == "head"


@pytest.mark.parametrize("amsgrad", [False, True])
def test_nothing_shared_is_adamw(amsgrad: bool) -> None:
    mine, theirs = ensemble(), ensemble()
    ours = MultiModelOptimizer(
        mine.torch_models, mode="paper", lr=0.01, weights=WEIGHTS, alpha=0, beta=0, window=None, warmup=0, total=10**9,
        weight_decay=0.1, amsgrad=amsgrad,
    )  # fmt: skip
    every = [p for model in theirs.torch_models.values() for p in model.parameters()]
    adamw = torch.optim.AdamW(every, lr=0.01, weight_decay=0.1, amsgrad=amsgrad)
    for step in range(4):
        mine.set_gradients(np.random.default_rng(step), "float32")
        theirs.set_gradients(np.random.default_rng(step), "float32")
        ours.step(losses=dict.fromkeys(WEIGHTS, 1.0))
        adamw.step()
    for name, wanted in theirs.wanted().items():
        assert torch.allclose(mine.wanted()[name], wanted, rtol=1e-12, atol=1e-12), name


def test_slope_is_that_of_polyfit() -> None:
    losses = np.random.default_rng(0).normal(size=20)
    assert algorithms.slope(list(losses)) == pytest.approx(np.polyfit(np.arange(20), losses, 1)[0])


def test_algorithm_1_by_hand() -> None:
    literal, kernels = {}, {}
    for name, gradient in (("a", 1.0), ("b", 3.0)):
        kernels[name] = torch.nn.Parameter(torch.zeros(2, 2))
        kernels[name].grad = torch.full((2, 2), gradient)
        literal[name] = [parameters.Parameter(name, "attention", kernels[name], lambda t: t)]
    algorithms.share_gradients(literal, {"a": 1.0, "b": 2.0}, 0.5)  # G = 1·1 + 2·3
    for name, wanted in (("a", 0.5 * 1 + 0.5 * 7), ("b", 0.5 * 3 + 0.5 * 7)):
        found = kernels[name].grad
        assert found is not None
        assert bool((found == wanted).all())
