"""`arena-jax arena calibrate`: did forecasts of recorded competitions hold what they promised?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from arena_jax.cli import json_file
from arena_jax.config.errors import ArenaError


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Add the action.

    Args:
        actions: of `arena-jax arena`, where it is added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        "calibrate",
        help="whether the 80 %% band of forecast scores holds 80 %%; and what sizes and memory add",
        description="Forecast the curves of finished competitions from each of their evaluations on (equation 10 of "
        "ModelArena), and hold the forecasts against what came. What is learnt of parameter counts and memory is "
        "learnt from the other runs; what all of them teach is written for `--predictor`.",
    )
    parser.add_argument("sources", nargs="+", metavar="RUN", help="folders of finished competitions, three or more")
    parser.add_argument("--output", metavar="FILE", help="writes the predictor and the numbers there as JSON")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    json_file.check(arguments.output)
    for source in arguments.sources:
        if not Path(source).is_dir():
            raise ArenaError(f"there is no folder '{source}': give those of finished competitions")
    from arena_jax.reports import forecast_calibration
    from arena_jax.runs import document

    table = forecast_calibration.calibrate_runs(
        [forecast_calibration.recorded_run(Path(source)) for source in arguments.sources]
    )
    print(document.text(forecast_calibration.blocks(table)))
    json_file.write(arguments.output, forecast_calibration.as_json(table))
    if arguments.output is not None:
        print(f"written: {arguments.output}; arena-jax train arena-small --predictor {arguments.output}")
    return 0
