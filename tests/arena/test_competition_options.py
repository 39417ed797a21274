"""Options of a competition: prices, many sizes, several devices, sharing, too large an evaluation."""

import itertools
import threading
from concurrent.futures import Executor, Future

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.arena import competition
from arena_jax.config.errors import ArenaError
from arena_jax.training.evaluation import score
from tests.arena.tiny import final_state, records, tiny, train

# Those that share use the same optimizer, so that one update serves them all.
SHARING = {"decay": "constant", "share_alpha": 0.3, "synchronize_beta": 0.2, "synchronize_every": 2}
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes"


def assert_close(first, second, rtol, atol):
    for (path, a), (_, b) in zip(*map(jax.tree_util.tree_leaves_with_path, (first, second)), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("price", ["flops", "seconds"])
def test_policies_see_the_price_of_the_configuration(price, tmp_path):
    costs = []

    def policy(history):
        costs.append(np.asarray(history.seconds))
        return [0.5, 0.5]

    run = train(tiny({"price": price, "batch_sizes": (4,)}, steps=4), tmp_path / "run", policy=policy)
    unit = {"flops": 1e12, "seconds": 1.0}[price]
    accounts = [record["accounts"] for record in records(run, "evaluation")]
    recorded = np.array([[models[name][price] / unit for name in ("bert", "gpt2")] for models in accounts])
    np.testing.assert_allclose(costs[-1], recorded[: len(costs[-1])])
    assert np.all(np.diff(costs[-1], axis=0) > 0)


def test_what_is_spent_at_a_reallocation_ends_the_run_with_scores_of_its_own(tmp_path, monkeypatch):
    def cross(setup, state, session, rounds):
        state.accounts["bert"].flops += 2e12

    monkeypatch.setattr(competition, "cross", cross)
    config = tiny({"batch_sizes": (4,), "spend": "1 TFLOP"}, steps=None)
    run = train(config, tmp_path / "run", policy=lambda history: [0.5, 0.5])
    scores = records(run, "evaluation")
    assert [record["step"] for record in scores] == [0, 2, 2]
    assert scores[-1]["accounts"]["bert"]["flops"] > 2e12
    assert scores[-1]["fraction"] == 1
    assert [record["step"] for record in records(run, "leaderboard")] == [2]


def test_models_compete_by_the_loss_of_an_evaluation_of_your_own(tmp_path):
    def evaluate(step, params, name, rows, batch_size):
        return {**score(step, params, name, rows, batch_size), "loss": {"bert": 2.0, "gpt2": 1.0}[name]}

    histories = []

    def policy(history):
        histories.append(history)
        return [0.5, 0.5]

    run = train(tiny({"batch_sizes": (4,)}, steps=2), tmp_path / "run", policy=policy, evaluate=evaluate)
    np.testing.assert_array_equal(histories[0].scores, [[-2.0, -1.0]])
    (board,) = records(run, "leaderboard")
    assert (board["winner"], board["models"]["bert"]["score"]) == ("gpt2", -2.0)
    assert "accuracy" in records(run, "evaluation")[0]["models"]["bert"]


@pytest.mark.slow
def test_of_many_sizes_four_live_and_the_evicted_are_compiled_again(tmp_path):
    """Shares that go through all candidate sizes and back."""
    turns = iter(range(100))

    def policy(history):
        first = [0.5, 0.2, 0.12, 0.09, 0.06][next(turns) % 5]  # batches of 8, 4, 3, 2 and 1
        return [first, 1 - first]

    arena = {"batch_sizes": (1, 2, 3, 4, 8), "reallocate_every": 1, "swap_after": 0, "memory_budget": "900kB"}
    config = tiny(arena, steps=9, evaluate_every=9, log_every=9)
    run = train(config, tmp_path / "run", policy=policy)
    models = [(name, fields) for r in records(run, "allocation") for name, fields in r["models"].items()]
    swaps = records(run, "swap")
    models += [(r["model"], r) for r in swaps]
    assert max(fields["executables"] for _, fields in models) == 4
    assert len({r["batch_size"] for r in swaps if r["model"] == "bert"}) == 5
    programs = [r["program"] for r in records(run, "compile") if "of bert in" in r["program"]]
    again = len(programs) - len(set(programs))
    assert again > 0, "one that was evicted was chosen once more"
    evicted = [fields["evicted"] for name, fields in models if name == "bert"]
    assert max(evicted) == len(programs) - 4, "every program is alive or evicted"
    assert [r["program"] for r in records(run, "compile")].count("update of all models") == 1


class Immediate(Executor):
    """Does at once what others do in the background."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.mark.slow
def test_a_reallocation_compiles_nothing_while_training_waits(tmp_path):
    """Whatever the length of the record: policies and progress are compiled before the first round, or in time.

    The short form is `test_policies.test_a_prepared_policy_compiles_nothing_when_it_decides`.
    """
    main_thread, inside, compiled = threading.get_ident(), [], []

    def count(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration" and inside and threading.get_ident() == main_thread:
            compiled.append(inside[-1])

    def observe(moment, rounds, setup, state):
        if moment == "before reallocation":
            inside.append(rounds)
        if moment == "after reallocation":
            inside.clear()

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        arena = {"batch_sizes": (1,), "reallocate_every": 1, "swap_after": 0, "round_scale": 1}
        config = tiny(arena, steps=70, evaluate_every=1, log_every=70, checkpoint_every=None)
        # As in a run whose evaluations are further apart than a compilation is long.
        run = train(config, tmp_path / "run", observe=observe, executor=Immediate())
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(records(run, "allocation")) == 70, "more than a policy's program takes at first"
    assert compiled == []


def test_too_large_an_evaluation_is_refused_before_it_runs(tmp_path):
    def never(*_):
        raise AssertionError("an evaluation ran")

    with pytest.raises(
        ArenaError, match=r"bert: to score batches of 4000 takes .* the budget is 1 MB; raise .* or lower"
    ):
        train(tiny(evaluation_batch_size=4000), tmp_path / "run", evaluate=never)


def test_a_device_too_small_for_the_compiler_is_an_error_of_one_line(tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError(FULL)

    with pytest.raises(ArenaError, match="the update of all models does not compile within the device's memory"):
        competition.train(tiny(), tmp_path / "a", compile_program=exhausted)
    monkeypatch.setattr("arena_jax.training.step.Step.compile_evaluation", exhausted)
    with pytest.raises(ArenaError, match="bert: to score batches of 4 does not compile within the device's memory"):
        train(tiny(), tmp_path / "b")


@pytest.mark.slow
def test_two_devices_compute_what_one_does(tmp_path):
    """The same rows in the same steps: twice the devices at half the batch."""
    runs = [
        train(tiny({"batch_sizes": (size,), "policy": "modelarena"}, devices=devices), tmp_path / str(devices))
        for devices, size in ((1, 4), (2, 2))
    ]
    alone, spread = ([r["models"] for r in records(run, "evaluation")] for run in runs)
    for before, after in zip(alone, spread, strict=True):
        for name in before:
            assert after[name]["loss"] == pytest.approx(before[name]["loss"], rel=2e-5)
    boards = [records(run, "leaderboard")[0]["models"] for run in runs]
    for name in ("bert", "gpt2"):
        for count in ("steps", "examples", "tokens", "padding", "flops"):
            assert boards[0][name][count] == boards[1][name][count]
        assert boards[1][name]["share"] == pytest.approx(boards[0][name]["share"], rel=1e-3)
    assert_close(*(final_state(run).params for run in runs), rtol=1e-3, atol=2e-4)


def equal_steps(optimizer, folder):
    return train(tiny({"batch_sizes": (4,), "round_scale": 2, "policy": "static"}, optimizer), folder)


@pytest.mark.slow
def test_equal_steps_of_equal_batches_are_joint_training(tmp_path):
    """Sharing, synchronisation and convergence on: a step of each model a round, against the loop of joint training."""
    run = equal_steps(SHARING, tmp_path / "arena")
    joint = training.train(tiny(False, SHARING, batch_size=4), tmp_path / "joint")
    steps = {name: model["steps"] for name, model in records(run, "leaderboard")[0]["models"].items()}
    assert steps == {"bert": 6, "gpt2": 6}
    assert_close(final_state(run).params, final_state(joint).params, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_without_sharing_the_parameters_are_others(tmp_path):
    """The tolerance of the comparison with joint training would see that sharing is missing."""
    runs = equal_steps(SHARING, tmp_path / "shared"), equal_steps({**SHARING, "share_alpha": 0.0}, tmp_path / "alone")
    with pytest.raises(AssertionError):
        assert_close(*(final_state(run).params for run in runs), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_model_without_steps_left_is_not_moved_by_those_who_share(tmp_path):
    """The pools hold all who still step, and nobody else: a model that rests keeps its parameters to the bit."""
    updates = []  # who stepped, and the parameters after; first those before any step

    def observe(moment, rounds, setup, state):
        if moment == "step" or (moment == "round" and not updates):
            updates.append((state.stepping, jax.tree.map(np.array, state.train.params)))

    arena = {"batch_sizes": (4,), "reallocate_every": 1, "swap_after": 0}
    config = tiny(arena, SHARING, steps=2, evaluate_every=2)
    train(config, tmp_path / "run", policy=lambda history: [0.75, 0.25], observe=observe)
    assert [names for names, _ in updates[-3:]] == [("bert", "gpt2"), ("bert",), ("bert",)]
    for (_, before), (names, after) in itertools.pairwise(updates):
        for name in ("bert", "gpt2"):
            pairs = zip(*map(jax.tree.leaves, (before[name], after[name])), strict=True)
            assert name in names or all(np.array_equal(a, b) for a, b in pairs)
