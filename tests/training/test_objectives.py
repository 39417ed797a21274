"""Objectives against NumPy/SciPy in float64, and the ways in which padding could leak into them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from arena_jax.config.errors import ArenaError
from arena_jax.training import objectives

VOCABULARY, MASK = 23, 22


class TableModel:
    """Logits looked up by token: enough of a model to check what is done with logits."""

    def __init__(self, table: np.ndarray, *, per_row: bool = False) -> None:
        self.table = jnp.asarray(table, jnp.float32)
        self.config = SimpleNamespace(vocab_size=VOCABULARY)
        self.per_row = per_row

    def encode(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None, *, key=None):
        return self.table[input_ids]

    def predict_tokens(self, hidden):
        return hidden

    def __call__(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None, *, key=None):
        hidden = self.encode(input_ids)
        return hidden[:, 0] if self.per_row else hidden


def table(width, seed=0):
    return np.random.default_rng(seed).normal(size=(VOCABULARY, width))


def batch_of(rows=4, length=9, seed=1):
    random = np.random.default_rng(seed)
    ids = random.integers(0, VOCABULARY - 1, (rows, length)).astype(np.int32)
    mask = (np.arange(length)[None] < random.integers(3, length + 1, rows)[:, None]).astype(np.int32)
    return {"input_ids": ids, "attention_mask": mask}


def test_next_token_is_the_mean_over_real_pairs():
    batch, logits = batch_of(), table(VOCABULARY)
    result = objectives.next_token(TableModel(logits), batch, jax.random.key(0), False)
    expected, count = 0.0, 0
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        for t in range(len(ids) - 1):
            if mask[t] and mask[t + 1]:
                expected -= log_softmax(logits[ids[t]])[ids[t + 1]]
                count += 1
    assert int(result.sums["count"]) == count
    np.testing.assert_allclose(result.sums["loss_sum"], expected, rtol=1e-6)
    assert "correct" not in objectives.next_token(TableModel(logits), batch, jax.random.key(0), True).sums


@pytest.mark.parametrize("name", ["next_token", "masked", "classification", "tagging", "span"])
def test_padding_never_contributes(name):
    """NaN logits on padding, and rows that only fill the batch, change neither the loss nor its gradient."""
    batch = batch_of()
    batch["input_ids"][batch["attention_mask"] == 0] = 21  # the padding token
    batch["valid"] = np.array([True, True, True, False])
    batch["input_ids"][3] = 21
    random = np.random.default_rng(3)
    if name == "classification":
        batch["labels"] = np.array([1, 0, 2, -100], np.int32)
    if name == "tagging":
        batch["labels"] = np.where(batch["attention_mask"] == 1, random.integers(0, 5, (4, 9)), -100).astype(np.int32)
    if name == "span":
        batch |= {"start_positions": np.array([0, 1, 2, 99]), "end_positions": np.array([1, 2, 2, 99])}
    function = {
        "next_token": objectives.next_token,
        "masked": objectives.masked_token(MASK),
        "classification": objectives.classification,
        "tagging": objectives.tagging,
        "span": objectives.span,
    }[name]
    width = {"span": 2, "next_token": VOCABULARY, "masked": VOCABULARY}.get(name, 5)

    def loss(logits, wanted):
        model = TableModel(np.zeros((VOCABULARY, width)), per_row=name == "classification")
        model.table = logits
        result = function(model, wanted, jax.random.key(5), True)
        return result.sums["loss_sum"] / result.sums["count"]

    clean = jnp.asarray(table(width), jnp.float32)
    if name == "span":  # a span's softmax runs over the row, as in transformers: only the filling row is poisoned
        batch["attention_mask"][:] = 1
        batch["input_ids"][:3] = random.integers(0, 20, (3, 9))
    poisoned = clean.at[21].set(jnp.nan)
    only_real = {k: v[:3] for k, v in batch.items()}
    if name == "masked":  # the draw of masked tokens depends on the batch's shape; compare on the same one
        only_real = batch
    value, gradient = jax.value_and_grad(loss)(clean, only_real)
    poisoned_value, poisoned_gradient = jax.value_and_grad(loss)(poisoned, batch)
    np.testing.assert_allclose(poisoned_value, value, rtol=1e-6)
    np.testing.assert_allclose(np.delete(poisoned_gradient, 21, 0), np.delete(gradient, 21, 0), atol=1e-7)


def test_classification_and_tagging_against_scipy():
    batch, logits = batch_of(), table(5)
    batch["labels"] = np.array([0, 1, 2, 3], np.int32)
    result = objectives.classification(TableModel(logits, per_row=True), batch, jax.random.key(0), False)
    rows = logits[batch["input_ids"][:, 0]]
    expected = -log_softmax(rows, axis=-1)[np.arange(4), batch["labels"]].sum()
    np.testing.assert_allclose(result.sums["loss_sum"], expected, rtol=1e-6)
    np.testing.assert_array_equal(result.outputs["predictions"], rows.argmax(-1))
    assert int(result.sums["correct"]) == int((rows.argmax(-1) == batch["labels"]).sum())

    tags = np.random.default_rng(2).integers(0, 5, (4, 9)).astype(np.int32)
    tags[:, ::2] = -100
    result = objectives.tagging(TableModel(logits), {**batch, "labels": tags}, jax.random.key(0), False)
    scores = log_softmax(logits[batch["input_ids"]], axis=-1)
    expected = -sum(scores[b, t, tags[b, t]] for b in range(4) for t in range(1, 9, 2))
    np.testing.assert_allclose(result.sums["loss_sum"], expected, rtol=1e-6)
    assert int(result.sums["count"]) == 16


def test_span_is_half_of_each_end():
    batch, logits = batch_of(), table(2)
    batch |= {"start_positions": np.array([0, 1, 2, 3]), "end_positions": np.array([4, 4, 5, 6])}
    result = objectives.span(TableModel(logits), batch, jax.random.key(0), False)
    scores = log_softmax(logits[batch["input_ids"]], axis=1)
    rows = np.arange(4)
    expected = -(scores[rows, batch["start_positions"], 0] + scores[rows, batch["end_positions"], 1]).sum() / 2
    np.testing.assert_allclose(result.sums["loss_sum"], expected, rtol=1e-6)
    assert result.outputs["span_logits"].shape == (4, 9, 2)


def test_masking_is_15_percent_of_each_row_and_80_10_10():
    rows, length = 400, 80
    random = np.random.default_rng(0)
    ids = random.integers(0, 1000, (rows, length)).astype(np.int32)
    lengths = random.integers(1, length + 1, rows)
    maskable = (np.arange(length)[None] < lengths[:, None]).astype(np.int32)
    masked = objectives.mask_tokens(jax.random.key(1), ids, maskable, mask_token_id=1001, vocab_size=1000)
    chosen = np.asarray(masked.weight).sum(1)
    np.testing.assert_array_equal(chosen, np.maximum(1, np.floor(0.15 * lengths + 0.5)))
    weight = np.asarray(masked.weight) > 0
    positions, targets = np.asarray(masked.positions)[weight], np.asarray(masked.targets)[weight]
    row = np.nonzero(weight)[0]
    assert len(set(zip(row.tolist(), positions.tolist(), strict=True))) == len(row), "a token was chosen twice"
    assert maskable[row, positions].all(), "a token was chosen that may not be"
    np.testing.assert_array_equal(ids[row, positions], targets)
    new = np.asarray(masked.input_ids)
    untouched = np.ones_like(ids, bool)
    untouched[row, positions] = False
    np.testing.assert_array_equal(new[untouched], ids[untouched])
    seen = new[row, positions]
    # Binomial standard error with about 2,400 draws: 0.8 %; five of them.
    assert abs((seen == 1001).mean() - 0.8) < 0.04
    assert abs((seen == targets).mean() - 0.1) < 0.04
    again = objectives.mask_tokens(jax.random.key(1), ids, maskable, mask_token_id=1001, vocab_size=1000)
    np.testing.assert_array_equal(again.input_ids, masked.input_ids)


def test_a_row_without_maskable_tokens_masks_nothing():
    masked = objectives.mask_tokens(
        jax.random.key(0), jnp.ones((2, 8), jnp.int32), jnp.zeros((2, 8), jnp.int32), mask_token_id=5, vocab_size=6
    )
    assert int(masked.weight.sum()) == 0
    np.testing.assert_array_equal(masked.input_ids, 1)


def test_evaluation_of_a_masked_model_scores_hidden_tokens_only():
    """A model that copies its input scores nothing: the targets are hidden from it, unlike in ModelArena's code."""
    copy = np.eye(VOCABULARY) * 50.0
    batch = batch_of(rows=64)
    result = objectives.masked_token(MASK)(TableModel(copy), batch, jax.random.key(0), False)
    share = float(result.sums["correct"] / result.sums["count"])
    assert share < 0.35, "only the 10 % that stay, and the random ones that happen to hit, can be copied"


def test_bad_requests():
    with pytest.raises(ArenaError, match="did you mean 'masked-lm'"):
        objectives.objective_for("maskd-lm")
    with pytest.raises(ArenaError, match="mask token"):
        objectives.objective_for("masked-lm")
    with pytest.raises(ArenaError, match=r"rate is 1\.5"):
        objectives.masked_token(3, rate=1.5)
