"""Compiled gradients, one per model and batch size: few stay alive, and new ones are made while training goes on."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from arena_jax.arena.batch_size import Choice, largest_batch
from arena_jax.arena.memory import Estimate, estimate, tree_bytes
from arena_jax.errors import ArenaError
from arena_jax.training.devices import replicated
from arena_jax.training.step import Compilation, Step


class Executables:
    """The programs that compute a model's gradients, by batch size.

    A search for the batch size that some memory allows compiles what it asks about in one background thread; training
    meanwhile calls what is already there. What a search has made is taken over by :meth:`adopt`, in the thread that
    trains, so that what is alive changes at known moments only. Of each model at most ``keep`` programs stay alive; the
    least recently chosen goes first, and what it needed is remembered, so that a later search need not ask again.

    Use it as a context: leaving it waits for the compilation that runs and drops those that do not yet.

    Args:
        step: whose gradients; its models are read.
        params: ``{model: parameter tree}``, for shapes and placement alone.
        examples: ``{model: one example}``, arrays (1, …) as the data give them.
        sizes: the batch sizes there may be, per device, rising.
        microbatches: ``(model, size) -> k``, the microbatches of a step at that size.
        budget: bytes per device that everything must fit in.
        resident: bytes per device that are taken whatever the batch sizes: parameters, gradients and optimizer states
            of all models.
        margin: added to estimates, as a part of them.
        keep: programs per model that stay alive.

    Attributes:
        evicted: ``{model: programs that had to go}``.
    """

    def __init__(
        self,
        step: Step,
        params: Mapping[str, Any],
        examples: Mapping[str, Mapping[str, np.ndarray]],
        *,
        sizes: Sequence[int],
        microbatches: Callable[[str, int], int],
        budget: int,
        resident: int,
        margin: float = 0.02,
        keep: int = 4,
    ) -> None:
        self._step, self._examples, self._microbatches = step, examples, microbatches
        self._sizes, self._budget, self._resident, self._margin, self._keep = (
            tuple(sizes),
            budget,
            resident,
            margin,
            keep,
        )
        sharding = replicated(step.mesh)
        self._params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=sharding), dict(params))
        self._jitted = {name: jax.jit(functools.partial(step.measured_gradients, name)) for name in step.names}
        self._known: dict[str, dict[int, Estimate]] = {name: {} for name in step.names}
        self._alive: dict[str, dict[int, Any]] = {name: {} for name in step.names}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._closing = threading.Event()
        self.evicted = dict.fromkeys(step.names, 0)

    @property
    def pool(self) -> int:
        """Bytes per device that shares divide: the budget less what is resident."""
        return self._budget - self._resident

    def find(self, name: str, memory: float, *, refuse: bool = False) -> Future[Choice]:
        """Look for the largest batch that an amount of memory allows: equation 7, in the background.

        Args:
            name: the model.
            memory: bytes per device for the step's working memory, beside what is resident.
            refuse: raise where not even the smallest size fits; otherwise that size is what a model keeps, and it is
                held against the whole pool: models take turns on a device, so that the budget is still kept.

        Returns:
            The choice to come. Its result raises ArenaError where nothing fits.
        """
        return self._thread.submit(self._search, name, memory, dict(self._known[name]), refuse)

    def adopt(self, name: str, choice: Choice) -> list[Compilation]:
        """Take over what a search has made; call it in the thread that trains.

        Args:
            name: the model.
            choice: from :meth:`find`.

        Returns:
            What was compiled, for the records.
        """
        self._known[name].update(choice.compiled)
        alive = self._alive[name]
        for size, made in choice.compiled.items():
            alive[size] = made.executable
        alive[choice.batch] = alive.pop(choice.batch)  # the most recent is the last
        while len(alive) > self._keep:
            size = next(iter(alive))
            del alive[size]
            self.evicted[name] += 1
        for size in self._known[name].keys() - alive.keys():
            self._known[name][size] = self._known[name][size]._replace(executable=None)  # type: ignore[arg-type]
        return [
            Compilation(f"gradients of {name} in batches of {size}", (), made.seconds, made.total, made.temporaries)
            for size, made in choice.compiled.items()
        ]

    def compile(self, name: str, size: int) -> list[Compilation]:
        """Make the program of a given size now: a resumed run knows its sizes.

        Args:
            name: the model.
            size: the batch size.

        Returns:
            What was compiled, for the records.
        """
        made = estimate(self._jitted[name], *self.arguments(name, size))
        return self.adopt(name, Choice(size, made, {size: made}, 1, "resumed"))

    def alive(self, name: str) -> int:
        """Count a model's programs that are alive."""
        return len(self._alive[name])

    def needs(self, name: str, size: int) -> int:
        """Say what a size that was compiled once needs beside what is resident, in bytes per device."""
        return self._known[name][size].total - self._own(name)

    def __call__(self, name: str, size: int, params: Any, batch: Any, step: int) -> tuple[Any, dict[str, jax.Array]]:
        """Compute a model's gradient and metrics with a program that is alive; see `Step.measured_gradients`."""
        return self._alive[name][size](params, batch, np.int32(step))

    def arguments(self, name: str, size: int) -> tuple[Any, Any, Any]:
        """The abstract arguments of a model's gradients at a batch size: parameters, batch and step."""
        spread = NamedSharding(self._step.mesh, PartitionSpec(None, "data"))
        rows, k = size * self._step.mesh.shape["data"], self._microbatches(name, size)
        batch = {
            key: jax.ShapeDtypeStruct(
                (k, rows, *example.shape[1:]), jax.dtypes.canonicalize_dtype(example.dtype), sharding=spread
            )
            for key, example in self._examples[name].items()
        }
        return self._params[name], batch, jax.ShapeDtypeStruct((), np.int32)

    def _own(self, name: str) -> int:
        # A program's arguments and results hold this model's parameters and gradient, which are resident already.
        return 2 * tree_bytes(self._params[name])

    def _search(self, name: str, memory: float, known: dict[int, Estimate], refuse: bool) -> Choice:
        if self._closing.is_set():
            raise ArenaError(f"{name}: the competition ended before its new batch size was compiled")
        search = functools.partial(self._largest, name, known)
        try:
            choice = search(memory, self._sizes)
        except ArenaError:
            if refuse:
                raise
            choice = search(self.pool, self._sizes[:1])
        if choice.estimate.executable is None:  # known from before, and evicted since
            again = estimate(self._jitted[name], *self.arguments(name, choice.batch))
            compiled = {**choice.compiled, choice.batch: again}
            choice = choice._replace(estimate=again, compiled=compiled, compiles=choice.compiles + 1)
        return choice

    def _largest(self, name: str, known: dict[int, Estimate], memory: float, sizes: Sequence[int]) -> Choice:
        return largest_batch(
            self._jitted[name],
            lambda size: self.arguments(name, size),
            self._budget,
            resident=self._budget - int(memory) - self._own(name),
            name=name,
            sizes=sizes,
            margin=self._margin,
            known=known,
        )

    def __enter__(self) -> Executables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
