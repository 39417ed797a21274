"""Faults in attention that is computed in chunks."""

from __future__ import annotations

from parity.mutants.fault import fault

CHUNKS, CHUNKED = "models.chunked_attention", "attention in chunks/{}/{}/float64"
CHUNKED_BERT, CHUNKED_GPT2 = CHUNKED.format("bert", "masked-lm"), CHUNKED.format("gpt2", "causal-lm")

MUTANTS = (
    fault(
        "chunks of queries put together in the wrong order",
        f"{CHUNKS}:chunked_attention",
        "jnp.moveaxis(mixed, 0, 2)",
        "jnp.moveaxis(mixed[::-1], 0, 2)",
        CHUNKED_BERT,
    ),
    fault(
        "a chunk's mask is not applied where it is computed again",
        f"{CHUNKS}:_backward",
        "_scores(q, keys, mask)",
        "_scores(q, keys, None)",
        CHUNKED_GPT2,
    ),
    fault(
        "keys' gradients are the last chunk's alone",
        f"{CHUNKS}:_backward",
        "of_keys += _product",
        "of_keys = _product",
        CHUNKED_BERT,
    ),
    fault(
        "scores' gradients lack what the softmax subtracts",
        f"{CHUNKS}:_backward",
        "weights * (of_weights - inner)",
        "weights * of_weights",
        CHUNKED_BERT,
    ),
    fault(
        "a chunk drops the weights of the first",
        f"{CHUNKS}:_dropped",
        "+ first + number[2]",
        "+ 0 * first + number[2]",
        "tests/models/test_chunked_attention.py::test_values_and_gradients",
    ),
)
