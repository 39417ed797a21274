"""Model types that are one of the three families under another name: what is refused, and in which words."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from arena_jax import ArenaError, models
from arena_jax.models.model_types import MODEL_TYPES

SMALL = {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 12, "vocab_size": 11, "max_position_embeddings": 6}


def test_a_model_without_token_types_refuses_them_compiled_or_not():
    config = models.config_from_hf({"model_type": "distilbert", **SMALL})
    model = models.create(config, task="masked-lm")
    ids = jnp.ones((1, 4), jnp.int32)
    with pytest.raises(ArenaError, match="distilbert has no token types"):
        model(ids, token_type_ids=ids)
    assert models.facts(config, "masked-lm", "m").token_types == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "distilbert"}, "type_vocab_size is 0 in distilbert"),
        ({"model_type": "camembert"}, "camembert is of the family roberta, not bert"),
        ({"model_type": "distilbret"}, "did you mean 'distilbert'"),
        ({"embedding_size": 16}, "embedding_size is hidden_size in bert"),
        ({"span_dropout": 0.1}, "bert has no span_dropout"),
    ],
)
def test_what_a_type_does_not_have_is_refused(changes, words):
    with pytest.raises(ArenaError, match=words):
        models.preset("bert-tiny").replace(**changes)


def test_a_task_that_a_type_has_no_class_for():
    config = models.config_from_hf({"model_type": "distilbert", **SMALL})
    with pytest.raises(ArenaError, match="distilbert has no causal-lm"):
        models.create(config, task="causal-lm")
    with pytest.raises(ArenaError, match="use that one"):
        models.config_from_hf({"model_type": "distilbert", **SMALL, "tie_weights_": False})
    with pytest.raises(ArenaError, match="implemented are bert, roberta"):
        models.config_from_hf({"model_type": "t5"})


def test_every_type_names_its_classes_and_its_family_once():
    names = [name for kind in MODEL_TYPES.values() for name in kind.tasks]
    assert len(names) == len(set(names))
    assert {kind.family for kind in MODEL_TYPES.values()} == {"bert", "roberta", "gpt2"}


def test_a_narrow_table_is_counted():
    config = models.config_from_hf({"model_type": "electra", "embedding_size": 128, "hidden_size": 256})
    same = config.replace(embedding_size=256)
    assert models.forward_flops(config, 8, head=False) - models.forward_flops(same, 8, head=False) == 2 * 128 * 256
