"""Parameters dealt out over devices: the numbers of a run that holds them whole, and a part of its memory."""

import dataclasses
import functools
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from arena_jax import config, models, runtime, training, transforms
from arena_jax.arena import competition
from arena_jax.config import ArenaConfig, OptimizerConfig, presets
from arena_jax.models.shards import shard_axis, sharding_of
from arena_jax.runs import Stopped, load_run
from arena_jax.runs.records import read
from arena_jax.runtime.devices import make_mesh, mesh_of
from arena_jax.runtime.memory import device_bytes, tree_bytes
from benchmarks.scale import collectives

pytestmark = pytest.mark.usefixtures("compile_quickly")
SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "vocab_size": 300}
ROWS, LENGTH = 8, 12


def meshes():
    devices = np.array(jax.devices())
    return {"whole": make_mesh(4), "1 × 4": make_mesh(4, shard=True), "2 × 2": mesh_of(devices[:4], 2)}


def make(**changes):
    """A causal and a masked model, dropout on; everything of the paper's form on, and a synchronisation each step."""
    sizes = SIZES | changes
    made = {
        "bert": models.create(models.preset("bert-tiny", **sizes), "masked-lm", seed=1),
        "gpt2": models.create(models.preset("gpt2-tiny", **sizes), "causal-lm", seed=2),
    }
    objectives = {
        "bert": training.objective_for("masked-lm", mask_token_id=4),
        "gpt2": training.objective_for("causal-lm"),
    }
    optimizer = transforms.multi_model_adamw(1e-2, {"bert": 1.0, "gpt2": 0.8}, alpha=0.2, beta=0.1, sync_every=1)
    return made, optimizer, objectives


def step_on(mesh, parts, **options):
    made, optimizer, objectives = parts
    options |= {"gradient_norms": True, "skip_nonfinite": True}
    return training.make_step(made, optimizer, objectives, mesh=mesh, **options)


def batches(rows=ROWS):
    ids = np.random.default_rng(0).integers(5, 250, (rows, LENGTH)).astype(np.int32)
    mask = (np.arange(LENGTH) < np.arange(rows)[:, None] + 4).astype(np.int32)
    batch = {"input_ids": ids, "attention_mask": mask, "special_tokens_mask": np.zeros_like(ids)}
    return {"bert": batch, "gpt2": batch}


def after(mesh, parts, steps=3, **options):
    step = step_on(mesh, parts, **options)
    state = step.init()
    for _ in range(steps):
        state, metrics = step(state, batches())
    return step, state, jax.tree.map(float, metrics)


def difference(state, reference):
    """The largest difference between the parameters, in parts of the largest of each array or what new ones spread by.

    Biases of keys are left out: their gradient is rounding, which Adam makes steps of.
    """
    largest = 0.0
    for path, x in jax.tree_util.tree_leaves_with_path(state.params):
        if [entry.key for entry in path[-2:]] == ["key", "bias"]:
            continue
        y = np.asarray(functools.reduce(lambda tree, entry: tree[entry.key], path, reference.params))
        largest = max(largest, np.abs(np.asarray(x) - y).max() / max(0.02, np.abs(y).max()))
    return largest


@pytest.mark.slow
@pytest.mark.parametrize(("accumulation", "remat"), [(1, "dots"), (2, "block"), (1, "none")])
def test_sharded_training_is_replicated_training(accumulation, remat):
    """The reference is the same step with whole parameters on the same four devices."""
    parts = make(remat=remat)
    results = {name: after(mesh, parts, accumulation=accumulation) for name, mesh in meshes().items()}
    _, reference, metrics = results.pop("whole")
    for step, state, sharded_metrics in results.values():
        assert difference(state, reference) < 1e-6
        for name in ("bert", "gpt2"):
            assert sharded_metrics[name]["loss"] == pytest.approx(metrics[name]["loss"], rel=1e-6)
            assert sharded_metrics[name]["gradient_norm"] == pytest.approx(metrics[name]["gradient_norm"], rel=1e-6)
        for leaf in jax.tree.leaves((state.params, state.opt_state)):
            assert leaf.sharding == sharding_of(step.mesh, leaf.shape)


def test_a_device_holds_its_part_whatever_the_number_of_groups():
    parts = make()
    devices = np.array(jax.devices())
    held = {}
    for groups, count in ((1, 2), (1, 4), (2, 8)):
        step = step_on(mesh_of(devices[:count], groups), parts)
        state = step.abstract_state()
        held[groups, count] = device_bytes(state)
        vectors = sum(leaf.nbytes for leaf in jax.tree.leaves(step.init()) if leaf.ndim < 2)
        shards = count // groups
        assert device_bytes(state) == pytest.approx((tree_bytes(state) - vectors) / shards + vectors, rel=1e-6)
    assert held[1, 4] == held[2, 8]


def test_an_update_moves_no_model():
    """Sharing and synchronisation add shard to shard: no collective of the update is larger than a vector."""
    parts = make()
    step = step_on(make_mesh(4, shard=True), parts)
    state = step.init()
    gradients = state.params
    program = runtime.compile_program(
        jax.jit(step.finish, out_shardings=step.out_shardings(state)),
        state,
        gradients,
        {name: {"loss": jnp.zeros(())} for name in step.names},
        {"active": dict.fromkeys(step.names, jnp.ones((), bool))},
    )
    text = program.executable.as_text()
    moved = re.findall(r"= (.*) (?:all-gather|all-to-all|all-reduce|reduce-scatter|collective-permute)\(", text)
    shapes = [dims.split(",") for line in moved for dims in re.findall(r"\[([\d,]*)\]", line)]
    sizes = [int(np.prod([int(number) for number in dims if number])) for dims in shapes]
    assert sizes, "norms are summed over devices"
    assert max(sizes) <= 8


@pytest.mark.slow
def test_widths_that_do_not_divide_stay_whole():
    """An odd hidden width: what divides is dealt out, the rest lies on every device, the numbers are the same."""
    parts = make(hidden_size=30, num_heads=2, intermediate_size=50, vocab_size=301)
    _, reference, _ = after(meshes()["whole"], parts)
    _, state, _ = after(meshes()["1 × 4"], parts)
    assert difference(state, reference) < 1e-6
    kernel = state.params["bert"]["blocks"]["feed_forward"]["up"]["kernel"]
    assert kernel.shape == (2, 30, 50)
    assert kernel.sharding.is_fully_replicated
    assert 0.8 * tree_bytes(state) < device_bytes(state) < tree_bytes(state)  # the tables of positions have even rows
    assert shard_axis((2, 32, 50), 4) == 1


def test_collectives_are_counted_as_often_as_loops_run():
    """The reference is the program as written: a sum over devices in each of five turns, and one gather."""
    mesh = make_mesh(4)
    rows, whole = PartitionSpec("data"), PartitionSpec()

    def turns(x):
        x, _ = jax.lax.scan(lambda carry, _: (jnp.sin(carry + jax.lax.psum(carry, "data")), None), x, length=5)
        return jax.lax.all_gather(x, "data", tiled=True)

    run = jax.jit(jax.shard_map(turns, mesh=mesh, in_specs=rows, out_specs=whole, check_vma=False))
    counted = collectives(run.lower(jnp.ones(8)).compile().as_text())
    assert counted.runs == {"all-reduce": 5, "all-gather": 1}
    assert counted.instructions == {"all-reduce": 1, "all-gather": 1}


class Own(nnx.Module):
    """A network that is not ours, with statistics of its own."""

    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(8, 16, use_bias=False, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(16, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(nnx.relu(self.norm(self.first(x)))))


def own_loss(model, batch, key, training_):
    del key, training_
    loss = jnp.square(model(batch["x"])).sum(-1)
    return training.Result({"loss_sum": loss.sum(), "count": jnp.asarray(float(len(loss)))}, {})


def test_modules_of_ones_own_are_dealt_out_too():
    batch = {"own": {"x": np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)}}
    results = {}
    for name, mesh in meshes().items():
        optimizer = transforms.multi_model_adamw(1e-2)
        step = training.make_step({"own": Own(nnx.Rngs(0))}, optimizer, {"own": own_loss}, mesh=mesh)
        state = step.init()
        for _ in range(3):
            state, _ = step(state, batch)
        results[name] = state
    assert not results["1 × 4"].params["own"]["first"]["kernel"].sharding.is_fully_replicated
    for name in ("1 × 4", "2 × 2"):
        assert difference(results[name], results["whole"]) < 1e-6


def tiny_run(**options):
    run = presets.joint_synthetic()
    small = tuple(
        dataclasses.replace(m, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, vocab_size=300)
        for m in run.models[:2]
    )
    options = {"epochs": None, "steps": 6, "batch_size": 8, "evaluate_every": 3, "checkpoint_every": 3} | options
    return dataclasses.replace(
        run,
        models=small,
        data=dataclasses.replace(run.data, train_limit=40, validation_limit=16),
        training=dataclasses.replace(
            run.training, evaluation_batch_size=8, tensorboard=False, figures=False, **options
        ),
    )


def losses(run):
    return [
        [model["loss"] for model in record["models"].values()] for record in read(run) if record["kind"] == "evaluation"
    ]


SHARDED = {"devices": 4, "shard": "parameters"}


@pytest.mark.slow
def test_a_checkpoint_of_shards_loads_on_any_number_of_devices(tmp_path, monkeypatch):
    """The reference is a run with whole parameters that was never interrupted."""
    expected = losses(training.train(tiny_run(devices=4), tmp_path / "whole"))
    original, steps = training.Step.run, []

    def run_and_stop(self, *arguments, **extra):
        steps.append(1)
        if len(steps) == 4:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments, **extra)

    with monkeypatch.context() as patch:
        patch.setattr(training.Step, "run", run_and_stop)
        with pytest.raises(Stopped):
            training.train(tiny_run(**SHARDED), tmp_path / "half")
    for number, later in enumerate((SHARDED, {"devices": 1}, {"devices": 2, "shard": "parameters"})):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "half", folder)
        config.save(tiny_run(**later), folder / "config.json")
        training.train(load_run(folder), folder, resume=True)
        assert len(losses(folder)) == len(expected) == 2
        for mine, reference in zip(losses(folder), expected, strict=True):
            assert mine == pytest.approx(reference, rel=1e-6)


@pytest.mark.slow
def test_the_first_record_says_what_a_device_holds(tmp_path):
    facts = {
        devices: {fact["name"]: fact for fact in read(run)[0]["derived"]}["parameters"]
        for devices in (1, 4)
        for run in [training.train(tiny_run(devices=devices, shard="parameters", steps=1), tmp_path / str(devices))]
    }
    assert facts[1]["value"] == "whole"
    assert facts[1]["reason"] == "each machine's process has one device"
    assert facts[4]["value"] == "dealt out over 4 devices"
    assert re.fullmatch(r"with the optimizer's states \S+ kB of \S+ kB on each", facts[4]["reason"])


@pytest.mark.slow
def test_a_competition_of_shards_is_one_of_whole_parameters(tmp_path):
    """Sharing and synchronisation on; the reference is the same competition with whole parameters."""
    runs = {
        shard: competition.train(
            dataclasses.replace(
                tiny_run(devices=4, shard=shard, steps=4, evaluate_every=2),
                arena=ArenaConfig(memory_budget="4MB", batch_sizes=(2,), policy="static", reallocate_every=2),
                optimizer=OptimizerConfig(share_alpha=0.2, synchronize_every=1, warmup_steps=2),
            ),
            tmp_path / shard,
        )
        for shard in ("none", "parameters")
    }
    for mine, reference in zip(*map(losses, reversed(runs.values())), strict=True):
        assert mine == pytest.approx(reference, rel=1e-6)
