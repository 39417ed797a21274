"""Side-by-side measurement: the contestants take turns in one process, so that what the machine does else hits both."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def interleaved(contestants: dict[str, Callable[[], None]], *, repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Run every contestant once per round, `repeats` rounds; seconds of each run, warm-up rounds left out."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warmup + repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, with its quartiles: (median, lower, upper)."""
    rounds = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
    if len(rounds) == 1:
        return (rounds[0],) * 3
    lower, median, upper = statistics.quantiles(rounds, n=4, method="inclusive")
    return median, lower, upper


def machine() -> str:
    """The machine in a line: processor, cores, devices, versions."""
    import jax

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    device = jax.devices()[0]
    kind = "" if device.platform == "cpu" else f", {len(jax.devices())} × {device.device_kind}"
    cores, python = len(os.sched_getaffinity(0)), platform.python_version()
    return f"{model}, {cores} cores{kind}, jax {jax.__version__}, Python {python}"


def process_bytes(field: str) -> int:
    """A figure of the kernel's about this process, such as ``VmRSS`` (now) or ``VmHWM`` (the most so far)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(" --- " for _ in header) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def verdict(value: float, limit: float, *, at_least: bool) -> str:
    """The limit and whether it is met."""
    met = value >= limit if at_least else value <= limit
    return f"{'≥' if at_least else '≤'} {limit:g}: {'met' if met else 'MISSED'}"
