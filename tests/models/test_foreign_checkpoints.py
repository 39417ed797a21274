"""Hugging Face folders from elsewhere: other frameworks' options, wrapped names, heads of other tasks, old files."""

import json
import logging
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
perturbed = pytest.importorskip("perturbed", reason="needs torch")

from arena_jax import ArenaError, models  # noqa: E402
from arena_jax.config.agreement import TokenizerFacts  # noqa: E402
from arena_jax.models.huggingface.config import config_from_hf, family_from, ignored_options  # noqa: E402
from arena_jax.models.huggingface.tokenizer_files import tokenizer_facts  # noqa: E402

torch, transformers = perturbed.torch, perturbed.transformers


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of one family and task, made once."""
    folders = {}

    def make(family, task, **options):
        key = (family, task, str(sorted(options.items())))
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("saved")
            perturbed.make(family, task, **options).save_pretrained(folders[key])
        return folders[key]

    return make


def copied(source, target, rename=None, **options):
    """A folder with other names and options; an option of ... is left out."""
    target.mkdir(exist_ok=True)
    tensors = load_file(source / "model.safetensors")
    save_file({rename(k) if rename else k: v for k, v in tensors.items()}, target / "model.safetensors")
    config = json.loads((source / "config.json").read_text()) | options
    kept = {name: value for name, value in config.items() if value is not ...}
    (target / "config.json").write_text(json.dumps(kept))
    return target


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, models.split(one)[1], models.split(other)[1])


@pytest.mark.parametrize(
    "options",
    [
        {"language": "english", "name": "Roberta"},
        {"sentence_transformers": {"version": "4.0.1", "activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"embedding_size": 24, "adapters": {}, "my_own": None},
        {"max_seq_length": 128, "do_lower_case": True, "num_train_epochs": 3},
        {"id2label": {"0": 0, "1": 1}, "label2id": {"0": 0, "1": 1}},
    ],
)
def test_options_of_other_frameworks_change_nothing(saved, tmp_path, options, caplog):
    source = saved("roberta", "sequence-classification", num_labels=2)
    with caplog.at_level(logging.WARNING):
        same(models.from_pretrained(copied(source, tmp_path, **options)), models.from_pretrained(source))
    ignored = [name for name in options if name not in ("id2label", "label2id")]
    assert all(any(name in record.message for record in caplog.records) for name in ignored)


@pytest.mark.parametrize(
    "options", [{"embedding_size": 12}, {"adapters": {"a": 1}}, {"use_rope": True}, {"auto_map": {"a": "b"}}]
)
def test_options_that_may_change_a_number_are_refused(options):
    with pytest.raises(ArenaError, match=next(iter(options))):
        config_from_hf({"model_type": "bert", "hidden_size": 24, "num_attention_heads": 3, **options})


def test_ignored_options_are_told_apart_from_the_models_own():
    assert ignored_options({"summary_activation": None, "rope_scaling": None, "name": "x"}, "gpt2") == ["name"]


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize(
    "wrap",
    ["module.{}", "_orig_mod.{}", "model.{}", "module._orig_mod.model.{}", "model._orig_mod.{}", "auto_model.{}"],
)
def test_wrapped_names_are_unwrapped_and_said(saved, tmp_path, family, wrap, caplog):
    source = saved(family, "token-classification")
    with caplog.at_level(logging.WARNING):
        ours = models.from_pretrained(copied(source, tmp_path, wrap.format))
    same(ours, models.from_pretrained(source))
    assert any("wrapped model" in record.message for record in caplog.records)


def test_names_wrapped_inside(saved, tmp_path):
    source = saved("bert", "token-classification")
    inside = copied(source, tmp_path, lambda name: name.replace(".layer.1.", ".layer.1._checkpoint_wrapped_module."))
    same(models.from_pretrained(inside), models.from_pretrained(source))


def test_many_problems_are_a_line_not_a_page(saved, tmp_path):
    broken = copied(saved("bert", "token-classification"), tmp_path, lambda name: "x" * 50 + name)
    with pytest.raises(ArenaError) as caught:
        models.from_pretrained(broken)
    assert len(str(caught.value)) < 1500
    assert "more" in str(caught.value)


@pytest.mark.parametrize(("family", "task"), [("bert", "masked-lm"), ("roberta", "masked-lm"), ("gpt2", "causal-lm")])
def test_a_config_without_model_type(saved, tmp_path, family, task, caplog):
    source = saved(family, task)
    old = copied(source, tmp_path, model_type=..., architectures=...)
    with caplog.at_level(logging.WARNING):
        same(models.from_pretrained(old, task=task), models.from_pretrained(source))
    assert any(f'taken for "{family}"' in record.message for record in caplog.records)


def test_what_says_no_family():
    assert family_from({"hidden_size": 8, "type_vocab_size": 4}) is None
    assert family_from({"hidden_size": 8}, files=["vocab.txt"]) == "bert"
    assert family_from({"architectures": ["T5Model"], "hidden_size": 8}, files=["vocab.txt"]) is None
    with pytest.raises(ArenaError, match='add "model_type": "bert"'):
        config_from_hf({"hidden_size": 8})


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"id2label": ..., "label2id": {"pos": 1, "neg": 0}}, ("neg", "pos")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"pos": 0, "neg": 1}}, ("pos", "neg")),
        ({"id2label": {"0": "pos", "1": "neg"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}, ("pos", "neg")),
        ({"id2label": {"1": "neg", "0": "pos"}, "label2id": None}, ("pos", "neg")),
        ({"id2label": {"0": "pos", "1": "neg"}, "label2id": {"pos": 0, "neg": 1, "x": float("inf")}}, ("pos", "neg")),
        ({"id2label": {"0": "pos", "1": "neg"}, "label2id": {"pos": []}}, ("pos", "neg")),
    ],
)
def test_names_of_classes(options, names):
    given = {"model_type": "bert"} | {k: v for k, v in options.items() if v is not ...}
    assert config_from_hf(given).label_names == names


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}}, "disagree"),
        ({"id2label": {"0": "a", "1": "a"}}, "one name"),
        ({"id2label": {"0": "a", "2": "b"}}, "one each"),
        ({"label2id": {"a": 0, "b": float("inf")}}, "label2id must number"),
        ({"label2id": {"a": []}}, "label2id must number"),
    ],
)
def test_names_that_contradict_are_refused(options, said):
    with pytest.raises(ArenaError, match=said):
        config_from_hf({"model_type": "bert"} | options)


@pytest.mark.parametrize(
    ("family", "trained", "task", "count"),
    [
        ("bert", "token-classification", "sequence-classification", 5),  # of the same size
        ("bert", "sequence-classification", "token-classification", 3),
        ("bert", "token-classification", "question-answering", None),
        ("bert", "masked-lm", "sequence-classification", 2),
        ("roberta", "sequence-classification", "token-classification", 4),
        ("gpt2", "token-classification", "sequence-classification", 5),
        ("bert", "sequence-classification", "sequence-classification", 7),  # of another size
    ],
)
def test_a_head_of_another_task_or_size_is_drawn_anew_and_said(saved, family, trained, task, count, caplog):
    folder = saved(family, trained, num_labels=5)
    options = {} if count is None else {"num_labels": count}
    with caplog.at_level(logging.WARNING):
        one = models.from_pretrained(folder, task=task, seed=3, **options)
    fresh = models.create(one.config, task, seed=3)
    np.testing.assert_array_equal(one.head.output.kernel[...], fresh.head.output.kernel[...])
    assert one.config.label_names is None
    assert any("drawn anew" in record.message for record in caplog.records)
    body = models.from_pretrained(folder)
    np.testing.assert_array_equal(one.embeddings.token.embedding[...], body.embeddings.token.embedding[...])


def test_a_head_of_multiple_choice_is_no_classifiers(tmp_path):
    config = perturbed.CONFIGS["bert"]()
    transformers.BertForMultipleChoice(config).save_pretrained(tmp_path)
    model = models.from_pretrained(tmp_path, task="sequence-classification", num_labels=2)
    assert model.head.output.kernel.shape == (24, 2)
    theirs = load_file(tmp_path / "model.safetensors")["bert.pooler.dense.weight"]
    np.testing.assert_array_equal(np.asarray(model.pooler.kernel[...]).T, theirs)  # the pooler is BERT's own


def test_a_new_head_on_request(saved):
    folder = saved("bert", "sequence-classification", num_labels=5)
    kept, new = (models.from_pretrained(folder, new_head=wish, seed=1) for wish in (False, True))
    assert not np.array_equal(kept.head.output.kernel[...], new.head.output.kernel[...])
    assert models.has_head(folder, "sequence-classification")
    assert not models.has_head(folder, "token-classification")


def test_a_kept_heads_classes_are_not_renamed(saved):
    folder = saved(
        "bert", "sequence-classification", num_labels=2, id2label={0: "pos", 1: "neg"}, label2id={"pos": 0, "neg": 1}
    )
    assert models.from_pretrained(folder).config.label_names == ("pos", "neg")
    with pytest.raises(ArenaError, match="leave label_names out"):
        models.from_pretrained(folder, label_names=("neg", "pos"))
    assert models.from_pretrained(folder, label_names=("neg", "pos"), new_head=True).config.labels() == ("neg", "pos")


def tokenizer_json(folder, count, **config):
    vocabulary = {"[PAD]": 0, "[MASK]": 1} | {f"w{i}": i for i in range(2, count)}
    content = {"model": {"type": "WordPiece", "vocab": vocabulary}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": "[PAD]", "mask_token": {"content": "[MASK]"}} | config)
    )


def test_a_folder_is_checked_against_its_own_tokenizer(saved, tmp_path, caplog):
    folder = copied(saved("bert", "masked-lm"), tmp_path)
    tokenizer_json(folder, 61)
    models.from_pretrained(folder)
    assert tokenizer_facts(folder) == TokenizerFacts(name=str(folder), vocab_size=61, pad_id=0, special={"mask": 1})
    tokenizer_json(folder, 62)
    with pytest.raises(ArenaError, match="61 token embeddings, but its tokenizer has 62"):
        models.from_pretrained(folder)
    tokenizer_json(folder, 61, added_tokens_decoder={"70": {"content": "[NEW]"}})
    with pytest.raises(ArenaError, match="its tokenizer has 71"):
        models.from_pretrained(folder)
    for number in ("²", "9" * 5000, "one"):
        tokenizer_json(folder, 61, added_tokens_decoder={number: {"content": "[NEW]"}})
        assert tokenizer_facts(folder).vocab_size == 61
    for added in (1, True, "x", [1]):
        vocabulary = {"vocab": {"a": 0, "b": 1}}
        (folder / "tokenizer.json").write_text(json.dumps({"model": vocabulary, "added_tokens": added}))
        assert tokenizer_facts(folder).vocab_size == 2
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[MASK]\n" + "".join(f"w{i}\n" for i in range(59)))
    assert tokenizer_facts(folder).vocab_size == 61


def test_pointers_of_git_lfs(saved, tmp_path):
    folder = copied(saved("bert", "masked-lm"), tmp_path)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
        with pytest.raises(ArenaError, match="git lfs pull"):
            models.from_pretrained(folder)
        (folder / name).unlink() if before is None else (folder / name).write_bytes(before)


def test_a_tokens_row_that_is_not_there(saved):
    model = models.from_pretrained(saved("bert", "masked-lm"))
    ids = np.ones((1, 4), np.int32)
    with pytest.raises(ArenaError, match="input_ids hold 61, but the model has the rows 0 to 60"):
        model(ids * 61)
    with pytest.raises(ArenaError, match="leave token_type_ids out"):
        model(ids, token_type_ids=ids * 3)


def test_labels_belong_to_an_objective(saved):
    model = models.from_pretrained(saved("bert", "masked-lm"))
    ids = np.ones((1, 4), np.int32)
    with pytest.raises(ArenaError, match="objective_for"):
        model(ids, labels=ids)
    with pytest.raises(ArenaError, match="did you mean 'attention_mask'"):
        model(ids, attention_masks=ids)


def test_gpt2_classifies_alike_whatever_its_tokenizer_pads_with(saved):
    """Against the row alone, which has no padding at all."""
    folder = saved("gpt2", "sequence-classification", num_labels=3, pad_token_id=60)
    model = models.from_pretrained(folder)
    alone = model(np.array([[5, 6, 7]]), np.ones((1, 3), np.int32))
    for pad in (60, 0, 5):
        padded = model(np.array([[5, 6, 7, pad, pad]]), np.array([[1, 1, 1, 0, 0]]))
        np.testing.assert_allclose(padded, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ner", "token-classification"),
        ("sentiment", "sequence-classification"),
        ("qa", "question-answering"),
        ("mlm", "masked-lm"),
        ("masked-ln", "masked-lm"),
    ],
)
def test_everyday_names_of_tasks(name, meant):
    with pytest.raises(ArenaError, match=f"did you mean '{meant}'"):
        models.create("bert-tiny", task=name)


@pytest.mark.parametrize("model_type", ["gpt2", None])
def test_a_description_from_the_hub_brings_no_weights(saved, tmp_path, monkeypatch, model_type):
    """A plan of a model of many gigabytes must not fetch them; only a model_type that is missing is read from names."""
    folder = copied(saved("gpt2", "causal-lm"), tmp_path / "copy", model_type=model_type)
    asked = []

    def fetch(name, revision, allow_patterns):
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert models.has_head("somebody/large", "causal-lm")
    assert models.read_config("somebody/large").family == "gpt2"
    assert ("model.safetensors" in asked) == (model_type is None)
    assert "config.json" in asked
