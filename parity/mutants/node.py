"""Pytest nodes with a fault in the library, or none. Each runs in a copy of a process that has imported everything.

Importing takes longer than most of the nodes. The copies are forks: nothing that one node has traced, compiled or
cached can answer for another. The process that is copied never starts JAX's threads: it imports, and waits.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]


@functools.cache
def server() -> subprocess.Popen[str]:
    """The process that is copied; it ends with this one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment.setdefault("JAX_PLATFORMS", "cpu")
    environment.pop("PYTEST_CURRENT_TEST", None)
    command = [sys.executable, "-m", "parity.mutants.node"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def end() -> None:
        process.communicate()

    atexit.register(end)
    return process


def run(fault: str | None, nodes: Sequence[str]) -> tuple[int, str]:
    """Run nodes with a fault in the library, or as it is: pytest's exit code, and what it printed."""
    process = server()
    assert process.stdin is not None
    assert process.stdout is not None
    with tempfile.NamedTemporaryFile("w+", prefix="arena-node-") as output:
        process.stdin.write(json.dumps([fault, list(nodes), output.name]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            server.cache_clear()
            raise RuntimeError(f"the process that runs {', '.join(nodes)} ended by itself")
        return int(answer), output.read()


def main(fault: str | None, nodes: Sequence[str]) -> int:
    """Put the fault in and run the nodes."""
    import hypothesis
    import pytest

    from parity import mutants
    from parity.mutants.fault import applied

    # Any example that fails will do: looking for the smallest takes longer than all the rest.
    phases = [phase for phase in hypothesis.Phase if phase not in (hypothesis.Phase.shrink, hypothesis.Phase.explain)]
    hypothesis.settings.register_profile("fault", derandomize=True, deadline=None, phases=phases)
    with contextlib.ExitStack() as stack:
        if fault is not None:
            (mutant,) = (mutant for mutant in mutants.ALL if mutant.name == fault)
            stack.enter_context(applied(mutant))
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--assert=plain",
            "--hypothesis-profile=fault",
        ]
        return int(pytest.main([*nodes, *options]))


def serve(requests: Iterable[str], answers: IO[str]) -> None:
    """Run each requested node in a fork, and answer with its exit code."""
    import pytest  # noqa: F401 - what every copy needs

    from parity import mutants  # noqa: F401

    for request in requests:
        fault, nodes, output = json.loads(request)
        child = os.fork()
        if child == 0:
            with open(output, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            code = 3  # pytest's code for an error inside
            try:
                code = main(fault, nodes)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
