"""What `import arena_jax.transforms` adds to `import jax, optax`: fresh processes, in turn, and the medians of both.

python -m benchmarks.import_seconds [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

BASE = "import jax, optax"
BOTH = f"{BASE}; import arena_jax.transforms"


def seconds(code: str) -> float:
    """How long a fresh Python takes to run some code, its own start included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    return time.perf_counter() - start


def main() -> None:
    """Print the medians, and the median and range of the differences of neighbours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    seconds(BOTH)  # once for the compiled files of Python and the disk's cache
    pairs = [(seconds(BASE), seconds(BOTH)) for _ in range(rounds)]
    differences = sorted(both - base for base, both in pairs)
    print(f"{BASE}: {statistics.median(base for base, _ in pairs):.3f} s")
    print(f"and arena_jax.transforms: {statistics.median(both for _, both in pairs):.3f} s")
    low, high = differences[0], differences[-1]
    print(f"difference: median {statistics.median(differences):.3f} s ({low:.3f}–{high:.3f}) in {rounds} rounds")


if __name__ == "__main__":
    main()
