"""The options of a run of several processes, and how the command joins and leaves one."""

from __future__ import annotations

import argparse
import sys

from arena_jax.cli import options


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = command.add_argument_group(
        "several processes: the same command on every machine, in one folder all can see"
    )
    group.add_argument(
        "--distributed", action="store_true", help="be one of several; Slurm, Open MPI and Kubernetes say which"
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="address of process 0 [JAX_COORDINATOR_ADDRESS, or the launcher's]"
    )
    group.add_argument("--process-count", metavar="N", help="how many there are [JAX_NUM_PROCESSES, or the launcher's]")
    group.add_argument(
        "--process-index", metavar="I", help="which one this is, from 0 [JAX_PROCESS_ID, or the launcher's]"
    )


def join(arguments: argparse.Namespace) -> None:
    """Become one of several processes, where any option asks for it."""
    values = (arguments.coordinator, arguments.process_count, arguments.process_index)
    if not arguments.distributed and all(value is None for value in values):
        return
    count = options.parse(arguments.process_count or "none", int | None, "--process-count")
    index = options.parse(arguments.process_index or "none", int | None, "--process-index")
    from arena_jax.runtime import processes

    processes.start(arguments.coordinator, count, index)


def leave(code: int, *, failed: bool) -> None:
    """End this process' part in a run of several, if it has one."""
    # Looked up, as importing it would import JAX.
    processes = sys.modules.get("arena_jax.runtime.processes")
    if processes is not None:
        processes.leave(code, failed=failed)
