"""What a run does with its optimizer: rates, weights that follow validation, frozen parts, the same after a stop."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import models, training, transforms
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.config.optimizer import OPTIMIZERS
from arena_jax.runs import load_run
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.records import read
from arena_jax.training.build import build
from arena_jax.training.build_optimizer import build_optimizer, schedules

pytestmark = pytest.mark.usefixtures("compile_quickly")
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
STEPS, WARMUP = 8, 2


def tiny():
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(
            ModelConfig("bert", preset="bert-tiny", weight=2.0, **SIZES),
            ModelConfig("gpt2", preset="gpt2-tiny", learning_rate=0.02, **SIZES),
        ),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(
            learning_rate=0.01, warmup_steps=WARMUP, weights_follow="validation",
            freeze=("bert/embeddings", "gpt2:head"),
        ),
        training=TrainingConfig(
            steps=STEPS, batch_size=8, evaluation_batch_size=8, log_every=1, evaluate_every=2, checkpoint_every=3,
            keep_checkpoints=9, tensorboard=False, devices=1,
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return training.train(tiny(), tmp_path_factory.mktemp("whole") / "run")


def records_of(run, kind):
    return [record for record in read(run) if record["kind"] == kind]


def test_the_rates_are_a_warm_up_and_half_a_cosine_to_the_runs_end(finished):
    """By hand: t / N, then (1 + cos π(t − N) / (S − N)) / 2, each times the model's own peak."""
    for record in records_of(finished, "train"):
        t = record["step"] - 1
        factor = t / WARMUP if t < WARMUP else (1 + math.cos(math.pi * (t - WARMUP) / (STEPS - WARMUP))) / 2
        for name, peak in (("bert", 0.01), ("gpt2", 0.02)):
            assert record["models"][name]["learning_rate"] == pytest.approx(peak * factor, rel=1e-6)


def test_weights_follow_validation_by_the_equation(finished):
    """w e^p with p = 1 − L / L at first, scaled to the sum of w; as configured at the first evaluation."""
    evaluations = records_of(finished, "evaluation")
    first = {name: scores["loss"] for name, scores in evaluations[0]["models"].items()}
    assert evaluations[0]["weights"] == {"bert": 2.0, "gpt2": 1.0}
    for record in evaluations[1:]:
        grown = {n: w * math.exp(1 - record["models"][n]["loss"] / first[n]) for n, w in (("bert", 2.0), ("gpt2", 1.0))}
        for name, weight in record["weights"].items():
            assert weight == pytest.approx(3.0 * grown[name] / sum(grown.values()), rel=1e-12)
        assert record["weights"] != evaluations[0]["weights"]


def test_frozen_parts_are_what_they_were_at_the_start_and_nothing_else_is(finished):
    config = load_run(finished)
    parts = build(config, finished / "tokenizers")
    _, _, state = training.restore(finished, config)
    for name, model in parts.models.items():
        _, initial = models.split(model)
        now = dict(jax.tree_util.tree_leaves_with_path(state.params[name]))
        for path, leaf in jax.tree_util.tree_leaves_with_path(initial):
            where = jax.tree_util.keystr(path)
            frozen = "embeddings" in where if name == "bert" else "head" in where
            assert np.array_equal(leaf, now[path]) == frozen, f"{name}{where}"


def test_the_best_checkpoint_is_that_of_the_lowest_mean_validation_loss(finished):
    losses, saved = {}, {}
    for record in read(finished):
        if record["kind"] == "evaluation":
            losses = {name: scores["loss"] for name, scores in record["models"].items()}
        if record["kind"] == "checkpoint" and losses:
            saved[record["step"]] = sum(losses.values()) / len(losses)
    assert len(set(saved.values())) > 1
    assert Checkpoints(finished / "checkpoints").best == min(saved, key=saved.get)
    assert training.evaluate(finished, checkpoint="best").keys() == {"bert", "gpt2"}


def test_an_evaluation_is_without_dropout_and_of_the_validation_split(finished):
    """The last one, against the model's own forward pass over the validation rows, written out here."""
    config = load_run(finished)
    parts, step, state = training.restore(finished, config)
    last = records_of(finished, "evaluation")[-1]
    for name, rows in build_validation(parts, config).items():
        model = models.merge(step.structures[name], state.params[name])
        batch = rows.batch(np.arange(len(rows)), rows.lengths[-1])
        logits = model(**{k: jnp.asarray(batch[k]) for k in ("input_ids", "attention_mask")})
        losses = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.asarray(batch["labels"]))
        assert last["models"][name]["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


def build_validation(parts, config):
    source = training.build.load_split(config.data, config.task, "validation", config.data.validation_limit)
    return {
        name: training.build.encode(model, name, config.data, source, parts.tokenizers[name])
        for name, model in parts.models.items()
    }


@pytest.mark.slow
def test_a_run_that_died_goes_on_with_the_same_weights_and_rates_to_the_bit(finished, tmp_path, monkeypatch):
    original, steps = training.Step.run, []

    def run_and_die(self, *arguments, **extra):
        steps.append({name: float(weight) for name, weight in extra["weights"].items()})
        if len(steps) == 6:  # weights have followed twice; the newest checkpoint is of step 3
            raise RuntimeError("power cut")
        return original(self, *arguments, **extra)

    monkeypatch.setattr(training.Step, "run", run_and_die)
    with pytest.raises(RuntimeError, match="power cut"):
        training.train(tiny(), tmp_path / "run")
    monkeypatch.undo()
    assert steps[3] == {"bert": 2.0, "gpt2": 1.0}, "as configured until the second evaluation"
    assert steps[4] != steps[3], "and then handed to the step"
    run = training.train(tiny(), tmp_path / "run", resume=True)
    states = [training.restore(folder, load_run(folder))[2] for folder in (finished, run)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)
    told = [[(r["step"], r["weights"]) for r in records_of(folder, "evaluation")] for folder in (finished, run)]
    assert told[0] == told[1]
    metrics = [
        [(r["step"], m["loss"], m["learning_rate"]) for r in records_of(folder, "train") for m in r["models"].values()]
        for folder in (finished, run)
    ]
    assert metrics[0] == metrics[1]


MODEL = {"mlp": {"kernel": jnp.eye(3)}, "embeddings": {"token": jnp.ones((5, 3))}}
PARAMS = dict.fromkeys(("bert", "gpt2", "roberta"), MODEL)
DIRECTIONS = {
    "adamw": optax.scale_by_adam(),
    "nadamw": optax.scale_by_adam(nesterov=True),
    "radam": optax.scale_by_radam(),
    "adabelief": optax.scale_by_belief(),
    "lion": optax.scale_by_lion(),
    "muon": transforms.scale_by_muon(),
    "sgd": optax.trace(0.9),
}


@pytest.mark.parametrize("inner", OPTIMIZERS)
def test_an_optimizer_by_name_is_optaxs_with_its_own_defaults(inner):
    config = dataclasses.replace(presets.joint_synthetic(), optimizer=OptimizerConfig(inner=inner))
    ours = build_optimizer(config)
    reference = transforms.multi_model_adamw(
        dict.fromkeys(PARAMS, 1e-3), {m.name: m.weight for m in config.models}, warmup_steps=99, decay_steps=1,
        inner=DIRECTIONS[inner],
    )  # fmt: skip
    results = []
    for optimizer, arriving in ((ours, {"learning_rates": schedules(config, 100)}), (reference, {})):
        params, state = PARAMS, optimizer.init(PARAMS)
        for _ in range(3):
            updates, state = optimizer.update(jax.tree.map(jnp.cos, params), state, params, **arriving)
            params = optax.apply_updates(params, updates)
        results.append(params)
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert not np.array_equal(results[0]["bert"]["mlp"]["kernel"], PARAMS["bert"]["mlp"]["kernel"])


def test_a_part_that_no_model_has_is_told():
    config = dataclasses.replace(presets.joint_synthetic(), optimizer=OptimizerConfig(freeze=("bert/embedings",)))
    with pytest.raises(ArenaError, match=r"freeze: no parameter is named 'bert/embedings'"):
        build_optimizer(config).init(PARAMS)
