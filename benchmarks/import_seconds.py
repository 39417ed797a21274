"""What `import arena_jax.transforms` adds to `import jax, optax`: fresh processes, in turn, neighbours compared.

    python -m benchmarks.import_seconds [--rounds 15]

On a machine at other work the processor's seconds say more than the clock's.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

BASE = "import jax, optax"
BOTH = f"{BASE}; import arena_jax.transforms"


def seconds(code: str) -> tuple[float, float]:
    """How long a fresh Python takes to run some code, its own start included: by the clock, and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the medians of both, and the median and range of the differences of neighbours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    seconds(BOTH)  # once for the compiled files of Python and the disk's cache
    pairs = [(seconds(BASE), seconds(BOTH)) for _ in range(rounds)]
    for i, what in enumerate(("by the clock", "of the processor")):
        base, both = (statistics.median(pair[side][i] for pair in pairs) for side in (0, 1))
        differences = sorted(pair[1][i] - pair[0][i] for pair in pairs)
        low, high = differences[0], differences[-1]
        added = f"{statistics.median(differences):+.3f} s ({low:+.3f} to {high:+.3f})"
        print(f"{what}: {base:.3f} s, with arena_jax.transforms {both:.3f} s; difference {added}, {rounds} rounds")


if __name__ == "__main__":
    main()
