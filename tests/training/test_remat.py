"""What blocks keep: the cheapest policy that fits, by the bytes of the real step, and files of older versions."""

import dataclasses

import jax
import numpy as np
import pytest

from arena_jax import ArenaError, config, models, training
from arena_jax.config import presets
from arena_jax.runs.records import read
from arena_jax.runtime.program import Program, ProgramBytes, compile_program
from arena_jax.training import remat

NEEDS = {"none": 30, "dots": 20, "block": 10}


def compile_by(policy):
    return Program(None, ProgramBytes(temporaries=NEEDS[policy]))


@pytest.mark.parametrize(
    ("budget", "platform", "policy"),
    [(30, "gpu", "none"), (29, "gpu", "dots"), (19, "gpu", "block"), (40, "cpu", "dots"), (10, "cpu", "block")],
)
def test_the_cheapest_policy_that_fits_is_taken(budget, platform, policy):
    choice = remat.cheapest_remat(compile_by, budget, platform)
    assert choice.policy == policy
    assert [program.bytes.total for program in choice.rejected] == sorted(
        [NEEDS[p] for p in remat.policies(platform) if NEEDS[p] > budget], reverse=True
    )


def test_a_policy_that_keeps_less_takes_less_memory():
    """By the compiler's own count, of the gradient of two blocks at 8 × 64 tokens."""

    def temporaries(policy):
        network = models.abstract(models.preset("gpt2-tiny", remat=policy), "causal-lm")
        structure, params = models.split(network)
        objective = training.objective_for("causal-lm")
        tokens = jax.ShapeDtypeStruct((8, 64), np.int32)

        def loss(params, batch, key):
            return objective(models.merge(structure, params), batch, key, True).sums["loss_sum"]

        batch = {"input_ids": tokens, "attention_mask": tokens}
        return compile_program(jax.grad(loss), params, batch, jax.eval_shape(jax.random.key, 0)).bytes.temporaries

    none, dots, block = map(temporaries, ("none", "dots", "block"))
    assert none > 1.5 * dots > 1.5 * block


def test_a_budget_that_no_policy_keeps_is_refused():
    with pytest.raises(ArenaError, match=r"no policy fits 9 B: dots needs 20 B, block needs 10 B; lower --batch-size"):
        remat.cheapest_remat(compile_by, 9, "cpu")


def test_what_the_compiler_cannot_place_does_not_fit():
    def refuse(policy):
        if policy == "none":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return compile_by(policy)

    assert remat.cheapest_remat(refuse, 100, "gpu").policy == "dots"


def test_files_of_older_versions_say_yes_or_no():
    values = config.to_dict(presets.joint_synthetic())
    for old, new in ((False, "dots"), (True, "block")):
        values["training"]["remat"] = old
        assert config.from_dict(values).training.remat == new
    values["training"]["remat"] = 1
    with pytest.raises(ArenaError, match=r"training\.remat is 1"):
        config.from_dict(values)


def test_a_competition_names_its_policy():
    run = presets.get("arena-small")
    with pytest.raises(ArenaError, match=r"give training\.remat none, dots or block"):
        dataclasses.replace(run, training=dataclasses.replace(run.training, remat="auto"))


@pytest.mark.slow
def test_a_run_by_auto_is_the_run_by_the_policy_it_chose(tmp_path):
    """The reference is a run by that policy; resumed, it stays with it."""
    run = presets.joint_synthetic()
    small = dataclasses.replace(
        run,
        models=tuple(
            dataclasses.replace(m, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=16)
            for m in run.models[:1]
        ),
        data=dataclasses.replace(run.data, train_limit=40, validation_limit=20),
    )

    def train(name, steps, policy, resume=False):
        changed = dataclasses.replace(
            small.training, epochs=None, steps=steps, remat=policy, tensorboard=False, figures=False, devices=1
        )
        return training.train(dataclasses.replace(small, training=changed), tmp_path / name, resume=resume)

    losses = {
        name: [r["models"]["bert"]["loss"] for r in read(train(name, 4, name)) if r["kind"] == "evaluation"]
        for name in ("auto", "dots")
    }
    assert losses["auto"] == losses["dots"]
    derived = read(tmp_path / "auto")[0]["derived"]
    assert [(d["name"], d["value"]) for d in derived][-1] == ("remat", "dots")
