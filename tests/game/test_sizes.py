"""The N of the scaling laws: parameters as the papers count them."""

import jax
import numpy as np
from flax import nnx

from arena_jax import models


def test_gpt2_small_has_124439808_parameters():
    """Known answer: the tied GPT-2 small of Radford et al. 2019, as published on the Hugging Face hub."""
    model = nnx.eval_shape(lambda: models.create(models.preset("gpt2"), task="causal-lm", seed=0))
    shapes = jax.tree.leaves(models.split(model)[1])
    assert sum(int(np.prod(leaf.shape)) for leaf in shapes) == 124_439_808
