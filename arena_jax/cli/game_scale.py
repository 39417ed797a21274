"""`arena-jax game scale`: the scaling study, cell by cell."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from arena_jax.cli.train import INTERRUPTED
from arena_jax.config.errors import ArenaError


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
    from arena_jax.compare import Ledger
    from arena_jax.game import study
    from arena_jax.reports import scaling_study, study_figures
    from arena_jax.runs.signals import Stop

    folder = Path(arguments.folder)
    begun = Ledger(folder).study()
    content: Any = begun["plan"] if begun else {}
    if arguments.plan:
        try:
            content = json.loads(Path(arguments.plan).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArenaError(
                f"cannot read the plan '{arguments.plan}' ({error}); give a file with a JSON object"
            ) from None
    plan = study.Plan.from_json(
        content | {"data": arguments.data} if arguments.data and isinstance(content, dict) else content,
        arguments.plan or str(folder),
    )

    def tell(text: str) -> None:
        print(f"… {text}", file=sys.stderr, flush=True)

    # The handler only sets a flag: raised inside one of JAX's callbacks, KeyboardInterrupt is swallowed.
    with Stop() as stop:
        running = study.Study(plan, folder, tell)

        def look() -> None:
            if stop:
                raise KeyboardInterrupt

        running.pausing = look
        tell("Ctrl-C stops after the training that runs, a second one at once")
        try:
            running.run()
        except KeyboardInterrupt:
            print(f"stopped; go on with: arena-jax game scale {folder}")
            return INTERRUPTED
        results = scaling_study.results(running)
        paths = scaling_study.save(results, folder)
        paths.append(study_figures.draw(results, folder))
    print(scaling_study.markdown(results))
    print(f"written: {', '.join(str(path) for path in paths)}")
    return 0
