"""What can be asked of a competition: clocks that decide, many sizes, several devices, sharing, too large a score."""

import dataclasses
import signal
import threading
from concurrent.futures import Future

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.arena import competition
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs import load_run, signals
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runtime.executables import Executables

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
# Every run here compiles the same few programs.
pytestmark = pytest.mark.usefixtures("compile_once")


def tiny(arena=None, optimizer=None, **training):
    """Two models, six rounds of few steps, a score every 2, new shares every 2."""
    asked = {"memory_budget": "1MB", "reallocate_every": 2, "batch_sizes": (2, 4, 8), "round_scale": 4}
    told = {"steps": 6, "batch_size": 1, "evaluation_batch_size": 4, "log_every": 2, "evaluate_every": 2, "devices": 1}
    quiet = {"tensorboard": False, "figures": False}
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(ModelConfig("bert", preset="bert-tiny", **SIZES), ModelConfig("gpt2", preset="gpt2-tiny", **SIZES)),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(**{"warmup_steps": 2, "convergence_window": 3, **(optimizer or {})}),
        training=TrainingConfig(**{**told, **quiet, **training}),
        arena=ArenaConfig(**{**asked, **(arena or {})}) if arena is not False else None,
    )


def records(run, kind):
    return [record for record in read(run) if record["kind"] == kind]


def final_parameters(run):
    return jax.tree.map(np.asarray, training.restore(run, load_run(run))[2].params)


def assert_close(one, other, rtol, atol):
    for (path, a), (_, b) in zip(*map(jax.tree_util.tree_leaves_with_path, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


@pytest.fixture
def told_in(monkeypatch):
    """A slow compiler: what searches for new sizes find is told when the round begins whose number is put in here."""
    rounds, waiting = [], []
    original, played = Executables.search, competition._Competition.play

    def find(self, name, memory, *, refuse=False, start=None):
        real = original(self, name, memory, refuse=refuse, start=start)
        if refuse:  # a first size
            return real
        waiting.append((Future(), real))
        return waiting[-1][0]

    def play(self, at):
        if at in rounds:
            for promise, real in waiting:
                if not promise.cancelled():  # by the next reallocation
                    promise.set_result(real.result())
            waiting.clear()
        played(self, at)

    monkeypatch.setattr(Executables, "search", find)
    monkeypatch.setattr(competition._Competition, "play", play)
    return rounds


def to_first(history):
    return [0.95, 0.05]


@pytest.mark.parametrize(("after", "late"), [(0, 4), (2, 2)])
def test_a_size_that_is_not_compiled_when_it_is_due_is_deferred_and_nobody_waits(after, late, tmp_path, told_in):
    told_in.append(10)
    config = tiny({"swap_after": after, "reallocate_every": 7}, steps=13, evaluate_every=13)
    run = competition.train(config, tmp_path / "run", policy=to_first)
    assert [r["step"] for r in records(run, "allocation")] == [0, 7]
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["before"]) == (11, "gpt2", 8), "ready in the eleventh round"
    assert (swap["late"], swap["waited"] < 0.05) == (late, True)
    text = narrate(read(run))
    assert f"gpt2: batch 8 → {swap['batch_size']} after round 11, {late} later than planned" in text
    # BERT kept its size: that its search was as late changed nothing.
    assert "1 batch size came later than planned" in text


def test_what_the_next_reallocation_overtakes_is_told(tmp_path, told_in):
    told_in.append(4)
    run = competition.train(tiny({"swap_after": 0}), tmp_path / "run", policy=to_first)
    assert [r["step"] for r in records(run, "allocation")] == [0, 2, 4]
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["late"]) == (5, "gpt2", 1)
    # Both searches of round 2 were given up, and GPT-2's next one was a round late.
    assert "3 batch sizes came later than planned, or not at all" in narrate(read(run))


def test_a_stopped_run_takes_up_a_late_size_where_it_was(tmp_path, told_in, monkeypatch):
    told_in.append(12)
    played = competition._Competition.play

    def play_and_stop(self, at):
        played(self, at)
        if at == 9:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(competition._Competition, "play", play_and_stop)
    config = tiny({"swap_after": 2, "reallocate_every": 7}, steps=13, evaluate_every=13)
    with pytest.raises(signals.Stopped, match="stopped after step 10"):
        competition.train(config, tmp_path / "run", policy=to_first)
    monkeypatch.undo()
    run = competition.train(config, tmp_path / "run", policy=to_first, resume=True)
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["late"]) == (11, "gpt2", 2), "due in round 9, and put off to 11"
    assert records(run, "end")[0]["deferred"] == 1


def test_who_was_overtaken_is_looked_for_first(tmp_path, monkeypatch):
    """Otherwise the last model would never have its turn where reallocations are fast and the compiler is slow."""
    asked, original, swapped = [], Executables.search, competition._Competition.swap

    class Never(Future):
        """A search that does not end."""

    def find(self, name, memory, *, refuse=False, start=None):
        real = original(self, name, memory, refuse=refuse, start=start)
        if not refuse:
            asked.append(name)
        # Of each reallocation's two searches the first one ends.
        return real if refuse or len(asked) % 2 else Never()

    def swap(self, at, *, last=False):
        for pending in self.pending.values():
            if not isinstance(pending.choice, Never):
                pending.choice.exception(timeout=60)
        swapped(self, at, last=last)

    monkeypatch.setattr(Executables, "search", find)
    monkeypatch.setattr(competition._Competition, "swap", swap)
    competition.train(tiny({"swap_after": 0}, steps=8), tmp_path / "run", policy=to_first)
    assert asked == ["bert", "gpt2", "gpt2", "bert", "bert", "gpt2"]


def test_new_sizes_come_before_the_next_reallocation():
    assert [ArenaConfig(reallocate_every=rounds).swap_rounds for rounds in (1, 10, 100, 1000)] == [0, 2, 20, 20]
    assert ArenaConfig(reallocate_every=10, swap_after=9).swap_rounds == 9
    with pytest.raises(ArenaError, match=r"swap_after is 10 and .*reallocate_every 10: .* when their shares are gone"):
        ArenaConfig(reallocate_every=10, swap_after=10)


def test_who_asks_to_wait_gets_the_size_in_the_round_that_was_planned(tmp_path, monkeypatch):
    original = Executables.search

    def slowly(self, name, memory, *, refuse=False, start=None):
        real = original(self, name, memory, refuse=refuse, start=start)
        if refuse:
            return real
        promise = Future()
        threading.Timer(0.2, lambda: promise.set_result(real.result())).start()
        return promise

    monkeypatch.setattr(Executables, "search", slowly)
    config = tiny({"swap_after": 0, "late_swaps": "wait", "reallocate_every": 4})
    run = competition.train(config, tmp_path / "run", policy=to_first)
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["late"]) == (4, "gpt2", 0)
    assert swap["waited"] > 0.05
    assert "later than planned" not in narrate(read(run))
    assert "0 rounds later, waited for" in str(records(run, "start")[0]["derived"])


@pytest.mark.parametrize("price", ["flops", "seconds"])
def test_policies_see_the_price_that_was_asked_for(price, tmp_path):
    seen = []

    def policy(history):
        seen.append(np.asarray(history.seconds))
        return [0.5, 0.5]

    run = competition.train(tiny({"price": price, "batch_sizes": (4,)}, steps=4), tmp_path / "run", policy=policy)
    unit = {"flops": 1e12, "seconds": 1.0}[price]
    accounts = [record["accounts"] for record in records(run, "evaluation")]
    told = np.array([[one[name][price] / unit for name in ("bert", "gpt2")] for one in accounts])
    np.testing.assert_allclose(seen[-1], told[: len(seen[-1])])
    assert np.all(np.diff(seen[-1], axis=0) > 0)


def test_of_many_sizes_four_live_and_the_evicted_are_compiled_again(tmp_path):
    """Shares that go through the ladder and back."""
    turns = iter(range(100))

    def policy(history):
        first = [0.5, 0.2, 0.12, 0.09, 0.06][next(turns) % 5]  # batches of 8, 4, 3, 2 and 1
        return [first, 1 - first]

    arena = {
        "batch_sizes": (1, 2, 3, 4, 8),
        "reallocate_every": 1,
        "swap_after": 0,
        "late_swaps": "wait",
        "memory_budget": "900kB",
    }
    config = tiny(arena, steps=9, evaluate_every=9, log_every=9)
    run = competition.train(config, tmp_path / "run", policy=policy)
    told = [(name, one) for r in records(run, "allocation") for name, one in r["models"].items()]
    swaps = records(run, "swap")
    told += [(r["model"], r) for r in swaps]
    assert max(one["executables"] for _, one in told) == 4
    assert len({r["batch_size"] for r in swaps if r["model"] == "bert"}) == 5
    programs = [r["program"] for r in records(run, "compile") if "of bert in" in r["program"]]
    again = len(programs) - len(set(programs))
    assert again > 0, "one that was evicted was chosen once more"
    evicted = [one["evicted"] for name, one in told if name == "bert"]
    assert max(evicted) == len(programs) - 4, "every program is alive or evicted"
    assert [r["program"] for r in records(run, "compile")].count("update of all models") == 1


def test_a_reallocation_compiles_nothing_while_training_waits(tmp_path, monkeypatch):
    """Whatever the length of the record: policies and progress are compiled before the first round, or in time."""
    mine, inside, compiled = threading.get_ident(), [], []

    def count(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration" and inside and threading.get_ident() == mine:
            compiled.append(inside[-1])

    original = competition._Competition.reallocate

    def reallocate(self, at):
        inside.append(at)
        original(self, at)
        inside.clear()

    begun = Executables.run_in_background
    # As in a run whose evaluations are further apart than a compilation is long.
    monkeypatch.setattr(Executables, "run_in_background", lambda self, task: begun(self, task).result())
    monkeypatch.setattr(competition._Competition, "reallocate", reallocate)
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        arena = {"batch_sizes": (1,), "reallocate_every": 1, "swap_after": 0, "round_scale": 1}
        config = tiny(arena, steps=70, evaluate_every=1, log_every=70, checkpoint_every=None)
        run = competition.train(config, tmp_path / "run")
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(records(run, "allocation")) == 70, "more than a policy's program takes at first"
    assert compiled == []


def test_too_large_an_evaluation_is_refused_before_it_runs(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("an evaluation ran")

    monkeypatch.setattr("arena_jax.training.step.Step.evaluate", never)
    with pytest.raises(
        ArenaError, match=r"bert: to score batches of 4000 takes .* the budget is 1 MB; raise .* or lower"
    ):
        competition.train(tiny(evaluation_batch_size=4000), tmp_path / "run")


def test_a_device_too_small_for_the_compiler_is_told_in_one_line(tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes")

    monkeypatch.setattr("arena_jax.arena.admission.compile_program", exhausted)
    with pytest.raises(ArenaError, match="the update of all models does not compile within the device's memory"):
        competition.train(tiny(), tmp_path / "a")
    monkeypatch.undo()
    monkeypatch.setattr("arena_jax.training.step.Step.compile_evaluation", exhausted)
    with pytest.raises(ArenaError, match="bert: to score batches of 4 does not compile within the device's memory"):
        competition.train(tiny(), tmp_path / "b")


def test_two_devices_compute_what_one_does(tmp_path):
    """The same rows in the same steps: twice the devices at half the batch."""
    runs = [
        competition.train(
            tiny({"batch_sizes": (size,), "policy": "modelarena"}, devices=devices), tmp_path / str(devices)
        )
        for devices, size in ((1, 4), (2, 2))
    ]
    one, two = ([r["models"] for r in records(run, "evaluation")] for run in runs)
    for before, after in zip(one, two, strict=True):
        for name in before:
            assert after[name]["loss"] == pytest.approx(before[name]["loss"], rel=2e-5)
    boards = [records(run, "leaderboard")[0]["models"] for run in runs]
    for name in ("bert", "gpt2"):
        for count in ("steps", "examples", "tokens", "padding", "flops"):
            assert boards[0][name][count] == boards[1][name][count]
        assert boards[1][name]["share"] == pytest.approx(boards[0][name]["share"], rel=1e-3)
    assert_close(*map(final_parameters, runs), rtol=1e-3, atol=2e-4)


def test_equal_steps_of_equal_batches_are_joint_training(tmp_path):
    """Sharing, synchronisation and convergence on: a step of each model a round, against the loop of joint training."""
    together = {"decay": "constant", "share_alpha": 0.3, "synchronize_beta": 0.2, "synchronize_every": 2}
    run = competition.train(
        tiny({"batch_sizes": (4,), "round_scale": 2, "policy": "static"}, together), tmp_path / "arena"
    )
    joint = training.train(tiny(False, together, batch_size=4), tmp_path / "joint")
    assert {name: one["steps"] for name, one in records(run, "leaderboard")[0]["models"].items()} == {
        "bert": 6,
        "gpt2": 6,
    }
    assert_close(final_parameters(run), final_parameters(joint), rtol=1e-3, atol=1e-5)
    alone = competition.train(
        tiny({"batch_sizes": (4,), "round_scale": 2, "policy": "static"}, {**together, "share_alpha": 0.0}),
        tmp_path / "alone",
    )
    with pytest.raises(AssertionError):
        assert_close(final_parameters(run), final_parameters(alone), rtol=1e-3, atol=1e-5)


def test_who_has_no_steps_left_is_not_moved_by_those_who_share(tmp_path, monkeypatch):
    """The pools hold all who still step, and nobody else: a model that rests keeps its parameters to the bit."""
    seen = []
    original = competition._Competition.compile_update

    def watch(self, at):
        original(self, at)
        update = self.update

        def watched(state, gradients, known, extra):
            before = jax.tree.map(np.array, state.params)
            after, told = update(state, gradients, known, extra)
            moved = jax.tree.map(np.array, after.params)
            seen.append(({name: bool(on) for name, on in extra["active"].items()}, before, moved))
            return after, told

        self.update = watched

    monkeypatch.setattr(competition._Competition, "compile_update", watch)
    shared = {"share_alpha": 0.5, "synchronize_beta": 0.2, "synchronize_every": 1}
    config = tiny({"batch_sizes": (4,), "reallocate_every": 1, "round_scale": 4}, shared, steps=2, evaluate_every=2)
    competition.train(config, tmp_path / "run", policy=lambda history: [0.75, 0.25])
    assert [on for on, _, _ in seen][2:] == [{"bert": True, "gpt2": turn == 0} for turn in range(3)]
    for on, before, after in seen:
        for name, active in on.items():
            pairs = zip(*map(jax.tree.leaves, (before[name], after[name])), strict=True)
            assert active or all(np.array_equal(a, b) for a, b in pairs)
