"""Nothing in a model or data folder is executed, whatever the folder says about itself."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import pytest

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.data import load, load_tokenizer, train_tokenizer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    """A model whose files ask for code to be run, in every way that the libraries below know of."""
    folder = tmp_path / "model"
    models.save_pretrained(models.create("gpt2-tiny", task="causal-lm"), folder)
    train_tokenizer(["some text"], "gpt2").save(folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass C: pass\n")
    shutil.copy(folder / "evil.py", folder / "model.py")
    auto = {"auto_map": dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "evil.C")}
    auto["auto_map"]["AutoTokenizer"] = ["evil.C", "evil.C"]
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | auto))
    return folder


def test_a_model_folder_runs_nothing(folder, tmp_path):
    for call in (lambda: models.from_pretrained(folder), lambda: load_tokenizer(folder)):
        with contextlib.suppress(ArenaError):
            call()
        assert not (tmp_path / "executed").exists()
    with pytest.raises(ArenaError, match=r"auto_map=.* is not known"):
        models.from_pretrained(folder)


def test_a_data_folder_runs_nothing(folder, tmp_path):
    with pytest.raises(ArenaError, match="holds no data file"):
        load(folder)
    with pytest.raises(ArenaError):
        load(folder / "model.py", task="sequence-classification")
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_family_are_named(tmp_path):
    bert, folder = tmp_path / "bert", tmp_path / "gpt2"
    models.save_pretrained(models.create("gpt2-tiny", task="causal-lm"), folder)
    models.save_pretrained(models.create("bert-tiny", task="sequence-classification"), bert)
    shutil.copy(folder / "model.safetensors", bert / "model.safetensors")
    with pytest.raises(ArenaError, match=r"does not fit bert for sequence-classification: .*is not a weight of bert"):
        models.from_pretrained(bert)
    with pytest.raises(ArenaError, match="question-answer"):
        models.from_pretrained(folder, task="question-answer")


def test_trust_is_never_switched_on():
    """In no source is `trust_remote_code` anything but False, nor is a pickle read."""
    for path in [
        *(ROOT / "arena_jax").rglob("*.py"),
        *(ROOT / "parity").rglob("*.py"),
        *(ROOT / "examples").rglob("*.py"),
    ]:
        text = path.read_text()
        assert set(re.findall(r"trust_remote_code=(\w+)", text)) <= {"False"}, path
        assert not re.search(r"\b(pickle|torch)\.load\b|allow_pickle=True|weights_only=False", text), path
