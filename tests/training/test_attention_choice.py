"""Who computes attention: what `--attention auto` chooses by the device's facts and the model's, and what is said."""

import dataclasses
from types import SimpleNamespace

import pytest

from arena_jax import training
from arena_jax.config import presets
from arena_jax.runs.records import read
from arena_jax.training.attention_choice import attention_facts, choose_attention, cudnn_obstacle
from arena_jax.training.build import computation_options, shape_before

A100 = {"platform": "gpu", "compute_capability": "8.0"}


def run_config(**changes):
    run = presets.joint_synthetic()
    options = {name: changes.pop(name) for name in ("attention", "dtype") if name in changes}
    return dataclasses.replace(
        run, training=dataclasses.replace(run.training, **options), data=dataclasses.replace(run.data, **changes)
    )


def computed(config, device, **changes):
    """The first model's configuration in a run, on a device."""
    model = dataclasses.replace(config.models[0], **changes)
    return shape_before(model).replace(**computation_options(model, config, shape_before(model), device))


@pytest.mark.parametrize(
    ("device", "changes", "obstacle"),
    [
        (A100, {"attention_dropout": 0.0}, None),
        (A100, {"dropout": 0.0}, None),
        (A100, {}, "it drops no attention weights, and attention_dropout is 0.1"),
        ({"platform": "cpu"}, {"attention_dropout": 0.0}, "it needs an NVIDIA GPU"),
        ({"platform": "gpu", "compute_capability": "gfx90a"}, {"attention_dropout": 0.0}, "it needs an NVIDIA GPU"),
        (
            {"platform": "gpu", "compute_capability": "7.5"},
            {"attention_dropout": 0.0},
            "it needs compute capability 8.0, and this GPU has 7.5",
        ),
    ],
)
def test_auto_is_cudnn_where_it_can(device, changes, obstacle):
    """The reference are the conditions in jax.nn's own refusals, and NVIDIA's: fused attention begins with Ampere."""
    device, config = SimpleNamespace(**device), run_config(attention="auto", dtype="bfloat16")
    shape = computed(config, device, **changes)
    assert cudnn_obstacle(shape, config, device) == obstacle
    assert (shape.attention, shape.right_padded) == (("cudnn", True) if obstacle is None else ("xla", False))
    network = SimpleNamespace(config=shape)
    name, value, reason = attention_facts(config, {"bert": network}, device)[0]
    assert (name, value) == ("attention of bert", shape.attention)
    assert reason == (
        "cuDNN is told where padding begins, and reads no mask" if obstacle is None else f"not cuDNN: {obstacle}"
    )


def test_widths_types_and_lengths_that_cudnn_does_not_have():
    device = SimpleNamespace(**A100)
    config = run_config(attention="auto", dtype="bfloat16")
    shape = computed(config, device, attention_dropout=0.0)
    for changes, obstacle in (
        ({"head_width": 12}, "heads must be a multiple of 8 wide and at most 128, and these are 12"),
        ({"head_width": 256}, "heads must be a multiple of 8 wide and at most 128, and these are 256"),
        ({"dtype": "float32"}, "it computes in 16 bits, and this run in float32"),
    ):
        changed = dataclasses.replace(shape, **{"attention": "xla"} | changes)
        assert cudnn_obstacle(changed, config, device) == obstacle
        assert choose_attention(changed, config, device) == "xla"
    hopper = SimpleNamespace(platform="gpu", compute_capability="9.0")
    assert cudnn_obstacle(dataclasses.replace(shape, head_width=256), config, hopper) is None


@pytest.mark.parametrize(("length", "value"), [(1023, "xla"), (1024, "chunked")])
def test_on_a_cpu_auto_is_in_chunks_where_rows_are_long(length, value):
    device, config = SimpleNamespace(platform="cpu"), run_config(attention="auto", max_length=length, lengths=())
    shape = computed(config, device)
    assert shape.attention == value
    reason = attention_facts(config, {"bert": SimpleNamespace(config=shape)}, device)[0][2]
    assert (
        reason
        == {
            "xla": "not cuDNN: it needs an NVIDIA GPU",
            "chunked": "the weights of 128 queries are in memory at a time; from 1024 tokens on"
            " that costs a CPU no time",
        }[value]
    )
    gpu = SimpleNamespace(**A100)
    assert computed(config, gpu).attention == "xla"


def test_texts_that_share_rows_go_as_a_mask_and_that_is_said():
    device = SimpleNamespace(**A100)
    config = presets.get("arena-small")
    for length, obstacle in (
        (128, None),
        (127, "with texts that share rows it needs an even length, and this is 127"),
    ):
        packed = dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, documents="packed", max_length=length),
            training=dataclasses.replace(config.training, attention="auto", dtype="bfloat16"),
        )
        shape = computed(packed, device, attention_dropout=0.0)
        assert cudnn_obstacle(shape, packed, device) == obstacle
        reason = attention_facts(packed, {"m": SimpleNamespace(config=shape)}, device)[0][2]
        assert reason == (
            f"not cuDNN: {obstacle}" if obstacle else "cuDNN reads a mask of tokens by tokens, as texts share rows"
        )


@pytest.mark.slow
def test_a_run_says_how_attention_is_computed(tmp_path):
    """In chunks it learns what it learns from all weights at once: the same weights are dropped."""
    run = presets.joint_synthetic()
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16}
    losses = {}
    for attention, value in (("xla", None), ("auto", "xla"), ("chunked", "chunked")):
        options = {"epochs": None, "steps": 4, "tensorboard": False, "figures": False, "devices": 1}
        config = dataclasses.replace(
            run,
            models=tuple(dataclasses.replace(m, **sizes) for m in run.models[:1]),
            data=dataclasses.replace(run.data, train_limit=40, validation_limit=20),
            training=dataclasses.replace(run.training, attention=attention, **options),
        )
        records = read(training.train(config, tmp_path / attention))
        said = [(fact["value"], fact["reason"]) for fact in records[0]["derived"] if "attention" in fact["name"]]
        losses[attention] = [r["models"]["bert"]["loss"] for r in records if r["kind"] == "evaluation"]
        if value is None:
            assert said == []
        else:
            reasons = {
                "xla": "not cuDNN: it needs an NVIDIA GPU",
                "chunked": "the weights of 128 queries are in memory at a time",
            }
            assert said == [(value, reasons[value])]
    assert losses["auto"] == losses["xla"]
    assert losses["chunked"] == pytest.approx(losses["xla"], rel=1e-5)
