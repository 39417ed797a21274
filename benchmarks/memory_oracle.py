"""Judge the memory oracle: is the batch it finds the largest, how many compilations, and are its bytes real?

    python benchmarks/memory_oracle.py            # tiny to GPT-2-small sizes; about half an hour on 2 cores
    python benchmarks/memory_oracle.py --quick    # tiny and small sizes; a few minutes

Each case is one model's whole training step (AdamW, donated state) at one length under one budget. Small answers are
compared with the largest batch found by compiling every size; for large ones the size 1/0.95 above the answer is
compiled and must not fit. Two other rules run on the same steps and budgets: accelerate's
`find_executable_batch_size` (start at 128, halve after every failure; newer releases multiply by 0.9) and "five
forward passes" (ModelArena's published program: a batch fits when five times the memory of a forward pass fits; binary
search between 1 and 64). A rule "overruns" when the step at the batch it chose needs more than the budget.

Predicted bytes are compared with what a fresh process really grows by: its peak resident memory during two steps on
CPU, the allocator's peak on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from measure import machine, table, verdict

from arena_jax import models, training
from arena_jax.arena.batch_size import largest_batch
from arena_jax.arena.memory import Estimate, calibrate, estimate, format_bytes
from arena_jax.errors import ArenaError

SMALL = {"hidden_size": 128, "num_layers": 4, "num_heads": 4, "intermediate_size": 512, "vocab_size": 4096}
FAMILIES = {"bert": "bert-base", "roberta": "roberta-base", "gpt2": "gpt2"}
ABOVE, BYTES, SLACK = 0.95, 0.05, 40_000_000


class Case:
    """One model at one length: its training step, the step's arguments at any batch, and every compilation so far."""

    def __init__(self, family: str, size: str, length: int):
        self.name = f"{family}-{size}"
        self.family, self.size, self.length = family, size, length
        if size == "tiny":
            config = models.preset(f"{family}-tiny")
        else:
            config = models.preset(FAMILIES[family], **(SMALL if size == "small" else {}))
        causal = family == "gpt2"
        model = models.create(config, task="causal-lm" if causal else "masked-lm", seed=0)
        objective = training.objective_for(model.task, mask_token_id=None if causal else 3)
        self.step = training.make_step({"m": model}, optax.adamw(1e-4), {"m": objective})
        self.model = model
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), models.split(model)[1])
        optimizer_state = jax.eval_shape(self.step.optimizer.init, {"m": shapes})
        self.state = training.TrainState(jax.ShapeDtypeStruct((), jnp.int32), {"m": shapes}, optimizer_state)
        self.jitted = jax.jit(self.step.whole, donate_argnums=0)
        self.seen: dict[int, Estimate] = {}
        self.forwards: dict[int, int] = {}

    def arguments(self, batch: int) -> tuple:
        """What the step is called with, without a byte of it."""
        ids = jax.ShapeDtypeStruct((1, batch, self.length), jnp.int32)
        rows = {"input_ids": ids, "attention_mask": ids}
        if self.family != "gpt2":
            rows |= {"special_tokens_mask": ids}
        return self.state, {"m": rows}, {}

    def need(self, batch: int) -> int:
        """Bytes of the whole step, compiled at most once per size."""
        if batch not in self.seen:
            self.seen[batch] = estimate(self.jitted, *self.arguments(batch))._replace(executable=None)
        return self.seen[batch].total

    def fits(self, batch: int, budget: int) -> bool:
        """Whether a size fits, for the other rules: compiled only where a straight line is within 5 % of the budget."""
        if batch not in self.seen and len(self.seen) > 1:
            below, above = sorted(sorted(self.seen, key=lambda size: abs(size - batch))[:2])
            slope = (self.seen[above].total - self.seen[below].total) / (above - below)
            expected = self.seen[below].total + slope * (batch - below)
            if abs(expected - budget) > 0.05 * budget:
                return expected < budget
        return self.need(batch) <= budget

    def forward_need(self, batch: int) -> int:
        """Bytes of a forward pass without gradients, logits of every position, as the published program measures it."""
        if batch not in self.forwards:
            self.forwards[batch] = self._forward_need(batch)
        return self.forwards[batch]

    def _forward_need(self, batch: int) -> int:
        structure = self.step.structures["m"]

        def forward(params: object, ids: jax.Array) -> jax.Array:
            return models.merge(structure, params)(ids)

        ids = jax.ShapeDtypeStruct((batch, self.length), jnp.int32)
        return estimate(forward, self.state.params["m"], ids).total


def halving(case: Case, budget: int, factor: float) -> tuple[int, int]:
    """accelerate's rule: the first size that fits, and how many were tried."""
    batch, tries = 128, 1
    while batch and not case.fits(batch, budget):
        batch, tries = int(batch * factor), tries + 1
    return batch, tries


def five_forward_passes(case: Case, budget: int) -> tuple[int, int]:
    """The published program's rule: binary search over 1 to 64, at least 1."""
    low, high, best, tries = 1, 64, 1, 0
    while low <= high:
        middle, tries = (low + high) // 2, tries + 1
        if 5 * case.forward_need(middle) <= budget:
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return best, tries


def true_largest(case: Case, budget: int, exhaustive: int) -> int | None:
    """By compiling every size; none when the answer is not among them."""
    fitting = [batch for batch in range(1, exhaustive + 1) if case.need(batch) <= budget]
    return max(fitting) if fitting and max(fitting) < exhaustive else None


def judge(case: Case, budget: int, exhaustive: int) -> dict:
    try:
        choice = largest_batch(case.jitted, case.arguments, budget, name=case.name)
    except ArenaError as error:
        raise SystemExit(f"the benchmark's own budget is too small: {error}") from error
    case.seen.update({size: found._replace(executable=None) for size, found in choice.compiled.items()})
    true = true_largest(case, budget, exhaustive)
    next_size = math.floor(choice.batch / ABOVE) + 1
    good = choice.batch >= ABOVE * true if true else case.need(next_size) > budget
    rules = {"halving": halving(case, budget, 0.5), "×0.9": halving(case, budget, 0.9)}
    rules["five forward"] = five_forward_passes(case, budget)
    ceiling = true or choice.batch
    return {
        "case": f"{case.name}, length {case.length}, {format_bytes(budget)}",
        "found": choice.batch,
        "true": str(true) if true else f"< {next_size}",
        "good": good,
        "overruns": case.need(choice.batch) > budget,
        "compiles": choice.compiles,
        "ceiling": ceiling,
        "rules": {
            name: {"batch": batch, "tries": tries, "overruns": batch > 0 and not case.fits(batch, budget)}
            for name, (batch, tries) in rules.items()
        },
    }


def child(family: str, size: str, length: int, batch: int) -> None:
    """In a fresh process: predicted bytes, and what two steps really took; printed as JSON."""
    case = Case(family, size, length)
    found = estimate(case.jitted, *case.arguments(batch))
    device = jax.devices()[0]
    # Drop the model's own arrays and the compiler's leavings, so that what grows is the step.
    case.step._initial, case.model = {}, None
    gc.collect()

    def make() -> tuple:
        state, batches, extra = jax.tree.map(
            lambda x: jnp.ones(x.shape, x.dtype), case.arguments(batch), is_leaf=lambda x: hasattr(x, "dtype")
        )
        return jax.block_until_ready((state, batches, extra))

    if (device.memory_stats() or {}).get("peak_bytes_in_use"):
        arguments = make()
        _, margin = calibrate(found, lambda: found.executable(*arguments), [device])
        measured = None if margin is None else int(found.total * (1 + margin))
    else:
        make()  # the programs that make the arguments are compiled before the count begins
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets the kernel's record of the peak back to now
        before = _status("VmRSS")
        state, batches, extra = make()
        for _ in range(2):
            state, metrics = found.executable(state, batches, extra)
            jax.block_until_ready(metrics)
        measured = _status("VmHWM") - before
    print(json.dumps({"predicted": found.total, "measured": measured}))


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def in_fresh_process(case: Case, batch: int) -> dict:
    command = [sys.executable, __file__, "--child", case.family, case.size, str(case.length), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def budgets(case: Case, sizes: list[int]) -> list[int]:
    """Budgets whose answers lie near some sizes, off the exact boundary: a third of an example beyond."""
    first, slope = case.need(2), (case.need(6) - case.need(2)) / 4
    return [int(first + slope * (size + 1 / 3 - 2)) for size in sizes]


def plan(quick: bool) -> tuple[list[tuple[str, str, int]], list[int], int, list[tuple[str, str, int, int]]]:
    """Cases, near-answers, how far to compile every size, and (family, size, length, batch) to measure for real."""
    if quick:
        cases = [("bert", "tiny", 32), ("roberta", "tiny", 64), ("gpt2", "small", 64)]
        return cases, [1, 6, 90], 7, [("gpt2", "small", 64, 16), ("bert", "small", 64, 32)]
    cases = [(f, "tiny", n) for f in FAMILIES for n in (32, 128)]
    cases += [(f, "small", n) for f in FAMILIES for n in (64, 128, 256)]
    cases += [(f, "base", 128) for f in FAMILIES]
    real = [(f, "small", 128, b) for f in FAMILIES for b in (4, 32, 128)]
    return cases, [1, 3, 7, 14, 45, 180], 16, [*real, *((f, "base", 128, b) for f in FAMILIES for b in (1, 8))]


def run(function: Callable[[], dict], label: str) -> dict:
    began = time.perf_counter()
    result = function()
    print(f"  {label}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument("--child", nargs=4, metavar=("FAMILY", "SIZE", "LENGTH", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        family, size, length, batch = arguments.child
        return child(family, size, int(length), int(batch))

    print(f"{machine()}\n")
    cases, sizes, exhaustive, real = plan(arguments.quick)
    results = []
    for family, size, length in cases:
        case = Case(family, size, length)
        wanted = [s for s in sizes if size != "base" or s <= 14]
        for budget in budgets(case, wanted):
            results.append(run(lambda c=case, b=budget: judge(c, b, exhaustive), f"{case.name} {length} {budget}"))
    header = ["case", "found", "true largest", "compilations", "halving (runs)", "×0.9 (runs)"]
    rows = [
        [r["case"], r["found"], r["true"], r["compiles"]]
        + [
            f"{rule['batch']} ({rule['tries']}){' OVERRUNS' if rule['overruns'] else ''}"
            for rule in r["rules"].values()
        ]
        for r in results
    ]
    print(table([*header, "five forward passes (runs)"], rows) + "\n")

    count = len(results)
    summary = [
        [
            "arena_jax",
            f"{sum(r['good'] for r in results)} of {count}",
            f"{sum(r['found'] / r['ceiling'] for r in results) / count:.2f}",
            f"{sum(r['overruns'] for r in results)} of {count}",
            f"{sum(r['compiles'] for r in results) / count:.1f}",
        ]
    ]
    for name in ("halving", "×0.9", "five forward"):
        found = [(r["rules"][name], r["ceiling"]) for r in results]
        summary.append(
            [
                name,
                f"{sum(f['batch'] >= ABOVE * c and not f['overruns'] for f, c in found)} of {count}",
                f"{sum(f['batch'] / c for f, c in found) / count:.2f}",
                f"{sum(f['overruns'] for f, _ in found)} of {count}",
                f"{sum(f['tries'] for f, _ in found) / count:.1f}",
            ]
        )
    print(
        table(
            ["rule", "≥ 0.95 of the largest, within budget", "mean part of the largest", "overruns", "tries"], summary
        )
    )
    good = sum(r["good"] for r in results) / count
    cheap = sum(r["compiles"] <= 3 for r in results) / count
    print(f"\nfound ≥ 0.95 of the true largest: {good:.0%} of cases ({verdict(good, 1, at_least=True)})")
    print(f"at most 3 compilations: {cheap:.0%} of cases ({verdict(cheap, 0.95, at_least=True)})\n")

    rows, close = [], []
    for family, size, length, batch in real:
        case = Case.__new__(Case)
        case.name, case.family, case.size, case.length = f"{family}-{size}", family, size, length
        both = run(lambda c=case, b=batch: in_fresh_process(c, b), f"measure {case.name} {batch}")
        predicted, measured = both["predicted"], both["measured"]
        if measured is None:
            continue
        close.append(abs(predicted - measured) <= BYTES * measured + SLACK)
        cells = [f"{case.name}, length {length}, batch {batch}", format_bytes(predicted), format_bytes(measured)]
        rows.append([*cells, f"{predicted / measured:.3f}", "yes" if close[-1] else "NO"])
    print(table(["real steps in a fresh process", "predicted", "measured growth", "ratio", "within 5 % + 40 MB"], rows))
    part = sum(close) / max(len(close), 1)
    print(f"\nwithin 5 % + 40 MB: {part:.0%} ({verdict(part, 1, at_least=True)})")


if __name__ == "__main__":
    main()
