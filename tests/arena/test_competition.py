"""The competition, tiny: Algorithm 1's rounds, batch sizes within the budget, swaps, and going on to the bit."""

import dataclasses
import functools
import signal

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.arena import POLICIES, competition, contest, policy
from arena_jax.arena.contest import _policy_options
from arena_jax.arena.rates import learning_rate
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.config.sections import POLICIES as POLICY_NAMES
from arena_jax.runs import load_run, signals
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runs.session import Session
from arena_jax.runtime.executables import Executables

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
# Every run here compiles the same few programs, a resumed one those of the first.
pytestmark = pytest.mark.usefixtures("compile_once")
TO_FIRST = [0.9, 0.1]


def tiny(arena=None, optimizer=None, **training):
    """Two models, six rounds, a score every 2, new shares every 2, new batch sizes a round later."""
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(
            ModelConfig("bert", preset="bert-tiny", **SIZES),
            ModelConfig("gpt2", preset="gpt2-tiny", accumulation=2, **SIZES),
        ),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(warmup_steps=2, convergence_window=3, synchronize_every=2, **(optimizer or {})),
        training=TrainingConfig(
            **{
                "steps": 6,
                "batch_size": 1,
                "evaluation_batch_size": 4,
                "log_every": 2,
                "evaluate_every": 2,
                "checkpoint_every": 3,
                "tensorboard": False,
                "figures": False,
                "devices": 1,
                **training,
            }
        ),
        arena=ArenaConfig(
            **{
                "memory_budget": "1MB",
                "reallocate_every": 2,
                "batch_sizes": (2, 4, 8),
                "swap_after": 1,
                "late_swaps": "wait",
                **(arena or {}),
            }
        ),
    )


def to_first(history):
    return TO_FIRST


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return competition.train(tiny(), tmp_path_factory.mktemp("whole") / "run", policy=to_first)


def records(run, kind):
    return [record for record in read(run) if record["kind"] == kind]


def test_rounds_scores_shares_and_the_leaderboard_are_those_of_algorithm_1(finished):
    assert [r["step"] for r in records(finished, "evaluation")] == [0, 2, 4, 6], "the baseline first"
    allocations = records(finished, "allocation")
    assert [r["step"] for r in allocations] == [0, 2, 4]
    assert [r["models"]["bert"]["steps"] for r in allocations] == [5, 9, 9]
    assert [r["models"]["gpt2"]["steps"] for r in allocations] == [5, 1, 1]
    (board,) = records(finished, "leaderboard")
    assert {name: one["steps"] for name, one in board["models"].items()} == {"bert": 2 * 5 + 4 * 9, "gpt2": 2 * 5 + 4}
    last = records(finished, "evaluation")[-1]["models"]
    best = min(last, key=lambda name: last[name]["loss"])
    assert board["winner"] == best == next(iter(board["models"]))
    assert board["models"][best]["score"] == pytest.approx(-last[best]["loss"])
    assert training.evaluate(finished)["bert"] == pytest.approx(last["bert"], rel=1e-6), (
        "the checkpoint is the run's end"
    )


def test_sizes_are_what_the_budget_holds_and_few_programs_live(finished):
    for record in records(finished, "allocation"):
        held = record["models"].values()
        assert sum(one["memory"] for one in held) + record["resident"] <= record["budget"] == 1_000_000 or any(
            one["memory"] > one["allowed"] for one in held
        ), "a size is kept until its successor takes over"
        assert all(one["executables"] <= 4 for one in held)
    (swap,) = records(finished, "swap")
    assert (swap["step"], swap["model"], swap["before"]) == (3, "gpt2", 8), "a round after the reallocation of round 2"
    assert swap["memory"] <= 0.1 * (1_000_000 - records(finished, "allocation")[0]["resident"])
    updates = [r for r in records(finished, "compile") if r["program"].startswith("update")]
    assert len(updates) == 1


def test_a_run_is_told(finished):
    told = narrate(read(finished))
    assert "gpt2: batch 8 → 2 × 2 after round 3" in told
    assert "winner: " in told


def without_times(run):
    """The records less what a clock says, and less which programs a resumed run has not made again."""
    clocks = {
        "time",
        "seconds",
        "compiling",
        "cached",
        "examples_per_second",
        "run",
        "path",
        "waited",
        "executables",
        "evicted",
        "reason",
    }

    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in clocks}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return [strip(record) for record in read(run) if record["kind"] not in ("compile", "checkpoint")]


def test_a_stopped_run_goes_on_to_the_bit_with_a_new_size_on_its_way(finished, tmp_path, monkeypatch):
    original = competition._Competition.play

    def play_and_stop(self, at):
        if at == 1:  # the second round; its end brings the reallocation whose size takes over in round 3
            signal.raise_signal(signal.SIGTERM)
        original(self, at)

    monkeypatch.setattr(competition._Competition, "play", play_and_stop)
    monkeypatch.setattr(Session, "clock", lambda self: {"seconds": 1000.0, "compiling": 100.0})
    with pytest.raises(signals.Stopped, match="stopped after step 2 of 6"):
        competition.train(tiny(), tmp_path / "run", policy=to_first)
    monkeypatch.undo()
    with pytest.raises(ArenaError, match="was begun with the policy 'to_first', not '"):
        competition.train(tiny(), tmp_path / "run", resume=True)
    ready = []

    def play_and_look(self, at):
        ready.extend((at, name, pending.choice.done()) for name, pending in self.pending.items())
        original(self, at)

    monkeypatch.setattr(competition._Competition, "play", play_and_look)
    run = competition.train(tiny(), tmp_path / "run", resume=True, policy=to_first)
    assert ready[:2] == [(2, "bert", True), (2, "gpt2", True)], "compiled before training went on, so that none is late"
    end = read(run)[-1]
    assert 0 < end["compiling"] - 100 < end["seconds"] - 1000 < 100, "the end tells of both sessions"
    states = [training.restore(path, load_run(path))[2] for path in (finished, run)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert without_times(run) == without_times(finished)


def test_a_peak_above_its_estimate_raises_the_margin_and_shrinks_the_batch(tmp_path, monkeypatch):
    """On a GPU; here the allocator's word is made up: twice what the compiler said of GPT-2's batches of 8."""

    def made_up(need, run, devices):
        surprised = need is whole["competition"].executables._programs["gpt2"].get(8)
        return run(), 1.0 if surprised else 0.001

    whole = {}
    original = competition._Competition.open_accounts
    monkeypatch.setattr(
        competition._Competition, "open_accounts", lambda self: (whole.update(competition=self), original(self))
    )
    monkeypatch.setattr(contest, "Executables", functools.partial(Executables, calibrate=made_up))
    run = competition.train(tiny({"reallocate_every": 6, "memory_budget": "800kB"}), tmp_path / "run")
    told = records(run, "calibration")
    assert [(r["model"], r["size"], r["margin"], r["raised"]) for r in told][:2] == [
        ("bert", 8, 0.02, False),
        ("gpt2", 8, 1.0, True),
    ]
    assert told[1]["measured"] == 2 * told[1]["estimated"]
    (swap,) = records(run, "swap")
    assert (swap["model"], swap["step"]) == ("gpt2", 1)
    assert swap["batch_size"] < 8
    text = narrate(read(run))
    assert "from now on 100 % is left beside its estimates" in text
    assert text.count("is left beside its estimates") == 1


def fractions(run):
    return [record["fraction"] for record in records(run, "evaluation")]


def test_a_run_of_counted_operations_ends_when_they_are_spent_and_repeats_to_the_bit(finished, tmp_path, monkeypatch):
    whole = sum(one["flops"] for one in records(finished, "leaderboard")[0]["models"].values())
    config = tiny({"spend": f"{0.6 * whole / 1e9:.9f} GFLOP"}, steps=None)
    run = competition.train(config, tmp_path / "run", policy=to_first)
    (start,), (end,), (board,) = (records(run, kind) for kind in ("start", "end", "leaderboard"))
    assert (start["steps"], end["reason"]) == (None, "finished")
    flops = [sum(one["flops"] for one in r["accounts"].values()) / (0.6 * whole) for r in records(run, "evaluation")]
    assert fractions(run) == pytest.approx([min(1, part) for part in flops])
    # It ends with the round in which the last of it is spent, and is scored there.
    assert flops[-2] < 1 <= flops[-1]
    assert sum(one["flops"] for one in board["models"].values()) == pytest.approx(flops[-1] * 0.6 * whole)
    assert 1 < end["step"] < 6
    rates = [r["models"]["gpt2"]["learning_rate"] for r in records(run, "train")]
    assert rates[0] > rates[-1] > 0, "the rate falls with what is spent"

    original = competition._Competition.play

    def play_and_stop(self, at):
        if at == 1:
            signal.raise_signal(signal.SIGTERM)
        original(self, at)

    monkeypatch.setattr(competition._Competition, "play", play_and_stop)
    with pytest.raises(signals.Stopped, match="stopped after step 2; go on"):
        competition.train(config, tmp_path / "again", policy=to_first)
    monkeypatch.undo()
    again = competition.train(config, tmp_path / "again", resume=True, policy=to_first)
    assert without_times(again) == without_times(run)
    assert "nothing is left to do" in narrate([*read(again), {"kind": "resume", "step": end["step"], "time": 0.0}])


def test_a_run_of_device_seconds_ends_when_they_are_spent(tmp_path):
    run = competition.train(tiny({"spend": "0.05s"}, steps=None), tmp_path / "run", policy=to_first)
    spent = [sum(one["seconds"] for one in r["accounts"].values()) for r in records(run, "evaluation")]
    assert spent[0] == 0
    assert spent[-2] < 0.05 <= spent[-1]
    assert fractions(run)[-1] == 1
    assert fractions(run) == sorted(fractions(run))


def test_refusals(tmp_path):
    with pytest.raises(ArenaError, match=r"the budget of 100 kB does not hold what is always there"):
        competition.train(tiny({"memory_budget": "100kB"}), tmp_path / "a")
    with pytest.raises(ArenaError, match=r"the budget of 90 kB does not hold"):  # no run is in that folder
        competition.train(tiny({"memory_budget": "90kB"}), tmp_path / "a")
    with pytest.raises(ArenaError, match=r"policy 'static' is no function"):
        competition.train(tiny(), tmp_path / "c", policy="static")
    with pytest.raises(ArenaError, match=r"bert: its smallest batch \(64\) needs .* but the budget of 1 MB leaves"):
        competition.train(tiny({"batch_sizes": (64,)}), tmp_path / "b")
    with pytest.raises(ArenaError, match=r"give training\.steps"):
        tiny(steps=None, epochs=1)
    with pytest.raises(ArenaError, match=r"give either training\.steps \(rounds\) or arena\.spend"):
        tiny({"spend": "1s"})
    with pytest.raises(ArenaError, match=r"give it to arena_jax\.arena\.competition\.train"):
        training.train(tiny(), tmp_path / "c")
    with pytest.raises(ArenaError, match="policy 'static' has no parameter 'floor'"):
        competition.train(tiny({"policy": "static", "floor": 0.1}), tmp_path / "d")


def test_the_configuration_knows_every_policy():
    assert set(POLICY_NAMES) == set(POLICIES)
    assert ArenaConfig().policy in POLICIES


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if presets.get(name).arena])
def test_the_presets_can_be_run_against_their_control_and_the_papers_policy_is_the_papers(name):
    arena = presets.get(name).arena
    assert _policy_options(dataclasses.replace(arena, policy="static")) == {}
    ours = policy("modelarena", **_policy_options(arena))
    assert (ours.window, ours.smoothing, ours.floor) == (5, 0.7, 0.05)


def test_learning_rates():
    """Worked by hand."""
    options = {"warmup_steps": 10, "decay": "linear"}
    assert learning_rate(2.0, steps=0, fraction=0.0, **options) == 0
    assert learning_rate(2.0, steps=5, fraction=0.25, **options) == 0.75
    assert learning_rate(2.0, steps=99, fraction=1.0, **options) == 0
    assert learning_rate(2.0, steps=99, fraction=0.5) == pytest.approx(1.0)
    assert learning_rate(2.0, steps=99, fraction=0, batch_ratio=0.25, follows="sqrt") == 1.0
    assert learning_rate(2.0, steps=99, fraction=0, batch_ratio=0.25, follows="linear") == 0.5
