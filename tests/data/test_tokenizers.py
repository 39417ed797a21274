import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest
from tokenizers import normalizers

from arena_jax.config.errors import ArenaError
from arena_jax.data import load_tokenizer, python_docs, synthetic_sentiment, train_tokenizer

FAMILIES = ("bert", "roberta", "gpt2")
TEXTS = ("This movie is really good!", "Wörter, 😀 emoji\tand\n  spaces", "")


@pytest.fixture(scope="module")
def trained():
    data = python_docs("validation")
    return {family: train_tokenizer(data, family, vocab_size=600) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_are_the_familys(trained, family):
    tokenizer = trained[family]
    assert tokenizer.vocab_size == 600
    encoding = tokenizer.encode("some words", "and more")
    first, last = {"bert": ("[CLS]", "[SEP]"), "roberta": ("<s>", "</s>"), "gpt2": (None, None)}[family]
    if first:
        assert (encoding.tokens[0], encoding.tokens[-1]) == (first, last)
    if family == "roberta":
        assert encoding.tokens.count("</s>") == 3  # as the original: two between the pair
        assert tokenizer.pad_id == 1  # positions start after it
    if family == "bert":
        assert set(encoding.type_ids) == {0, 1}
    if family == "gpt2":
        assert tokenizer.pad_id == tokenizer.eos_id
        assert tokenizer.mask_id is None
        assert "attention mask" in tokenizer.report()[1]
    assert tokenizer.token_types == (family == "bert")


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_byte_level_tokenizers_spell_any_text(trained, family):
    for text in TEXTS:
        assert trained[family].decode(trained[family].encode(text).ids) == text


def test_what_is_left_out_of_texts_is_found_by_trial(trained):
    lost = {family: trained[family].left_out for family in FAMILIES}
    blanks, control = "the kind and number of blanks", "control characters"
    assert lost == {"bert": ("capitals", "accents", control, blanks), "roberta": (), "gpt2": ()}
    for normalizer, left_out in (
        (normalizers.BertNormalizer(lowercase=False), (control, blanks)),
        (normalizers.Lowercase(), ("capitals", blanks)),
        (normalizers.NFKC(), ("the choice among forms of a letter", blanks)),
        (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), ("accents", blanks)),
    ):
        backend = trained["bert"].configured()
        backend.normalizer = normalizer
        assert dataclasses.replace(trained["bert"], backend=backend).left_out == left_out, normalizer


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_read_back_also_next_to_a_models_config(trained, family, tmp_path):
    trained[family].save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    again = load_tokenizer(tmp_path)
    for text in TEXTS:
        ours, theirs = trained[family].encode(text, "pair"), again.encode(text, "pair")
        assert (ours.ids, ours.type_ids, ours.offsets) == (theirs.ids, theirs.type_ids, theirs.offsets)
    same = ("family", "vocab_size", "special_ids", "token_types", "separator_id")
    same += tuple(f"{role}_id" for role in ("pad", "unk", "bos", "eos", "cls", "sep", "mask"))
    for field in same:
        assert getattr(again, field) == getattr(trained[family], field), field


def test_the_same_data_gives_the_same_tokenizer_in_another_process():
    code = (
        "import hashlib; from arena_jax.data import synthetic_sentiment, train_tokenizer\n"
        "for family in ('bert', 'roberta', 'gpt2'):\n"
        "    tokenizer = train_tokenizer(synthetic_sentiment(), family, vocab_size=400)\n"
        "    print(hashlib.sha256(tokenizer.backend.to_str().encode()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = []
    for family in FAMILIES:
        tokenizer = train_tokenizer(synthetic_sentiment(), family, vocab_size=400)
        own.append(hashlib.sha256(tokenizer.backend.to_str().encode()).hexdigest())
    assert done.stdout.split() == own


@pytest.mark.parametrize("family", FAMILIES)
def test_hugging_face_folders(arena_data, family):
    transformers = pytest.importorskip("transformers")
    folder = arena_data / "tokenizers" / family
    ours, theirs = load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.family == family
    assert ours.vocab_size == len(theirs)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"]
    assert ours.token_types == ("token_type_ids" in theirs("x"))
    assert ours.pad_id == (theirs.eos_token_id if family == "gpt2" else theirs.pad_token_id)


def test_configured_copies_leave_the_tokenizer_alone(trained):
    text = "many words " * 20
    before = trained["bert"].encode(text).ids
    copy = trained["bert"].configured(8)
    assert len(copy.encode(text).ids) == 8
    assert trained["bert"].encode(text).ids == before


def test_bad_requests_are_one_line(trained, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{not json")
    (tmp_path / "file").write_text("")
    for call in (
        lambda: train_tokenizer(synthetic_sentiment(), "brt"),
        lambda: train_tokenizer(["  "], "bert"),
        lambda: train_tokenizer(["a b"], "gpt2", vocab_size=100),
        lambda: train_tokenizer(["a b"], "bert", vocab_size=3),
        lambda: load_tokenizer(tmp_path / "missing"),
        lambda: load_tokenizer(tmp_path),
        lambda: load_tokenizer("no-such-tokenizer-anywhere"),
        lambda: trained["bert"].save(tmp_path / "file" / "below"),
    ):
        with pytest.raises(ArenaError) as caught:
            call()
        assert "\n" not in str(caught.value)
