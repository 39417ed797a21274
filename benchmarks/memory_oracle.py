"""Judge the memory oracle: is the batch it finds the largest, how many compilations, and are its bytes real?

    python benchmarks/memory_oracle.py                          # tiny to GPT-2-small sizes; about an hour on 2 cores
    python benchmarks/memory_oracle.py --quick                  # tiny and small sizes; a few minutes
    python benchmarks/memory_oracle.py --results FILE           # each finished part is kept; run again to go on
    python benchmarks/memory_oracle.py --results FILE --most 3  # three parts more, and what there is so far

Each case is one model's whole training step (AdamW, donated state) at one length under one budget. What its largest
batch really is, is found by the compiler:

- every size: tiny models, answers up to 60; each size from 1 until none can fit any more (see `PATIENCE`) is compiled.
- bracketed: the others. The size just above the answer and the smallest size above answer / 0.95 are compiled and must
  not fit; so are the sizes of a coarse grid, up to twice the answer; and the bytes of all sizes compiled in the case
  must rise with the size. What lies between two compiled sizes is then taken to lie between their bytes.

Two other rules run on the same steps and budgets: accelerate's `find_executable_batch_size` (start at 128, halve after
every failure; newer releases multiply by 0.9) and "five forward passes" (ModelArena's published program: a batch fits
when five times the memory of a forward pass fits; binary search between 1 and 64). A rule "overruns" when the step at
the batch it chose needs more than the budget. Whether they fit is read off a line through the two nearest compiled
sizes where that is further than 5 % from the budget, and compiled where it is nearer.

Predicted bytes are compared with what a fresh process really grows by: its peak resident memory during two steps on
CPU, the allocator's peak on a GPU (not yet run on one). What is predicted does not depend on what else the machine
does; what a process grows by does, a little, and on the number of its cores.
"""

from __future__ import annotations

import argparse
import bisect
import ctypes
import gc
import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from measure import machine, process_bytes, table, verdict

from arena_jax import models, training
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.batch_search import largest_batch
from arena_jax.runtime.memory import calibrate, format_bytes
from arena_jax.runtime.program import compile_program

SMALL = {"hidden_size": 128, "num_layers": 4, "num_heads": 4, "intermediate_size": 512, "vocab_size": 4096}
FAMILIES = {"bert": "bert-base", "roberta": "roberta-base", "gpt2": "gpt2"}
ABOVE, BYTES, SLACK = 0.95, 0.05, 40_000_000
MOST_SIZES = 60
# Sizes in a row that must not fit before the search through every size ends, beside a tenth of the best.
PATIENCE = 8
GRID = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)


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
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), models.split(model)[1])
        optimizer_state = jax.eval_shape(self.step.optimizer.init, {"m": shapes})
        self.state = training.TrainState(jax.ShapeDtypeStruct((), jnp.int32), {"m": shapes}, optimizer_state)
        self.jitted = jax.jit(self.step.whole, donate_argnums=0)
        self.needs: dict[int, int] = {}
        self.forwards: dict[int, int] = {}

    def arguments(self, batch: int) -> tuple:
        """What the step is called with, without a byte of it."""
        ids = jax.ShapeDtypeStruct((1, batch, self.length), jnp.int32)
        rows = {"input_ids": ids, "attention_mask": ids}
        if self.family != "gpt2":
            rows |= {"special_tokens_mask": ids}
        return self.state, {"m": rows}, self.step.keys, {}

    def need(self, batch: int) -> int:
        """Bytes of the whole step, compiled at most once per size, as the other compilations of this script cheaply."""
        if batch not in self.needs:
            self.needs[batch] = compiled_cheaply(self.jitted, *self.arguments(batch))
        return self.needs[batch]

    def fits(self, batch: int, budget: int) -> bool:
        """Whether a size fits, for the other rules: compiled only where a straight line is within 5 % of the budget."""
        sizes = sorted(self.needs)
        if batch not in self.needs and len(sizes) > 1:
            place = min(max(bisect.bisect(sizes, batch), 1), len(sizes) - 1)
            below, above = sizes[place - 1], sizes[place]
            slope = (self.needs[above] - self.needs[below]) / (above - below)
            expected = self.needs[below] + slope * (batch - below)
            if abs(expected - budget) > 0.05 * budget:
                return expected < budget
        return self.need(batch) <= budget

    def rises(self) -> bool:
        """Whether, of all sizes compiled so far, a larger one always needs more."""
        needs = [self.needs[size] for size in sorted(self.needs)]
        return all(a < b for a, b in itertools.pairwise(needs))

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
        return compiled_cheaply(jax.jit(forward), self.state.params["m"], ids)


def compiled_cheaply(jitted: Any, *arguments: Any) -> int:
    """Bytes of a program without LLVM's optimisations, which come after XLA has laid the memory out.

    The library's own searches compile as always; where both have compiled a size, their bytes are compared.
    """
    cheap = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    stats = jitted.lower(*arguments).compile(cheap if jax.default_backend() == "cpu" else None).memory_analysis()
    resident = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return int(stats.temp_size_in_bytes + resident)


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


def every_size(case: Case, budget: int) -> int:
    """The largest batch that fits, by compiling every size until so many in a row do not fit."""
    size = best = 0
    while size < best + PATIENCE + best // 10:
        size += 1
        if case.need(size) <= budget:
            best = size
    return best


def bracketed(case: Case, batch: int, budget: int) -> tuple[bool, bool]:
    """Whether no size above batch / 0.95 fits, and none above the batch; sizes compiled as the text at the top says."""
    next_worse = math.floor(batch / ABOVE) + 1
    above = [size for size in GRID if next_worse < size <= 2 * batch] + [2 * batch + 1]
    for size in [*(size for size in GRID if size < batch), batch + 1, next_worse, *above]:
        case.need(size)
    worse = [size for size in case.needs if size >= next_worse]
    return all(case.need(size) > budget for size in worse), case.need(batch + 1) > budget


def judge(case: Case, budget: int) -> dict[str, Any]:
    """The library's answer and those of the other rules, for one budget."""
    began = time.perf_counter()
    try:
        choice = largest_batch(case.jitted, case.arguments, budget, name=case.name)
    except ArenaError as error:
        raise SystemExit(f"the benchmark's own budget is too small: {error}") from error
    seconds = time.perf_counter() - began
    for size, program in choice.programs.items():
        total = program.bytes.total
        if case.needs.setdefault(size, total) != total:
            raise SystemExit(f"{case.name}: batch {size} takes {total} bytes, compiled cheaply {case.needs[size]}")
    if case.size == "tiny" and choice.batch_size <= MOST_SIZES:
        true = every_size(case, budget)
        good, exact = choice.batch_size >= ABOVE * true, choice.batch_size == true
    else:
        true = None
        good, exact = bracketed(case, choice.batch_size, budget)
    rules = {"halving": halving(case, budget, 0.5), "×0.9": halving(case, budget, 0.9)}
    rules["five forward"] = five_forward_passes(case, budget)
    return {
        "case": f"{case.name}, length {case.length}, {format_bytes(budget)}",
        "found": choice.batch_size,
        "true": str(true)
        if true
        else str(choice.batch_size)
        if exact
        else f"< {math.floor(choice.batch_size / ABOVE) + 1}",
        "every": true is not None,
        "good": good,
        "exact": exact,
        "overruns": case.need(choice.batch_size) > budget,
        "compiles": choice.compilations,
        "reason": choice.reason,
        "seconds": seconds,
        "ceiling": true or choice.batch_size,
        "rules": {
            name: {"batch": batch, "tries": tries, "overruns": batch > 0 and not case.fits(batch, budget)}
            for name, (batch, tries) in rules.items()
        },
    }


def judge_all(family: str, size: str, length: int, sizes: list[int], needs: Path | None) -> dict[str, Any]:
    """One model at one length, under every budget."""
    case = Case(family, size, length)
    file = needs / f"{case.name}-{length}.json" if needs else None
    if file and file.exists():
        tables = json.loads(file.read_text())
        case.needs, case.forwards = ({int(batch): need for batch, need in table.items()} for table in tables)
    answers = [judge(case, budget) for budget in budgets(case, sizes)]
    rises = case.rises()
    for answer in answers:
        answer["good"] &= rises
    if file:
        file.write_text(json.dumps([case.needs, case.forwards]))
    return {"answers": answers, "rises": rises, "compiled": len(case.needs)}


def measure(family: str, size: str, length: int, batch: int) -> dict[str, Any]:
    """In a fresh process: predicted bytes, and what two steps really took."""
    case = Case(family, size, length)
    program = compile_program(case.jitted, *case.arguments(batch))
    device = jax.devices()[0]
    gc.collect()  # the compiler's leavings; the model's own arrays stay, and are there before the count begins

    def make() -> tuple:
        state, batches, extra = jax.tree.map(
            lambda x: jnp.ones(x.shape, x.dtype), case.arguments(batch), is_leaf=lambda x: hasattr(x, "dtype")
        )
        return jax.block_until_ready((state, batches, extra))

    if (device.memory_stats() or {}).get("peak_bytes_in_use"):
        arguments = make()
        _, margin = calibrate(program, lambda: program.executable(*arguments), [device])
        measured = None if margin is None else int(program.bytes.total * (1 + margin))
    else:
        make()  # the programs that make the arguments are compiled before the count begins
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets the kernel's record of the peak back to now
        before = process_bytes("VmRSS")
        state, batches, extra = make()
        for _ in range(2):
            state, metrics = program.executable(state, batches, extra)
            jax.block_until_ready(metrics)
        measured = process_bytes("VmHWM") - before
    return {"predicted": program.bytes.total, "measured": measured}


def in_fresh_process(part: tuple[Any, ...], needs: Path | None) -> dict[str, Any]:
    """What this script says of one part, run in a process of its own."""
    command = [sys.executable, __file__, "--part", *map(str, part), *(["--needs", str(needs)] if needs else [])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def budgets(case: Case, sizes: list[int]) -> list[int]:
    """Budgets whose answers lie near some sizes: by turns hardly beyond one, half an example, and nearly the next."""
    first, slope = case.need(2), (case.need(6) - case.need(2)) / 4
    beyond = (0.1, 0.5, 0.9)
    amounts = [int(first + slope * (size + beyond[turn % 3] - 2)) for turn, size in enumerate(sizes)]
    return [max(budget, case.need(1)) for budget in amounts]  # a batch of 1 may need more than the line says


def plan(quick: bool) -> list[tuple[str, str, str, int, str]]:
    """The parts: ("judge", family, size, length, near-answers) and ("measure", family, size, length, batch)."""
    if quick:
        cases = [("bert", "tiny", 32, "1,6,30"), ("roberta", "tiny", 64, "1,6"), ("gpt2", "small", 64, "1,6,90")]
        real = [("gpt2", "small", 64, "16"), ("bert", "small", 64, "32")]
    else:
        cases = [(family, "tiny", length, "1,3,7,14,45,180") for length in (32, 128) for family in FAMILIES]
        cases += [(family, "small", length, "1,3,7,14,45,180") for length in (64, 256) for family in FAMILIES]
        cases += [(family, "base", length, "1,3,7,14") for length in (64, 128) for family in FAMILIES]
        real = [(family, "tiny", 128, str(batch)) for family in FAMILIES for batch in (4, 64, 512)]
        real += [(family, "small", length, str(b)) for length in (64, 256) for family in FAMILIES for b in (4, 32, 96)]
        real += [(family, "base", 128, str(batch)) for family in FAMILIES for batch in (1, 8, 24)]
    return [("judge", *case) for case in cases] + [("measure", *case) for case in real]


def collect(
    parts: list[tuple[Any, ...]], file: Path | None, most: int | None, needs: Path | None
) -> dict[str, dict[str, Any]]:
    """Run the parts that the file does not hold yet, at most so many; each is kept when it is finished."""
    finished: dict[str, dict[str, Any]] = {}
    if file is not None and file.exists():
        finished = {result["part"]: result for result in map(json.loads, file.read_text().splitlines())}
    missing = [part for part in parts if " ".join(map(str, part)) not in finished]
    for part in missing[:most]:
        name, began = " ".join(map(str, part)), time.perf_counter()
        finished[name] = {"part": name, **in_fresh_process(part, needs)}
        print(f"  {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if file is not None:
            with file.open("a") as lines:
                lines.write(json.dumps(finished[name]) + "\n")
    return {name: finished[name] for part in parts if (name := " ".join(map(str, part))) in finished}


def report_search(judged: list[dict[str, Any]]) -> None:
    """The batches found, beside those of the other rules."""
    results = [answer for case in judged for answer in case["answers"]]
    header = ["case", "found", "true largest", "compilations", "halving (runs)", "×0.9 (runs)"]
    rows = [
        [r["case"], r["found"], f"{r['true']}{' (every size)' if r['every'] else ''}", r["compiles"]]
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
            f"{sum(r['good'] and not r['overruns'] for r in results)} of {count}",
            f"{sum(r['found'] / r['ceiling'] for r in results) / count:.2f}",
            f"{sum(r['overruns'] for r in results)} of {count}",
            f"{sum(r['compiles'] for r in results) / count:.1f} compilations",
        ]
    ]
    for name, what in (("halving", "runs"), ("×0.9", "runs"), ("five forward", "forward passes")):
        pairs = [(r["rules"][name], r["ceiling"]) for r in results]
        summary.append(
            [
                name,
                f"{sum(f['batch'] >= ABOVE * c and not f['overruns'] for f, c in pairs)} of {count}",
                f"{sum(f['batch'] / c for f, c in pairs) / count:.2f}",
                f"{sum(f['overruns'] for f, _ in pairs)} of {count}",
                f"{sum(f['tries'] for f, _ in pairs) / count:.1f} {what}",
            ]
        )
    header = ["rule", "≥ 0.95 of the largest, within budget", "mean part of the largest", "overruns", "costs"]
    print(table(header, summary))
    good = sum(r["good"] and not r["overruns"] for r in results) / count
    cheap = sum(r["compiles"] <= 3 for r in results) / count
    compiled, bent = sum(case["compiled"] for case in judged), sum(not case["rises"] for case in judged)
    print(f"\nfound ≥ 0.95 of the true largest: {good:.0%} of {count} cases ({verdict(good, 1, at_least=True)})")
    print(f"found the true largest itself: {sum(r['exact'] for r in results)} of {count}")
    print(f"at most 3 compilations: {cheap:.1%} of cases ({verdict(cheap, 0.95, at_least=True)})")
    print(f"checked by {compiled} compilations; bytes fall somewhere as the batch grows in {bent} of {len(judged)}\n")


def report_bytes(measured: dict[str, dict[str, Any]]) -> None:
    """Predicted bytes beside a process's growth."""
    rows, close = [], []
    for part, both in measured.items():
        _, family, size, length, batch = part.split()
        predicted, real = both["predicted"], both["measured"]
        if real is None:
            continue
        close.append(abs(predicted - real) <= BYTES * real + SLACK)
        cells = [f"{family}-{size}, length {length}, batch {batch}", format_bytes(predicted), format_bytes(real)]
        rows.append([*cells, f"{predicted / real:.3f}", "yes" if close[-1] else "NO"])
    print(table(["real steps in a fresh process", "predicted", "measured growth", "ratio", "within 5 % + 40 MB"], rows))
    part = sum(close) / max(len(close), 1)
    print(f"\nwithin 5 % + 40 MB: {part:.0%} of {len(close)} ({verdict(part, 1, at_least=True)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument("--results", type=Path, help="keep each finished part in this file, and go on from it")
    parser.add_argument(
        "--needs", type=Path, help="folder that keeps the bytes by size; they hold while models and jax do"
    )
    parser.add_argument("--most", type=int, help="run at most so many parts now")
    parser.add_argument("--part", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        what, family, size, length, rest = arguments.part
        if what == "measure":
            return print(json.dumps(measure(family, size, int(length), int(rest))))
        sizes = [int(near) for near in rest.split(",")]
        return print(json.dumps(judge_all(family, size, int(length), sizes, arguments.needs)))

    parts = plan(arguments.quick)
    done = collect(parts, arguments.results, arguments.most, arguments.needs)
    print(f"{machine()}; {len(done)} of {len(parts)} parts\n")
    if judged := [result for part, result in done.items() if part.startswith("judge")]:
        report_search(judged)
    if measured := {part: result for part, result in done.items() if part.startswith("measure")}:
        report_bytes(measured)


if __name__ == "__main__":
    main()
