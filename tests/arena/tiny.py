"""Tiny competitions, whose programs are traced and compiled once for all runs of one kind."""

import dataclasses
from concurrent.futures import Executor, Future

import jax
import numpy as np
import pytest

from arena_jax import training
from arena_jax.arena import competition
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, presets
from arena_jax.runs import load_run
from arena_jax.runs.records import read
from arena_jax.runtime.program import compile_program

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes."


def tiny(arena=None, optimizer=None, gpt2=None, **training):
    """Two models, six rounds of few steps, a score every 2, new shares every 2, new batch sizes a round later."""
    training = {
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
    competing = {
        "memory_budget": "1MB",
        "reallocate_every": 2,
        "batch_sizes": (2, 4, 8),
        "round_scale": 4,
        "swap_after": 1,
        "late_swaps": "wait",
        **(arena or {}),
    }
    return dataclasses.replace(
        presets.get("joint-synthetic"),
        models=(
            ModelConfig("bert", preset="bert-tiny", **SIZES),
            ModelConfig("gpt2", preset="gpt2-tiny", **SIZES, **(gpt2 or {})),
        ),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=40, validation_limit=12),
        optimizer=OptimizerConfig(**{"warmup_steps": 2, "convergence_window": 3, **(optimizer or {})}),
        training=TrainingConfig(**training),
        arena=ArenaConfig(**competing) if arena is not False else None,
    )


class SharedPrograms:
    """Traces and compiles each program once for all runs of the same models and optimizer."""

    def __init__(self):
        self._programs = {}

    def of(self, config):
        """The ``compile_program`` of one configuration."""
        kind = repr(
            (
                config.models,
                config.data,
                config.optimizer,
                config.training.seed,
                config.training.devices,
                config.training.shard,
            )
        )

        def compile_shared(function, *arguments):
            leaves, tree = jax.tree.flatten(arguments)
            shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
            key = kind, getattr(function, "name", "update"), tree, shapes
            if key in self._programs:
                return self._programs[key]._replace(seconds=0.001, cached=True)
            program = self._programs[key] = compile_program(function, *arguments)
            return program

        return compile_shared


SHARED = SharedPrograms()


def train(config, output, **options):
    """`competition.train` with programs that are shared between runs."""
    return competition.train(config, output, **{"compile_program": SHARED.of(config), **options})


def wrapped(config, wrap):
    """A ``compile_program`` whose gradients run through ``wrap(model, run, params, batch, key, step)``."""

    def compile_wrapped(function, *arguments):
        program = SHARED.of(config)(function, *arguments)
        name = getattr(function, "name", None)
        if name is None:
            return program
        return program._replace(executable=lambda *values: wrap(name, program.executable, *values))

    return compile_wrapped


class HeldBack(Executor):
    """A slow compiler: from the first round on, what is submitted waits until it is released."""

    def __init__(self):
        self.holding, self.tasks = False, []

    def submit(self, function, *arguments):
        future = Future()
        self.tasks.append((future, function, arguments))
        if not self.holding:
            self.release()
        return future

    def release(self):
        """Run what waits, and has not been cancelled."""
        tasks, self.tasks = self.tasks, []
        for future, function, arguments in tasks:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except Exception as error:
                    future.set_exception(error)

    def shutdown(self, wait=True, *, cancel_futures=False):
        for future, _, _ in self.tasks:
            future.cancel()

    def until(self, rounds):
        """An observer that holds back from the first round on, and releases when a round begins."""

        def observe(moment, now, setup, state):
            if moment == "round":
                self.holding = True
                if now == rounds:
                    self.release()

        return observe


def records(run, kind):
    return [record for record in read(run) if record["kind"] == kind]


def final_state(run):
    return training.restore(run, load_run(run))[2]


def assert_same_arrays(first, second):
    for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def without_times(run):
    """The records less what a clock measures, and less which programs a resumed run has not compiled again."""
    clocks = {"time", "seconds", "compiling", "cached", "examples_per_second", "waited", "evaluation_seconds"}
    clocks |= {"run", "path", "executables", "evicted", "reason"}

    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in clocks}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return [strip(record) for record in read(run) if record["kind"] not in ("compile", "checkpoint")]


class Killed(Exception):
    """Ends a run in the middle, as a lost machine does."""


def assert_killed_and_resumed_is(finished, train, config, folder, rounds):
    """Kill a run as a round begins, after so many, and go on: arrays and records are those of one that finished."""

    def kill(moment, now, setup, state):
        if moment == "round" and now == rounds + 1:
            raise Killed

    with pytest.raises(Killed):
        train(config, folder, observe=kill)
    run = train(config, folder, resume=True)
    assert_same_arrays(final_state(finished), final_state(run))
    assert without_times(run) == without_times(finished)
