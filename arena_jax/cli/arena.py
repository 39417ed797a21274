"""`arena-jax arena …`: competitions without training."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from arena_jax.cli import arena_calibrate, arena_place, json_file
from arena_jax.config.arena import POLICIES
from arena_jax.config.errors import ArenaError, nearest

# Written out because arena_jax.reports imports jax, which `arena-jax --help` must not wait for; a test compares them.
OBJECTIVES = ("mean", "best")
PLANTED_RUNS = 256


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command and what stands under it.

    Args:
        commands: where commands are added.

    Returns:
        The parsers of its actions.
    """
    top = commands.add_parser("arena", help="try allocation policies on learning curves, without training")
    actions = top.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser: argparse.ArgumentParser = actions.add_parser(
        "simulate",
        help="which policy would have done best on recorded curves, in seconds",
        description="Let every policy share out device-seconds on learning curves: recorded competitions, a CSV file "
        "with the columns run, model, seconds and score (higher is better), or planted cases.",
    )
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="folders of finished competitions, or one CSV file"
    )
    parser.add_argument("--case", metavar="NAME", help="a planted case instead, such as crossing; all: each of them")
    parser.add_argument(
        "--policy", action="append", default=[], metavar="NAME", help="to try; repeat [all], beside static, the control"
    )
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="best", help="what it is for: policies are made for it [best]"
    )
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="device-seconds, all models together [the runs' own]"
    )
    parser.add_argument(
        "--noise", type=float, metavar="X", help="standard deviation of an evaluation [0; a case's own]"
    )
    parser.add_argument("--repeats", type=int, default=16, metavar="N", help="draws of the noise for each run [16]")
    parser.add_argument("--evaluations", type=int, default=20, metavar="N", help="of a run [20]")
    parser.add_argument("--reallocate-every", type=int, default=2, metavar="N", help="evaluations [2]")
    parser.add_argument(
        "--spending", choices=("seconds", "rounds"), default="seconds", help="what a share buys [seconds]"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise and of planted curves [0]")
    parser.add_argument("--output", metavar="FILE", help="writes the numbers there as JSON, too")
    parser.set_defaults(call=simulate)
    return [parser, _add_analyze(actions), arena_calibrate.add_parser(actions), arena_place.add_parser(actions)]


def _add_analyze(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "analyze",
        help="the game that models play for the budget: equilibria and the price of anarchy",
        description="Take what each model of recorded competitions learned from each share of the budget (equation 17 "
        "of ModelArena), and find where models end up that think of themselves alone: with memory for free, at its "
        "opportunity cost, and in an auction; beside the best division.",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="RUN", help="folders of finished competitions, or one CSV file of curves"
    )
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="device-seconds, all models together [the runs' own]"
    )
    parser.add_argument("--output", metavar="FILE", help="writes the numbers there as JSON, too")
    parser.set_defaults(call=analyze)
    return parser


def analyze(arguments: argparse.Namespace) -> int:
    """`arena-jax arena analyze`."""
    _check_budget(arguments.budget)
    json_file.check(arguments.output)
    from arena_jax.reports import allocation_analysis
    from arena_jax.runs import document

    names, curves, budget, notes = _recorded(arguments)
    table = allocation_analysis.analyze_runs(curves, budget)
    print(document.text(allocation_analysis.blocks(table, names, budget, notes)))
    _write(arguments.output, allocation_analysis.as_json(table, names, budget))
    return 0


def simulate(arguments: argparse.Namespace) -> int:
    """`arena-jax arena simulate`."""
    _check(arguments)
    from arena_jax.arena import planted, policies
    from arena_jax.reports import simulation
    from arena_jax.runs import document

    left_out = [] if arguments.policy else _not_installed()
    every = [name for name in POLICIES if name not in left_out]
    names = dict.fromkeys([*(arguments.policy or every), simulation.CONTROL])
    tried = {name: policies.policy_for(name, arguments.objective) for name in names}
    cases = [*planted.CASES, planted.RANDOM_CURVES] if arguments.case == "all" else [arguments.case]
    results = {}
    for case in cases:
        curves, budget, noise, notes = _curves(arguments, case)
        runs, models, _ = curves.scores.shape
        table = simulation.judge(
            tried,
            curves,
            budget=budget,
            noise=noise,
            repeats=arguments.repeats if case is None else 1,
            seed=arguments.seed,
            evaluations=arguments.evaluations,
            reallocate_every=arguments.reallocate_every,
            spending=arguments.spending,
        )
        title = f"{case or 'recorded curves'}: {runs} runs of {models} models, {budget:,.4g} device-seconds"
        title += f", noise {noise:g}"
        print(document.text([document.Paragraph(title), *simulation.blocks(table, arguments.objective, runs)]))
        print("\n".join(["", *(f"  · {note}" for note in notes), ""][: None if notes else 1]))
        results[case or "recorded"] = {
            "runs": runs,
            "budget": budget,
            "noise": noise,
            "policies": simulation.as_json(table),
        }
    print("  Scores: higher is better. Brackets: 95 % intervals over runs; differences are paired by run.")
    print("  Regret: what the best fixed choice that knows the curves had more.")
    if left_out:
        print(f"{', '.join(left_out)} are left out: pip install 'arena-jax[optuna]'", file=sys.stderr)
    _write(arguments.output, results)
    return 0


def _not_installed() -> list[str]:
    """The policies of an extra that is not installed."""
    there = importlib.util.find_spec("optuna") is not None
    return [] if there else [name for name in POLICIES if name.startswith("optuna")]


def _write(output: str | None, results: Any) -> None:
    json_file.write(output, results)
    if output is not None:
        print(f"written: {output}")


def _check(arguments: argparse.Namespace) -> None:
    for name in arguments.policy:
        if name not in POLICIES:
            raise ArenaError(f"unknown allocation policy '{name}'; {nearest(name, POLICIES)}")
    if bool(arguments.sources) == bool(arguments.case):
        raise ArenaError("name either folders of competitions (or a CSV file of curves), or a planted --case")
    for flag in ("repeats", "evaluations", "reallocate_every"):
        if getattr(arguments, flag) < 1:
            raise ArenaError(f"--{flag.replace('_', '-')} must be at least 1")
    _check_budget(arguments.budget)
    json_file.check(arguments.output)
    if arguments.noise is not None and not 0 <= arguments.noise < float("inf"):
        raise ArenaError("--noise must be a number, not below 0")


def _check_budget(budget: float | None) -> None:
    if budget is not None and not 0 < budget < float("inf"):
        raise ArenaError("--budget must be a number of device-seconds above 0")


def _curves(arguments: argparse.Namespace, case: str | None) -> tuple[Any, float, float, list[str]]:
    """The curves, the budget, the noise, and what a person should know of them."""
    import jax

    from arena_jax.arena import planted

    if case is not None:
        curves, noise = planted.curves(case, jax.random.key(arguments.seed), PLANTED_RUNS)
        deviation = float(noise) if arguments.noise is None else arguments.noise
        budget = arguments.budget or planted.BUDGET
        return curves, budget, deviation, _beyond(curves, budget)
    _, curves, budget, notes = _recorded(arguments)
    return curves, budget, arguments.noise or 0.0, notes


def _recorded(arguments: argparse.Namespace) -> tuple[list[str], Any, float, list[str]]:
    """The models, the curves that the sources hold, the budget, and what a person should know of them."""
    from arena_jax.arena import recorded
    from arena_jax.reports import arms

    paths = [Path(source) for source in arguments.sources]
    for path in paths:
        if not path.exists():
            raise ArenaError(
                f"there is no '{path}': give the folders of finished competitions, or a CSV file of curves"
            )
    files = [path for path in paths if path.is_file()]
    if files and len(paths) > 1:
        raise ArenaError(f"{files[0]} is a file of curves: name it alone, or folders of competitions only")
    if files:
        runs = recorded.read_curves(files[0])
    else:
        runs = []
        for path in paths:
            run = arms.read_run(path)
            runs.append(
                {name: recorded.Curve(run.seconds[:, i], run.scores[:, i]) for i, name in enumerate(run.models)}
            )
    curves, notes = recorded.as_curves(runs)
    spent = [sum(float(curve.seconds[-1]) for curve in run.values()) for run in runs]
    budget = arguments.budget or sum(spent) / len(spent)
    return list(runs[0]), curves, budget, [*notes, *_beyond(curves, budget)]


def _beyond(curves: Any, budget: float) -> list[str]:
    """Which shares of the budget no curve reaches to, as a sentence."""
    reach = float(curves.seconds[-1])
    if reach >= budget * (1 - 1e-6):  # the axis is of single precision
        return []
    return [
        f"no model was trained for more than {reach:,.4g} s of the budget of {budget:,.4g} s: shares above "
        f"{reach / budget:.0%} were not measured, and are taken to bring nothing more"
    ]
