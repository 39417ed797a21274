"""Warm starts: the rows that arrive are the source's, by text and by position; everything else stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.config.model import CORPUS, START_PARTS
from arena_jax.models.hand_down import PARTS
from arena_jax.models.token_spelling import match_tokens, read_token

BYTES = {"<|endoftext|>": 0, "Ġthe": 1, "The": 2, "ing": 3, "Ġ": 4, "Ġcaf": 5, "Ã©": 6, ".": 7, "Ġ.": 8, "Ġ##": 9}
WORDS = {"[PAD]": 0, "[CLS]": 1, "the": 2, "##ing": 3, "##é": 4, ".": 5, "caf": 6, "ing": 7, "none": 8, "[MASK]": 9}


def params(model):
    return jax.tree.map(np.asarray, models.split(model)[1])


def model(family, task, seed, **changes):
    shape = {"vocab_size": 12, "hidden_size": 8, "num_heads": 2, "intermediate_size": 16, "max_positions": 20}
    return models.create(models.preset(f"{family}-tiny", **{**shape, **changes}), task=task, seed=seed)


def test_the_configuration_knows_the_parts():
    assert START_PARTS == PARTS
    assert CORPUS == "corpus"


def test_tokens_are_matched_by_their_text():
    matches = match_tokens(BYTES, WORDS)
    pairs = dict(zip(matches.target.tolist(), matches.source.tolist(), strict=True))
    # "the" begins a word; "##ing" does not; é is two bytes; a mark follows without a blank; "ing" for want of " ing"
    assert pairs == {2: 1, 3: 3, 4: 6, 5: 7, 6: 5, 7: 3}
    assert matches.kinds == {"same text": 5, "other capitals": 0, "other blank": 1, "other capitals and blank": 0}


def test_tokens_of_one_spelling_are_matched_by_themselves_and_special_ones_by_their_role():
    source = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "Ġa": 5, "A": 6}
    assert match_tokens(source, source).source.tolist() == list(range(7))
    roles = match_tokens(source, {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "[MASK]": 3, "[PAD]": 4, "##b": 5})
    assert roles.source.tolist() == [0, 2, 3, 4, 1]
    assert match_tokens({"Ġthe": 0}, {"THE": 0, "##THE": 1}).kinds == {
        "same text": 0, "other capitals": 1, "other blank": 0, "other capitals and blank": 1
    }  # fmt: skip
    assert match_tokens({"▁the": 0, "s": 1}, {"the": 0, "##s": 1}).kinds["same text"] == 2


def test_a_byte_level_token_is_read_as_the_library_does():
    """Every token of one byte, and what the tokenizers library decodes it to."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    decode = tokenizers.decoders.ByteLevel().decode
    for letter in letters:
        text = read_token(letter, "byte-level").text
        assert len(text) == 1
        assert text.decode("utf-8", "replace") == decode([letter])


def test_rows_arrive_exactly_and_all_others_stay():
    gpt2, bert = model("gpt2", "causal-lm", 1), model("bert", "masked-lm", 2)
    source, before = params(gpt2)["embeddings"], params(bert)
    start = models.hand_down(gpt2, bert, BYTES, WORDS, matched_scale=False)
    after = params(start.model)
    table = before["embeddings"]["token"]["embedding"].copy()
    table[[2, 3, 4, 5, 6, 7]] = source["token"]["embedding"][[1, 3, 6, 7, 5, 3]]
    np.testing.assert_array_equal(after["embeddings"]["token"]["embedding"], table)
    np.testing.assert_array_equal(after["embeddings"]["position"]["embedding"], source["position"]["embedding"])
    for name in ("token", "position"):
        before["embeddings"].pop(name)
        after["embeddings"].pop(name)
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert start.matched == 6
    assert start.report[0].startswith("embeddings: 6 of 10 tokens by their text (1 with other blank)")


def test_tables_arrive_in_the_scale_of_the_targets_initialiser():
    gpt2 = model("gpt2", "causal-lm", 1)
    structure, tree = models.split(gpt2)
    loud = models.merge(structure, jax.tree.map(lambda x: 7 * x, tree))
    after = params(models.hand_down(loud, model("bert", "masked-lm", 2, initializer_range=0.05), BYTES, WORDS).model)
    rows = after["embeddings"]["token"]["embedding"][[2, 3, 4, 5, 6, 7]]
    assert np.sqrt(np.mean(rows**2)) == pytest.approx(0.05, rel=1e-6)
    assert np.sqrt(np.mean(after["embeddings"]["position"]["embedding"] ** 2)) == pytest.approx(0.05, rel=1e-6)
    source = params(loud)["embeddings"]["token"]["embedding"][[1, 3, 6, 7, 5, 3]]
    np.testing.assert_allclose(rows / rows[0, 0], source / source[0, 0], rtol=1e-5)


def test_positions_are_counted_from_each_familys_first():
    """RoBERTa's first token stands at row pad + 1."""
    gpt2, roberta = model("gpt2", "causal-lm", 1), model("roberta", "masked-lm", 2)
    source = params(gpt2)["embeddings"]["position"]["embedding"]
    table = params(roberta)["embeddings"]["position"]["embedding"].copy()
    tokens = {"<pad>": 1, "Ġthe": 5}
    down = models.hand_down(gpt2, roberta, BYTES, tokens, ["positions"], matched_scale=False)
    table[2:] = source[:18]
    np.testing.assert_array_equal(params(down.model)["embeddings"]["position"]["embedding"], table)
    up = models.hand_down(roberta, gpt2, tokens, BYTES, ["positions"], matched_scale=False)
    expected = source.copy()
    expected[:18] = params(roberta)["embeddings"]["position"]["embedding"][2:]
    np.testing.assert_array_equal(params(up.model)["embeddings"]["position"]["embedding"], expected)
    assert up.report == ("positions: the first 18 of 20, times 1",)


def test_the_padding_row_stays_and_everything_of_one_family_makes_the_source_again():
    first, second = model("roberta", "masked-lm", 1), model("roberta", "masked-lm", 2)
    tokens = {f"Ġ{i}": i for i in range(12)}
    start = models.hand_down(first, second, tokens, tokens, PARTS, matched_scale=False)
    expected, after = params(first), params(start.model)
    before = params(second)["embeddings"]["token"]["embedding"]
    np.testing.assert_array_equal(after["embeddings"]["token"]["embedding"][1], before[1])
    for tree in (expected, after):
        tree.pop("head")
        tree["embeddings"].pop("token_type")
        tree["embeddings"]["token"] = np.delete(tree["embeddings"]["token"]["embedding"], 1, 0)
        tree["embeddings"]["position"] = tree["embeddings"]["position"]["embedding"][2:]
    jax.tree.map(np.testing.assert_array_equal, after, expected)


def test_blocks_and_norms_go_between_families_and_depths():
    gpt2, bert = model("gpt2", "causal-lm", 1, num_layers=3), model("bert", "masked-lm", 2, num_layers=2)
    structure, tree = models.split(gpt2)
    gpt2 = models.merge(structure, jax.tree.map(lambda x: x + 1, tree))
    source, before = params(gpt2), params(bert)
    after = params(models.hand_down(gpt2, bert, BYTES, WORDS, ["blocks", "norms"]).model)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:2]), after["blocks"], source["blocks"])
    jax.tree.map(np.testing.assert_array_equal, after["embeddings"], before["embeddings"])
    deeper = params(models.hand_down(bert, gpt2, WORDS, BYTES, ["blocks"]).model)["blocks"]
    jax.tree.map(
        lambda new, low, high: np.testing.assert_array_equal(new, np.concatenate([low, high[2:]])),
        {name: deeper[name] for name in ("attention", "feed_forward")},
        {name: before["blocks"][name] for name in ("attention", "feed_forward")},
        {name: source["blocks"][name] for name in ("attention", "feed_forward")},
    )
    jax.tree.map(np.testing.assert_array_equal, deeper["attention_norm"], source["blocks"]["attention_norm"])


def test_a_wider_table_is_the_best_one_of_the_targets_width():
    """Inner products of its rows are those of NumPy's truncated singular value decomposition."""
    wide = np.random.default_rng(0).normal(size=(12, 11))
    tokens = {f"Ġ{i}": i for i in range(12)}
    start = models.hand_down(wide, model("gpt2", "causal-lm", 1), tokens, tokens, ["embeddings"], matched_scale=False)
    rows = params(start.model)["embeddings"]["token"]["embedding"].astype(np.float64)
    left, values, _ = np.linalg.svd(wide)
    best = left[:, :8] * values[:8]
    np.testing.assert_allclose(rows @ rows.T, best @ best.T, atol=2e-6)
    assert start.report[-1] == "width: 11 to 8 by the token rows' first singular vectors"


def test_what_does_not_fit_is_refused():
    gpt2, bert = model("gpt2", "causal-lm", 1), model("bert", "masked-lm", 2)
    for arguments, message in (
        ((gpt2, bert, BYTES, WORDS, ["embedings"]), "no part 'embedings' to hand down; did you mean 'embeddings'"),
        ((gpt2, bert, BYTES, WORDS, []), "nothing is to be handed down"),
        ((np.ones((12, 8)), bert, BYTES, WORDS), "a table has token rows alone"),
        ((gpt2, bert, {"Ġx": 1}, WORDS), "no token in common"),
        ((gpt2, bert, {"Ġthe": 12}, WORDS), "source_tokens go up to 12, but the source has 12 rows"),
        ((model("gpt2", "causal-lm", 1, hidden_size=4), bert, BYTES, WORDS), "the source is 4 wide and the target 8"),
        (
            (model("gpt2", "causal-lm", 1, intermediate_size=24), bert, BYTES, WORDS, ["blocks"]),
            "blocks cannot be handed down: intermediate_size is 24 in the source and 16 in the target",
        ),
    ):
        with pytest.raises(ArenaError, match=message):
            models.hand_down(*arguments)


def test_the_new_model_shares_no_array_with_its_source():
    """A step donates its state: the source must not vanish with it."""
    first, second = model("bert", "masked-lm", 1), model("bert", "masked-lm", 2)
    start = models.hand_down(first, second, WORDS, WORDS, PARTS)
    pointers = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(models.split(first)[1])}
    new = models.split(start.model)[1]
    assert not pointers & {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(new)}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new))
