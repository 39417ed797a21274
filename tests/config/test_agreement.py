"""The one check of model, tokenizer and data, fact by fact."""

import dataclasses

import pytest

from arena_jax.config.agreement import Agreement, DataFacts, ModelFacts, TokenizerFacts, check
from arena_jax.config.errors import ArenaError

BERT = ModelFacts(
    name="m", family="bert", task="sequence-classification", vocab_size=100, max_length=16, token_types=2, pad_id=0
)
ROBERTA = dataclasses.replace(BERT, family="roberta", token_types=1, pad_id=1, ends={"bos": (0,), "eos": (2,)})
GPT2 = dataclasses.replace(BERT, family="gpt2", token_types=0, pad_id=None, ends={"bos": (9,), "eos": (9,)})
TOKENIZER = TokenizerFacts(
    name="t", vocab_size=100, pad_id=0, special={"cls": 2, "sep": 3, "mask": 4, "unk": 1}, token_types=2
)
YES_NO = DataFacts(name="d", label_names=("no", "yes"))


def changed(facts, **changes):
    return dataclasses.replace(facts, **changes)


def test_what_belongs_together_is_left_alone():
    assert check(BERT, TOKENIZER, YES_NO, max_length=16, learning=True).outputs == (0, 1)
    assert check(BERT, TOKENIZER) == Agreement()


@pytest.mark.parametrize(
    ("model", "tokenizer", "length", "said"),
    [
        (BERT, changed(TOKENIZER, vocab_size=101), None, "100 token embeddings, but its tokenizer has 101"),
        (BERT, TOKENIZER, 17, "takes 16 tokens"),
        (ROBERTA, changed(TOKENIZER, token_types=1), None, "counts positions from padding token 1"),
        (changed(BERT, task="masked-lm"), changed(TOKENIZER, special={"cls": 2}), None, "no mask token"),
        (BERT, changed(TOKENIZER, token_types=3), None, "2 token types, but its tokenizer gives 3"),
    ],
)
def test_what_would_give_wrong_numbers_is_refused(model, tokenizer, length, said):
    with pytest.raises(ArenaError, match=said):
        check(model, tokenizer, max_length=length)


def test_everything_wrong_is_told_at_once():
    with pytest.raises(ArenaError) as caught:
        check(BERT, changed(TOKENIZER, vocab_size=200), changed(YES_NO, label_names=("a", "b", "c")), max_length=99)
    assert str(caught.value).count(";") == 2


@pytest.mark.parametrize(
    ("model", "tokenizer", "note"),
    [
        (changed(BERT, vocab_size=30_000), TOKENIZER, "100 tokens for 30,000 embeddings"),
        (BERT, changed(TOKENIZER, pad_id=5), "rows are padded with 5"),
        (changed(ROBERTA, pad_id=0), changed(TOKENIZER, token_types=0), "token 0 is the start of a text"),
        (
            GPT2,
            changed(TOKENIZER, token_types=0, special={"eos": 4}),
            "token 9 is the end of a text, the tokenizer says 4",
        ),
        (BERT, changed(TOKENIZER, padding_side="left"), "pad on the left"),
    ],
)
def test_what_may_be_a_mistake_is_said(model, tokenizer, note):
    assert any(note in line for line in check(model, tokenizer).notes)


def test_a_leftover_outside_the_table_means_nothing():
    assert not check(changed(GPT2, ends={"eos": (50256,)}), changed(TOKENIZER, token_types=0)).notes


def test_token_types_that_a_model_has_not():
    pairs = changed(YES_NO, pairs=True)
    assert check(GPT2, TOKENIZER, pairs).token_types == 0
    single = check(changed(ROBERTA, pad_id=0, ends={}), TOKENIZER, pairs)
    assert single.token_types == 1
    assert any("both texts of a pair" in note for note in single.notes)
    assert check(BERT, TOKENIZER, pairs).token_types is None


NAMED = changed(BERT, num_labels=3, label_names=("good", "bad", "B-PER"))


@pytest.mark.parametrize(
    ("names", "used", "outputs"),
    [
        (("bad", "good"), None, (1, 0)),
        (("good",), None, (0,)),
        (("GOOD", "Bad"), None, (0, 1)),
        (("b_per",), None, (2,)),
        (("bad", "never", "good"), frozenset({0, 2}), (1, -1, 0)),
    ],
)
def test_classes_are_matched_by_name_in_whatever_order(names, used, outputs):
    data = DataFacts(name="d", label_names=names, used=used, numbered=False)
    assert check(NAMED, data=data).outputs == outputs
    assert check(NAMED, data=data, learning=True).outputs == outputs


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (NAMED, DataFacts(name="d", label_names=("good", "worse")), "have worse, which it does not know"),
        (NAMED, DataFacts(name="d", label_names=("0", "1")), "say which class each number is"),
        (NAMED, DataFacts(name="d", label_names=("good", "Good")), "two classes for good"),
        (BERT, DataFacts(name="d", label_names=("a", "b", "c")), "2 outputs, data 'd' have 3 classes"),
        (BERT, changed(YES_NO, numbered=False), "say no order: give the names in the order of the outputs"),
        (BERT, DataFacts(name="d", problem_type="regression"), "regression on data 'd' needs 1"),
        (changed(BERT, problem_type="multi_label_classification"), YES_NO, "is for multi_label_classification"),
        (changed(BERT, problem_type="regression", num_labels=1), YES_NO, "is for regression"),
    ],
)
def test_classes_that_are_not_the_models_are_refused(model, data, said):
    with pytest.raises(ArenaError, match=said):
        check(model, data=data)


def test_a_new_head_is_offered_where_it_helps():
    with pytest.raises(ArenaError, match="--new-head"):
        check(NAMED, data=YES_NO, learning=True)
    with pytest.raises(ArenaError) as caught:
        check(NAMED, data=YES_NO)
    assert "--new-head" not in str(caught.value)


def test_outputs_without_names_take_the_datas():
    found = check(changed(BERT, label_names=("LABEL_0", "LABEL_1")), data=YES_NO)
    assert found.outputs == (0, 1)
    assert "as the data number them: 0 is no, 1 is yes" in found.notes[0]
    assert check(BERT, data=changed(YES_NO, numbered=False), learning=True).outputs == (0, 1)
