"""Tokenizer folders as they come: without vocabulary, with settings inside, cutting on the left."""

import json

import pytest
import tokenizers

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, encode, load_tokenizer, synthetic_sentiment, train_tokenizer

FAMILIES = ("bert", "roberta", "gpt2")
TEXT = "one two three four five six seven eight nine ten"


@pytest.fixture(scope="module")
def trained():
    return {family: train_tokenizer(synthetic_sentiment(), family, vocab_size=400) for family in FAMILIES}


@pytest.fixture
def saved(trained, tmp_path):
    def save(family, **changes):
        trained[family].save(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
        config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | changes
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return tmp_path

    return save


def refused(call):
    with pytest.raises(ArenaError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def texts(*rows):
    return Dataset("d", "sequence-classification", "all", {"text": list(rows), "label": [0] * len(rows)}, ("x", "y"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_a_vocabulary_is_no_tokenizer(tmp_path, family):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    assert "holds no tokenizer" in refused(lambda: load_tokenizer(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    assert "holds no tokenizer" in refused(lambda: load_tokenizer(tmp_path))


def test_half_a_vocabulary_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (tmp_path / "vocab.json").write_text(json.dumps({"<|endoftext|>": 0, "a": 1}))
    assert "without merges.txt" in refused(lambda: load_tokenizer(tmp_path))


def test_a_hint_is_never_what_was_given(trained, tmp_path):
    trained["gpt2"].backend.model.save(str(tmp_path))
    message = refused(lambda: load_tokenizer(tmp_path))
    assert f"did you mean '{tmp_path}'" not in message
    assert "config.json" in message


def test_pointers_of_git_lfs(saved):
    folder = saved("bert")
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    assert "git lfs pull" in refused(lambda: load_tokenizer(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_inside_tokenizer_json_are_not_applied_and_said(saved, family):
    folder = saved(family)
    plain = load_tokenizer(folder)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    backend.save(str(folder / "tokenizer.json"))
    ours = load_tokenizer(folder)
    assert ours.encode(TEXT).ids == plain.encode(TEXT).ids
    assert any("cut texts at 4 tokens: not applied" in note for note in ours.notes)
    assert any("would pad texts: not applied" in note for note in ours.notes)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_long_text_is_cut_on_the_side_that_the_tokenizer_says(saved, family, side):
    transformers = pytest.importorskip("transformers")
    folder = saved(family, truncation_side=side)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    rows = encode(texts(TEXT, "a"), load_tokenizer(folder), max_length=6)
    assert rows.tokens["input_ids"][0].tolist() == theirs(TEXT, truncation=True, max_length=6)["input_ids"]
    pairs = Dataset(
        "d",
        "sequence-classification",
        "all",
        {"text": [TEXT], "text_pair": ["alpha beta gamma delta"], "label": [0]},
        ("x", "y"),
    )
    own = encode(pairs, load_tokenizer(folder), max_length=12).tokens["input_ids"][0].tolist()
    assert own == theirs(TEXT, "alpha beta gamma delta", truncation=True, max_length=12)["input_ids"]


def test_padding_on_the_left_is_said(saved):
    tokenizer = load_tokenizer(saved("gpt2", padding_side="left"))
    assert tokenizer.facts.padding_side == "left"


def test_token_types_only_where_the_model_has_them(trained):
    pairs = Dataset(
        "d",
        "sequence-classification",
        "all",
        {"text": ["a film"], "text_pair": ["a story"], "label": [0]},
        ("x", "y"),
    )
    counts = (None, 0, 1, 2)
    kinds = {count: encode(pairs, trained["bert"], max_length=32, token_types=count).tokens for count in counts}
    assert "token_type_ids" not in kinds[0]
    assert set(kinds[1]["token_type_ids"].values) == {0}
    assert set(kinds[None]["token_type_ids"].values) == set(kinds[2]["token_type_ids"].values) == {0, 1}


def test_another_token_to_pad_with(saved):
    folder = saved("gpt2")
    ours = load_tokenizer(folder, pad_token="!")
    assert ours.pad_id == ours.backend.token_to_id("!")
    assert any("padded with '!'" in note for note in ours.notes)
    assert "has no token" in refused(lambda: load_tokenizer(folder, pad_token="[NOPE]"))


def test_a_cased_vocabulary_behind_small_letters_is_said(saved):
    folder = saved("bert")
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"Name{index}": len(vocabulary) + index for index in range(60)}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert any("is it cased?" in note for note in load_tokenizer(folder).notes)
