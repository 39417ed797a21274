"""Distillation in a step: gradients against jax.grad of the loss written out, teachers that stay, and refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import models, training
from arena_jax.config.errors import ArenaError
from arena_jax.training import vocabulary_loss
from arena_jax.training.distillation import (
    Distillation,
    Vocabulary,
    check_teaching,
    divergence_sum,
    teacher_log_probabilities,
    token_divergence_sum,
)
from arena_jax.training.objectives import classification, masked_token, next_token

SMALL = {"vocab_size": 20, "hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8}
DISTILLATION = Distillation(alpha=0.3, temperature=2.0)
MASKED = masked_token(4)


def model(family, task, seed, **changes):
    config = models.preset(f"{family}-tiny", **{**SMALL, "max_positions": 16, "pad_token_id": 0, **changes})
    return models.create(config, task=task, seed=seed)


def batch(rows=4, length=8, **columns):
    random = np.random.default_rng(0)
    mask = np.arange(length)[None] < random.integers(4, length + 1, (rows, 1))
    ids = np.where(mask, random.integers(5, 20, (rows, length)), 0)
    return {"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int32), **columns}


def gradients(made, objectives, rows, teachers, **options):
    """The gradients and metrics of the step's own function, no optimizer in between."""
    step = training.make_step(made, optax.sgd(1.0), objectives, distillation=DISTILLATION, teachers=teachers, **options)
    state = step.init()
    before = jax.tree.map(np.asarray, state.params)
    after, metrics = step(state, dict.fromkeys(made, rows))
    return jax.tree.map(lambda a, b: a - np.asarray(b), before, after.params), metrics, step


def close(one, other, tolerance=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), one, other)


@pytest.mark.parametrize("accumulation", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_student_learns_from_labels_and_teacher_and_the_teacher_from_labels(accumulation):
    """Classes in another order in the teacher: they are matched by name. Against the equation, written out."""
    task = "sequence-classification"
    student = model("bert", task, 1, label_names=("no", "yes", "maybe"), hidden_dropout=0.0, attention_dropout=0.0)
    teacher = model("gpt2", task, 2, label_names=("maybe", "no", "yes"), hidden_dropout=0.0, attention_dropout=0.0,
                    embedding_dropout=0.0)  # fmt: skip
    made = {"student": student, "teacher": teacher}
    rows = batch(labels=np.asarray([0, 1, 2, 1], np.int32))
    moved, metrics, _ = gradients(
        made, dict.fromkeys(made, classification), rows, ("teacher",), accumulation=accumulation
    )
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
    structure, params = models.split(student)
    temperature, alpha = DISTILLATION.temperature, DISTILLATION.alpha
    taught = jax.nn.softmax(np.asarray(teacher(**inputs))[:, [1, 2, 0]] / temperature)

    def loss(p):
        log_probs = jax.nn.log_softmax(models.merge(structure, p)(**inputs))
        tempered = jax.nn.log_softmax(models.merge(structure, p)(**inputs) / temperature)
        task = -jnp.mean(log_probs[jnp.arange(4), rows["labels"]])
        kl = jnp.mean(jnp.sum(taught * (jnp.log(taught) - tempered), axis=1))
        return alpha * task + (1 - alpha) * temperature**2 * kl, (task, kl)

    (_, (task_loss, kl)), expected = jax.value_and_grad(loss, has_aux=True)(params)
    close(moved["student"], expected)
    assert float(metrics["student"]["loss"]) == pytest.approx(float(task_loss), abs=1e-6), "the task's own is reported"
    assert float(metrics["student"]["divergence_sum"]) / 4 == pytest.approx(float(kl) * temperature**2, abs=1e-6)
    alone = training.make_step(
        {"teacher": teacher}, optax.sgd(1.0), {"teacher": classification}, accumulation=accumulation
    )
    state, own = alone(alone.init(), {"teacher": rows})
    close(moved["teacher"], jax.tree.map(lambda a, b: a - b, models.split(teacher)[1], state.params["teacher"]))
    assert "divergence_sum" not in metrics["teacher"]
    assert float(metrics["teacher"]["loss"]) == pytest.approx(float(own["teacher"]["loss"]), abs=1e-6)


def test_of_several_teachers_each_model_learns_from_their_mean():
    task = "sequence-classification"
    made = {name: model("bert", task, seed, hidden_dropout=0.0, attention_dropout=0.0)
            for name, seed in (("a", 1), ("b", 2))}  # fmt: skip
    rows = batch(labels=np.asarray([0, 1, 0, 1], np.int32))
    _, metrics, _ = gradients(made, dict.fromkeys(made, classification), rows, ("a", "b"))
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
    probabilities = {name: np.asarray(jax.nn.softmax(made[name](**inputs) / 2)) for name in made}
    mean = sum(probabilities.values()) / 2
    for name, q in probabilities.items():
        assert float(metrics[name]["divergence_sum"]) == pytest.approx(4 * np.sum(mean * np.log(mean / q)), abs=1e-5)


def test_of_several_teachers_each_counts_by_its_weight():
    """NumPy's weighted mean of softmax, at a temperature; equal weights are those of a mean, to the bit."""
    random = np.random.default_rng(0)
    logits, weights = random.normal(size=(3, 4, 5)), (0.5, 0.2, 0.3)
    each = np.exp(logits / 2) / np.exp(logits / 2).sum(-1, keepdims=True)
    result = teacher_log_probabilities(list(map(jnp.asarray, logits)), 2.0, weights)
    np.testing.assert_allclose(np.exp(result), np.einsum("t,tnc->nc", weights, each), rtol=1e-5)
    assert Distillation(weights=(("a", 2.0), ("b", 2.0))).weights_of("ab") is None


def test_the_weights_of_teachers_may_be_arrays_of_another_program():
    """As in a competition's lessons, where what teachers say is one program's result and another one's argument."""
    logits = [jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 0.0, -0.5])]
    weights = (0.75, 0.25)
    expected = jnp.log(sum(weight * jax.nn.softmax(x / 2) for weight, x in zip(weights, logits, strict=True)))
    for function in (teacher_log_probabilities, jax.jit(teacher_log_probabilities)):
        np.testing.assert_allclose(function(logits, 2.0, weights), expected, rtol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_language_model_is_taught_by_token_in_chunks_as_at_once(family, monkeypatch):
    """The teacher is wider, sees the student's hidden tokens, and drops nothing. Two chunks against one."""
    task, objective = ("causal-lm", next_token) if family == "gpt2" else ("masked-lm", MASKED)
    made = {"small": model(family, task, 1), "wide": model(family, task, 2, hidden_size=12)}
    rows = batch()
    whole, metrics, _ = gradients(made, dict.fromkeys(made, objective), rows, ("wide",))
    monkeypatch.setattr(vocabulary_loss, "CHUNK_BYTES", 4 * 4 * 20 * 2)
    monkeypatch.setattr("arena_jax.training.distillation.chunk_positions", lambda *_: 1)
    chunked, again, _ = gradients(made, dict.fromkeys(made, objective), rows, ("wide",))
    close(whole, chunked)
    assert float(metrics["small"]["divergence_sum"]) == pytest.approx(float(again["small"]["divergence_sum"]), rel=1e-5)
    assert float(metrics["small"]["divergence_sum"]) > 0


def test_a_teacher_that_is_its_student_diverges_by_nothing():
    """The same weights twice, no dropout: the hidden tokens are the same, so the divergence is 0."""
    steady = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    made = {"a": model("bert", "masked-lm", 1, **steady), "b": model("bert", "masked-lm", 1, **steady)}
    _, metrics, _ = gradients(made, dict.fromkeys(made, MASKED), batch(), ("b",), accumulation=2)
    assert abs(float(metrics["a"]["divergence_sum"])) < 1e-5
    assert float(metrics["a"]["loss"]) == pytest.approx(float(metrics["b"]["loss"]), abs=1e-6)


def test_chunks_have_the_gradient_of_all_logits():
    random = np.random.default_rng(0)
    network = model("gpt2", "causal-lm", 3)
    structure, params = models.split(network)
    hidden = jnp.asarray(random.normal(size=(2, 5, 8)), jnp.float32)
    taught = jnp.asarray(random.normal(size=(2, 5, 6)), jnp.float32)
    vocabulary = Vocabulary(jnp.asarray(random.normal(size=(20, 6)), jnp.float32), jnp.ones(20))
    weight = jnp.asarray(random.integers(0, 2, (2, 5)))

    def written_out(p, x):
        logits = models.merge(structure, p).predict_tokens(x)
        teacher = taught @ vocabulary.table.T + vocabulary.bias[None, None]
        return divergence_sum(logits, jax.nn.log_softmax(teacher / 3), weight, 3.0)

    def in_chunks(p, x):
        return token_divergence_sum(models.merge(structure, p), x, weight, [taught], [vocabulary], 3.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arena_jax.training.distillation.chunk_positions", lambda *_: 2)
        got = jax.value_and_grad(in_chunks, argnums=(0, 1))(params, hidden)
    close(got, jax.value_and_grad(written_out, argnums=(0, 1))(params, hidden), 1e-5)


@pytest.mark.slow
def test_who_teaches_may_change_and_each_choice_is_compiled_once():
    task = "sequence-classification"
    made = {"a": model("bert", task, 1), "b": model("gpt2", task, 2)}
    rows = batch(labels=np.zeros(4, np.int32))
    step = training.make_step(made, optax.sgd(0.1), distillation=DISTILLATION)
    state = step.init()
    for teachers in ((), ("a",), ("b",), ("a",)):
        step.teachers = teachers
        state, metrics = step(state, dict.fromkeys(made, rows))
        assert {name for name in made if "divergence_sum" in metrics[name]} == (
            {"a", "b"} - set(teachers) if teachers else set()
        )
    assert len(step.programs) == 3


def test_models_that_cannot_teach_one_another_are_refused_with_the_reason():
    task = "sequence-classification"
    bert = models.preset("bert-tiny")
    for networks, message in (
        ({"a": (task, bert)}, "needs two models at least"),
        (
            {"a": (task, bert), "b": ("masked-lm", bert)},
            "different things .a sequence-classification, b masked",
        ),
        ({"a": ("masked-lm", bert), "b": ("masked-lm", bert.replace(vocab_size=9))}, "are not 9; give both one token"),
        ({"a": ("question-answering", bert), "b": ("question-answering", bert)}, "places in their own tokens"),
        ({"a": (task, bert), "b": (task, bert.replace(num_labels=3))}, "their classes differ"),
        (
            {"a": (task, bert), "b": (task, bert.replace(problem_type="multi_label_classification"))},
            "'b' is for multi_label_classification",
        ),
    ):
        with pytest.raises(ArenaError, match=message):
            check_teaching(networks)
    made = {"a": model("bert", task, 1), "b": model("bert", task, 2)}
    with pytest.raises(ArenaError, match="'a' cannot teach: give distillation="):
        training.make_step(made, optax.sgd(0.1), teachers=("a",))
    step = training.make_step(made, optax.sgd(0.1), distillation=DISTILLATION, teachers=("a",))
    rows = batch(labels=np.zeros(4, np.int32))
    few = {name: value[:2] for name, value in rows.items()}
    with pytest.raises(ArenaError, match="all models see the same rows in the same microbatches, not a 1 × 4, b 1 × 2"):
        step(step.init(), {"a": rows, "b": few})
    assert dataclasses.replace(DISTILLATION, alpha=1.0).temperature == 2.0
