"""Several processes that train as one, through JAX's own runtime: how they start, agree, and end.

Every process runs the same program on the same configuration and feeds its own rows of each batch. What only one may
do — make the folder, hold the lock, write records — process 0 does, and the others are told how it went, errors
included. A process that dies takes the others with it: their next exchange fails, or hangs until a heartbeat has stayed
out for `HEARTBEAT` seconds and JAX's runtime ends them ("another task died", an abort); at once where process 0 died.
All that is lost is what the last checkpoint did not see.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.runtime.program import is_out_of_memory

T = TypeVar("T")

HEARTBEAT = 30  # seconds without a sign of life after which a process counts as dead
_START = 300  # seconds that processes wait for each other at the start
_END = 300  # seconds that a process which is done waits for the others: process 0 draws figures
_BYTES = 4096  # of one message; every exchange has this size, so that one program serves them all
_LINE = 600  # characters of an error that is passed on; JSON may write six bytes for one
# What JAX's launchers and others call them; options come first.
ENVIRONMENT = {"coordinator": "JAX_COORDINATOR_ADDRESS", "count": "JAX_NUM_PROCESSES", "index": "JAX_PROCESS_ID"}


_joined: list[int] = []  # this process' index, once it has joined


class Lost(ArenaError):
    """Another process of the run is gone; nobody is left to say goodbye to."""


def start(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Join the other processes of a run; before anything else is asked of JAX.

    Args:
        coordinator: HOST:PORT of process 0, which all can reach; None: JAX_COORDINATOR_ADDRESS, or what Slurm, Open MPI
            or Kubernetes say.
        count: how many processes there are; None: JAX_NUM_PROCESSES, or as above.
        index: which one this is, from 0; None: JAX_PROCESS_ID, or as above.

    Raises:
        ArenaError: what is given makes no sense or is not enough, or the others did not come.
    """
    coordinator = coordinator or os.environ.get(ENVIRONMENT["coordinator"]) or None
    count = _whole("count") if count is None else count
    index = _whole("index") if index is None else index
    if coordinator is not None and not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[1-9]\d{0,4}", coordinator):
        raise ArenaError(f"the coordinator is '{coordinator}': write HOST:PORT of process 0, e.g. 10.0.0.1:1234")
    if count is not None and count < 1:
        raise ArenaError(f"{count} processes asked for; --process-count is 1 or more")
    if index is not None and (index < 0 or (count is not None and index >= count)):
        raise ArenaError(f"this is process {index} of {count or 'some'}: --process-index goes from 0 to count - 1")
    # JAX uses it on CPUs alone; other devices bring their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    by_hand = None not in (coordinator, count, index)
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            # Who says all three did not come through a launcher, and has all devices of the machine.
            cluster_detection_method="deactivate" if by_hand else None,
            initialization_timeout=_START,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=_END,
        )
        _joined.append(jax.process_index())
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        if by_hand:
            raise ArenaError(
                f"process {index} of {count} could not join the others at {coordinator} ({reason}): check that all"
                f" were started within {_START} s, that process 0 runs on that host and that its port is free"
            ) from None
        raise ArenaError(
            f"the processes cannot be told apart ({reason}): give --coordinator HOST:PORT, --process-count N and"
            " --process-index I, or start them with srun or mpirun"
        ) from None


def _whole(what: str) -> int | None:
    text = os.environ.get(ENVIRONMENT[what])
    if not text:
        return None
    if not re.fullmatch(r"\d{1,9}", text):
        raise ArenaError(f"{ENVIRONMENT[what]} is '{text}' in the environment: it must be a whole number")
    return int(text)


def several() -> bool:
    """Whether this run has more than one process."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this is process 0: the one that writes and prints."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """Exchange a small value; every process must call it, and waits for the others.

    Args:
        value: what JSON can hold, in at most 4 kB.

    Returns:
        The values of all processes, by index.

    Example:
        >>> gather({"rows": 3})
        [{'rows': 3}]
    """
    if not several():
        return [json.loads(json.dumps(value))]
    from jax.experimental import multihost_utils

    text = json.dumps(value).encode()
    if len(text) > _BYTES:
        raise ArenaError(f"processes cannot exchange {len(text)} bytes at once")
    padded = np.frombuffer(text.ljust(_BYTES), np.uint8)
    return [json.loads(bytes(row).decode()) for row in multihost_utils.process_allgather(padded)]


def agree(value: T, what: str) -> T:
    """Make sure that every process has the same value.

    Raises:
        ArenaError: on every process, naming the first that differs.

    Example:
        >>> agree(3, "the number of rows")
        3
    """
    values = gather(value)
    for index, other in enumerate(values):
        if other != values[0]:
            raise ArenaError(
                f"process {index} has another idea of {what} than process 0: give all the same data, files and options"
            )
    return value


@contextmanager
def together() -> Iterator[None]:
    """Do something on every process: if it fails on one, it fails on all, with that one's error."""
    if not several():
        yield
        return
    failed: ArenaError | None = None
    try:
        yield
    except ArenaError as error:
        failed = error
    messages = gather(None if failed is None else str(failed)[:_LINE])
    if failed is not None:
        raise failed
    for index, message in enumerate(messages):
        if message is not None:
            raise ArenaError(f"process {index}: {message}")


def on_first(call: Callable[[], T]) -> T:
    """Let process 0 do something, and tell the others what came out, errors too.

    Args:
        call: returns what JSON can hold.

    Returns:
        What it returned, on every process.

    Raises:
        ArenaError: what it raised, on every process.

    Example:
        >>> on_first(lambda: 7)
        7
    """
    if not several():
        return call()
    answer: dict[str, Any] = {}
    if first():
        try:
            answer = {"value": call()}
        except ArenaError as error:
            answer = {"error": str(error)[:_LINE]}
    answer = _from_first(answer)
    if "error" in answer:
        raise ArenaError(answer["error"])
    value: T = answer["value"]
    return value


def _from_first(answer: dict[str, Any]) -> dict[str, Any]:
    """What process 0 has to say, however long."""
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(answer).encode(), np.uint8)
    size = gather(len(text))[0]
    received = multihost_utils.broadcast_one_to_all(text if first() else np.zeros(size, np.uint8))
    value: dict[str, Any] = json.loads(bytes(received).decode())
    return value


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Print in one line that another process is gone, and how to go on; beforehand too, as JAX may end this one first.

    Args:
        folder: of the run.

    Raises:
        Lost: an exchange failed, or this process of several ran out of memory: it cannot make its batches smaller while
            the others wait for it in the middle of a step.
    """
    if several() and first():
        print(
            f'{jax.process_count()} processes: if one dies, JAX ends the others within {HEARTBEAT} s ("another task'
            f' died"); then go on with: arena-jax resume {folder}',
            file=sys.stderr,
            flush=True,
        )
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = " ".join(str(error).split())
        if several() and is_out_of_memory(error):
            raise Lost(
                f"process {jax.process_index()} ran out of memory ({reason[:160]}), and of several none can step down"
                " alone; start a new run with a higher --accumulation, or a lower --memory-budget in a competition"
            ) from None
        if not several() or not re.search(r"[Gg]loo|NCCL|coordination|DEADLINE|UNAVAILABLE|onnection|Socket", reason):
            raise
        raise Lost(
            f"process {jax.process_index()}: another process of this run is gone ({reason[:160]});"
            f" when all have ended, go on with: arena-jax resume {folder}"
        ) from None


def stopping(requested: bool, step: int) -> bool:
    """Agree on when to stop; call it at every step.

    SIGTERM at any process reaches all through JAX's coordination service, which chooses a step that none has passed:
    that costs no exchange between the devices. (JAX takes the signal itself: see `arena_jax.runs.signals`.)

    Args:
        requested: whether this process was asked to stop; one process alone just does.
        step: the step that would come next.

    Returns:
        Whether to stop before this step; the same on every process.
    """
    if not several():
        return requested
    from jax.experimental import multihost_utils

    return bool(multihost_utils.reached_preemption_sync_point(step))


def leave(code: int, *, failed: bool) -> None:
    """End this process' part in a run; does nothing where there is only one.

    Args:
        code: the exit code.
        failed: leave without waiting for the others, who may be gone, or wait for this one.
    """
    if not _joined:
        return
    if not failed:
        jax.distributed.shutdown()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if _joined[0] == 0:
        # The others die with it, and shall have said why before.
        time.sleep(2)
    os._exit(code)
