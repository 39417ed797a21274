"""``python -m parity``: run the checks, print the table, write it down, and fail if anything differs."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

from parity import four_devices


def parser() -> argparse.ArgumentParser:
    """The options."""
    it = argparse.ArgumentParser(
        prog="python -m parity", description="Compare arena_jax with PyTorch, number by number."
    )
    it.add_argument(
        "--family", choices=["bert", "roberta", "gpt2", "all"], help='one family; "all": what concerns several'
    )
    it.add_argument("--task", help="one task, or variant, as the table names it")
    it.add_argument("--dtype", choices=["float64", "float32", "bfloat16", "int32"], help="one type of numbers")
    it.add_argument("--layer", help='one layer, as the table names it, for example "backward"')
    it.add_argument(
        "--model", type=Path, metavar="FOLDER", help="check this Hugging Face folder instead of random models"
    )
    it.add_argument(
        "--mutants", action="store_true", help="put faults into arena_jax, one at a time: each must be caught"
    )
    it.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write parity.json and parity.md there; with --mutants, mutants.json and mutants.md",
    )
    it.add_argument("--readme", type=Path, metavar="FILE", help="replace the table between its parity marks")
    it.add_argument("--record", action="store_true", help="write what was measured to tolerances.json, tightening only")
    return it


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 if everything agrees, 1 if not, 2 if it cannot be run."""
    options = parser().parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        print("parity compares with PyTorch, which is not installed: pip install 'arena-jax[parity]'", file=sys.stderr)
        return 2
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["XLA_FLAGS"] = four_devices.flags(os.environ.get("XLA_FLAGS", ""))
    try:
        return _run(options)
    except (ImportError, OSError) as error:
        print(f"parity cannot run: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    import jax
    import torch
    import transformers

    from parity import mutants, registry, report, suite, tolerances

    if options.readme and not report.has_place(options.readme):
        print(
            f"--readme: {options.readme} has no place for the table between {' and '.join(report.MARKS)}",
            file=sys.stderr,
        )
        return 2
    start = time.perf_counter()
    if options.mutants:
        outcomes = mutants.run_all(print)
        print(mutants.summary_line(outcomes, time.perf_counter() - start))
        if options.output:
            report.write(
                options.output, [], mutants.as_markdown(outcomes), {"mutants": mutants.as_plain(outcomes)}, "mutants"
            )
        return 0 if all(outcome.caught for outcome in outcomes) else 1

    try:
        checks = suite.checkpoint_checks(options.model, options.task) if options.model else suite.all_checks()
    except (ValueError, OSError) as error:
        print(f"--model: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    task = None if options.model else options.task
    chosen = list(registry.select(checks, family=options.family, task=task, dtype=options.dtype, layer=options.layer))
    if not chosen:
        print(
            "no check has that layer, family, task and type together; run without options to see them all",
            file=sys.stderr,
        )
        return 2
    rows = []
    for check in chosen:
        rows.append(registry.run(check))
        if sys.stderr.isatty():
            print(f"\r{len(rows)}/{len(chosen)} {check.name[:60]:60}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r" + " " * 80 + "\r", end="", file=sys.stderr)
    if options.record:
        changed = tolerances.record(rows)
        print(f"{len(changed)} tolerances are new or tighter")
        table = tolerances.load()
        rows = [
            row if row.fixed or row.key not in table else row.with_tolerance(table[row.key]["tolerance"])
            for row in rows
        ]

    print(report.as_text(rows))
    failed = [row for row in rows if not row.passed]
    seconds = time.perf_counter() - start
    comparisons = sum(row.comparisons for row in rows)
    print(f"\n{len(rows)} checks, {comparisons:,} comparisons, {len(failed)} failed, {seconds:.0f} s")
    versions = {"jax": jax.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    if options.output:
        report.write(options.output, rows, "", {"seconds": seconds, "versions": versions})
    if options.readme:
        report.write_between(options.readme, report.as_markdown(report.summary(rows)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
