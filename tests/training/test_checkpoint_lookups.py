"""A checkpoint of the Hub is looked up once while a run is built: each look asks the Hub what its newest version is."""

import dataclasses

import huggingface_hub

from arena_jax import data, models
from arena_jax.config import DataConfig, ModelConfig, presets
from arena_jax.training.build import build


def test_once_per_model(tmp_path, monkeypatch):
    source = data.load("synthetic-sentiment", split="train", task="sequence-classification", limit=40)
    tokenizer = data.train_tokenizer(source, "bert", vocab_size=300)
    shape = models.preset("bert-tiny").replace(
        hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, vocab_size=tokenizer.vocab_size, num_labels=2
    )
    network = models.create(shape, task="sequence-classification", seed=0)
    models.save_pretrained(network, tmp_path / "model", also=tokenizer.save)
    asked = []

    def snapshot(name, **options):
        asked.append(name)
        return str(tmp_path / "model")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    config = dataclasses.replace(
        presets.get("joint-synthetic"),
        models=tuple(
            ModelConfig(name, checkpoint=f"owner/{name}", tokenizer=str(tmp_path / "model")) for name in ("a", "b")
        ),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=20),
    )
    parts = build(config)
    assert asked == ["owner/a", "owner/b"]
    assert set(parts.models) == {"a", "b"}
