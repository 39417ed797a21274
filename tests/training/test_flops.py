"""The counted operations of a step, against the matrix products in the program of its real gradient."""

import jax
import numpy as np
import optax
import pytest

from arena_jax import models, training
from arena_jax.runtime.products import product_flops
from arena_jax.training.objectives import head_positions, objective_for

ROWS, LENGTH = 3, 14
PAIRS = [
    (family, task)
    for family in ("bert", "roberta", "gpt2")
    for task in models.TASKS
    if (family, task) != ("gpt2", "masked-lm")
]


def counted_and_real(family, task, microbatches=1, **changes):
    """Operations of one step's gradient: as `training_flops` says, and as its program holds them."""
    changes = {"is_decoder": task == "causal-lm" and family != "gpt2", "pad_token_id": 1, **changes}
    sizes = {"hidden_size": 12, "num_layers": 3, "num_heads": 2, "intermediate_size": 20, "vocab_size": 50}
    labels = 2 if task == "question-answering" else 5
    config = models.preset(f"{family}-tiny").replace(num_labels=labels, **{**sizes, **changes})
    model = models.create(config, task=task)
    step = training.make_step(
        {"one": model}, optax.sgd(1.0), {"one": objective_for(task, mask_token_id=4)}, accumulation=microbatches
    )
    shape = (microbatches, ROWS, LENGTH)
    batch = {"input_ids": np.full(shape, 7, np.int32), "attention_mask": np.ones(shape, np.int32)}
    per_token, per_row = np.zeros(shape, np.int32), np.zeros(shape[:2], np.int32)
    batch |= {
        "sequence-classification": {"labels": per_row},
        "token-classification": {"labels": per_token},
        "question-answering": {"start_positions": per_row, "end_positions": per_row},
    }.get(task, {})
    key = step.keys["one"]
    program = jax.make_jaxpr(lambda params: step.gradients("one", params, batch, key, 0))(models.split(model)[1])
    row = models.training_flops(config, task, LENGTH, head_positions(task, LENGTH))
    return microbatches * ROWS * row, product_flops(program.jaxpr)


@pytest.mark.parametrize(("family", "task"), PAIRS)
def test_every_family_and_task_is_charged_what_its_gradient_computes(family, task):
    counted, real = counted_and_real(family, task)
    assert counted == real


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize(
    "changes",
    [
        {"remat": "none"},
        {"remat": "block"},
        {"remat": "block", "head_width": 4, "hidden_dropout": 0.0, "attention_dropout": 0.0},
        {"attention": "dot_product", "attention_dropout": 0.0},
        {"attention": "dot_product", "attention_dropout": 0.0, "remat": "block", "tie_word_embeddings": False},
        {"dtype": "bfloat16"},
        {"attention": "chunked"},
        {"attention": "chunked", "remat": "none"},
        {"attention": "chunked", "remat": "block"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_what_the_backward_pass_computes_again_is_charged(family, changes):
    counted, real = counted_and_real(family, "causal-lm" if family == "gpt2" else "masked-lm", **changes)
    assert counted == real


@pytest.mark.parametrize(("family", "task"), [("bert", "masked-lm"), ("gpt2", "sequence-classification")])
def test_microbatches_add_up(family, task):
    counted, real = counted_and_real(family, task, microbatches=2)
    assert counted == real == 2 * counted_and_real(family, task)[0]


def test_a_forward_pass_of_a_row_is_its_tokens_and_its_heads():
    """By hand, for BERT with hidden tokens: two blocks of (4 + 2) maps and two products of attention, one head."""
    config = models.preset("bert-tiny").replace(hidden_size=8, num_heads=2, intermediate_size=16, vocab_size=30)
    block = 10 * (4 * 2 * 8 * 8 + 2 * 2 * 8 * 16) + 2 * 2 * 10 * 10 * 8
    assert models.row_flops(config, "masked-lm", 10, 2) == 2 * block + 2 * (2 * 8 * 8 + 2 * 8 * 30)
    assert models.forward_flops(config, 10, head=False) == 2 * block / 10
