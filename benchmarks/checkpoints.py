"""What a checkpoint costs a run: seconds that training waits for it, and seconds it loses while it is written.

    python -m benchmarks.checkpoints

A step that keeps every core busy is timed by itself, then while a thread saves a state: what the steps take longer
is lost. A run that saves each minute loses (waiting + lost) / 60 s. "Beside" is how long the thread works.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from arena_jax.runs.checkpoints import Checkpoints
from benchmarks.measure import machine, table, verdict

LIMIT = 0.03
STEPS = 60  # before each save, to know what a step takes by itself


@jax.jit
def step(x: jax.Array) -> jax.Array:
    """Matrix products, like a transformer's: all cores work."""
    return jax.lax.fori_loop(0, 8, lambda _, y: jnp.tanh(y @ x), x)


def timed(x: jax.Array) -> float:
    start = time.perf_counter()
    step(x).block_until_ready()
    return time.perf_counter() - start


def main() -> None:
    rows = []
    x = jax.random.normal(jax.random.key(1), (768, 768)) / 28
    timed(x)
    for megabytes in (10, 100, 500):
        keys = jax.random.split(jax.random.key(0), 50)
        state = {str(i): jax.random.normal(key, (megabytes * 5000,)) for i, key in enumerate(keys)}
        jax.block_until_ready(state)
        waited, lost, beside, slower = [], [], [], []
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder), keep=1, writing=True)
            for number in range(6):
                alone = statistics.median(timed(x) for _ in range(STEPS))
                snapshot = checkpoints.take(state)
                checkpoints.write(number, snapshot, {})
                during = []
                while any(thread.name == "checkpoint" for thread in threading.enumerate()):
                    during.append(timed(x))
                checkpoints.wait()
                if number:  # the first save starts Orbax
                    waited.append(snapshot.seconds)
                    lost.append(sum(during) - len(during) * alone)
                    slower.append(statistics.mean(during) / alone)
                    beside.append(checkpoints.background_seconds)
        wait, loss, work, factor = map(statistics.median, (waited, lost, beside, slower))
        part = (wait + loss) / 60
        rows.append(
            (
                f"{megabytes} MB",
                f"{wait:.3f} s",
                f"{work:.2f} s",
                f"{factor:.2f}",
                f"{loss:.2f} s [{min(lost):.2f}, {max(lost):.2f}]",
                f"{part:.2%}",
                verdict(part, LIMIT, at_least=False),
            )
        )
    print(f"{machine()}; a step takes {1000 * alone:.0f} ms by itself; brackets: least and most of 5 saves\n")
    header = ("state", "training waits", "beside", "a step meanwhile, ×", "training loses", "of a minute", "limit")
    print(table(header, rows))


if __name__ == "__main__":
    main()
