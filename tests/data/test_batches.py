import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax.config.errors import ArenaError
from arena_jax.data import (
    Batches,
    Dataset,
    common_padding,
    encode,
    evaluation_batches,
    synthetic_sentiment,
    train_tokenizer,
)

ROWS = 37


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(synthetic_sentiment(), "bert")


@pytest.fixture(scope="module")
def rows(tokenizer):
    """Rows with several padded lengths; the label is the row's number."""
    texts = [" ".join(["good"] * (1 + (7 * index) % 30)) for index in range(ROWS)]
    columns = {"text": texts, "label": list(range(ROWS))}
    data = Dataset("numbered", "sequence-classification", "train", columns, tuple(map(str, range(ROWS))))
    return encode(data, tokenizer, max_length=32, lengths=[8, 16, 32])


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def drawn(batches, sizes):
    return np.concatenate([batches.next(size)["labels"] for size in sizes])


def test_every_epoch_has_every_row_once_in_a_new_order(rows):
    batches = Batches(rows, seed=5)
    first, second = drawn(batches, [ROWS]), drawn(batches, [10, 10, 17])
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert (first != second).any()
    assert batches.epoch == 2
    assert batches.examples_seen == 2 * ROWS


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_the_stream_does_not_depend_on_the_batch_sizes(rows, sizes, seed):
    whole = drawn(Batches(rows, seed=seed), [sum(sizes)])
    np.testing.assert_array_equal(drawn(Batches(rows, seed=seed), sizes), whole)


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(st.integers(1, 50), max_size=6),
    after=st.lists(st.integers(1, 50), min_size=1, max_size=6),
)
def test_a_restored_stream_goes_on_to_the_bit(rows, before, after):
    batches = Batches(rows, seed=2)
    for size in before:
        batches.next(size)
    again = Batches(rows, seed=2)
    again.restore(json.loads(json.dumps(batches.state())))
    for size in after:
        same(again.next(size), batches.next(size))
    assert again.state() == batches.state()


def test_padding_is_to_the_smallest_allowed_length(rows):
    batches = Batches(rows, seed=0, run=4)
    seen = set()
    for _ in range(40):
        batch = batches.next(2)
        longest = int(batch["attention_mask"].sum(1).max())
        length = batch["input_ids"].shape[1]
        assert length == min(allowed for allowed in rows.lengths if allowed >= longest)
        assert (batch["input_ids"][batch["attention_mask"] == 0] == rows.fill["input_ids"]).all()
        seen.add(length)
    assert seen == {8, 16, 32}


def test_rows_of_one_length_come_together(rows):
    batches = Batches(rows, seed=1, run=4)
    mixed = 0
    for _ in range(ROWS // 4):
        lengths = batches.next(4)["attention_mask"].sum(1)
        mixed += len({int(np.searchsorted(rows.lengths, length)) for length in lengths}) > 1
    assert mixed <= 5  # at random nearly all nine would be


@pytest.mark.parametrize("count", [2, 4])
def test_the_processes_shares_make_up_the_global_batch(rows, count):
    alone = Batches(rows, seed=3)
    group = [Batches(rows, seed=3, process_index=index, process_count=count) for index in range(count)]
    for size in (8, 4, 20):
        parts = [batches.next(size) for batches in group]
        whole = alone.next(size)
        same({name: np.concatenate([part[name] for part in parts]) for name in whole}, whole)
    assert all(batches.state() == alone.state() for batches in group)


@pytest.mark.parametrize("size", [1, 8, ROWS, 50])
def test_evaluation_sees_each_row_once_and_in_order(rows, size):
    labels, total = [], 0
    for batch in evaluation_batches(rows, size):
        assert len(batch["labels"]) == size
        assert (batch["attention_mask"].sum(1) > 0).all()  # a filled row never attends to nothing
        labels += batch["labels"][batch["valid"]].tolist()
        total += 1
    assert labels == list(range(ROWS))
    assert total == -(-ROWS // size)


def test_evaluation_is_divided_among_processes(rows):
    whole = list(evaluation_batches(rows, 10))
    halves = [list(evaluation_batches(rows, 10, process_index=index, process_count=2)) for index in (0, 1)]
    for batch, left, right in zip(whole, *halves, strict=True):
        same({name: np.concatenate([left[name], right[name]]) for name in batch}, batch)


def test_filled_rows_carry_no_bytes(tokenizer):
    data = Dataset("docs", "language-model", "train", {"text": ["good movie " * 30]})
    rows = encode(data, tokenizer, max_length=16)
    total = sum(float(batch["bytes"].sum()) for batch in evaluation_batches(rows, 4))
    assert len(rows) % 4
    assert total == len("good movie " * 30)


@pytest.fixture(scope="module")
def shared(rows):
    """The same examples in the tokens of two families."""
    other = encode(rows.source, train_tokenizer(rows.source, "gpt2", vocab_size=300), max_length=32, lengths=[8, 24])
    return {"bert": rows, "gpt2": other}


def test_models_that_share_a_padding_draw_the_same_examples_at_one_length(shared):
    padding = common_padding(shared)
    streams = [Batches(rows, seed=4, padding=padding, run=4) for rows in shared.values()]
    seen = set()
    for _ in range(30):
        one, other = (stream.next(4) for stream in streams)
        np.testing.assert_array_equal(one["labels"], other["labels"])
        assert one["input_ids"].shape == other["input_ids"].shape
        for rows, batch in zip(shared.values(), (one, other), strict=True):
            np.testing.assert_array_equal(batch["attention_mask"].sum(1), rows.row_lengths[batch["labels"]])
        seen.add(one["input_ids"].shape[1])
    assert seen <= {8, 16, 24, 32}


def test_a_position_is_not_restored_under_another_padding(shared):
    alone = Batches(shared["bert"], seed=4)
    together = Batches(shared["bert"], seed=4, padding=common_padding(shared))
    with pytest.raises(ArenaError, match="fingerprint"):
        alone.restore(together.state())


def test_packed_text_has_no_common_padding(tokenizer):
    data = Dataset("docs", "language-model", "train", {"text": ["good movie " * 30]})
    assert common_padding({"a": encode(data, tokenizer, max_length=16)}) is None


def test_steps_per_epoch_rounds_up(rows):
    assert [Batches(rows).steps_per_epoch(size) for size in (1, 8, 37, 38)] == [37, 5, 1, 1]


def test_bad_requests_are_one_line(rows, tokenizer):
    other = Batches(encode(synthetic_sentiment(), tokenizer)).state()
    own = Batches(rows).state()
    for call in (
        lambda: Batches(rows).next(0),
        lambda: Batches(rows, process_count=2).next(3),
        lambda: Batches(rows, process_index=2, process_count=2),
        lambda: Batches(rows, seed=-1),
        lambda: Batches(rows, run=0),
        lambda: Batches(rows).restore(other),
        lambda: Batches(rows, seed=1).restore(own),
        lambda: Batches(rows).restore({"epoch": 0}),
        lambda: Batches(rows).restore({**own, "position": ROWS}),
        lambda: evaluation_batches(rows, 0),
        lambda: evaluation_batches(rows, 3, process_count=2),
    ):
        with pytest.raises(ArenaError) as caught:
            call()
        assert "\n" not in str(caught.value)
