"""Batch sizes whose programs are not compiled when they are due: deferred, overtaken, or waited for."""

import signal
import time
import types
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from arena_jax.arena import history
from arena_jax.arena.accounts import Account
from arena_jax.arena.batch_sizes import swap_sizes
from arena_jax.arena.reallocation import reallocate
from arena_jax.arena.setup import ignore
from arena_jax.arena.state import State
from arena_jax.config import ArenaConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs import signals
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.runtime.batch_search import BatchChoice
from tests.arena.tiny import HeldBack, records, tiny, train


def deferring(arena, **training):
    return tiny({"late_swaps": "defer", **arena}, **training)


def to_first(history):
    return [0.95, 0.05]


@pytest.mark.slow
@pytest.mark.parametrize(("after", "late"), [(0, 4), (2, 2)])
def test_a_size_that_is_not_compiled_when_it_is_due_is_deferred_and_nobody_waits(after, late, tmp_path):
    compiler = HeldBack()
    config = deferring({"swap_after": after, "reallocate_every": 7}, steps=13, evaluate_every=13)
    run = train(config, tmp_path / "run", policy=to_first, executor=compiler, observe=compiler.until(10))
    assert [r["step"] for r in records(run, "allocation")] == [0, 7]
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["before"]) == (11, "gpt2", 8), "ready in the eleventh round"
    assert (swap["late"], swap["waited"] < 0.05) == (late, True)
    text = narrate(read(run))
    assert f"gpt2: batch 8 → {swap['batch_size']} after round 11, {late} later than planned" in text
    # BERT kept its size, which was known.
    assert "1 batch size came later than planned" in text


def test_a_search_that_the_next_reallocation_overtakes_is_counted(tmp_path):
    compiler = HeldBack()
    config = deferring({"swap_after": 0})
    run = train(config, tmp_path / "run", policy=to_first, executor=compiler, observe=compiler.until(4))
    assert [r["step"] for r in records(run, "allocation")] == [0, 2, 4]
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["late"]) == (5, "gpt2", 1)
    # GPT-2's search of round 2 was abandoned, and its next one was a round late.
    assert "2 batch sizes came later than planned, or not at all" in narrate(read(run))


def test_a_stopped_run_takes_up_a_late_size_where_it_was(tmp_path):
    compiler = HeldBack()
    hold = compiler.until(12)

    def observe(moment, rounds, setup, state):
        hold(moment, rounds, setup, state)
        if (moment, rounds) == ("round", 9):
            signal.raise_signal(signal.SIGTERM)

    config = deferring({"swap_after": 2, "reallocate_every": 7}, steps=13, evaluate_every=13)
    with pytest.raises(signals.Stopped, match="stopped after step 10"):
        train(config, tmp_path / "run", policy=to_first, executor=compiler, observe=observe)
    run = train(config, tmp_path / "run", policy=to_first, resume=True)
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["late"]) == (11, "gpt2", 2), "due in round 9, and put off to 11"
    assert records(run, "end")[0]["deferred"] == 1


class Searches:
    """Executables in which of each reallocation's two searches the first ends, and the second never does."""

    pool = code = 0

    def __init__(self):
        self.names, self.evicted = [], {"bert": 0, "gpt2": 0}

    def search(self, name, memory, most=None):
        self.names.append(name)
        future = Future()
        if len(self.names) % 2:
            future.set_result(BatchChoice(2, None, {}, 0, "made up"))
        return future

    def adopt(self, name, choice):
        return []

    def adopt_abandoned(self):
        return []

    def abandon(self, name, search, *, keep):
        search.cancel()

    def step_bytes(self, name, size):
        return 0

    def alive(self, name):
        return ()


def test_a_model_whose_search_was_overtaken_is_searched_for_first():
    """Otherwise the last model would never have its turn where reallocations are fast and the compiler is slow."""
    config = deferring({"swap_after": 0})
    searches = Searches()
    setup = types.SimpleNamespace(
        config=config,
        arena=config.arena,
        names=("bert", "gpt2"),
        mesh=types.SimpleNamespace(shape={"data": 1}, size=1),
        executables=searches,
        policy=to_first,
        observe=ignore,
        spend=None,
        rounds=8,
        budget=0,
        resident=0,
    )
    state = State(
        train=None,
        gradients={},
        streams={},
        shares=np.full(2, 0.5),
        sizes={"bert": 4, "gpt2": 4},
        first_rows={},
        accounts={"bert": Account(), "gpt2": Account()},
        history=history.start([-4.0, -3.0]),
    )
    session = types.SimpleNamespace(record=lambda *_, **__: None)
    for rounds in (2, 4, 6):
        reallocate(setup, state, session, None, rounds)
        swap_sizes(setup, state, session, rounds)
    assert searches.names == ["bert", "gpt2", "gpt2", "bert", "bert", "gpt2"]


def test_new_sizes_come_before_the_next_reallocation():
    assert [ArenaConfig(reallocate_every=rounds).swap_rounds for rounds in (1, 10, 100, 1000)] == [0, 2, 20, 20]
    assert ArenaConfig(reallocate_every=10, swap_after=9).swap_rounds == 9
    with pytest.raises(ArenaError, match=r"swap_after is 10 and .*reallocate_every 10: .* when their shares are gone"):
        ArenaConfig(reallocate_every=10, swap_after=10)


class Slow(ThreadPoolExecutor):
    """A compiler that takes at least a fifth of a second."""

    def submit(self, function, *arguments):
        return super().submit(lambda: (time.sleep(0.2), function(*arguments))[1])


def test_a_run_that_waits_gets_the_size_in_the_round_that_was_planned(tmp_path):
    config = tiny({"swap_after": 0, "late_swaps": "wait", "reallocate_every": 4})
    run = train(config, tmp_path / "run", policy=to_first, executor=Slow(1))
    (swap,) = records(run, "swap")
    assert (swap["step"], swap["model"], swap["late"]) == (4, "gpt2", 0)
    assert swap["waited"] > 0.05
    assert "later than planned" not in narrate(read(run))
    assert "0 rounds later, waited for" in str(records(run, "start")[0]["derived"])
