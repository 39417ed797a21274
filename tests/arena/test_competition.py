"""The competition, tiny: Algorithm 1's rounds, batch sizes within the budget, swaps, and going on to the bit."""

import dataclasses
import signal

import pytest

from arena_jax import training
from arena_jax.arena import POLICIES, policy
from arena_jax.arena.rates import learning_rate
from arena_jax.arena.setup import policy_options
from arena_jax.config import ArenaConfig, presets
from arena_jax.config.arena import POLICIES as POLICY_NAMES
from arena_jax.config.errors import ArenaError
from arena_jax.runs import signals
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runs.session import Session
from tests.arena.tiny import assert_same_arrays, final_state, records, tiny, train, without_times

WHOLE = {"gpt2": {"accumulation": 2}, "optimizer": {"synchronize_every": 2}}


def whole(arena=None, **training):
    return tiny({"round_scale": 10, **(arena or {})}, **WHOLE, **training)


def to_first(history):
    return [0.9, 0.1]


def stop_at(round_number):
    """An observer that asks the run to stop during a round."""

    def observe(moment, rounds, setup, state):
        if (moment, rounds) == ("round", round_number):
            signal.raise_signal(signal.SIGTERM)

    return observe


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(whole(), tmp_path_factory.mktemp("whole") / "run", policy=to_first)


def test_rounds_scores_shares_and_the_leaderboard_are_those_of_algorithm_1(finished):
    assert [r["step"] for r in records(finished, "evaluation")] == [0, 2, 4, 6], "the baseline first"
    allocations = records(finished, "allocation")
    assert [r["step"] for r in allocations] == [0, 2, 4]
    assert [r["models"]["bert"]["steps"] for r in allocations] == [5, 9, 9]
    assert [r["models"]["gpt2"]["steps"] for r in allocations] == [5, 1, 1]
    (board,) = records(finished, "leaderboard")
    steps = {name: model["steps"] for name, model in board["models"].items()}
    assert steps == {"bert": 2 * 5 + 4 * 9, "gpt2": 2 * 5 + 4}
    last = records(finished, "evaluation")[-1]["models"]
    best = min(last, key=lambda name: last[name]["loss"])
    assert board["winner"] == best == next(iter(board["models"]))
    assert board["models"][best]["score"] == pytest.approx(-last[best]["loss"])
    assert training.evaluate(finished)["bert"] == pytest.approx(last["bert"], rel=1e-6), "the checkpoint is its end"


def test_sizes_fit_the_budget_and_few_programs_live(finished):
    for record in records(finished, "allocation"):
        models = record["models"].values()
        assert sum(model["memory"] for model in models) + record["resident"] <= record["budget"] == 1_000_000 or any(
            model["memory"] > model["allowed"] for model in models
        ), "a size is kept until its successor takes over"
        assert all(model["executables"] <= 4 for model in models)
    (swap,) = records(finished, "swap")
    assert (swap["step"], swap["model"], swap["before"]) == (3, "gpt2", 8), "a round after the reallocation of round 2"
    assert swap["memory"] <= 0.1 * (1_000_000 - records(finished, "allocation")[0]["resident"])
    updates = [r for r in records(finished, "compile") if r["program"].startswith("update")]
    assert len(updates) == 1


def test_a_run_is_shown_in_lines(finished):
    text = narrate(read(finished))
    assert "gpt2: batch 8 → 2 × 2 after round 3" in text
    assert "winner: " in text


def test_a_stopped_run_goes_on_to_the_bit_with_a_new_size_on_its_way(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(Session, "clock", lambda self: {"seconds": 1000.0, "compiling": 100.0})
    # The second round's end brings the reallocation whose size takes over in round 3.
    with pytest.raises(signals.Stopped, match="stopped after step 2 of 6"):
        train(whole(), tmp_path / "run", policy=to_first, observe=stop_at(1))
    monkeypatch.undo()
    with pytest.raises(ArenaError, match="was begun with the policy 'to_first', not '"):
        train(whole(), tmp_path / "run", resume=True)
    ready = []

    def observe(moment, rounds, setup, state):
        if moment == "round":
            ready.extend((rounds, name, pending.search.done()) for name, pending in state.pending.items())

    run = train(whole(), tmp_path / "run", resume=True, policy=to_first, observe=observe)
    assert ready[:2] == [(2, "bert", True), (2, "gpt2", True)], "compiled before training went on, so that none is late"
    end = read(run)[-1]
    assert 0 < end["compiling"] - 100 < end["seconds"] - 1000 < 100, "the end counts both sessions"
    assert_same_arrays(final_state(finished), final_state(run))
    assert without_times(run) == without_times(finished)


def test_a_peak_above_the_compilers_bytes_raises_the_margin_and_shrinks_the_batch(tmp_path):
    """On a GPU; here the allocator's peak is made up: twice the compiler's bytes of GPT-2's second program."""
    programs = []

    def calibrate(program, run, devices):
        programs.append(program)
        return run(), 1.0 if len(programs) == 2 else 0.001

    config = whole({"reallocate_every": 6, "memory_budget": "800kB"})
    run = train(config, tmp_path / "run", calibrate=calibrate)
    calibrations = records(run, "calibration")
    assert [(r["model"], r["size"], r["margin"], r["raised"]) for r in calibrations][:2] == [
        ("bert", 8, 0.02, False),
        ("gpt2", 8, 1.0, True),
    ]
    assert calibrations[1]["measured"] == 2 * calibrations[1]["estimated"]
    (swap,) = records(run, "swap")
    assert (swap["model"], swap["step"]) == ("gpt2", 1)
    assert swap["batch_size"] < 8
    text = narrate(read(run))
    assert text.count("100 %") == 1
    assert sum(calibration["raised"] for calibration in calibrations) == 1


def fractions(run):
    return [record["fraction"] for record in records(run, "evaluation")]


@pytest.mark.slow
def test_a_run_of_counted_operations_ends_when_they_are_spent_and_repeats_to_the_bit(finished, tmp_path):
    budget = 0.6 * sum(model["flops"] for model in records(finished, "leaderboard")[0]["models"].values())
    config = whole({"spend": f"{budget / 1e9:.9f} GFLOP"}, steps=None)
    run = train(config, tmp_path / "run", policy=to_first)
    (start,), (end,), (board,) = (records(run, kind) for kind in ("start", "end", "leaderboard"))
    assert (start["steps"], end["reason"]) == (None, "finished")
    flops = [sum(account["flops"] for account in r["accounts"].values()) / budget for r in records(run, "evaluation")]
    assert fractions(run) == pytest.approx([min(1, part) for part in flops])
    # It ends with the round in which the last of it is spent, and is scored there.
    assert flops[-2] < 1 <= flops[-1]
    assert sum(model["flops"] for model in board["models"].values()) == pytest.approx(flops[-1] * budget)
    assert 1 < end["step"] < 6
    rates = [r["models"]["gpt2"]["learning_rate"] for r in records(run, "train")]
    assert rates[0] > rates[-1] > 0, "the rate falls with what is spent"

    with pytest.raises(signals.Stopped, match="stopped after step 2; go on"):
        train(config, tmp_path / "again", policy=to_first, observe=stop_at(1))
    again = train(config, tmp_path / "again", resume=True, policy=to_first)
    assert without_times(again) == without_times(run)
    assert "nothing is left to do" in narrate([*read(again), {"kind": "resume", "step": end["step"], "time": 0.0}])


def test_a_run_of_device_seconds_ends_when_they_are_spent(tmp_path):
    run = train(whole({"spend": "0.5s"}, steps=None), tmp_path / "run", policy=to_first)
    spent = [sum(account["seconds"] for account in r["accounts"].values()) for r in records(run, "evaluation")]
    assert spent[0] > 0, "the first evaluation is paid for"
    assert spent[-2] < 0.5 <= spent[-1]
    assert fractions(run)[-1] == 1
    assert fractions(run) == sorted(fractions(run))


@pytest.mark.slow
def test_a_competition_without_gain_ends_at_the_same_round_when_resumed(tmp_path):
    """From the baseline, of round 0, on nothing is better: the second evaluation after it ends the run."""

    def level(step, parameters, model, rows, size):
        return {"loss": 1.0, "accuracy": 0.5}

    run = whole(score="accuracy", stop_after_no_gain=2)
    first = train(run, tmp_path / "whole", evaluate=level)
    assert [(r["step"], r["without_gain"]) for r in records(first, "evaluation")] == [(0, 0), (2, 1), (4, 2)]
    assert (records(first, "end")[0]["step"], records(first, "end")[0]["reason"]) == (4, "no gain")
    assert len(records(first, "leaderboard")) == 1
    with pytest.raises(signals.Stopped):
        train(run, tmp_path / "run", evaluate=level, observe=stop_at(2))
    resumed = train(run, tmp_path / "run", evaluate=level, resume=True)
    assert_same_arrays(final_state(first), final_state(resumed))
    assert without_times(first) == without_times(resumed)


def test_refusals(tmp_path):
    with pytest.raises(ArenaError, match=r"the budget of 100 kB does not hold what is always there"):
        train(whole({"memory_budget": "100kB"}), tmp_path / "a")
    with pytest.raises(ArenaError, match=r"the budget of 90 kB does not hold"):  # no run is in that folder
        train(whole({"memory_budget": "90kB"}), tmp_path / "a")
    with pytest.raises(ArenaError, match=r"policy 'static' is no function"):
        train(whole(), tmp_path / "c", policy="static")
    with pytest.raises(ArenaError, match=r"bert: its smallest batch \(64\) needs .* but the budget of 1 MB leaves"):
        train(whole({"batch_sizes": (64,)}), tmp_path / "b")
    with pytest.raises(ArenaError, match=r"give training\.steps"):
        whole(steps=None, epochs=1)
    with pytest.raises(ArenaError, match=r"give either training\.steps \(rounds\) or arena\.spend"):
        whole({"spend": "1s"})
    with pytest.raises(ArenaError, match=r"give it to arena_jax\.arena\.competition\.train"):
        training.train(whole(), tmp_path / "c")
    with pytest.raises(ArenaError, match="policy 'static' has no parameter 'floor'"):
        train(whole({"policy": "static", "floor": 0.1}), tmp_path / "d")


def test_a_policys_first_answer_is_checked_before_the_first_round(tmp_path):
    rounds = []

    def of_three(history):
        return [0.9, 0.05, 0.05]

    with pytest.raises(
        ArenaError, match=r"policy of_three: returned .*, of shape \(3,\); it must return 2 shares"
    ) as error:
        train(whole(), tmp_path / "run", policy=of_three, observe=lambda *moment: rounds.append(moment))
    assert rounds == []
    assert "\n" not in str(error.value)


def test_the_configuration_knows_every_policy():
    assert set(POLICY_NAMES) == set(POLICIES)
    assert ArenaConfig().policy in POLICIES


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if presets.get(name).arena])
def test_the_presets_can_be_run_against_their_control_and_the_papers_policy_is_the_papers(name):
    arena = presets.get(name).arena
    assert policy_options(dataclasses.replace(arena, policy="static")) == {}
    papers = policy("modelarena", **policy_options(arena))
    assert (papers.window, papers.smoothing, papers.floor) == (5, 0.7, 0.05)


def test_learning_rates():
    """Worked by hand."""
    options = {"warmup_steps": 10, "decay": "linear"}
    assert learning_rate(2.0, steps=0, fraction=0.0, **options) == 0
    assert learning_rate(2.0, steps=5, fraction=0.25, **options) == 0.75
    assert learning_rate(2.0, steps=99, fraction=1.0, **options) == 0
    assert learning_rate(2.0, steps=99, fraction=0.5) == pytest.approx(1.0)
    assert learning_rate(2.0, steps=99, fraction=0, batch_ratio=0.25, follows="sqrt") == 1.0
    assert learning_rate(2.0, steps=99, fraction=0, batch_ratio=0.25, follows="linear") == 0.5
