"""Models that change their shape in mid-run: what is kept, what goes on, and that resuming changes no bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arena_jax import game, models, training
from arena_jax.config import TogetherConfig, presets
from arena_jax.config.change import change
from arena_jax.config.errors import ArenaError
from arena_jax.models.resize import resize
from arena_jax.runs import Stopped
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.training.build import build
from arena_jax.training.objectives import objective_for
from arena_jax.training.part_worth import part_worth
from arena_jax.training.resize import resize_model
from arena_jax.training.shapes import check_resizes
from tests.training.test_train import state_of, stop_at, tiny, without_times

pytestmark = pytest.mark.usefixtures("compile_quickly")
IDS = np.random.default_rng(0).integers(3, 256, (3, 9)).astype(np.int32)


def resizing(**together):
    """BERT grows before the second checkpoint, GPT-2 is pruned after it."""
    config = tiny()
    bert, gpt2 = config.models
    changed = (
        dataclasses.replace(bert, resize=("3:layers=2/neurons=24",)),
        dataclasses.replace(gpt2, resize=("5:neurons=8",)),
    )
    return dataclasses.replace(config, models=changed, together=TogetherConfig(ema=0.9, **together))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compile_quickly):
    return training.train(resizing(), tmp_path_factory.mktemp("resize") / "run")


@pytest.mark.parametrize(
    ("name", "task", "tolerance"),
    [
        ("gpt2-tiny", "causal-lm", 0.0),
        ("bert-tiny", "masked-lm", 1e-13),  # measured with logits up to 2.4: 8.8e-14; layer norm's ε is 1e-12
        ("roberta-tiny", "masked-lm", 1e-6),  # 6.8e-7; ε is 1e-5, so that normalising twice is not normalising once
    ],
)
def test_growth_keeps_the_function_in_double_precision(name, task, tolerance):
    with jax.enable_x64(True):
        config = models.preset(name).replace(param_dtype="float64")
        structure, params = models.split(models.create(config, task, seed=2))
        random = np.random.default_rng(1)
        model = models.merge(
            structure, jax.tree.map(lambda x: jnp.asarray(x + 0.1 * random.normal(size=x.shape)), params)
        )
        for what, count in (("layers", 4), ("heads", 6), ("neurons", 100)):
            grown = resize(config, what, count).model(model)
            assert np.abs(np.asarray(model(IDS)) - np.asarray(grown(IDS))).max() <= tolerance, what


def test_plain_stacking_copies_the_blocks():
    model = models.create("bert-tiny", "masked-lm", seed=2)
    stacked = resize(model.config, "stack", 4).model(model)
    before, after = (np.asarray(each.blocks.feed_forward.up.kernel[...]) for each in (model, stacked))
    np.testing.assert_array_equal(after, before[[0, 1, 0, 1]])


def test_parts_are_worth_what_the_ablation_game_says():
    model = models.create("gpt2-tiny", "causal-lm", seed=2)
    worth = part_worth(model, objective_for("causal-lm"), {"input_ids": IDS}, groups=2)
    played = game.AblationGame(model, [{"input_ids": IDS}], table=game.fine_players(model.config, 2))
    reference = game.leave_one_out(played, len(played.table)).values.reshape(2, 6)
    np.testing.assert_allclose(np.concatenate([worth.heads, worth.groups], 1), reference, atol=2e-6)
    without = np.ones((2, 12), bool)
    without[0, :6] = without[1, 6:] = False
    blocks = played(np.ones((1, 12), bool)) - played(without)
    np.testing.assert_allclose(worth.blocks, blocks, atol=2e-6)


def test_those_stay_that_the_loss_needs_most():
    model = models.create("gpt2-tiny", "causal-lm", seed=2)
    worth = part_worth(model, objective_for("causal-lm"), {"input_ids": IDS}, groups=64)
    cut = resize(model.config, "neurons", 40, worth)
    assert cut.after.intermediate_size == 40
    kept = np.sort(np.argsort(-worth.groups, axis=1)[:, :40], axis=1)
    kernel, before = (np.asarray(each.blocks.feed_forward.up.kernel[...]) for each in (cut.model(model), model))
    np.testing.assert_array_equal(kernel, np.take_along_axis(before, kept[:, None], axis=2))
    heads = resize(model.config, "heads", 2, worth).model(model)
    assert (heads.config.num_heads, heads.config.head_width) == (2, 8)
    assert resize(model.config, "layers", 1, worth).model(model).config.num_layers == 1


@pytest.mark.slow
def test_what_is_carried_over():
    """The other model's arrays are the same; moments and averages follow the change, and the function is kept."""
    parts = build(resizing())
    step = training.make_step(parts.models, optax.adam(1e-2), parts.objectives, ema=0.9)
    batches = {name: parts.train[name].batch(np.arange(8), 16) for name in parts.models}
    state = step.init()
    for _ in range(2):
        state, _ = step(state, batches)
    loss = float(step.evaluate("bert", state.params["bert"], batches["bert"]).sums["loss_sum"])
    before = jax.tree.map(np.asarray, state)
    resized = resize_model(step, state, "bert", (("layers", 2), ("neurons", 24)), parts)
    after = resized.state
    assert resized.moments
    assert resized.model.config.num_layers == 2
    for tree, old in ((after.params, before.params), (after.opt_state[0].mu, before.opt_state[0].mu)):
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, tree["gpt2"]), old["gpt2"])
    assert int(after.opt_state[0].count) == 2
    assert int(after.averages["bert"].steps) == 2
    up, old_up = (
        x.mu["bert"]["blocks"]["feed_forward"]["up"]["kernel"] for x in (after.opt_state[0], before.opt_state[0])
    )
    np.testing.assert_array_equal(np.asarray(up)[:1, :, :16], old_up)
    assert not np.asarray(up)[1].any()
    grown_loss = float(step.evaluate("bert", after.params["bert"], batches["bert"]).sums["loss_sum"])
    assert grown_loss == pytest.approx(loss, rel=1e-5)
    after, metrics = step(after, batches)
    assert np.isfinite(float(metrics["bert"]["loss"]))


@pytest.mark.slow
def test_moments_that_cannot_follow_begin_at_0():
    parts = build(resizing())
    muon = optax.contrib.muon(1e-2)
    step = training.make_step({"bert": parts.models["bert"]}, muon, {"bert": parts.objectives["bert"]})
    resized = resize_model(step, step.init(), "bert", (("layers", 2),), parts)
    batch = parts.train["bert"].batch(np.arange(8), 16)
    assert np.isfinite(float(step(resized.state, {"bert": batch})[1]["bert"]["loss"]))


@pytest.mark.slow
def test_the_run_says_what_grew_and_compiles_the_step_once_for_it(finished):
    records = read(finished)
    grown, pruned = [record for record in records if record["kind"] == "resize"]
    assert (grown["model"], grown["step"], grown["moments"]) == ("bert", 3, "carried over")
    assert grown["about"]["size"] == "bert, 2 layers × 16, 2 heads"
    assert grown["before"] < grown["about"]["parameters"]
    assert (pruned["model"], pruned["step"]) == ("gpt2", 5)
    assert pruned["text"].startswith("gpt2: remove 8 of 16 neurons per block; ")
    assert "bert: insert a block that does nothing at 1; widen" in " ".join(narrate(records).split())
    compiled = [record["program"] for record in records if record["kind"] == "compile"]
    steps = [name for name in compiled if name.startswith("step")]
    assert len(steps) == 3
    evaluations = [name.split(",")[0] for name in compiled if name.startswith("evaluate")]
    assert evaluations == ["evaluate bert", "evaluate gpt2", "evaluate gpt2"], "the model's own, once it has changed"


@pytest.mark.slow
def test_the_last_shape_is_evaluated_exported_and_averaged(finished, tmp_path):
    last = [record for record in read(finished) if record["kind"] == "evaluation"][-1]
    assert training.evaluate(finished)["bert"] == pytest.approx(last["models"]["bert"], rel=1e-6)
    training.export(finished, "bert", tmp_path / "bert")
    assert models.read_config(tmp_path / "bert").num_layers == 2
    assert training.evaluate(finished, checkpoint="ema")["gpt2"] == pytest.approx(last["averages"]["gpt2"], rel=1e-6)
    assert training.evaluate(finished, checkpoint="6")  # the pruned shape, too
    other = training.restore(finished, resizing())[0]
    assert other.models["gpt2"].config.intermediate_size == 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 5, 6])
def test_resuming_before_and_after_each_change_is_the_same_to_the_bit(finished, tmp_path, monkeypatch, number):
    stop_at(monkeypatch, number)
    with pytest.raises(Stopped):
        training.train(resizing(), tmp_path / "run")
    monkeypatch.undo()
    run = training.train(resizing(), tmp_path / "run", resume=True)
    jax.tree.map(np.testing.assert_array_equal, state_of(finished), state_of(run))
    kinds = [record for record in without_times(run) if record["kind"] != "checkpoint"]
    assert kinds == [record for record in without_times(finished) if record["kind"] != "checkpoint"]


@pytest.mark.slow
def test_a_mean_over_two_shapes_is_refused(tmp_path):
    config = resizing()
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=6, keep_checkpoints=3))
    run = training.train(config, tmp_path / "run")
    with pytest.raises(ArenaError, match="have no mean: a model has changed its shape between them"):
        training.evaluate(run, checkpoint="mean:2")
    assert training.restore(run, config, "3")[0].models["bert"].config.num_layers == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"resize": ("layers=2",)}, "write STEP:WHAT=COUNT"),
        ({"resize": ("0:layers=2",)}, "with a step of 1 or more"),
        ({"resize": ("2:layers",)}, "write how many layers there are"),
        ({"resize": ("2:hidden=9",)}, "changes 'hidden'"),
        ({"resize": ("2:layers=2/layers=3",)}, "changes one thing twice"),
        ({"resize": ("2:layers=2", "2:layers=3")}, "steps must rise"),
        ({"resize": ("8:layers=2",)}, "comes after the run's 8 steps"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(fields, told):
    with pytest.raises(ArenaError, match=told):
        change(tiny(), {"models": {"bert": fields}})


def test_what_fits_no_run_is_refused():
    with pytest.raises(ArenaError, match="a relay's steps are those of two runs"):
        resizing(relay="gpt2")
    with pytest.raises(ArenaError, match="--remat auto is chosen for one shape"):
        change(resizing(), {"training.remat": "auto"})
    arena = change(
        presets.get("arena-small"), {"arena.reallocate_every": 20, "arena.spend": "none", "training.steps": 60}
    )
    name = arena.models[0].name
    with pytest.raises(ArenaError, match=r"give a multiple of arena\.reallocate_every, 20"):
        change(arena, {"models": {name: {"resize": ("30:layers=4",)}}})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"models": {"bert": {"resize": ("2:layers=1",)}}}, "model 'bert': resize at 2: there are 1 layers already"),
        ({"models": {"bert": {"resize": ("2:neurons=9",)}}}, None),
        ({"models": {"bert": {"resize": ("2:neurons=8", "3:neurons=8")}}}, "resize at 3: there are 8 neurons already"),
        (
            {"optimizer.component_rates": "feed-forward=8/4", "models": {"bert": {"resize": ("2:layers=2",)}}},
            "model '",
        ),
    ],
)
def test_every_change_is_tried_before_anything_is_trained(changes, told):
    config = change(tiny(), changes)
    parts = build(config)
    if told is None:
        return check_resizes(config, parts.models, 8)
    with pytest.raises(ArenaError, match=told):
        check_resizes(config, parts.models, 8)
