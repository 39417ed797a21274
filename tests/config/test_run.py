"""A configuration is checked when it is built, told in one line where it is wrong, and comes back exactly from JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax import ArenaError, config
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig, presets
from arena_jax.config.fields import plain
from arena_jax.config.forms import FORMS
from arena_jax.config.model import MODEL_PRESETS
from arena_jax.config.optimizer import ARGUMENTS

BERT = ModelConfig("bert", preset="bert-tiny")


def run(**changes):
    return dataclasses.replace(presets.joint_synthetic(), **changes)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_is_valid_named_after_itself_and_told_how_to_run(name):
    preset = presets.get(name)
    assert preset.preset == name
    sources = [(model.preset or model.checkpoint).split("/")[-1] for model in preset.models]
    families = {"gpt2"} if name == "arena-gpt2" else {"bert", "gpt2", "roberta"}
    assert {source.split("-")[0] for source in sources} == families
    assert f"arena-jax train {name}" in (presets.PRESETS[name].__doc__ or "")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_configuration_comes_back_exactly_from_its_file(name, tmp_path):
    preset = presets.get(name)
    config.save(preset, tmp_path / "config.json")
    assert config.load(tmp_path / "config.json") == preset
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@given(
    rate=st.floats(min_value=1e-300, max_value=1e300),
    seed=st.integers(0, 2**32 - 1),
    columns=st.dictionaries(st.text(string.ascii_letters, min_size=1), st.text(string.printable[:95], min_size=1)),
)
@settings(max_examples=50, deadline=None)
def test_no_digit_is_lost_in_json(rate, seed, columns):
    columns = {name: value for name, value in columns.items() if value.strip()}
    one = run(
        optimizer=OptimizerConfig(learning_rate=rate),
        data=DataConfig(name="x", columns=columns),
        training=TrainingConfig(steps=1, seed=seed),
    )
    assert config.from_dict(json.loads(json.dumps(config.to_dict(one)))) == one


def test_presets_known_to_the_configuration_are_those_of_the_models_package():
    model_presets = pytest.importorskip("arena_jax.models.presets", reason="arena_jax.models cannot be imported")
    for name in MODEL_PRESETS:
        assert model_presets.preset(name).family == ModelConfig("m", preset=name).family


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ModelConfig("bert"), "give either a preset"),
        (lambda: ModelConfig("bert", preset="bert-tiny", checkpoint="x"), "one of the two"),
        (lambda: ModelConfig("bert", preset="robrta-tiny"), "did you mean 'roberta-tiny'"),
        (lambda: ModelConfig("a b", preset="bert-tiny"), "a name has 1 to 40 letters"),
        (lambda: ModelConfig("../x", preset="bert-tiny"), "a name has 1 to 40 letters"),
        (lambda: ModelConfig("bert", preset="bert-tiny", weight=math.nan), "weight is nan: it must be a finite number"),
        (lambda: ModelConfig("bert", preset="bert-tiny", weight=-1), "weight is -1.0: it must be above 0"),
        (lambda: ModelConfig("b", preset="bert-tiny", hidden_size=10, num_heads=4), "not a multiple of num_heads 4"),
        (lambda: ModelConfig("bert", checkpoint="x", hidden_size=8), "hidden_size cannot be changed"),
        (lambda: DataConfig(name="x", lengths=(32, 16)), "lengths must rise"),
        (lambda: DataConfig(name="x", lengths=(256,)), "above data.max_length 128"),
        (lambda: DataConfig(name="x", columns=(("a", "b"), ("a", "c"))), "a name stands twice"),
        (lambda: DataConfig(name=""), "must be text on one line"),
        (lambda: OptimizerConfig(learning_rate=math.inf), "must be a finite number"),
        (lambda: OptimizerConfig(learning_rate="1e-3"), "it must be a number"),
        (lambda: OptimizerConfig(b1=1), "must be below 1"),
        (lambda: OptimizerConfig(convergence_window=9, convergence_low=2), "swap them"),
        (lambda: OptimizerConfig(convergence_low=0.9), "convergence_low does nothing while"),
        (
            lambda: OptimizerConfig(share_alpha=0.0, synchronize_beta=0.0, weights_follow="validation"),
            "weights_follow does nothing where models share nothing",
        ),
        (
            lambda: dataclasses.replace(presets.arena_small(), optimizer=OptimizerConfig(weights_follow="validation")),
            "a competition's model weights stay",
        ),
        (lambda: OptimizerConfig(momentum=0.9), "momentum is given, and adamw has none"),
        (lambda: OptimizerConfig(inner="lion", epsilon=0.1), "epsilon is given, and lion has none"),
        (lambda: OptimizerConfig(inner="lion", amsgrad=True), "amsgrad belongs to adamw"),
        (lambda: OptimizerConfig(convergence_window=1), "at least 2 losses"),
        (lambda: OptimizerConfig(form="papr"), "did you mean 'paper'"),
        (lambda: run(training=TrainingConfig()), "neither is given"),
        (lambda: TrainingConfig(steps=1, epochs=1), "both are given"),
        (lambda: TrainingConfig(steps=True), "must be a whole number"),
        (lambda: TrainingConfig(steps=1.5), "must be a whole number"),
        (lambda: TrainingConfig(steps=0), "at least 1"),
        (lambda: TrainingConfig(steps=10**5000), "must be at most"),
        (lambda: TrainingConfig(steps=1, batch_size=10, accumulation=4), "does not divide into accumulation 4"),
        (
            lambda: run(models=(dataclasses.replace(BERT, batch_size=6, accumulation=4),)),
            "model 'bert': batch_size 6 does not divide into accumulation 4 equal parts",
        ),
        (lambda: TrainingConfig(steps=1, dtype="float16"), "did you mean 'bfloat16'"),
        (lambda: run(models=()), "name at least one"),
        (lambda: run(models=(BERT, ModelConfig("Bert", preset="gpt2-tiny"))), "two models are called 'Bert'"),
        (lambda: run(task="classification"), "did you mean 'token-classification'"),
        (lambda: run().model("brt"), "did you mean 'bert'"),
    ],
)
def test_a_mistake_is_told_in_one_line(build, words):
    with pytest.raises(ArenaError) as caught:
        build()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[1]", "must hold one JSON object"),
        ("{,}", "line 1, column 2"),
        ('{"preset": "a", "preset": "b"}', "'preset' stands twice"),
        ('{"preset": "a"}', "task is missing"),
        ('{"model_type": "gpt2", "activation_function": "gelu"}', "is a Hugging Face model, not a run"),
        ("[" * 100_000, "nested too deeply"),
        ('{"preset": ' + "9" * 5000 + "}", "huge number"),
    ],
)
def test_a_broken_file_is_named(text, words, tmp_path):
    path = tmp_path / "broken" / "broken.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ArenaError) as caught:
        config.load(path)
    assert "broken" in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path):
    with pytest.raises(ArenaError, match=r"nothing\.json: No such file"):
        config.load(tmp_path / "nothing.json")
    (tmp_path / "latin").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ArenaError, match="not UTF-8"):
        config.load(tmp_path / "latin")
    with pytest.raises(ArenaError, match="cannot write"):
        config.save(run(), tmp_path / "no" / "folder.json")


def test_a_nan_in_a_file_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(plain(run())).replace('"learning_rate": 0.004', '"learning_rate": NaN'))
    with pytest.raises(ArenaError, match=r"optimizer\.learning_rate is nan"):
        config.load(path)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), value=JSON_VALUES)
@settings(max_examples=300, deadline=None)
def test_a_mutated_configuration_is_accepted_or_refused_in_our_words(data, value):
    values = config.to_dict(run())
    spot = values
    while True:
        key = data.draw(st.sampled_from(sorted(spot)) if isinstance(spot, dict) else st.integers(0, len(spot) - 1))
        if not isinstance(spot[key], dict | list) or not spot[key] or data.draw(st.booleans()):
            break
        spot = spot[key]
    spot[key] = value
    try:
        accepted = config.from_dict(values)
    except ArenaError as error:
        told, accepted = str(error), None
    if accepted is None:
        assert told.isprintable()
        assert len(told) < 400
    else:
        assert isinstance(accepted, RunConfig)
        assert config.from_dict(config.to_dict(accepted)) == accepted


def test_a_form_fills_only_what_was_left_open():
    for form, values in FORMS.items():
        resolved = OptimizerConfig(form=form).resolved()
        assert {argument: getattr(resolved, field) for field, argument in ARGUMENTS.items()} == {
            argument: values[argument] for argument in ARGUMENTS.values()
        }
        assert (resolved.b1, resolved.b2, resolved.epsilon, resolved.momentum) == (0.9, 0.999, 1e-8, None)
        assert OptimizerConfig(form=form, share_alpha=0.0).resolved().share_alpha == 0.0
        assert resolved.max_gradient_norm == (1.0 if form == "default" else 0.0)
        assert OptimizerConfig(form=form, max_gradient_norm=2.0).resolved().max_gradient_norm == 2.0
    assert OptimizerConfig(form="published", synchronize_every=5).resolved().synchronize_beta == 0.1
    assert OptimizerConfig(inner="lion", b1=0.95).inner_arguments() == {"b1": 0.95, "b2": 0.99}


def test_differences_name_the_field_and_both_values():
    a = run()
    models = (dataclasses.replace(a.models[0], weight=2.0), *a.models[1:])
    b = run(models=models[:2], training=dataclasses.replace(a.training, seed=1))
    told = config.differences(a, b)
    assert "models.bert.weight: 1.0 → 2.0" in told
    assert "training.seed: 0 → 1" in told
    assert any(line.startswith("models.roberta.weight: 1.2 → absent") for line in told)
    assert config.differences(a, a) == []


def test_padded_lengths_end_with_the_longest():
    assert DataConfig(name="x", max_length=64, lengths=(16, 32)).padded_lengths == (16, 32, 64)
    assert DataConfig(name="x", max_length=64).padded_lengths == (64,)
