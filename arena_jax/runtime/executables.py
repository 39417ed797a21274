"""Compiled gradients, one per model and batch size: few stay alive, and new ones are compiled beside training."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from arena_jax.config.errors import ArenaError
from arena_jax.models.shards import SHARD, sharding_of
from arena_jax.runtime import processes, size_search
from arena_jax.runtime.batch_search import BatchChoice, Compile
from arena_jax.runtime.devices import abstract_batch, replicated, shardings
from arena_jax.runtime.memory import calibrate, device_bytes
from arena_jax.runtime.memory_limits import Calibration, MemoryLimits
from arena_jax.runtime.model_programs import ModelPrograms, code_bytes, of_size
from arena_jax.runtime.program import Program, ProgramBytes, UncachedJit, compile_program
from arena_jax.runtime.size_search import SizeSearch

GradientFunction = Callable[[Any, Any, Any, Any], tuple[Any, dict[str, jax.Array]]]
Calibrate = Callable[[Program, Callable[[], Any], Sequence[jax.Device]], tuple[Any, float | None]]


class Executables:
    """The programs that compute models' gradients, by batch size.

    A search for the batch size that some memory allows compiles what it asks about in one background thread; training
    meanwhile calls the programs that are alive. What a search compiled is taken over by :meth:`adopt`, in the thread
    that trains, so that what is alive changes at certain moments only. Of each model at most ``keep`` programs stay
    alive: what a search only asked about goes first, then the least recently chosen. What an evicted program needed is
    remembered, so that a later search need not ask again.

    Use it as a context: leaving it waits for the compilation that runs and drops those that do not yet.

    Args:
        functions: ``{model: (parameters, batch, key, step) -> (gradient, metrics)}``, pure; batches are arrays
            (k microbatches, examples, …).
        keys: ``{model: key data, uint32}``, handed to the function and no constant of its program: equal models and
            other seeds are the same program to a cache on disk.
        mesh: the devices, from `make_mesh`.
        params: ``{model: parameter tree}``, for shapes and placement alone.
        examples: ``{model: one example}``, arrays (1, …) as the data have them.
        sizes: the batch sizes there may be, per device, rising.
        microbatches: ``(model, size) -> k``, the microbatches of a step at that size.
        budget: bytes per device that everything must fit in.
        resident: bytes per device that are taken whatever the batch sizes: parameters, gradients and optimizer states
            of all models.
        margin: added to the compiler's bytes at first, as a part of them; see `MemoryLimits`.
        keep: programs per model that stay alive.
        compile_program: ``(function, *arguments) -> Program``, where ``function.name`` is the model; by default
            `arena_jax.runtime.compile_program`.
        calibrate: ``(program, run, devices) -> (result, excess)``; by default `arena_jax.runtime.memory.calibrate`.
        executor: runs searches, one at a time, and is shut down at the end; a thread of its own if not given.

    Attributes:
        evicted: ``{model: programs that were let go of}``.
        resident: as given; it follows the models' shapes.
        limits: what running has taught of the models' memory.
        other_code: ``{program: bytes of its code per device}`` of what lives beside gradients: the update, evaluations.
    """

    def __init__(
        self,
        functions: Mapping[str, GradientFunction],
        keys: Mapping[str, np.ndarray],
        mesh: Mesh,
        params: Mapping[str, Any],
        examples: Mapping[str, Mapping[str, np.ndarray]],
        *,
        sizes: Sequence[int],
        microbatches: Callable[[str, int], int],
        budget: int,
        resident: int,
        margin: float = 0.02,
        keep: int = 4,
        compile_program: Compile = compile_program,
        calibrate: Calibrate = calibrate,
        executor: Executor | None = None,
    ) -> None:
        names = tuple(functions)
        self._mesh, self._examples, self._microbatches = mesh, examples, microbatches
        self._keys = dict(keys)
        self._budget, self.resident = budget, resident
        self._keep, self._margin = keep, margin
        self._compile_program, self._calibrate = compile_program, calibrate
        self._functions = dict(functions)
        self._params = {name: self._shapes(params[name]) for name in names}
        self._jitted = {name: self._jit(name) for name in names}
        self._programs: dict[str, dict[int, Program]] = {name: {} for name in names}
        self._alive: dict[str, dict[int, Any]] = {name: {} for name in names}
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._closing = threading.Event()
        self._abandoned: list[tuple[str, Future[BatchChoice]]] = []
        self._local_devices = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
        self._not_run: dict[str, set[int]] = {name: set() for name in names}
        self._calibrations: list[Calibration] = []
        self.evicted = dict.fromkeys(names, 0)
        self.limits = MemoryLimits(names, sizes, margin)
        self.other_code: dict[str, int] = {}

    def _shapes(self, params: Any) -> Any:
        mesh = self._mesh
        return jax.tree.map(
            lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=sharding_of(mesh, p.shape)), params
        )

    def _jit(self, name: str) -> UncachedJit:
        # Left to the compiler where it decides for one process alone, and nothing is dealt out.
        stated = jax.process_count() > 1 or SHARD in self._mesh.shape
        out = (shardings(self._params[name], self._mesh), replicated(self._mesh)) if stated else None
        return UncachedJit(self._functions[name], out, name)

    def replace(self, name: str, params: Any, resident: int) -> ModelPrograms:
        """Let go of all programs of a model that has another shape now; nobody may wait for a search for it.

        Args:
            name: the model.
            params: its parameters, for shapes and placement alone.
            resident: bytes per device that are taken by all models from now on.

        Returns:
            What was known of it, for :meth:`put_back`.
        """
        before = self.of_model(name)
        self.put_back(name, ModelPrograms(self._shapes(params), {}, {}, set(), (self._margin, None), resident))
        return before

    def of_model(self, name: str) -> ModelPrograms:
        """What is known of a model with the shape that it has now."""
        programs, alive, not_run = dict(self._programs[name]), dict(self._alive[name]), set(self._not_run[name])
        return ModelPrograms(self._params[name], programs, alive, not_run, self.limits.of(name), self.resident)

    def put_back(self, name: str, state: ModelPrograms) -> None:
        """Take over what :meth:`replace` returned, as if nothing had changed."""
        self._params[name], self.resident = state.params, state.resident
        self._programs[name], self._alive[name] = dict(state.programs), dict(state.alive)
        self._not_run[name] = set(state.not_run)
        self.limits.put(name, *state.limits)
        self._jitted[name] = self._jit(name)
        self._abandoned = [(model, search) for model, search in self._abandoned if model != name]

    # ---- memory ----

    @property
    def pool(self) -> int:
        """Bytes per device that shares divide: the budget less what is resident, code included; see `code`.

        A share is so a part of what steps take beside the parameters, gradients and optimizer states of all models,
        which are there whoever trains. (ModelArena's shares divide the whole budget, parameters included.)
        """
        return self._budget - self.resident - self.code

    @property
    def code(self) -> int:
        """Bytes per device that programs take that are alive and not in force.

        See `code_bytes`. It changes where programs are taken over, and not as they come and go; the one in force is in
        its model's own account.
        """
        return code_bytes(self._programs, self.other_code, self._keep)

    def step_bytes(self, name: str, size: int) -> int:
        """What a step of a size that was compiled once needs beside what is resident, in bytes per device."""
        return self._programs[name][size].bytes.with_code - self._model_bytes(name)

    def fits(self, name: str, size: int, memory: float) -> bool:
        """Whether a size that was compiled once fits some memory, by the margin in force; see :meth:`search`."""
        need = (1 + self.limits.margins[name]) * self._programs[name][size].bytes.with_code
        return need <= memory + self._model_bytes(name)

    def _model_bytes(self, name: str) -> int:
        # A program's arguments and results hold this model's parameters and gradient, which are resident already.
        return 2 * device_bytes(self._params[name])

    # ---- searches ----

    def search(
        self,
        name: str,
        memory: float,
        *,
        refuse: bool = False,
        start: int | None = None,
        most: int | None = None,
    ) -> Future[BatchChoice]:
        """Look for the largest batch that an amount of memory allows: equation 7. Compiles in the background.

        Args:
            name: the model.
            memory: bytes per device for the step's working memory, beside what is resident.
            refuse: raise where not even the smallest size fits; otherwise that size is what a model keeps, and it is
                held against the whole pool: models take turns on a device, so that the budget is still kept.
            start: the size to compile first where none is known.
            most: the largest size that is of use; None: all are.

        Returns:
            The choice to come. Its result raises ArenaError where nothing fits.
        """
        model_bytes, sizes = self._model_bytes(name), self.limits.sizes(name)
        # What is known and what is allowed are those of this moment, so that the answer does not hang on the clock.
        search = SizeSearch(
            name=name,
            step=self._jitted[name],
            arguments=functools.partial(self.arguments, name),
            sizes=sizes if most is None else tuple(size for size in sizes if size <= most) or sizes[:1],
            programs=dict(self._programs[name]),
            earlier=tuple(future for model, future in self._abandoned if model == name),
            budget=self._budget,
            resident=self._budget - int(memory) - model_bytes,
            margin=self.limits.margins[name],
            # The smallest size fitted the whole pool at the start, with the margin of the start, and less code.
            smallest=None if refuse else (self.resident - model_bytes, self._margin),
            start=start,
            compile_program=self._compile_program,
        )
        choice = size_search.run_without_compiling(search)
        if choice is None:
            return self._executor.submit(self._run_search, search)
        future: Future[BatchChoice] = Future()
        future.set_result(choice)
        return future

    def _run_search(self, search: SizeSearch) -> BatchChoice:
        if self._closing.is_set():
            raise ArenaError(f"{search.name}: the competition ended before its new batch size was compiled")
        return size_search.run(search)

    def run_in_background(self, task: Callable[[], object]) -> Future[object]:
        """Do something between two searches; what it raises is not looked at."""
        return self._executor.submit(task)

    def adopt(self, name: str, choice: BatchChoice) -> list[Program]:
        """Take over what a search compiled; call it in the thread that trains.

        Args:
            name: the model.
            choice: from :meth:`search`.

        Returns:
            What was compiled, for the records.
        """
        alive = self._alive[name]
        # Alive before the run was interrupted: compiled again, but nothing new.
        again = {size for size in choice.programs if size in alive and alive[size] is None}
        self._hold(name, choice, choice.batch_size)
        return [of_size(name, size, program) for size, program in choice.programs.items() if size not in again]

    def abandon(self, name: str, search: Future[BatchChoice], *, keep: bool) -> None:
        """Drop a search that nobody waits for.

        Args:
            name: the model.
            search: from :meth:`search`.
            keep: what it is compiling just now; otherwise searches that are dropped one after the other would never
                come to an end. See :meth:`adopt_abandoned`.
        """
        if not search.cancel() and keep:
            self._abandoned.append((name, search))

    def adopt_abandoned(self) -> list[Program]:
        """Take over what abandoned searches compiled, as if it had been chosen just before what is in force."""
        compiled = []
        for name, search in [pair for pair in self._abandoned if pair[1].done()]:
            self._abandoned.remove((name, search))
            if search.exception() is None:
                choice = search.result()
                compiled += [of_size(name, size, program) for size, program in choice.programs.items()]
                # Otherwise it would be compiled again and again.
                self._hold(name, choice, next(reversed(self._alive[name]), choice.batch_size))
        return compiled

    def searching(self) -> bool:
        """Whether an abandoned search still compiles."""
        return any(not search.done() for _, search in self._abandoned)

    def _hold(self, name: str, choice: BatchChoice, in_force: int) -> None:
        """Put a search's programs among those alive, and let go of those beyond ``keep``."""
        programs, alive = self._programs[name], self._alive[name]
        programs |= {**choice.programs, choice.batch_size: choice.program}
        self._not_run[name].update(choice.programs, {choice.batch_size} - alive.keys())
        # In the order in which they make way: what was only asked about first, what is in force never.
        new = [size for size in choice.programs if size not in alive]
        older = [size for size in [*new, *alive] if size not in (choice.batch_size, in_force)]
        executables = alive | {size: programs[size].executable for size in [*choice.programs, choice.batch_size]}
        alive = self._alive[name] = {size: executables[size] for size in [*older, choice.batch_size, in_force]}
        while len(alive) > self._keep:
            size = next(iter(alive))
            del alive[size]
            self._not_run[name].discard(size)
            self.evicted[name] += 1
        for size in programs.keys() - alive.keys():
            programs[size] = programs[size]._replace(executable=None)

    def compile(self, name: str, size: int) -> list[Program]:
        """Compile a size now, if it is not alive; it is the one in force from now on.

        Args:
            name: the model.
            size: the batch size.

        Returns:
            What was compiled, for the records.
        """
        if self._alive[name].get(size) is not None:
            return self.adopt(name, BatchChoice(size, self._programs[name][size], {}, 0, "asked for"))
        program = self._compile_program(self._jitted[name], *self.arguments(name, size))
        return self.adopt(name, BatchChoice(size, program, {size: program}, 1, "asked for"))

    def alive(self, name: str) -> tuple[int, ...]:
        """The sizes of a model whose programs are alive, in the order in which they make way."""
        return tuple(self._alive[name])

    def program(self, name: str, size: int) -> Program:
        """What is known of a size that was compiled once; its executable is None where it was evicted."""
        return self._programs[name][size]

    def arguments(self, name: str, size: int) -> tuple[Any, Any, Any, Any]:
        """The abstract arguments of a model's gradients at a batch size: parameters, batch, key and step."""
        rows = size * self._mesh.size
        batch = abstract_batch(self._examples[name], self._mesh, rows, self._microbatches(name, size))
        return self._params[name], batch, self._keys[name], jax.ShapeDtypeStruct((), np.int32)

    # ---- running ----

    def take_calibrations(self) -> list[Calibration]:
        """What was measured since the last call; nothing where the allocator keeps no peak (CPU)."""
        calibrations, self._calibrations = self._calibrations, []
        return calibrations

    def __call__(self, name: str, size: int, params: Any, batch: Any, step: int) -> tuple[Any, dict[str, jax.Array]]:
        """Compute a model's gradient and metrics with a program that is alive.

        Args:
            name: the model.
            size: its batch size, per device.
            params: its parameter tree.
            batch: arrays (k, examples, …), on the devices.
            step: of the model.

        Returns:
            What the model's function returns.
        """
        run = functools.partial(self._alive[name][size], params, batch, self._keys[name], np.int32(step))
        if size not in self._not_run[name]:
            return run()
        jax.block_until_ready((params, batch))  # what is still under way would be counted as this program's
        program = self._programs[name][size]
        result, excess = self._calibrate(program, run, self._local_devices)
        self._not_run[name].discard(size)
        # All go by what any process has measured, as they must choose alike.
        excess = max((other for other in processes.gather(excess) if other is not None), default=None)
        if excess is not None:
            before, estimated = self.limits.margins[name], program.bytes.total
            # To the next percent, so that the noise of an allocator does not raise it again and again.
            margin = self.limits.raise_margin(name, math.ceil(100 * excess) / 100)
            measured = round(estimated * (1 + excess))
            self._calibrations.append(Calibration(name, size, estimated, measured, margin, margin > before))
        return result

    # ---- stopping and going on ----

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: what each size needs, which are alive, and what memory has taught; JSON holds it."""
        return {
            "programs": {
                name: {size: list(program.bytes) for size, program in programs.items()}
                for name, programs in self._programs.items()
            },
            "alive": {name: list(alive) for name, alive in self._alive.items()},
            "evicted": dict(self.evicted),
            "limits": self.limits.state(),
            "other_code": dict(self.other_code),
        }

    def restore(self, state: Mapping[str, Any], sizes: Mapping[str, int]) -> list[Program]:
        """Take over :meth:`state`, so that what is searched, chosen and recorded goes on as it would have.

        Programs in force are compiled now, others when they are chosen.

        Args:
            state: of the run that was interrupted.
            sizes: ``{model: batch size in force}``.

        Returns:
            What was compiled.
        """
        self.evicted.update(state["evicted"])
        self.limits.restore(state["limits"])
        self.other_code |= {name: int(code) for name, code in state["other_code"].items()}
        compiled = []
        for name, size in sizes.items():
            program = self._compile_program(self._jitted[name], *self.arguments(name, size))
            self._programs[name] = {
                int(key): Program(None, ProgramBytes(*counts)) for key, counts in state["programs"][name].items()
            }
            self._programs[name][size] = program
            self._alive[name] = {key: program.executable if key == size else None for key in state["alive"][name]}
            self._not_run[name] = {size}
            compiled.append(of_size(name, size, program))
        return compiled

    def __enter__(self) -> Executables:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
