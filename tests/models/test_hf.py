"""Hugging Face folders: bit-identical both ways, accepted by transformers without a word, and bad ones refused."""

import dataclasses
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
from arena_jax.models.huggingface import config as hf_config  # noqa: E402

torch, transformers = perturbed.torch, perturbed.transformers
PAIRS = sorted(perturbed.CLASSES)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: array for file in folder.glob("*.safetensors") for name, array in load_file(file).items()}


def save(folder: Path, family: str, task: str, **options):
    model = perturbed.make(family, task, **options)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A saved BERT classifier and its tensors, to be damaged."""
    folder = tmp_path_factory.mktemp("bert")
    save(folder, "bert", "sequence-classification")
    return folder


@pytest.fixture
def damage(bert, tmp_path):
    """Copy the folder with changed tensors and configuration."""

    def make(change_tensors=None, metadata=None, **options):
        tensors = weights(bert)
        if change_tensors:
            change_tensors(tensors)
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((bert / "config.json").read_text()) | options
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return make


@pytest.mark.parametrize(("family", "task"), PAIRS)
@pytest.mark.parametrize("size", ["50GB", "20KB"], ids=["whole", "sharded"])
def test_there_and_back(family, task, size, tmp_path):
    theirs = save(tmp_path / "theirs", family, task)
    ours = models.from_pretrained(tmp_path / "theirs")
    models.save_pretrained(ours, tmp_path / "ours", max_shard_size=size)
    before, after = weights(tmp_path / "theirs"), weights(tmp_path / "ours")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        np.testing.assert_array_equal(tensor, after[name], err_msg=name)
    assert (tmp_path / "ours" / "model.safetensors.index.json").exists() == (size == "20KB")
    loaded, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    for (name, mine), other in zip(loaded.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name
    old, new = (type(theirs.config).from_pretrained(tmp_path / side).to_dict() for side in ("theirs", "ours"))
    for config in (old, new):
        config.pop("transformers_version")
    assert new == old


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_untied_head(family, tmp_path):
    task = "causal-lm" if family == "gpt2" else "masked-lm"
    theirs = save(tmp_path / "theirs", family, task, tie_word_embeddings=False)
    models.save_pretrained(models.from_pretrained(tmp_path / "theirs"), tmp_path / "ours")
    before, after = weights(tmp_path / "theirs"), weights(tmp_path / "ours")
    assert before.keys() == after.keys()
    unused = {"bert": "cls.predictions.bias", "roberta": "lm_head.bias"}.get(family)  # stored, never read
    assert all(np.array_equal(before[name], after[name]) for name in before if name != unused)
    info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)[1]
    assert not any(info.values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_smaller_types(dtype, tmp_path):
    save(tmp_path / "theirs", "gpt2", "causal-lm", dtype=getattr(torch, dtype))
    wide = models.from_pretrained(tmp_path / "theirs")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(models.split(wide)[1])} == {"float32"}
    models.save_pretrained(models.from_pretrained(tmp_path / "theirs", param_dtype=dtype), tmp_path / "ours")
    before, after = weights(tmp_path / "theirs"), weights(tmp_path / "ours")
    assert all(np.array_equal(before[name].view(np.uint16), after[name].view(np.uint16)) for name in before)


def test_base_checkpoint_with_old_names(tmp_path, caplog):
    """As published years ago: no prefix, gamma and beta, buffers among the weights, no head."""
    theirs = save(tmp_path, "bert", "sequence-classification")
    tensors = weights(tmp_path)
    old = {"embeddings.position_ids": np.arange(19)[None]}
    for name, tensor in tensors.items():
        if name.startswith("bert."):
            name = name.removeprefix("bert.")
            old[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = (
                tensor
            )
    save_file(old, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["BertModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArenaError, match="give task="):
        models.from_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        ours = models.from_pretrained(tmp_path, task="sequence-classification", seed=3)
    assert [r.message for r in caplog.records if "drawn anew" in r.message and "head" in r.message]
    again = models.from_pretrained(tmp_path, task="sequence-classification", seed=3)
    np.testing.assert_array_equal(ours.head.output.kernel[...], again.head.output.kernel[...])
    given = perturbed.inputs("bert")
    with torch.no_grad():
        hidden = theirs.bert(**{k: torch.from_numpy(v).long() for k, v in given.items()}).last_hidden_state.numpy()
    real = given["attention_mask"] == 1
    assert np.abs(np.asarray(ours.encode(**given)) - hidden)[real].max() < 2e-5
    language = models.from_pretrained(tmp_path, task="masked-lm")
    assert language.predict_tokens(ours.encode(**given)).shape == (3, 11, 61)


def test_gpt2_as_published(tmp_path):
    """The files of 2019: no prefix, the causal masks as buffers, sometimes the tied head."""
    save(tmp_path, "gpt2", "causal-lm")
    tensors = {name.removeprefix("transformer."): t for name, t in weights(tmp_path).items()}
    want = models.from_pretrained(tmp_path)
    for layer in range(3):
        tensors[f"h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 19, 19), np.float32))
        tensors[f"h.{layer}.attn.masked_bias"] = np.full((), -1e4, np.float32)
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    got = models.from_pretrained(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, models.split(want)[1], models.split(got)[1])
    del tensors["wte.weight"]  # the other of the two names alone
    save_file(tensors, tmp_path / "model.safetensors")
    got = models.from_pretrained(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, models.split(want)[1], models.split(got)[1])
    tensors["wte.weight"] = tensors["lm_head.weight"] + 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ArenaError, match="tie_word_embeddings=False"):
        models.from_pretrained(tmp_path)


def test_fine_tuning_from_another_task(tmp_path, caplog):
    save(tmp_path, "roberta", "masked-lm")
    with caplog.at_level(logging.INFO):
        ours = models.from_pretrained(tmp_path, task="token-classification", num_labels=7, seed=1)
    assert ours.head.output.kernel.shape == (24, 7)
    assert any("left out" in r.message and "lm_head.dense.weight" in r.message for r in caplog.records)
    models.save_pretrained(ours, tmp_path / "tuned")
    info = transformers.RobertaForTokenClassification.from_pretrained(tmp_path / "tuned", output_loading_info=True)[1]
    assert not any(info.values())


def test_saving_over_an_older_model(tmp_path):
    model = models.create("bert-tiny", task="masked-lm", seed=0)
    other = models.create("bert-tiny", task="masked-lm", seed=1)
    models.save_pretrained(model, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    models.save_pretrained(other, tmp_path / "m", max_shard_size="40KB")
    assert not (tmp_path / "m" / "model.safetensors").exists()
    assert (tmp_path / "m" / "tokenizer.json").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]
    jax.tree.map(
        np.testing.assert_array_equal, models.split(other)[1], models.split(models.from_pretrained(tmp_path / "m"))[1]
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("classifier.bias"), ["classifier.bias is missing"]),
        (lambda t: t.pop("bert.encoder.layer.1.output.dense.bias"), ["layer.1.output.dense.bias is missing"]),
        (lambda t: t.update(strange=np.ones(2, np.float32)), ["strange is not a weight of bert"]),
        (lambda t: t.update({"classifier.bias": np.ones(9, np.float32)}), ["classifier.bias has shape (9,), not (5,)"]),
        (lambda t: t.update({"classifier.bias": np.ones(5, np.int32)}), ["type I32"]),
        (lambda t: t.update({"classifier.bias": np.full(5, np.nan, np.float32)}), ["classifier.bias holds NaN"]),
        (lambda t: t.update({"bert.embeddings.LayerNorm.gamma": np.ones(24, np.float32)}), ["are the same weight"]),
        (
            lambda t: (t.pop("classifier.bias"), t.update(x=np.ones(1, np.float32), y=np.ones(1, np.float32))),
            ["classifier.bias is missing", "x is not", "y is not"],
        ),
    ],
)
def test_damaged_weights_are_all_named(damage, change, said):
    with pytest.raises(ArenaError) as error:
        models.from_pretrained(damage(change))
    assert all(part in str(error.value) for part in said), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_hidden_layers": 2}, "beyond the 2 blocks"),
        ({"num_hidden_layers": 4000}, "and 63,947 more"),
        ({"hidden_size": 48}, "has shape"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"model_type": "llama"}, "implemented are bert"),
        ({"hidden_act": "xielu"}, "'xielu' is not implemented"),
        ({"position_embedding_type": "relative_key"}, "absolute positions only"),
        ({"my_option": 1}, "my_option=1 is not known"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
        ({"id2label": []}, "id2label"),
        ({"architectures": ["LlamaForCausalLM"]}, "give task="),
        ({"architectures": 3}, "give task="),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps"),
        ({"pad_token_id": 999}, "outside the vocabulary"),
    ],
)
def test_damaged_configurations(damage, options, said):
    with pytest.raises(ArenaError) as error:
        models.from_pretrained(damage(**options))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_read(bert, tmp_path):
    config = (bert / "config.json").read_text()

    def refused(said, path=tmp_path):
        with pytest.raises(ArenaError) as error:
            models.from_pretrained(path)
        assert said in str(error.value)

    refused("there is no folder", tmp_path / "nowhere")
    refused("there is no folder", "not a name")
    refused("could not be fetched", "arena-jax/no-such-model")  # the suite is offline
    refused("is a file", bert / "config.json")
    refused("holds no config.json")
    for broken in ("", "[1]", "[" * 100_000, '{"a":', "\udcff"):
        (tmp_path / "config.json").write_bytes(broken.encode("utf-8", "surrogateescape"))
        refused("config.json")
    (tmp_path / "config.json").write_text(config)
    refused("holds no model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    refused("can run code")
    whole = (bert / "model.safetensors").read_bytes()
    for broken in (b"", whole[:40], whole[:-8], b"\xff" * 100):
        (tmp_path / "model.safetensors").write_bytes(broken)
        refused("is not a whole safetensors file")
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    for shard in ("../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.bin", 3, "\n.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": shard}}))
        refused("is not the name of a safetensors file")
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    refused("is not there")
    (tmp_path / "model-00001-of-00001.safetensors").write_bytes(whole)
    refused("lacks what")
    index.write_text("{}")
    refused("no weight_map")


def test_folders_that_cannot_be_written(tmp_path):
    model = models.create("gpt2-tiny", task="causal-lm")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ArenaError, match="cannot be written"):
        models.save_pretrained(model, tmp_path / "file")
    with pytest.raises(ArenaError, match="cannot be written"):
        models.save_pretrained(model, tmp_path / "file" / "below")
    with pytest.raises(ArenaError, match="max_shard_size"):
        models.save_pretrained(model, tmp_path / "m", max_shard_size="many")
    assert (tmp_path / "file").read_text() == "kept"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


HF_CLASSES = {
    "bert": transformers.BertConfig,
    "roberta": transformers.RobertaConfig,
    "gpt2": transformers.GPT2Config,
    "xlm-roberta": transformers.XLMRobertaConfig,
    "camembert": transformers.CamembertConfig,
    "distilbert": transformers.DistilBertConfig,
    "electra": transformers.ElectraConfig,
}


@pytest.mark.parametrize("family", HF_CLASSES)
def test_every_option_is_accounted_for(family):
    """A new option in a newer transformers must fail here, not pass unseen."""
    standard = HF_CLASSES[family]()
    for option in dataclasses.fields(standard):
        name = option.name
        places = [
            name in hf_config.IMPLEMENTED[family],
            name in hf_config.CARRIED[family],
            name in hf_config.REFUSED,
            name in hf_config._SILENT,
        ]
        assert sum(places) == 1, (name, places)
        if name in hf_config.IMPLEMENTED[family]:
            assert hf_config.DEFAULTS[family][name] == getattr(standard, name), name
        if name in hf_config.REFUSED:
            assert getattr(standard, name) == hf_config.REFUSED[name][0]
            with pytest.raises(ArenaError, match=name):
                models.config_from_hf(standard.to_dict() | {name: True})
    assert set(hf_config.DEFAULTS[family]) - {"classifier_dropout"} == (
        set(hf_config.IMPLEMENTED[family]) - {"classifier_dropout"}
    )
    assert models.config_from_hf(standard) == models.config_from_hf({"model_type": family}).replace(
        carried=models.config_from_hf(standard).carried
    )


@pytest.mark.parametrize("family", HF_CLASSES)
def test_implemented_options_arrive(family):
    """Each implemented option changes our configuration, and comes back as it was."""
    odd = {"vocab_size": 99, "pad_token_id": 5, "bos_token_id": 6, "eos_token_id": [7, 8], "n_inner": 11}
    odd |= {"hidden_act": "relu", "activation_function": "relu", "activation": "relu", "problem_type": "regression"}
    for name, field in hf_config.IMPLEMENTED[family].items():
        base = {"model_type": family}
        default = hf_config.DEFAULTS[family][name]
        value = odd.get(name, (not default) if isinstance(default, bool) else None)
        if value is None:
            value = 0.25 if isinstance(default, float) or default is None else 2 * default
        config = models.config_from_hf(base | {name: value})
        assert getattr(config, field) != getattr(models.config_from_hf(base), field), name
        assert models.config_from_hf(models.config_to_hf(config, "X")) == config
        theirs = HF_CLASSES[family].from_dict(models.config_to_hf(config, "X"))
        assert getattr(theirs, name) == value, name


def test_transformers_object_and_names(tmp_path):
    config = transformers.BertConfig(**perturbed.SIZES, id2label={0: "no", 1: "yes", 2: "perhaps"})
    model = models.create(config, task="sequence-classification", seed=0)
    assert model.config.label_names == ("no", "yes", "perhaps")
    models.save_pretrained(model, tmp_path)
    assert transformers.AutoConfig.from_pretrained(tmp_path).label2id == {"no": 0, "yes": 1, "perhaps": 2}


@pytest.mark.parametrize(("family", "task"), [p for p in PAIRS if p[1] in ("masked-lm", "sequence-classification")])
def test_initial_weights_are_drawn_as_by_transformers(family, task):
    """Mean and deviation of every tensor, and which are constant."""
    from arena_jax.models.huggingface.save import to_tensors

    options = {"num_labels": 5, "initializer_range": 0.3, "pad_token_id": 4}
    config = perturbed.CONFIGS[family](**options)
    torch.manual_seed(0)
    theirs = getattr(transformers, perturbed.CLASSES[family, task])(config).state_dict()
    for name, mine in to_tensors(models.create(config, task=task, seed=5)).items():
        other = theirs[name].numpy()
        assert mine.shape == other.shape
        if other.std() == 0:
            np.testing.assert_array_equal(mine, other, err_msg=name)
        else:
            error = 6 / np.sqrt(other.size)  # six standard errors of either moment
            assert abs(mine.std() / other.std() - 1) < error, name
            assert abs(mine.mean() - other.mean()) < error * other.std(), name
            zero = np.flatnonzero((other == 0).all(-1)) if other.ndim == 2 else []
            np.testing.assert_array_equal(zero, np.flatnonzero((mine == 0).all(-1)) if other.ndim == 2 else [])
