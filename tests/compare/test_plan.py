"""A bad plan is one line before anything runs; a good one means what it says."""

import copy

import pytest

from arena_jax import ArenaError
from arena_jax.compare import plan_from, plan_to_dict, read_plan
from arena_jax.compare.plan_file import EXAMPLE
from arena_jax.config import differences
from arena_jax.config.change import resolved

GRID = {"seeds": 2, "grid": {"optimizer": {"warmup_steps": [5, 10, 20]}}}


def test_the_example_is_a_plan():
    plan = read_plan(EXAMPLE)
    assert plan.name == "example"
    assert [plan.config(arm.name, {}).optimizer.learning_rate for arm in plan.arms] == [1e-3, 4e-3]
    assert plan.config("slow", {}, seed=3).training.seed == 3
    assert plan_from(plan_to_dict(plan)) == plan


def edited(values, path, value):
    values = copy.deepcopy(values)
    *path, last = path.split("/")
    place = values
    for name in path:
        place = place.setdefault(name, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sedes", 3, "unknown field 'sedes'; did you mean 'seeds'?"),
        ("base", "joint-sinthetic", "did you mean 'joint-synthetic'?"),
        ("seeds", 1, "one seed has no spread"),
        ("seeds", [1, 1, 2, 3, 4, 5], "a seed stands twice"),
        ("seeds", [0, -1], "a seed is a whole number"),
        ("seeds", "six", "give how many, or a list"),
        ("seeds", 5, "5 seeds can show nothing"),
        ("baseline", None, "baseline is missing"),
        ("baseline", "slw", "which is no arm; did you mean 'slow'?"),
        ("arms/fast", None, "needs two arms"),
        ("arms/a b", {}, "use letters, digits"),
        ("arms/Slow", {}, "two arms are called"),
        ("arms/fast/optimizer.learning_rate", 1e-3, "stands twice"),
        ("arms/fast/optimizer", {"learning_rate": 1e-3}, "'slow' and 'fast' are the same"),
        ("arms/fast/optimizer", {"learing_rate": 1e-3}, "did you mean 'learning_rate'?"),
        ("arms/fast/optimizer", {"learning_rate": "fast"}, "must be a number"),
        ("arms/fast/train", "nowhere.py:train", "there is no file"),
        ("arms/fast/train", 3, "give FILE.py:NAME"),
        ("arms/fast/training", {"seed": 3}, "which is the plan's to say"),
        ("arms/fast/against", "nobody", "no arm 'nobody'"),
        ("arms/fast/against", "fast", "is compared with nothing"),
        ("arms/fast/models", {"gpt2": {"weight": 2.0}}, "no model 'gpt2'"),
        ("arms/fast/arena", {"spend": "3s"}, "some arms compete for memory and some do not"),
        ("outcome", None, "outcome is missing"),
        ("outcome/kind", "step", "did you mean 'steps'?"),
        ("outcome/metric", "acuracy", "did you mean 'accuracy'?"),
        ("outcome/metric", "entity_f1", "has no entity_f1"),
        ("outcome/target", None, "give outcome.target"),
        ("outcome/target", 90, "accuracy lies between 0 and 1"),
        ("outcome/over", "gpt2", "has no such model"),
        ("outcome/at_step", 5, "belong to kind score"),
        ("outcome/interval", "bootstrap", "is rank-based"),
        ("outcome/compiling", True, "counts none"),
        ("outcome", {"kind": "score", "metric": "loss", "at_step": 7}, "is not scored there"),
        ("outcome", {"kind": "score", "metric": "loss", "at_step": 7, "at_seconds": 3}, "either at_step or at_seconds"),
        ("outcome", {"kind": "score", "metric": "loss", "target": 0.5}, "remove it"),
        ("success", {"effect": 1.2}, "must be below 1"),
        ("success", {"efect": 0.9}, "did you mean 'effect'?"),
        ("tuning", {**GRID, "seeds": [3]}, "which final runs use"),
        ("tuning", {"grid": GRID["grid"]}, "tuning.seeds is missing"),
        ("tuning", {"seeds": 2}, "every arm is tuned with as many"),
        ("tuning", {"seeds": 2, "grid": {"optimizer.learning_rate": [1e-3, 2e-3]}}, "which is tuned"),
        ("tuning", {"seeds": 2, "grid": {"optimizer.warmup_steps": [5, 5]}}, "each value once"),
        ("tuning", {"seeds": 2, "grid": {"optimizer.warmup_steps": [5, -5]}}, "must be at least 0"),
        ("tuning", {"seeds": 2, "grid": {"optimizer.warmup_steps": 5}}, "a list of values to try"),
        ("tuning", {**GRID, "trials": 4}, "has a grid of 3 points for 4 trials"),
        ("tuning", {**GRID, "trials": 1}, "at least 2 trials"),
    ],
)
def test_a_bad_plan_is_one_line(values, path, value, message):
    with pytest.raises(ArenaError, match=r"(?s).*") as error:
        plan_from(edited(values, path, value))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_plan_is_named(tmp_path):
    for name, text, message in [("a.toml", "seeds = ", "is not TOML"), ("b.toml", "seeds = 3", "base is missing")]:
        (tmp_path / name).write_text(text)
        with pytest.raises(ArenaError, match=message) as error:
            read_plan(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(ArenaError, match="cannot read the plan"):
        read_plan(tmp_path / "c.toml")


def test_every_arm_is_tuned_with_as_many_trials(values):
    values["tuning"] = {**GRID, "trials": 3}
    values["arms"]["fast"]["grid"] = {"optimizer.share_alpha": [0.1, 0.2, 0.3]}
    plan = plan_from(values)
    assert len(plan.trials("slow")) == len(plan.trials("fast")) == 3
    assert len({trial["optimizer.share_alpha"] for trial in plan.trials("fast")}) > 1  # spread over the grid
    assert set(plan.tuning.seeds).isdisjoint(plan.seeds)
    values["tuning"].pop("trials")
    with pytest.raises(ArenaError, match="grids of different sizes"):
        plan_from(values)


def test_a_field_of_each_model_is_tuned_as_one(values):
    every = "models.*.initializer_range"
    values["tuning"] = {"grid": {every: [0.02, 0.1]}, "seeds": [90]}
    plan = plan_from(values)
    assert {model.initializer_range for model in plan.config("slow", {every: 0.1}).models} == {0.1}
    values["arms"]["slow"]["models.bert.initializer_range"] = 0.2
    with pytest.raises(ArenaError, match=r"arms.slow sets models.\*.initializer_range, which is tuned"):
        plan_from(values)


def test_forms_that_say_the_same_are_the_same_arm(values):
    """What an arm leaves open counts as what the form says."""
    values["arms"] = {"slow": {}, "fast": {"optimizer.share_alpha": 0.2, "optimizer.synchronize_beta": 0.1}}
    with pytest.raises(ArenaError, match="are the same"):
        plan_from(values)


def test_functions_of_python_are_named_by_their_file(values):
    values["arms"]["fast"]["configure"] = lambda config: config
    with pytest.raises(ArenaError, match="top of a file"):
        plan_from(values)


def test_the_guides_plan_has_ten_lines(tmp_path):
    guide = (EXAMPLE.parents[2] / "docs" / "guides" / "compare.md").read_text()
    text = guide.split("```toml\n")[1].split("```")[0]
    (tmp_path / "rates.toml").write_text(text)
    plan = read_plan(tmp_path / "rates.toml")
    assert len(text.splitlines()) == 10
    assert (len(plan.seeds), plan.baseline, [arm.name for arm in plan.arms]) == (6, "slow", ["slow", "fast"])
    assert [plan.config(name, {}).optimizer.learning_rate for name in ("slow", "fast")] == [1e-3, 4e-3]


def test_the_forms_differ_in_one_thing_each():
    plan = read_plan(EXAMPLE.parents[2] / "benchmarks" / "forms.toml")
    configs = {arm.name: resolved(plan.config(arm.name, {})) for arm in plan.arms}
    for arm in plan.arms:
        if arm.name in (plan.baseline, "paper", "published"):  # these two are whole forms
            continue
        different = differences(configs[plan.against(arm)], configs[arm.name])
        # Whole of the default form is sharing and synchronisation; alone has neither.
        assert len(different) == {"both": 2, "rates-by-absolute-slope": 2}.get(arm.name, 1), different
    clipped = {(config.optimizer.max_gradient_norm, config.optimizer.weight_decay) for config in configs.values()}
    assert clipped == {(1.0, 0.01)}


def test_competitions_differ_in_their_policy_alone():
    plan = read_plan(EXAMPLE.parents[2] / "benchmarks" / "arena.toml")
    configs = {arm.name: resolved(plan.config(arm.name, {})) for arm in plan.arms}
    assert plan.baseline == "static"
    for name, config in configs.items():
        assert (config.arena.spend, config.arena.late_swaps) == ("240s", "wait")
        policy = [f"arena.policy: 'static' → '{name}'"] if name != "static" else []
        assert differences(configs["static"], config) == policy
