"""Compiled gradients, one per model and batch size: few stay alive, and new ones are made while training goes on."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from arena_jax.config.errors import ArenaError
from arena_jax.runtime import processes
from arena_jax.runtime.batch_search import Choice, largest_batch
from arena_jax.runtime.devices import replicated
from arena_jax.runtime.memory import Estimate, Fresh, calibrate, estimate, tree_bytes
from arena_jax.runtime.out_of_memory import ran_out
from arena_jax.training.step import Compilation, Step

# A model that ran out of memory in spite of its margin is given this much more room by later searches.
_MORE_ROOM = 1.1
_BYTES = ("arguments", "outputs", "temporaries", "aliased", "total", "code")


class Calibration(NamedTuple):
    """What the allocator's real peak says of an estimate; measured when a program runs for the first time.

    Attributes:
        model: whose gradients.
        size: the batch size, per device.
        estimated: bytes per device, as the compiler said.
        measured: bytes per device, as the allocator counted.
        margin: what later searches for this model add to estimates, as a part of them.
        raised: whether that is more than before.
    """

    model: str
    size: int
    estimated: int
    measured: int
    margin: float
    raised: bool


class _MustCompileError(Exception):
    """A search wants to know what nobody has compiled yet."""


class _Search(NamedTuple):
    """What a search goes by, as it was when it was asked: model, sizes known and allowed, margin, where to begin.

    ``before`` are searches for the same model that were dropped while they compiled; what they found is known, too.
    """

    name: str
    arguments: Callable[[int], Sequence[Any]]
    known: dict[int, Estimate | None]
    before: tuple[Future[Choice], ...]
    margin: float
    sizes: tuple[int, ...]
    start: int | None


class Executables:
    """The programs that compute a model's gradients, by batch size.

    A search for the batch size that some memory allows compiles what it asks about in one background thread; training
    meanwhile calls what is already there. What a search has made is taken over by :meth:`adopt`, in the thread that
    trains, so that what is alive changes at known moments only. Of each model at most ``keep`` programs stay alive:
    what a search only asked about goes first, then the least recently chosen. What it needed is remembered, so that a
    later search need not ask again.

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
        margin: added to estimates at first, as a part of them; see :meth:`raise_margin`.
        keep: programs per model that stay alive.

    Attributes:
        evicted: ``{model: programs that had to go}``.
        margins: ``{model: part added to its estimates}``, by searches that begin from now on.
        ceilings: ``{model: size that ran out of memory}``; neither it nor a larger one is chosen again.
        other_code: ``{program: bytes of its code per device}`` of what lives beside gradients: the update, evaluations.
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
        self._sizes, self._budget, self._resident = tuple(sizes), budget, resident
        self._keep, self._margin = keep, margin
        sharding = replicated(step.mesh)
        self._params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=sharding), dict(params))
        # Left to the compiler where it decides for one process alone.
        out = sharding if jax.process_count() > 1 else None
        self._jitted = {name: Fresh(functools.partial(step.measured_gradients, name), out) for name in step.names}
        self._known: dict[str, dict[int, Estimate]] = {name: {} for name in step.names}
        self._alive: dict[str, dict[int, Any]] = {name: {} for name in step.names}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._closing = threading.Event()
        self._given_up: list[tuple[str, Future[Choice]]] = []
        self._local = [one for one in step.mesh.devices.flat if one.process_index == jax.process_index()]
        self._not_run: dict[str, set[int]] = {name: set() for name in step.names}
        self._measured: list[Calibration] = []
        self.evicted = dict.fromkeys(step.names, 0)
        self.margins = dict.fromkeys(step.names, margin)
        self.ceilings: dict[str, int] = {}
        self.other_code: dict[str, int] = {}

    @property
    def pool(self) -> int:
        """Bytes per device that shares divide: the budget less what is resident, code included; see `code`."""
        return self._budget - self._resident - self.code

    @property
    def code(self) -> int:
        """Bytes per device that programs take that are alive and not in force.

        Of each model as many as may be kept count, each as large as the largest it had so far, or where it had none, as
        the largest of all; so this changes where programs are taken over, and not as they come and go. The one in force
        is in its model's own account.
        """
        largest = {name: max((one.code for one in known.values()), default=0) for name, known in self._known.items()}
        of_all = max(*largest.values(), *self.other_code.values(), 0)
        return sum(self.other_code.values()) + (self._keep - 1) * sum(one or of_all for one in largest.values())

    def find(self, name: str, memory: float, *, refuse: bool = False, start: int | None = None) -> Future[Choice]:
        """Look for the largest batch that an amount of memory allows: equation 7. What it compiles, in the background.

        Args:
            name: the model.
            memory: bytes per device for the step's working memory, beside what is resident.
            refuse: raise where not even the smallest size fits; otherwise that size is what a model keeps, and it is
                held against the whole pool: models take turns on a device, so that the budget is still kept.
            start: the size to compile first where none is known.

        Returns:
            The choice to come. Its result raises ArenaError where nothing fits.
        """
        # What is known and what is allowed are those of this moment, so that the answer does not hang on the clock.
        arguments = functools.partial(self.arguments, name)
        before = tuple(search for given_up, search in self._given_up if given_up == name)
        search = _Search(name, arguments, dict(self._known[name]), before, self.margins[name], self.sizes(name), start)
        return self._at_once(search, memory, refuse) or self._thread.submit(self._search, search, memory, refuse)

    def beside(self, task: Callable[[], object]) -> Future[object]:
        """Do something in the background, between two searches; what it raises is not looked at."""
        return self._thread.submit(task)

    def adopt(self, name: str, choice: Choice) -> list[Compilation]:
        """Take over what a search has made; call it in the thread that trains.

        Args:
            name: the model.
            choice: from :meth:`find`.

        Returns:
            What was compiled, for the records.
        """
        alive = self._alive[name]
        # Alive before the run was interrupted: made again, but nothing new.
        again = {size for size in choice.compiled if size in alive and alive[size] is None}
        self._hold(name, choice, choice.batch)
        return self._told(name, choice, again)

    def give_up(self, name: str, search: Future[Choice], *, keep: bool) -> None:
        """Drop a search that nobody waits for.

        Args:
            name: the model.
            search: from :meth:`find`.
            keep: what it is compiling just now; otherwise searches that are dropped one after the other would never
                come to an end. See :meth:`left_over`.
        """
        if not search.cancel() and keep:
            self._given_up.append((name, search))

    def left_over(self) -> list[Compilation]:
        """Take over what dropped searches have made, as if it had been chosen just before what is in force."""
        told = []
        for name, search in [one for one in self._given_up if one[1].done()]:
            self._given_up.remove((name, search))
            if search.exception() is None:
                choice = search.result()
                told += self._told(name, choice, set())
                # Otherwise it would be made again and again.
                self._hold(name, choice, next(reversed(self._alive[name]), choice.batch))
        return told

    def _hold(self, name: str, choice: Choice, in_force: int) -> None:
        """Put a search's programs among those alive, and let go of what there is no room for."""
        known, held = self._known[name], self._alive[name]
        known |= {**choice.compiled, choice.batch: choice.estimate}
        self._not_run[name].update(choice.compiled, {choice.batch} - held.keys())
        # In the order in which they make way: what was only asked about first, what is in force never.
        asked = [size for size in choice.compiled if size not in held]
        older = [size for size in [*asked, *held] if size not in (choice.batch, in_force)]
        programs = held | {size: known[size].executable for size in [*choice.compiled, choice.batch]}
        alive = self._alive[name] = {size: programs[size] for size in [*older, choice.batch, in_force]}
        while len(alive) > self._keep:
            size = next(iter(alive))
            del alive[size]
            self._not_run[name].discard(size)
            self.evicted[name] += 1
        for size in known.keys() - alive.keys():
            known[size] = known[size]._replace(executable=None)  # type: ignore[arg-type]

    def _told(self, name: str, choice: Choice, again: set[int]) -> list[Compilation]:
        return [_compilation(name, size, made) for size, made in choice.compiled.items() if size not in again]

    def compile(self, name: str, size: int) -> list[Compilation]:
        """Make the program of a given size now, if it is not there; it is the one in force from now on.

        Args:
            name: the model.
            size: the batch size.

        Returns:
            What was compiled, for the records.
        """
        if self._alive[name].get(size) is not None:
            return self.adopt(name, Choice(size, self._known[name][size], {}, 0, "asked for"))
        made = estimate(self._jitted[name], *self.arguments(name, size))
        return self.adopt(name, Choice(size, made, {size: made}, 1, "asked for"))

    def remembered(self) -> dict[str, dict[str, Any]]:
        """What each size was said to need, and which programs are alive, as a checkpoint keeps it."""
        return {
            name: {
                "known": {size: [getattr(one, kind) for kind in _BYTES] for size, one in known.items()},
                "alive": list(self._alive[name]),
            }
            for name, known in self._known.items()
        }

    def remember(self, told: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, int]) -> list[Compilation]:
        """Take over what :meth:`remembered` said, so that what is searched, chosen and told goes on as it would have.

        Programs in force are made now, others when they are chosen.

        Args:
            told: by the run that was interrupted.
            sizes: ``{model: batch size in force}``.

        Returns:
            What was compiled.
        """
        compiled = []
        for name, size in sizes.items():
            made = estimate(self._jitted[name], *self.arguments(name, size))
            bytes_of = {int(key): dict(zip(_BYTES, one, strict=True)) for key, one in told[name]["known"].items()}
            empty = made._replace(executable=None)  # type: ignore[arg-type]
            self._known[name] = {one: empty._replace(**held) for one, held in bytes_of.items()}
            self._known[name][size] = made
            self._alive[name] = {one: made.executable if one == size else None for one in told[name]["alive"]}
            self._not_run[name] = {size}
            compiled.append(_compilation(name, size, made))
        return compiled

    def alive(self, name: str) -> int:
        """Count a model's programs that are alive."""
        return len(self._alive[name])

    def needs(self, name: str, size: int) -> int:
        """Say what a size that was compiled once needs beside what is resident, in bytes per device."""
        return self._known[name][size].whole - self._own(name)

    def allowed(self, name: str, size: int, memory: float) -> bool:
        """Whether a size that was compiled once fits some memory, by the margin in force; see :meth:`find`."""
        return (1 + self.margins[name]) * self._known[name][size].whole <= memory + self._own(name)

    # ---- what memory has taught ----

    def sizes(self, name: str) -> tuple[int, ...]:
        """The batch sizes that a model may have: all of them but those that ran out of memory."""
        return tuple(size for size in self._sizes if size < self.ceilings.get(name, size + 1))

    def raise_margin(self, name: str, margin: float) -> float:
        """Leave more room beside what the compiler says, in every search for a model that begins from now on.

        Args:
            name: the model.
            margin: as a part of the estimate; a margin never falls.

        Returns:
            The margin in force.
        """
        self.margins[name] = max(self.margins[name], margin)
        return self.margins[name]

    def ran_out(self, name: str, size: int) -> int | None:
        """Learn that a size ran out of memory at run time, though it was foretold to fit.

        It is not chosen again, nor is a larger one, and the model's margin grows by a tenth of its need. A search that
        was under way does not know of this yet: begin it anew.

        Args:
            name: the model.
            size: the batch size, per device.

        Returns:
            The next size down, to be compiled by :meth:`compile`; None where there is none.
        """
        self.ceilings[name] = min(size, self.ceilings.get(name, size))
        self.raise_margin(name, (1 + self.margins[name]) * _MORE_ROOM - 1)
        return max(self.sizes(name), default=None)

    def calibrations(self) -> list[Calibration]:
        """What was measured since this was last asked; nothing where the allocator keeps no peak (CPU)."""
        measured, self._measured = self._measured, []
        return measured

    def learned(self) -> dict[str, dict[str, float]]:
        """Margins, ceilings and other code, as a checkpoint keeps them; :meth:`learn` reads them back."""
        return {"margins": dict(self.margins), "ceilings": dict(self.ceilings), "other_code": dict(self.other_code)}

    def learn(self, told: Mapping[str, Mapping[str, float]]) -> None:
        """Take over what :meth:`learned` said."""
        self.margins.update(told["margins"])
        self.ceilings.update({name: int(size) for name, size in told["ceilings"].items()})
        self.other_code |= {name: int(code) for name, code in told["other_code"].items()}

    def __call__(self, name: str, size: int, params: Any, batch: Any, step: int) -> tuple[Any, dict[str, jax.Array]]:
        """Compute a model's gradient and metrics with a program that is alive; see `Step.measured_gradients`."""
        program = functools.partial(self._alive[name][size], params, batch, np.int32(step))
        if size not in self._not_run[name]:
            return program()
        jax.block_until_ready((params, batch))  # what is still under way would be counted as this program's
        need = self._known[name][size]
        result, excess = calibrate(need, program, self._local)
        self._not_run[name].discard(size)
        # What one process has learnt all go by, as they must choose alike.
        excess = max((one for one in processes.gather(excess) if one is not None), default=None)
        if excess is not None:
            before = self.margins[name]
            # To the next percent, so that the noise of an allocator does not raise it again and again.
            margin = self.raise_margin(name, math.ceil(100 * excess) / 100)
            measured = round(need.total * (1 + excess))
            self._measured.append(Calibration(name, size, need.total, measured, margin, margin > before))
        return result

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

    def _at_once(self, wanted: _Search, memory: float, refuse: bool) -> Future[Choice] | None:
        """Answer where nothing is to be compiled, so that it does not wait for another model's compilation."""

        def unknown(size: int) -> Sequence[Any]:
            raise _MustCompileError

        answer: Future[Choice] = Future()
        try:
            answer.set_result(self._search(wanted._replace(arguments=unknown), memory, refuse))
        except (_MustCompileError, ArenaError):
            return None
        return answer

    def _search(self, wanted: _Search, memory: float, refuse: bool) -> Choice:
        if self._closing.is_set():
            raise ArenaError(f"{wanted.name}: the competition ended before its new batch size was compiled")
        for one in wanted.before:
            if one.done() and not one.exception():
                wanted.known.update(one.result().compiled)
        made: dict[int, Estimate] = {}
        compiles = 0
        while True:
            choice = self._choose(wanted, memory, refuse)
            made |= choice.compiled
            wanted.known.update(choice.compiled)
            size, compiles = choice.batch, compiles + choice.compiles
            if choice.estimate.executable is not None:
                return choice._replace(compiled=made, compiles=compiles)
            compiles += 1  # known from before, and evicted since
            try:
                wanted.known[size] = made[size] = estimate(self._jitted[wanted.name], *wanted.arguments(size))
            except jax.errors.JaxRuntimeError as error:
                if not ran_out(error):
                    raise
                wanted.known[size] = None
                continue
            if made[size].whole == choice.estimate.whole:  # as it was said to: what was chosen stands, and its reason
                return choice._replace(estimate=made[size], compiled=made, compiles=compiles)

    def _choose(self, wanted: _Search, memory: float, refuse: bool) -> Choice:
        try:
            return self._largest(wanted, memory, wanted.sizes)
        except ArenaError:
            if refuse:
                raise
            # What fits the whole pool was found at the start, with the margin of the start, and less code.
            whole = self._budget - self._resident
            return self._largest(wanted._replace(margin=self._margin), whole, wanted.sizes[:1])

    def _largest(self, wanted: _Search, memory: float, sizes: Sequence[int]) -> Choice:
        name = wanted.name
        return largest_batch(
            self._jitted[name],
            wanted.arguments,
            self._budget,
            resident=self._budget - int(memory) - self._own(name),
            name=name,
            sizes=sizes,
            margin=wanted.margin,
            known=wanted.known,
            start=wanted.start,
        )

    def __enter__(self) -> Executables:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.shutdown(wait=True, cancel_futures=True)


def _compilation(name: str, size: int, made: Estimate) -> Compilation:
    program = f"gradients of {name} in batches of {size}"
    return Compilation(program, (), made.seconds, made.total, made.temporaries, made.cached)
