"""The corpus' table against one that NumPy makes of dense loops and a dense decomposition."""

import numpy as np
import pytest

from arena_jax import data
from arena_jax.config.errors import ArenaError

TEXTS = data.synthetic_sentiment().take(40)
TOKENIZER = data.train_tokenizer(TEXTS, "gpt2", vocab_size=300)
ROWS = data.encode(TEXTS, TOKENIZER)


def dense(window, smoothing, special):
    size = TOKENIZER.vocab_size
    counts = np.zeros((size, size))
    ids = ROWS.tokens["input_ids"]
    for row in range(len(ids)):
        for i, token in enumerate(ids[row]):
            for j, other in enumerate(ids[row]):
                if i != j and abs(i - j) <= window and not {token, other} & special:
                    counts[token, other] += 1
    neighbours = counts.sum(0) ** smoothing
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts * neighbours.sum() / (counts.sum(1)[:, None] * neighbours[None]))
    return counts, np.where(np.isfinite(information) & (information > 0), information, 0)


@pytest.mark.parametrize(("window", "smoothing"), [(5, 0.75), (1, 1.0)])
def test_it_is_the_truncated_decomposition_of_the_information(window, smoothing):
    special = {int(ROWS.tokens["input_ids"][0][0])}
    counts, information = dense(window, smoothing, special)
    table = data.corpus_table(
        ROWS, TOKENIZER.vocab_size, 12, special_ids=special, window=window, smoothing=smoothing
    ).astype(np.float64)
    left, values, _ = np.linalg.svd(information)
    # Columns up to their signs, which is all that a decomposition leaves open.
    expected = left[:, :12] * np.sqrt(values[:12])
    np.testing.assert_allclose(np.abs((table * expected).sum(0)), values[:12], rtol=1e-5)
    np.testing.assert_allclose(table @ table.T, expected @ expected.T, atol=1e-5)
    assert not table[counts.sum(1) == 0].any()
    assert (table[np.abs(table).argmax(0), np.arange(12)] > 0).all()


def test_it_is_the_same_each_time():
    first, second = (data.corpus_table(ROWS, TOKENIZER.vocab_size, 8) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_what_cannot_be_a_table_is_refused():
    with pytest.raises(ArenaError, match="a table of 300 tokens must be narrower than that, not 300 wide"):
        data.corpus_table(ROWS, 300, 300)
    with pytest.raises(ArenaError, match="no token of synthetic-sentiment has a neighbour"):
        data.corpus_table(ROWS, TOKENIZER.vocab_size, 8, special_ids=range(TOKENIZER.vocab_size))
