"""`arena-jax compare`: does one way of training beat another? A plan, its runs, and the verdicts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena_jax.cli import program_cache
from arena_jax.cli.train import INTERRUPTED
from arena_jax.config.errors import ArenaError

if TYPE_CHECKING:
    from arena_jax.compare import Ledger, Plan


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="does one way of training beat another? arms × seeds by a plan, with intervals and verdicts",
        description="Run the cells of a plan that are not over, and judge when all are. Killed, it goes on when it is"
        " started again. `compare dispute RESULT --arm FILE.py` adds an arm to a published result; `compare cost"
        " RESULT` says what it cost, joint and each model by itself.",
        usage="arena-jax compare PLAN [options], arena-jax compare dispute RESULT --arm FILE.py, arena-jax compare cost"
        " RESULT, or arena-jax compare --example",
    )
    parser.add_argument("words", nargs="*", metavar="PLAN", help="a TOML file; or: dispute RESULT, cost RESULT")
    parser.add_argument("--example", action="store_true", help="print a plan to start from")
    parser.add_argument("--output", metavar="FOLDER", help="of the study [runs/NAME, the name being the plan's]")
    parser.add_argument("--power", action="store_true", help="run the baseline alone, and say how many seeds it takes")
    parser.add_argument("--null", action="store_true", help="compare the baseline with itself on other seeds")
    parser.add_argument(
        "--floors", action="store_true", help="score what costs next to nothing on the plan's data; run nothing"
    )
    add_cell_options(parser)
    parser.add_argument(
        "--launcher",
        choices=("slurm", "local"),
        help="submit the cells as jobs by submitit: to Slurm, or as processes of this machine, which are waited for",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="of --launcher: how many, each with a share of the cells")
    parser.add_argument(
        "--job-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of --launcher: a setting of submitit's executor, e.g. slurm_partition=gpu; can be repeated",
    )
    parser.add_argument("--arm", metavar="FILE.py[:NAME]", help="of dispute: a function configure, or the one named")
    program_cache.add_options(parser)
    parser.set_defaults(call=run)
    return parser


def add_cell_options(parser: argparse.ArgumentParser) -> None:
    """Add how the cells of a plan are run: what :func:`study` and :func:`dry_run` are asked by."""
    parser.add_argument("--dry-run", action="store_true", help="say how many runs, what time and disk; run nothing")
    parser.add_argument("--cells", metavar="K/N", help="run the K-th of N shares of the cells, e.g. in a job array")
    parser.add_argument("--keep-runs", action="store_true", help="keep each run's folder, checkpoints and all")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.compare.plan_file import EXAMPLE, read_plan

    words = arguments.words
    _check_launcher(arguments)
    if arguments.example:
        print(EXAMPLE.read_text(encoding="utf-8"), end="")
        return 0
    if words[:1] == ["dispute"]:
        return _dispute(arguments, words[1:])
    if words[:1] == ["cost"]:
        return _cost(arguments, words[1:])
    if len(words) != 1:
        raise ArenaError("nothing to compare: give one plan; `arena-jax compare --example` prints one to start from")
    if arguments.arm:
        raise ArenaError("--arm adds an arm to a result: arena-jax compare dispute RESULT --arm FILE.py")
    only = [name for name in ("dry_run", "power", "null", "floors") if getattr(arguments, name)]
    if len(only) > 1:
        raise ArenaError(f"--{only[0].replace('_', '-')} and --{only[1]} are two questions: ask one at a time")
    if arguments.floors:
        _check_floors(arguments)
    plan = read_plan(words[0])
    if arguments.power and plan.success.effect is None:
        raise ArenaError("--power asks for the seeds that show an effect: give success.effect in the plan")
    if arguments.floors:
        from arena_jax.runs.log_lines import scores_table
        from arena_jax.training import cheap_models

        print("\n".join(scores_table(cheap_models.cheap_models(plan.base))))
        return 0
    from arena_jax.compare import Ledger

    ledger = Ledger(Path(arguments.output or Path("runs") / plan.name))
    if arguments.dry_run:
        return dry_run(plan, ledger)
    if arguments.power or arguments.null:
        return _baseline(arguments, plan, ledger)
    if arguments.launcher:
        return _launch(arguments, plan, ledger)
    return study(arguments, plan, ledger)


def _check_floors(arguments: argparse.Namespace) -> None:
    """Refuse what says how cells are run, or where: floors run none."""
    for name in ("launcher", "cells", "keep_runs", "output"):
        if getattr(arguments, name):
            raise ArenaError(f"--floors runs no cell and writes nothing: remove --{name.replace('_', '-')}")


def _check_launcher(arguments: argparse.Namespace) -> None:
    """Refuse what does not go with jobs, before anything is read."""
    if not arguments.launcher:
        if arguments.jobs is not None or arguments.job_option:
            raise ArenaError("--jobs and --job-option say how jobs are submitted: give --launcher slurm or local, too")
        return
    if arguments.words[:1] in (["dispute"], ["cost"]) or arguments.power or arguments.null:
        raise ArenaError("--launcher submits the cells of a plan, whole: give it a plan, without --power and --null")
    if arguments.cells:
        raise ArenaError("--cells is one share, and --launcher submits all of them: give one of the two")
    if arguments.jobs is None or arguments.jobs < 1:
        raise ArenaError("--launcher needs --jobs N, how many jobs share the cells: 1 or more")


def _launch(arguments: argparse.Namespace, plan: Plan, ledger: Ledger) -> int:
    from arena_jax.compare.launch import launch, read_settings

    jobs = launch(
        plan,
        ledger,
        arguments.launcher,
        arguments.jobs,
        settings=read_settings(arguments.job_option),
        keep_runs=arguments.keep_runs,
    )
    if arguments.launcher == "local":
        return study(arguments, plan, ledger)
    print(f"submitted: {', '.join(job.job_id for job in jobs)}; what they print is in {ledger.folder / 'jobs'}")
    print(f"when they are over: arena-jax compare {arguments.words[0]} --output {ledger.folder}")
    return 0


def _run_cells(arguments: argparse.Namespace, plan: Plan, ledger: Ledger, cells: Any) -> Any:
    """Run cells; the progress, or None where Ctrl-C stopped them."""
    from arena_jax.compare import Share, run_cells
    from arena_jax.runs import Stopped

    share = Share.read(arguments.cells) if arguments.cells else Share()
    try:
        return run_cells(plan, ledger, cells, share=share, keep_runs=arguments.keep_runs, show=_show)
    except (Stopped, KeyboardInterrupt):
        print(f"stopped; the same command goes on with what is in {ledger.folder}")
        return None


def _show(line: str) -> None:
    print(f"… {line}", file=sys.stderr, flush=True)


def study(arguments: argparse.Namespace, plan: Plan, ledger: Ledger, **about: Any) -> int:
    """Run what is not over of a study, and print its page where all is.

    Args:
        arguments: ``cells`` and ``keep_runs``.
        plan: of the study.
        ledger: its folder.
        **about: what else `arena_jax.compare.results` is given.

    Returns:
        0, or that it was stopped.
    """
    from arena_jax.compare import all_cells, results

    progress = _run_cells(arguments, plan, ledger, all_cells(plan))
    if progress is None:
        return INTERRUPTED
    if not progress.recorded:
        print(f"{progress.text()}; verdicts are given when all are")
        return 0
    from arena_jax.reports import comparison

    print(comparison.write(plan, results(plan, ledger, **about), ledger.folder))
    print(f"\n{progress.text()}; all of it is in {ledger.folder}: result.html to look at, result.md and result.json")
    return 0


def dry_run(plan: Plan, ledger: Ledger) -> int:
    """Say how many runs a study has, and what time and disk they take."""
    from arena_jax.compare import estimate
    from arena_jax.runtime.memory import format_bytes

    expected = estimate(plan, ledger)
    arms = ", ".join(f"{name} {count}" for name, count in expected["arms"].items())
    print(f"{expected['cells']} runs ({arms}), of which {expected['over']} are over; in {ledger.folder}")
    if expected["seconds"] is None:
        print("time and disk are known when the first run is over; a run's folder is removed when its line is written")
    else:
        disk = format_bytes(expected["bytes"])
        print(f"about {expected['seconds'] / 60:.0f} minutes left in one process; {disk} on disk")
    return 0


def _baseline(arguments: argparse.Namespace, plan: Plan, ledger: Ledger) -> int:
    """Answer --power or --null: both run the baseline alone."""
    from arena_jax.compare import final_cells, null_cells, tuning_cells
    from arena_jax.compare.answers import null_answer, power_answer

    final = null_cells(plan) if arguments.null else final_cells(plan, (plan.baseline,))
    cells = [*tuning_cells(plan, (plan.baseline,)), *final]
    progress = _run_cells(arguments, plan, ledger, cells)
    if progress is None:
        return INTERRUPTED
    if not progress.complete:
        print(progress.text())
        return 0
    print(null_answer(plan, ledger) if arguments.null else power_answer(plan, ledger))
    return 0


def _dispute(arguments: argparse.Namespace, words: list[str]) -> int:
    if len(words) != 1 or not arguments.arm:
        raise ArenaError("a dispute needs a result and an arm: arena-jax compare dispute RESULT --arm FILE.py")
    if arguments.dry_run or arguments.power or arguments.null or arguments.floors:
        raise ArenaError(
            "a dispute is judged by the result's plan: --dry-run, --power, --null and --floors belong to a plan"
        )
    from arena_jax.compare import Ledger, functions
    from arena_jax.compare.dispute import agreement, disputed_plan, read_result, take_over

    result = read_result(words[0])
    function = functions.absolute(arguments.arm, Path(), "configure")
    file, _, name = function.rpartition(":")
    arm = Path(file).stem if name in ("configure", "train") else name
    plan = disputed_plan(result, function, arm, "train" if name == "train" else "configure")
    ledger = Ledger(Path(arguments.output or Path("runs") / f"{plan.name}-dispute-{arm}"))
    different = take_over(result, plan, ledger)
    if different:
        _show(f"the baseline runs again: {' and '.join(different)} changed")
    others = [comparison["p"] for comparison in result["comparisons"]]
    code = study(arguments, plan, ledger, others=others, disputes=result["identity"])
    if different and code == 0:
        print(agreement(result, ledger))
    for comparison in result["comparisons"]:
        print(f"published: {comparison['sentence']}")
    return code


def _cost(arguments: argparse.Namespace, words: list[str]) -> int:
    if len(words) != 1:
        raise ArenaError("what did which result cost? Give a study's folder: arena-jax compare cost RESULT")
    others = ("dry_run", "power", "null", "floors", "arm", "cells", "keep_runs")
    if any(getattr(arguments, name) for name in others):
        raise ArenaError("cost measures the steps of a result: of a plan's options it takes --output alone")
    from arena_jax.compare.cost import cost
    from arena_jax.compare.dispute import read_result
    from arena_jax.compare.plan_file import plan_from
    from arena_jax.reports import cost as page

    result = read_result(words[0])
    plan, beside = plan_from(result["plan"]), Path(words[0])
    folder = Path(arguments.output) if arguments.output else beside if beside.is_dir() else beside.parent
    print(page.write(plan, cost(plan, result), folder))
    print(f"all of it is in {folder}: cost.html to look at, cost.md and cost.json")
    return 0
