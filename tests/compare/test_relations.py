"""Relations: which part of a model's numbers is shared with another, by kind."""

import numpy as np

from arena_jax.compare.relations import attention_matrices, sharing
from arena_jax.transforms.correspondence import by_kind, without_kinds


def test_a_kind_that_is_kept_apart_is_shared_with_nobody():
    block = {"attention": {"query": {"kernel": np.ones((2, 3, 3))}}, "mlp": {"up": {"kernel": np.ones((2, 3, 3))}}}
    params = {"a": {"blocks": block}, "b": {"blocks": block}}
    apart = sharing(params, without_kinds(by_kind, ("attention",)))
    assert apart["a", "b"] == {"all": 0.5, "attention": 0.0, "feed-forward": 1.0}
    assert len(attention_matrices(params["a"])) == 2
