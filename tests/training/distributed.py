"""One process of a run of several, as `python distributed.py "STEP PROCESS SIGNAL" WORDS…`.

The signal comes to that process just before it takes that step: a death or a request to stop at a moment that repeats.
"""

import os
import sys

import jax

from arena_jax.cli.main import main
from arena_jax.runtime import processes
from arena_jax.training.step import Step


def interrupted(at, index, signal):
    """Let the signal come to process ``index`` before step ``at``."""
    take, taken = Step.run, []

    def run(self, *arguments, **extra):
        taken.append(1)
        if len(taken) == at and jax.process_index() == index:
            os.kill(os.getpid(), signal)
        return take(self, *arguments, **extra)

    Step.run = run


if __name__ == "__main__":  # pytest looks into every file
    processes.HEARTBEAT = 8  # the test waits for it
    interrupted(*map(int, sys.argv[1].split()))
    sys.exit(main(sys.argv[2:]))
