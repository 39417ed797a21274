"""`arena-jax game scale`: the scaling study, cell by cell."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from arena_jax.errors import ArenaError


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Add the action.

    Args:
        actions: where the actions of `arena-jax game` are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        "scale", help="does the game save compute? arms, sizes and seeds at equal operations; about two hours"
    )
    parser.add_argument("folder", metavar="FOLDER", help="of the study; one that was stopped goes on")
    parser.add_argument("--plan", metavar="FILE", help="a JSON object of the plan's fields [the pre-registered plan]")
    parser.add_argument("--data", metavar="DATA", help="text to train on: name, file, folder or hub id [the plan's]")
    parser.set_defaults(call=_scale)
    return parser


def _scale(arguments: argparse.Namespace) -> int:
    from arena_jax.game import study
    from arena_jax.reports import study_figures

    folder = Path(arguments.folder)
    kept = folder / "plan.json"
    content: Any = {}
    source = Path(arguments.plan) if arguments.plan else kept if kept.exists() else None
    if source is not None:
        try:
            content = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArenaError(f"cannot read the plan '{source}' ({error}); give a file with a JSON object") from None
    plan = study.Plan.from_json(
        content | {"data": arguments.data} if arguments.data and isinstance(content, dict) else content, str(source)
    )
    running = study.Study(plan, folder, lambda text: print(f"… {text}", file=sys.stderr, flush=True))
    running.run()
    found = study.results(running)
    paths = study.save(found, folder)
    paths.append(study_figures.draw(found, folder))
    print(study.markdown(found))
    print(f"written: {', '.join(str(path) for path in paths)}")
    return 0
