"""Texts that share a row do not see one another, whoever computes attention; parity/checks/packing.py has PyTorch."""

import jax
import numpy as np
import pytest

from arena_jax import ArenaError, models

IDS = np.array([[5, 6, 7, 8, 9, 4, 3, 3], [5, 6, 7, 8, 4, 9, 0, 0]], np.int32)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 3, 3, 3], [1, 1, 2, 2, 2, 2, 0, 0]], np.int32)
MASK = (SEGMENTS > 0).astype(np.int32)
LIBRARY = ({"attention": "dot_product"}, {"attention": "dot_product", "right_padded": True})


@pytest.mark.parametrize("options", [{}, *LIBRARY, {"remat": "block"}])
@pytest.mark.parametrize(("family", "task"), [("gpt2", "causal-lm"), ("bert", "masked-lm"), ("roberta", "masked-lm")])
def test_a_segment_is_what_it_is_alone(family, task, options):
    pad = {"pad_token_id": 1} if family == "roberta" else {}
    model = models.create(models.preset(f"{family}-tiny", **pad, **options), task)
    together = np.asarray(model.encode(IDS, MASK, segment_ids=SEGMENTS))
    for row in range(2):
        for segment in range(1, SEGMENTS[row].max() + 1):
            own = SEGMENTS[row] == segment
            np.testing.assert_allclose(together[row, own], model.encode(IDS[row : row + 1, own])[0], atol=3e-6)


def test_a_tokens_gradient_stays_in_its_segment():
    model = models.create("bert-tiny", "masked-lm")
    structure, params = models.split(model)

    def first_segment(table):
        replaced = {**params, "embeddings": {**params["embeddings"], "position": {"embedding": table}}}
        hidden = models.merge(structure, replaced).encode(IDS[:1], MASK[:1], segment_ids=SEGMENTS[:1])
        return (hidden[0, 3:5] ** 2).sum()

    gradient = jax.grad(first_segment)(params["embeddings"]["position"]["embedding"])
    assert np.flatnonzero(np.abs(gradient).sum(1)).tolist() == [0, 1]


def test_segments_of_another_shape_are_refused():
    with pytest.raises(ArenaError, match="segment_ids must have the shape of input_ids"):
        models.create("gpt2-tiny", "causal-lm").encode(IDS, MASK, segment_ids=SEGMENTS[:1])
