"""Recipes: the words of the command line, and that the plan which measured one has the same arm."""

import dataclasses
from pathlib import Path

import pytest

from arena_jax.compare.plan_file import read_plan
from arena_jax.config import ModelConfig, differences, presets
from arena_jax.config.change import resolved
from arena_jax.config.errors import ArenaError
from arena_jax.config.recipes import recipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_relay_is_the_arm_that_was_measured():
    plan = read_plan(BENCHMARKS / "relay_wikitext2.toml")
    alone, arm = plan.config("alone", {}), plan.config("relay", {})
    lines = differences(resolved(recipe(alone, "relay")), resolved(arm))
    assert [line for line in lines if not line.startswith("training.evaluate_every")] == []
    assert recipe(arm, "relay").together == arm.together


def test_who_leads_and_what_it_keeps():
    run = presets.get("joint-sst2")
    without = dataclasses.replace(run, models=(run.model("roberta"), run.model("bert")))
    assert recipe(without, "relay").together.relay == "roberta"
    trained = dataclasses.replace(run, models=(run.model("bert"), ModelConfig("gpt", checkpoint="somewhere")))
    assert recipe(trained, "relay").together.relay == "gpt", "others cannot be started into a checkpoint"
    assert recipe(trained, "relay").models == trained.models
    begun = dataclasses.replace(run.model("gpt2"), start="somewhere")
    assert recipe(dataclasses.replace(run, models=(run.model("bert"), begun)), "relay").model("gpt2") == begun


def test_a_recipe_that_cannot_be_is_refused():
    with pytest.raises(ArenaError, match="unknown recipe 'realy'; did you mean 'relay'"):
        recipe(presets.get("joint-sst2"), "realy")
    with pytest.raises(ArenaError, match="it trains a leader alone, and a competition's all train"):
        recipe(presets.get("arena-small"), "relay")
    with pytest.raises(ArenaError, match="needs two models at least"):
        recipe(dataclasses.replace(presets.get("joint-sst2"), models=presets.get("joint-sst2").models[:1]), "relay")
