"""Equation 15: the integer program against brute force; models side by side on disjoint devices against each alone."""

import itertools
import json

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax import models, training
from arena_jax.arena.placement import Need, Place, Placement, options, place, sub_meshes
from arena_jax.arena.pool import Kind, pool_here, read_pool
from arena_jax.cli import plan_file
from arena_jax.cli.main import main
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.devices import make_mesh
from arena_jax.runtime.gpus import gpu


def random_case(seed, models=3, kinds=2):
    rng = np.random.default_rng(seed)
    pool = [
        Kind(f"k{k}", int(rng.integers(2, 6)), int(rng.integers(20, 100)), float(rng.choice([np.inf, 50.0])))
        for k in range(kinds)
    ]
    needs = [
        Need(f"m{i}", kind.title, int(rng.integers(1, 9)), int(rng.integers(5, 60)), 10, float(rng.uniform(0.5, 4)))
        for i in range(models)
        for kind in pool
    ]
    weights = {f"m{i}": float(rng.uniform(0.1, 1)) for i in range(models)}
    return needs, pool, weights


def all_placements(needs, pool, weights):
    """Every combination of places that no device is twice in."""
    possible = options(needs, pool)
    by_model = [[option for option in possible if option.model == name] for name in weights]
    for places in itertools.product(*by_model):
        used = [sum(p.devices for p in places if p.kind == kind.title) for kind in pool]
        if all(count <= kind.number for count, kind in zip(used, pool, strict=True)):
            yield sum(weights[p.model] * np.log(p.rate) for p in places)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3))
def test_the_integer_program_finds_the_best_of_all(seed, models, kinds):
    needs, pool, weights = random_case(seed, models, kinds)
    values = list(all_placements(needs, pool, weights))
    if not values:
        with pytest.raises(ArenaError):
            place(needs, pool, weights)
        return
    best = place(needs, pool, weights)
    assert best.value == pytest.approx(max(values), abs=1e-9)
    for solver in ("milp", "greedy", "random"):
        try:
            found = place(needs, pool, weights, solver=solver, seed=seed)
        except ArenaError:
            assert solver != "milp"  # the others may walk into a corner
            continue
        assert found.value <= best.value + 1e-9
        assert [p.model for p in found.places] == list(weights)
        for kind in pool:
            assert sum(p.devices for p in found.places if p.kind == kind.title) <= kind.number
        for spot in found.places:
            need = next(n for n in needs if (n.model, n.kind) == (spot.model, spot.kind))
            kind = next(k for k in pool if k.title == spot.kind)
            assert need.bytes <= kind.memory
            seconds = need.seconds + 2 * (spot.devices - 1) / spot.devices * need.parameters / kind.link
            assert spot.rate == pytest.approx(spot.devices * need.batch_size / seconds)


def test_devices_follow_the_shares():
    """Equal models on one kind, devices in powers of two: closed form."""
    needs = [Need(name, "k", 1, 1, 0, 1.0) for name in "abc"]
    spots = place(needs, [Kind("k", 16, 10)], {"a": 0.5, "b": 0.25, "c": 0.25}).places
    assert [spot.devices for spot in spots] == [8, 4, 4]


def test_512_devices_and_24_models_take_seconds_and_greedy_is_no_better():
    rng = np.random.default_rng(0)
    pool = [Kind(title, count, 100) for title, count in (("a", 256), ("b", 192), ("c", 64))]
    needs = [
        Need(f"m{i}", k.title, 8, int(rng.integers(10, 100)), 0, float(rng.uniform(0.1, 9)))
        for i in range(24)
        for k in pool
    ]
    weights = {f"m{i}": float(rng.uniform(0.01, 0.1)) for i in range(24)}
    best = place(needs, pool, weights)
    assert place(needs, pool, weights, solver="greedy").value <= best.value + 1e-9
    assert sum(spot.devices for spot in best.places) <= 512


SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}


def batches(count):
    for seed in range(count):
        ids = np.random.default_rng(seed).integers(5, 250, (8, 8)).astype(np.int32)
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@pytest.mark.parametrize("count", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_models_side_by_side_on_disjoint_devices_are_those_of_one_device_each(count):
    devices = jax.devices()[:count]
    kind = devices[0].device_kind
    needs = [Need(name, kind, 1, 1, 0, 1.0) for name in ("a", "b")]
    meshes = sub_meshes(place(needs, [Kind(kind, count, 10)], {"a": 0.5, "b": 0.5}), devices)
    assert [mesh.size for mesh in meshes.values()] == [count // 2] * 2
    assert not set(meshes["a"].devices.flat) & set(meshes["b"].devices.flat)

    def run(meshes):
        steps = {
            name: training.make_step(
                {name: models.create(models.preset("gpt2-tiny", **SIZES), "causal-lm", seed=seed)},
                optax.sgd(0.1),
                mesh=meshes[name],
            )
            for seed, name in enumerate(meshes)
        }
        states = {name: step.init() for name, step in steps.items()}
        for batch in batches(3):
            for name, step in steps.items():  # nothing is waited for: both compute at the same time
                states[name], _ = step(states[name], {name: batch})
        return states

    together = run(meshes)
    alone = run({"a": make_mesh(1)} | {"b": make_mesh(1)})
    for name, state in together.items():
        assert {d for leaf in jax.tree.leaves(state.params) for d in leaf.devices()} == set(meshes[name].devices.flat)
        for ours, theirs in zip(*(jax.tree.leaves(s.params) for s in (state, alone[name])), strict=True):
            np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-6)


def test_too_few_devices_are_refused():
    here = jax.devices()[:1]
    two = Placement((Place("m", here[0].device_kind, 2, 1.0, 1),), 0.0)
    with pytest.raises(ArenaError, match="1 are left here"):
        sub_meshes(two, here)


def test_a_pool_is_read_from_a_file_or_from_what_is_here(tmp_path):
    file = tmp_path / "pool.toml"
    file.write_text('[a100-40gb]\ncount = 16\n[big]\ngpu = "h100"\ncount = 8\nmemory = "64GB"\nlink = 4.5e11\n')
    first, second = read_pool(file)
    assert (first.title, first.number) == ("NVIDIA A100-SXM4-40GB", 16)
    assert second == ("NVIDIA H100 80GB HBM3", 8, 64_000_000_000, 4.5e11)
    for part in ('"50%"', "0.5"):  # of the card, whatever this machine has
        file.write_text(f"[h100]\ncount = 1\nmemory = {part}\n")
        assert read_pool(file)[0].memory == gpu("h100").memory // 2
    (here,) = pool_here()
    assert here.number == len(jax.devices())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[a100-40gb]\n", "give count"),
        ("[a100-40gb]\ncount = 0\n", "from 1 up"),
        ("[a100-40gb]\ncount = 1\nspeed = 3\n", "no use for 'speed'"),
        ("[a100-40gb]\ncount = 1\nlink = -1\n", "above 0"),
        ("[a100-40gb]\ncount = 1\nmemory = 90000000000\n", "has 42.3 GB"),
        ("[a1000]\ncount = 1\n", "unknown GPU"),
        ("[a100", "cannot read"),
    ],
)
def test_a_pool_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "pool.toml").write_text(text)
    with pytest.raises(ArenaError, match=message):
        read_pool(tmp_path / "pool.toml")


@pytest.mark.parametrize(
    ("weights", "bytes_", "message"),
    [
        ({"m": 0.0}, 1, "above 0"),
        ({}, 1, "no model"),
        ({"m": 1.0}, 99, "no device of the pool holds m"),
        ({"m": 1.0, "n": 1.0, "o": 1.0}, 1, "3 models for 2 devices"),
    ],
)
def test_what_has_no_place_is_refused(weights, bytes_, message):
    with pytest.raises(ArenaError, match=message):
        place([Need("m", "k", 1, bytes_, 0, 1.0)], [Kind("k", 2, 10)], weights)


def test_plans_of_another_version_and_shares_given_twice_are_refused(tmp_path, capsys):
    pool, plan = tmp_path / "pool.toml", tmp_path / "plan.json"
    pool.write_text("[h100]\ncount = 2\n")
    need = {"batch_sizes": {"small": 8}, "total": 1, "parameters": 1, "least_seconds": 1.0}
    for number, words, message in (
        (plan_file.FORMAT, ["--shares", "small=0.3,small=0.7"], "--shares names 'small' twice"),
        (plan_file.FORMAT + 1, [], "another version"),
        (None, [], "another version"),
    ):
        plan.write_text(json.dumps({"plan": number, "device": {"title": "NVIDIA H100 80GB HBM3"}, "needs": [need]}))
        assert main(["arena", "place", str(plan), "--pool", str(pool), *words]) == 2
        assert message in capsys.readouterr().err


def test_the_command(tmp_path, capsys):
    for title, seconds in (("NVIDIA A100-SXM4-40GB", 2.0), ("NVIDIA H100 80GB HBM3", 1.0)):
        needs = [
            {"batch_sizes": {name: 8}, "total": total, "parameters": 10**9, "least_seconds": seconds}
            for name, total in (("small", 10**9), ("large", 5 * 10**10))
        ]
        needs.append({"batch_sizes": {"small": 8, "large": 8}, "total": 1, "parameters": 1, "least_seconds": 1.0})
        (tmp_path / f"{title[7:8]}.json").write_text(
            json.dumps({"plan": plan_file.FORMAT, "device": {"title": title}, "needs": needs})
        )
    pool = tmp_path / "pool.toml"
    pool.write_text("[a100-40gb]\ncount = 4\n[h100]\ncount = 2\n")
    plans = [str(tmp_path / "A.json"), str(tmp_path / "H.json")]
    assert main(["arena", "place", *plans, "--pool", str(pool)]) == 0
    said = capsys.readouterr().out
    assert "4 × NVIDIA A100" in said
    assert "2 × NVIDIA H100" in said
    assert "greedy reaches 1.000" in said
    assert "100 of 100 random placements are possible: 0." in said
    assert main(["arena", "place", *plans, "--pool", str(pool), "--shares", "small=1"]) == 2
    assert main(["arena", "place", *plans, "--pool", str(pool), "--shares", "smal=1"]) == 2
    assert main(["arena", "place", str(pool), "--pool", str(pool)]) == 2


def test_the_command_places_what_greedy_cannot(tmp_path, capsys):
    """The heaviest model takes the device that another one needs; at random, some orders leave it."""
    pool, plans = tmp_path / "pool.toml", []
    pool.write_text("".join(f"[{name}]\ncount = 1\n" for name in ("h100", "a100-40gb", "a100-80gb")))
    for name, models_ in (("h100", "abc"), ("a100-40gb", "a"), ("a100-80gb", "bc")):
        needs = [
            {"batch_sizes": {m: 8}, "total": 1, "parameters": 1, "least_seconds": 1.0 if name == "h100" else 2.0}
            for m in models_
        ]
        plans.append(tmp_path / f"{name}.json")
        plans[-1].write_text(
            json.dumps({"plan": plan_file.FORMAT, "device": {"title": gpu(name).title}, "needs": needs})
        )
    weights = ["--shares", "a=0.5,b=0.3,c=0.2"]
    assert main(["arena", "place", *map(str, plans), "--pool", str(pool), *weights]) == 0
    said = capsys.readouterr().out
    assert "greedy finds no placement" in said
    assert "of 100 random placements are possible" in said
