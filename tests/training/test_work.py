"""Tokens per second and MFU; the reference for operations is `transformers`' rule of six per parameter and token."""

import dataclasses

import jax
import numpy as np
import pytest

from arena_jax import models, runtime, training
from arena_jax.config import DataConfig, ModelConfig, TrainingConfig, presets
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runtime import peak
from arena_jax.training.work import Work


def test_long_rows_of_a_wide_model_are_six_operations_per_parameter_and_token():
    network = models.abstract(models.preset("gpt2", remat="block"), "causal-lm")
    _, params = models.split(network)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(params)) - 1024 * 768  # positions are looked up
    work = Work({"gpt2": network}, peak=1e12)
    work.add({"gpt2": {"attention_mask": np.ones((2, 64), np.int32)}})
    summary = work.summary(seconds=4.0)
    assert summary["tokens_per_second"] == 32
    assert summary["mfu"] * 1e12 * 4 == pytest.approx(6 * kernels * 128, rel=0.02)  # attention and the last token
    assert work.summary(seconds=1.0)["tokens_per_second"] == 0, "begins anew"


def test_padding_is_computed_and_is_no_token():
    network = models.create("gpt2-tiny", task="causal-lm")
    mask = np.ones((2, 2, 8), np.int32)
    mask[1, :, 4:] = 0
    summaries = []
    for attention_mask in mask:
        work = Work({"m": network}, peak=1.0)
        work.add({"m": {"attention_mask": attention_mask}})
        summaries.append(work.summary(seconds=1.0))
    assert [summary["tokens_per_second"] for summary in summaries] == [16, 8]
    assert summaries[0]["mfu"] == summaries[1]["mfu"]


def test_the_peak_of_a_gpu_is_the_tables_and_an_unknown_one_has_none(monkeypatch):
    class Device:
        platform, device_kind = "gpu", "NVIDIA A100-SXM4-40GB"

    class Mesh:
        devices, size = np.array([Device()], dtype=object), 8

    assert peak.peak_flops(Mesh(), "bfloat16") == pytest.approx(8 * 312e12, rel=0.01)
    monkeypatch.setattr(Device, "device_kind", "something new")
    assert peak.peak_flops(Mesh(), "bfloat16") is None
    assert set(Work({}, None).summary(1.0)) == {"tokens_per_second"}


def test_a_run_says_how_fast_it_was(tmp_path):
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
    config = dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(ModelConfig("gpt2", preset="gpt2-tiny", **sizes),),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=8, validation_limit=4),
        training=TrainingConfig(
            steps=2, batch_size=4, evaluation_batch_size=4, log_every=1, tensorboard=False, figures=False, devices=1
        ),
    )
    records = read(training.train(config, tmp_path / "run"))
    trains = [record for record in records if record["kind"] == "train"]
    assert all(0 < record["mfu"] < 1 and record["tokens_per_second"] > 0 for record in trains)
    assert {record["peak"] for record in trains} == {peak.peak_flops(runtime.make_mesh(1), "float32")}
    assert "tokens/s, median over the lines above; matrix products took" in narrate(records)
