"""How long a start compiles: the first, a second one, and one with another seed, learning rate and length.

Each start is a process of its own, `arena-jax train joint-synthetic` (the command of `make demo`), and all share one
folder of compiled programs that is empty at first. Seconds are those of the run's records: tracing, and compiling or
reading from the folder. The processor's seconds are of the whole process; on a busy machine only they say anything.

    python -m benchmarks.compile_seconds --repeats 3
    python -m benchmarks.compile_seconds --repeats 3 --before FOLDER   # a checkout of an earlier version, taking turns
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
STARTS = {
    "first": [],
    "second": [],
    "another seed": ["--seed", "1"],
    "another seed, rate and length": ["--seed", "2", "--learning-rate", "0.001", "--steps", "60"],
}
_COMMAND = "import sys; from arena_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"


def start(options: list[str], checkout: Path, programs: Path, run: Path) -> tuple[float, float, float]:
    """Seconds of compiling, of the whole process, and of the processor for it."""
    command = [sys.executable, "-c", _COMMAND, "train", "joint-synthetic", "--no-figures", "--output", str(run)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    began, used = time.perf_counter(), processor()
    arguments = [*command, "--compilation-cache", str(programs), *options]
    subprocess.run(arguments, cwd=run.parent, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds, used = time.perf_counter() - began, processor() - used
    records = map(json.loads, (run / "records.jsonl").read_text(encoding="utf-8").splitlines())
    return sum(record["seconds"] for record in records if record["kind"] == "compile"), seconds, used


def processor() -> float:
    """Seconds that processes that have ended took of the processor, theirs and the system's."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--starts", type=int, choices=range(1, 5), default=4, help="only so many of the four starts")
    options = parser.parse_args()
    checkouts = ({"before": options.before.resolve()} if options.before else {}) | {"now": HERE}
    measured: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for _ in range(options.repeats):
        for version, checkout in checkouts.items():
            with tempfile.TemporaryDirectory() as folder:
                programs = Path(folder) / "programs"
                for name, extra in list(STARTS.items())[: options.starts]:
                    seconds = start(extra, checkout, programs, Path(folder) / name.replace(" ", "-").replace(",", ""))
                    measured.setdefault((version, name), []).append(seconds)
    print("| version | start | compile seconds, median (least–most) | whole process | processor, least |")
    print("| --- | --- | --- | --- | --- |")
    for (version, name), triples in measured.items():
        compiling, whole, used = zip(*triples, strict=True)
        print(
            f"| {version} | {name} | {statistics.median(compiling):.2f} ({min(compiling):.2f}–{max(compiling):.2f}) "
            f"| {statistics.median(whole):.1f} s | {min(used):.1f} s |"
        )


if __name__ == "__main__":
    main()
