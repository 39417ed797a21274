import numpy as np
import pytest
from scipy import stats

from arena_jax.data import Batches, Dataset, batches, encode, train_tokenizer
from arena_jax.data.row_order import RowOrder


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 1000, 4096, 4097, 65_537])
def test_every_row_comes_once(count):
    order = RowOrder(count, [3, 1])
    whole = order[0:count]
    assert sorted(whole.tolist()) == list(range(count))
    parts = [order[first : first + 7] for first in range(0, count, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_beyond_32_bits():
    rows = RowOrder(2**40 + 3, [0, 0])[2**33 : 2**33 + 1000]
    assert len(set(rows.tolist())) == 1000
    assert 0.4 < (rows / 2**40).mean() < 0.6


def test_orders_are_as_good_as_chance():
    # Against the distributions of a random permutation: where one row goes, how far neighbours are apart, fixed points.
    count, orders = 50, [RowOrder(50, [seed, epoch])[0:50] for seed in range(80) for epoch in range(50)]
    places = np.bincount([order[7] for order in orders], minlength=count)
    assert stats.chisquare(places).pvalue > 0.01
    pairs = np.bincount([(order[1] - order[0]) % count for order in orders], minlength=count)[1:]
    assert stats.chisquare(pairs).pvalue > 0.01
    fixed = np.array([(order == np.arange(count)).sum() for order in orders])
    assert abs(fixed.mean() - 1) < 4 / len(orders) ** 0.5  # mean 1, variance 1
    correlations = [stats.spearmanr(orders[0], order).statistic for order in orders[1:1000]]
    assert np.std(correlations) == pytest.approx((count - 1) ** -0.5, rel=0.1)


def test_batches_of_many_rows_resume_and_are_dealt_out(monkeypatch):
    monkeypatch.setattr(batches, "LISTED", 20)
    texts = [f"number {number} of many" for number in range(100)]
    tokenizer = train_tokenizer(texts, "gpt2")
    rows = encode(Dataset("x", "language-model", "train", {"text": texts}), tokenizer, max_length=8)
    assert len(rows) > 20
    stream = Batches(rows, seed=2)
    epochs = [np.concatenate([stream.next(1)["input_ids"] for _ in range(len(rows))]) for _ in range(2)]
    assert sorted(map(tuple, epochs[0].tolist())) == sorted(map(tuple, epochs[1].tolist()))
    assert (epochs[0] != epochs[1]).any()
    stream, other = Batches(rows, seed=2), Batches(rows, seed=2)
    stream.next(13)
    other.restore(stream.state())
    halves = [Batches(rows, seed=2, process_index=index, process_count=2) for index in range(2)]
    for half in halves:
        half.restore(stream.state())
    expected = stream.next(len(rows) + 2 - len(rows) % 2)["input_ids"]
    np.testing.assert_array_equal(other.next(len(expected))["input_ids"], expected)
    np.testing.assert_array_equal(np.concatenate([h.next(len(expected))["input_ids"] for h in halves]), expected)
