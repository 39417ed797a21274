"""What a causal model writes: as it would by itself, whatever the batch; drawn as often as it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.models.generate import likely_logits

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], list(range(20, 39))]


@pytest.fixture(scope="module")
def writer():
    model = models.create("gpt2-tiny", task="causal-lm", seed=3)
    structure, params = models.split(model)
    return models.merge(structure, jax.tree.map(lambda p: 3 * p, params))  # far from a tie


@pytest.mark.slow
def test_the_likeliest_tokens_one_after_the_other(writer):
    written = models.generate(writer, PROMPTS[:3], tokens=5)
    for prompt, text in zip(PROMPTS, written, strict=False):
        ids = list(prompt)
        for token in text:
            assert token == int(np.argmax(writer(jnp.asarray([ids], jnp.int32))[0, -1]))
            ids.append(token)


def test_a_text_ends_before_its_end_and_the_others_go_on(writer):
    plain = models.generate(writer, PROMPTS, tokens=6)
    end = plain[0][2]
    ended = models.generate(writer, PROMPTS, tokens=6, end_id=end)
    assert ended == [text[: text.index(end)] if end in text else text for text in plain]
    assert len(ended[0]) == plain[0].index(end)
    assert models.generate(writer, PROMPTS[:1], tokens=6, end_id=plain[0][0]) == [[]]


def test_draws_are_a_prompts_own_and_the_seeds(writer):
    options = {"tokens": 6, "temperature": 1.5, "top_k": 40, "top_p": 0.95}
    drawn = models.generate(writer, PROMPTS, **options)
    assert models.generate(writer, PROMPTS, **options, batch_size=2) == drawn
    assert models.generate(writer, PROMPTS[:1], **options) == drawn[:1]
    assert models.generate(writer, PROMPTS, **options, seed=1) != drawn
    assert models.generate(writer, PROMPTS, tokens=6, temperature=1.5, top_k=1) == models.generate(
        writer, PROMPTS, tokens=6
    )


def test_tokens_are_drawn_as_often_as_they_are_likely(writer):
    """A chi-square test against the probabilities of the model's own logits, of the first and of the second token."""
    count = 2000
    drawn = np.array(models.generate(writer, [[5, 6]] * count, tokens=2, temperature=2.0, top_k=6, batch_size=count))
    logits = writer(jnp.asarray([[5, 6]], jnp.int32))[0, -1]
    first = np.asarray(jax.nn.softmax(likely_logits(logits, 2.0, top_k=6)))
    common = np.bincount(drawn[:, 0]).argmax()
    following = writer(jnp.asarray([[5, 6, common]], jnp.int32))[0, -1]
    second = np.asarray(jax.nn.softmax(likely_logits(following, 2.0, top_k=6)))
    for tokens, probabilities in ((drawn[:, 0], first), (drawn[drawn[:, 0] == common, 1], second)):
        observed = np.bincount(tokens, minlength=len(probabilities))
        assert not observed[probabilities == 0].any()
        there, probabilities = probabilities > 0, probabilities.astype(np.float64)
        expected = probabilities[there] / probabilities[there].sum() * len(tokens)
        assert scipy.stats.chisquare(observed[there], expected).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_causal_models_of_the_other_families_write_too(family):
    model = models.create(models.preset(f"{family}-tiny").replace(is_decoder=True), task="causal-lm", seed=1)
    structure, params = models.split(model)
    model = models.merge(structure, jax.tree.map(lambda p: 3 * p, params))
    for prompt, text in zip(PROMPTS, models.generate(model, PROMPTS, tokens=4), strict=True):
        ids = list(prompt)
        for token in text:
            assert token == int(np.argmax(model(jnp.asarray([ids], jnp.int32))[0, -1]))
            ids.append(token)


BAD = {
    "empty": ([[]], {}, "prompt 1 is empty"),
    "long": ([[1] * 120], {"tokens": 40}, "prompt 1 has 120 tokens and 40 are to be written, but the model takes"),
    "foreign": ([[10**6]], {}, "a token outside of 0 to"),
    "none": ([[1]], {"tokens": 0}, "tokens is 0"),
    "cold": ([[1]], {"temperature": -1.0}, "temperature is -1.0"),
    "nucleus": ([[1]], {"temperature": 1.0, "top_p": 0.0}, "top_p is 0.0"),
    "k": ([[1]], {"temperature": 1.0, "top_k": 0}, "top_k is 0"),
    "idle": ([[1]], {"top_k": 3}, "do nothing where the likeliest token is taken"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_written_is_refused(name, writer):
    prompts, options, message = BAD[name]
    with pytest.raises(ArenaError, match=message):
        models.generate(writer, prompts, **options)


def test_only_causal_models_write():
    with pytest.raises(ArenaError, match="only a causal language model writes"):
        models.generate(models.create("bert-tiny", task="masked-lm"), [[1]])
