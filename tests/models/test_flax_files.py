"""flax_model.msgpack, as transformers 4.57 wrote it: the numbers its Flax models computed, and bad files refused.

The folders are those of flax_reference.py, which says how they were made.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import load_file

from arena_jax import ArenaError, models
from arena_jax.cli.main import main
from arena_jax.models.huggingface.flax_files import FlaxTensors

FOLDERS = Path(__file__).parent / "flax_folders"
CASES = sorted(path.name for path in FOLDERS.iterdir())


@pytest.mark.parametrize("name", CASES)
def test_logits_of_the_old_library(name):
    """Measured on 2 CPU cores (AMD EPYC): 4.9e-15 at most, of logits up to 5.2."""
    with np.load(FOLDERS / name / "reference.npz") as file:
        reference = dict(file)
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        model = models.from_pretrained(FOLDERS / name, param_dtype="float64")
        logits = np.asarray(model(reference["input_ids"], reference["attention_mask"]))
    real = slice(None)
    if logits.ndim == 3:
        real = reference["attention_mask"] != 0
    np.testing.assert_allclose(logits[real], reference["logits"][real], rtol=0, atol=1.9e-14)


def test_converted_and_read_by_transformers(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    source, target = FOLDERS / "gpt2-causal-lm", tmp_path / "new"
    (tmp_path / "old").mkdir()
    shutil.copytree(source, tmp_path / "old", dirs_exist_ok=True)
    (tmp_path / "old" / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "old" / "evil.py").write_text("")
    assert main(["convert", str(tmp_path / "old"), str(target)]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "merges.txt", "model.safetensors"]
    _, report = transformers.GPT2LMHeadModel.from_pretrained(target, output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    tree = serialization.msgpack_restore((source / "flax_model.msgpack").read_bytes())["transformer"]
    tensors = load_file(target / "model.safetensors")
    np.testing.assert_array_equal(tensors["transformer.h.1.mlp.c_fc.weight"], tree["h"]["1"]["mlp"]["c_fc"]["kernel"].T)
    np.testing.assert_array_equal(tensors["transformer.wte.weight"], tree["wte"]["embedding"])


def test_a_conversion_writes_over_nothing_and_invents_nothing(tmp_path, capsys):
    source = FOLDERS / "bert-masked-lm"
    assert main(["convert", str(source), str(source)]) == 2
    assert "is what is read" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "m"), "--task", "token-classification"]) == 2
    assert "no head for token-classification" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def written(folder: Path, content: object) -> Path:
    shutil.copytree(FOLDERS / "gpt2-causal-lm", folder)
    data = content if isinstance(content, bytes) else serialization.msgpack_serialize(content)
    (folder / "flax_model.msgpack").write_bytes(data)
    return folder


WHOLE = (FOLDERS / "gpt2-causal-lm" / "flax_model.msgpack").read_bytes()
NUMBERS = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WHOLE[:-5], "not a whole msgpack file"),
        (WHOLE[:300], "not a whole msgpack file"),
        (b"\x91" * 5000, "not a whole msgpack file"),
        (b"\xdd\xff\xff\xff\xff", "not a whole msgpack file"),
        (b"", "not a whole msgpack file"),
        ([1, 2], "no dictionary of weights"),
        ({"transformer": {"wte": {"embedding": "text"}}}, "no dictionary of weights"),
        ({"transformer": {"wte": {"embedding": np.zeros(3, np.int32)}}}, "is no weight of this layout"),
        ({"transformer": {"wte": {"weight": NUMBERS}}}, "is no weight of this layout"),
        ({"transformer": {"../x": {"kernel": NUMBERS}}}, "is no name of a weight"),
        ({"wte": {"embedding": NUMBERS, "scale": NUMBERS}}, "there twice"),
        ({"transformer": {"wte": {"embedding": NUMBERS}}}, "does not fit gpt2"),
        ({"big": {"kernel": np.zeros(2**20, np.float32)}}, "more than any weights of its config.json"),
    ],
)
def test_a_file_that_is_no_model(content, words, tmp_path):
    with pytest.raises(ArenaError, match=words):
        models.from_pretrained(written(tmp_path / "m", content))


def test_a_tree_without_end_is_refused(tmp_path):
    tree: dict = {"kernel": NUMBERS}
    for _ in range(40):
        tree = {"h": tree}
    with pytest.raises(ArenaError, match="no dictionary of weights"):
        FlaxTensors(written(tmp_path / "m", tree), limit=10**6)


def test_shards_are_files_of_the_folder(tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(FOLDERS / "gpt2-causal-lm-shards", folder)
    (folder / "flax_model.msgpack.index.json").write_text('{"weight_map": {"a": "../x.msgpack"}}')
    with pytest.raises(ArenaError, match="names no msgpack files of its folder"):
        models.from_pretrained(folder)


def test_pickled_weights_are_refused_with_the_command_that_converts_them(tmp_path):
    shutil.copy(FOLDERS / "bert-masked-lm" / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ArenaError, match=r"python -c .import transformers; transformers\.BertForMaskedLM\.from_pre"):
        models.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["evil(); x"]}')
    with pytest.raises(ArenaError, match=r"transformers\.AutoModel\.from_pretrained"):
        models.from_pretrained(tmp_path, task="masked-lm")
