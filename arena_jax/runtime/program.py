"""A compiled program: what runs it, what it needs on each device, and whether the compiler or a cache made it."""

from __future__ import annotations

import functools
import hashlib
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from arena_jax.config.errors import ArenaError

_CACHE_HIT = "/jax/compilation_cache/cache_hits"
_cache_hits = threading.local()  # programs compile in the background too: each thread counts its own


class ProgramBytes(NamedTuple):
    """A program's memory on each device, in bytes, as the compiler reports it.

    Attributes:
        arguments: what it is given; resident before it starts.
        outputs: what it returns, donated buffers included.
        temporaries: what it needs in between.
        aliased: outputs written into donated arguments, which would otherwise count twice.
        code: the program itself with its constants. It lies on the device as long as the executable lives, whether it
            runs or not. The CPU's compiler reports none, though a live program takes host memory there, too: gradients
            of `arena-small` 13 to 37 MB, most of it the compiler's own records. Nor does it report arrays that a
            function closes over: give them as arguments.
    """

    arguments: int = 0
    outputs: int = 0
    temporaries: int = 0
    aliased: int = 0
    code: int = 0

    @property
    def total(self) -> int:
        """All of it but the code: temporaries + arguments + outputs − aliased."""
        # Not XLA's peak_memory_in_bytes: for a batch of 32 it was 60 MB where the process grew by 956 MB.
        return self.temporaries + self.arguments + self.outputs - self.aliased

    @property
    def with_code(self) -> int:
        """What a device must hold for the program to run: the total, and the program itself."""
        return self.total + self.code


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        executable: runs it; None once it has been let go of, when its bytes are all that is kept.
        bytes: what it needs on each device; zeros where the backend does not say.
        seconds: how long tracing and compiling took.
        cached: whether it was there already, on disk or alive in this process, and did not come from the compiler.
        name: what it computes, such as ``"step"`` or ``"evaluate bert"``.
        shapes: ``(shape, dtype)`` of the arrays it was compiled for, where there are programs of one name for several.
    """

    executable: Any
    bytes: ProgramBytes
    seconds: float = 0.0
    cached: bool = False
    name: str = ""
    shapes: tuple[Any, ...] = ()


def compile_program(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Program:
    """Compile a function and read its memory off the result; nothing is allocated and nothing runs.

    Args:
        function: any, or an already jitted one (so that donation and static arguments are its own).
        *arguments: what it will be called with; `jax.ShapeDtypeStruct` in place of arrays is enough.
        **keywords: what it will be called with by name.

    Returns:
        The program, to be used and not thrown away.

    Raises:
        jax.errors.JaxRuntimeError: the compiler failed; a GPU's may because the program cannot fit, see
            `is_out_of_memory`.
        ArenaError: the backend does not say what a program needs.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jax.ShapeDtypeStruct((1000,), jnp.float32)
        >>> program = compile_program(lambda x: jnp.sort(x) + 1, x)
        >>> program.bytes.arguments, program.bytes.outputs, program.bytes.total == program.bytes.temporaries + 8000
        (4000, 4000, True)
    """
    began = time.perf_counter()
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    lowered = jitted.lower(*arguments, **keywords)
    program = compile_lowered(lowered, began=began, devices=devices_of((arguments, keywords)))
    if program.bytes == ProgramBytes():
        raise ArenaError("this backend does not say what a compiled program needs; set batch sizes by hand")
    return program


def devices_of(arguments: Any) -> tuple[str, ...]:
    """The devices that arguments lie on, in words; none for arguments that lie nowhere yet."""
    placements = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(arguments))
    names = {
        f"{device.platform} {device.device_kind} {device.id}"
        for placement in placements
        if placement is not None
        for device in placement.device_set
    }
    return tuple(sorted(names))


# Programs that are alive, by what they are: models of equal shapes, however many, share theirs.
_alive: weakref.WeakValueDictionary[Any, jax.stages.Compiled] = weakref.WeakValueDictionary()


def compile_lowered(
    lowered: jax.stages.Lowered, *, began: float | None = None, devices: tuple[str, ...] | None = None
) -> Program:
    """Compile what was lowered by hand; take the same program where one is alive.

    Args:
        lowered: from ``jax.jit(f).lower(…)``.
        began: when tracing began, by ``time.perf_counter``; its seconds are counted from now if not given.
        devices: from :func:`devices_of` of the arguments; None: compile, and share it with nobody, as where
            ``jax_enable_compilation_cache`` is off.

    Returns:
        The program.

    Example:
        >>> program = compile_lowered(jax.jit(lambda x: x + 1).lower(1.0))
        >>> float(program.executable(2.0)), program.bytes.total
        (3.0, 8)
    """
    _count_cache_hits()
    began = time.perf_counter() if began is None else began
    key = None
    if devices is not None and jax.config.values["jax_enable_compilation_cache"]:
        key = _identity(lowered, devices)
        alive = None if key is None else _alive.get(key)
        if alive is not None:
            return Program(alive, _program_bytes(alive), time.perf_counter() - began, cached=True)
    hits = getattr(_cache_hits, "count", 0)
    executable = lowered.compile()
    if key is not None:
        _alive[key] = executable
    cached = getattr(_cache_hits, "count", 0) > hits
    return Program(executable, _program_bytes(executable), time.perf_counter() - began, cached)


def _identity(lowered: jax.stages.Lowered, devices: tuple[str, ...]) -> Any:
    """What makes two lowered functions one program; None where none can be told to be the same.

    The text alone does not: it lacks the arguments that the function does not read, and says of a call back to Python
    only that there is one.
    """
    details = getattr(getattr(lowered, "_lowering", None), "compile_args", {})
    if "kept_var_idx" not in details or details.get("host_callbacks", True):
        return None
    text = hashlib.blake2b(lowered.as_text().encode(), digest_size=16).digest()
    read = tuple(sorted(details["kept_var_idx"]))
    return text, lowered.in_tree, lowered.out_tree, str(lowered.args_info), read, devices


def _program_bytes(executable: jax.stages.Compiled) -> ProgramBytes:
    analysis = executable.memory_analysis()
    if analysis is None:
        return ProgramBytes()
    return ProgramBytes(
        analysis.argument_size_in_bytes,
        analysis.output_size_in_bytes,
        analysis.temp_size_in_bytes,
        analysis.alias_size_in_bytes,
        analysis.generated_code_size_in_bytes,
    )


class UncachedJit:
    """A function that is jitted anew for every program.

    JAX keeps the programs of a jitted function as long as the function lives: what is evicted would stay in memory.

    Args:
        function: to be jitted.
        out_shardings: as `jax.jit` takes them.
        name: of what it is about, such as a model; for a ``compile_program`` of one's own.

    Example:
        >>> import numpy as np
        >>> compile_program(UncachedJit(lambda x: x + 1), np.ones(10, np.float32)).bytes.outputs
        40
    """

    def __init__(self, function: Callable[..., Any], out_shardings: Any = None, name: str = "") -> None:
        self._function, self._out_shardings, self.name = function, out_shardings, name

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, unjitted."""
        return self._function(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Like that of a jitted function."""
        return jax.jit(functools.partial(self._function), out_shardings=self._out_shardings).lower(*arguments)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory is exhausted.

    A program that runs may say so, and a GPU's compiler, which allocates (autotuning, constants). No GPU has run this
    yet: what is tested are made-up errors.

    Args:
        error: what was raised.

    Returns:
        True for a runtime error of XLA that speaks of exhausted memory.

    Example:
        >>> is_out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"))
        True
        >>> is_out_of_memory(ValueError("out of memory"))
        False
    """
    text = str(error).lower()
    return isinstance(error, jax.errors.JaxRuntimeError) and ("resource_exhausted" in text or "out of memory" in text)


@functools.cache
def _count_cache_hits() -> None:
    def count(event: str, **_: Any) -> None:
        if event == _CACHE_HIT:
            _cache_hits.count = getattr(_cache_hits, "count", 0) + 1

    jax.monitoring.register_event_listener(count)
