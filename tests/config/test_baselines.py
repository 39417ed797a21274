"""The baselines of the paper: what each leaves of a run's configuration, and that the command line takes its word."""

import dataclasses

import pytest

from arena_jax.compare.plan_file import plan_from
from arena_jax.config import OptimizerConfig, TogetherConfig, presets
from arena_jax.config.baselines import BASELINES, baseline
from arena_jax.config.errors import ArenaError
from arena_jax.config.recipes import recipe
from arena_jax.training.lone_run import lone_run


@pytest.mark.parametrize("form", ["default", "paper", "published"])
def test_independent_is_adamw_with_the_clipping_of_the_form(form):
    run = dataclasses.replace(presets.get("mmo-paper"), optimizer=OptimizerConfig(form=form, unshared=("bias",)))
    alone = baseline(run, "independent").optimizer.resolved()
    assert (alone.form, alone.share_alpha, alone.synchronize_beta, alone.convergence_window) == ("default", 0, 0, 0)
    kept = run.optimizer.resolved()
    for name in ("max_gradient_norm", "warmup_steps", "decay", "weight_decay", "learning_rate"):
        assert getattr(alone, name) == getattr(kept, name)
    assert baseline(run, "joint").optimizer.form == form


def test_muon_is_independent_too_with_its_own_momentum():
    run = presets.get("mmo-paper")
    config = dataclasses.replace(run, optimizer=OptimizerConfig(form="paper", b1=0.8, amsgrad=True))
    alone, other = baseline(config, "muon").optimizer, baseline(run, "independent").optimizer
    assert dataclasses.replace(alone, inner="adamw", learning_rate=other.learning_rate) == other
    kept = OptimizerConfig(inner="muon", momentum=0.9)
    assert baseline(dataclasses.replace(run, optimizer=kept), "muon").optimizer.momentum == 0.9


def test_sequential_distillation_teaches_by_whom_the_run_names():
    run = presets.get("mmo-paper")
    named = dataclasses.replace(run, together=TogetherConfig(distil="gpt2", distil_alpha=0.3))
    together = baseline(named, "distillation").together
    assert (together.relay, together.distil, together.alpha, together.relay_warm) == ("gpt2", "gpt2", 0.3, False)
    assert baseline(run, "distillation").optimizer == baseline(run, "independent").optimizer


def test_a_teachers_weight_goes_with_the_teachers():
    """Where it says nothing it is refused: what replaces the teachers would be no run."""
    run = dataclasses.replace(presets.get("mmo-paper"), together=TogetherConfig(distil="ensemble", relay="gpt2"))
    heavy = tuple(dataclasses.replace(model, teacher_weight=2.0) for model in run.models)
    run = dataclasses.replace(run, models=heavy)
    for plain in (*(baseline(run, word) for word in BASELINES if word != "joint"), recipe(run, "relay")):
        assert {model.teacher_weight for model in plain.models} == {1}
    assert lone_run(run, "gpt2", 3).model("gpt2").teacher_weight == 1
    assert baseline(run, "joint").models == heavy, "its teachers stay"


def test_a_baseline_that_cannot_be_is_refused():
    run = presets.get("mmo-paper")
    with pytest.raises(ArenaError, match="unknown baseline 'independant'; did you mean 'independent'"):
        baseline(run, "independant")
    with pytest.raises(ArenaError, match="no learning rate was tuned for 'joint-qa'"):
        baseline(presets.get("joint-qa"), "tuned")
    with pytest.raises(ArenaError, match="a competition has no such baseline"):
        baseline(presets.get("arena-small"), "joint")
    with pytest.raises(ArenaError, match="relay_warm is off"):
        TogetherConfig(relay="bert", relay_warm=False)
    with pytest.raises(ArenaError, match="relay_warm is off"):
        TogetherConfig(distil="bert", relay_warm=False)
    with pytest.raises(ArenaError, match="unshared does nothing"):
        OptimizerConfig(share_alpha=0.0, unshared=("bias",))


def test_an_arm_is_a_baseline_by_its_word():
    arms = {word: {"configure": word} for word in BASELINES if word != "tuned"} | {"full": {}}
    plan = plan_from(
        {
            "name": "words", "base": "mmo-paper", "seeds": 2, "baseline": "independent", "arms": arms,
            "outcome": {"kind": "score", "metric": "accuracy"},
        }
    )  # fmt: skip
    assert plan.config("distillation", {}).together.relay == "bert"
    assert plan.config("joint", {}).optimizer.share_alpha == 0
