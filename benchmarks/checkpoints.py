"""What a checkpoint costs: seconds that training waits for it, and seconds that a thread works beside it.

    python -m benchmarks.checkpoints

The part of a run that saves each minute is at most (waiting + beside) / 60 s, as if the thread took everything it needs
from the training; on a machine with cores to spare, and where a GPU computes, it is waiting / 60 s.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import jax

from arena_jax.training.checkpoint import Checkpoints
from benchmarks.measure import machine, table, verdict


def main() -> None:
    rows = []
    for megabytes in (10, 100, 500):
        keys = jax.random.split(jax.random.key(0), 50)
        state = {str(i): jax.random.normal(key, (megabytes * 5000,)) for i, key in enumerate(keys)}
        jax.block_until_ready(state)
        waited, beside = [], []
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder), keep=1, writing=True)
            for step in range(4):
                snapshot = checkpoints.take(state)
                checkpoints.write(step, snapshot, {})
                checkpoints.wait()
                waited.append(snapshot.seconds)
                beside.append(checkpoints.background_seconds)
        wait, work = statistics.median(waited[1:]), statistics.median(beside[1:])
        part = (wait + work) / 60
        rows.append(
            (f"{megabytes} MB", f"{wait:.3f} s", f"{work:.2f} s", f"{part:.2%}", verdict(part, 0.03, at_least=False))
        )
    print(machine())
    print(table(("state", "training waits", "beside it", "of a minute, at most", "limit"), rows))


if __name__ == "__main__":
    main()
