"""`arena-jax game learn`: rates by part for a small model, in a file that `train --component-rates FILE` takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_jax.cli import json_file
from arena_jax.config import ModelConfig, RunConfig, presets
from arena_jax.config.change import change
from arena_jax.config.component_rates import read_file
from arena_jax.config.errors import ArenaError
from arena_jax.config.fields import plain
from arena_jax.config.units import parse_duration

_SIZE = ("preset", "checkpoint", "hidden_size", "num_layers", "num_heads", "intermediate_size")


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Add the action.

    Args:
        actions: where the actions of `arena-jax game` are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        "learn",
        help="learn rates by part from many short trainings; `train --component-rates FILE` takes them",
        description="Learn rates by part for one model of a run, from full short trainings by best responses. What is "
        "measured on a small model need not hold for a large one.",
    )
    parser.add_argument("target", metavar="RUN|PRESET", help="whose configuration is trained")
    parser.add_argument("--data", metavar="DATA", help="data set: name, file, folder or hub id [the run's own]")
    parser.add_argument("--model", metavar="NAME", help="which of the run's models, alone [its first]")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--spend", metavar="TIME", help="how long the search takes at most, beside compiling [30min]")
    length.add_argument("--steps", type=int, metavar="N", help="instead: steps of each training; repeats to the bit")
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="that each profile is trained with [2]")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="of best responses at most [1]")
    parser.add_argument("--actions", default="0.5,1,2", metavar="X,…", help="what a part may choose [0.5,1,2]")
    parser.add_argument("--output", metavar="FILE", required=True, help="where the rates go, as JSON")
    parser.set_defaults(call=_learn)
    return parser


def _learn(arguments: argparse.Namespace) -> int:
    from arena_jax.game.learn import learn_rates
    from arena_jax.runs.folder import load_run

    json_file.check(arguments.output)
    if arguments.steps is not None and arguments.steps < 1:
        raise ArenaError(f"--steps is {arguments.steps}: it must be at least 1")
    try:
        actions = [float(action) for action in arguments.actions.split(",")]
    except ValueError:
        raise ArenaError(f"--actions is '{arguments.actions}': write numbers with commas between") from None
    target = arguments.target
    config = presets.get(target) if target in presets.PRESETS else load_run(Path(target))
    if arguments.data:
        config = change(config, {"data.name": arguments.data})
    seconds = None if arguments.steps else parse_duration(arguments.spend or "30min")
    content = learn_rates(
        config,
        model=arguments.model,
        seconds=seconds,
        steps=arguments.steps,
        seeds=arguments.seeds,
        rounds=arguments.rounds,
        actions=actions,
        tell=lambda text: print(text, file=sys.stderr, flush=True),
    )
    json_file.write(arguments.output, content)
    learned = content["learned"]
    rates = ", ".join(f"{part} ×{rate:.3g}" for part, rate in content["component_rates"].items())
    print(f"{rates}: {learned['gain']:+.4f} nats against one rate, the mean of {learned['seeds']} seeds")
    cost = learned["cost"]
    print(f"{cost['trainings']} trainings of {learned['steps']} steps in {cost['seconds']:.0f} s")
    print(f"written: {arguments.output}; use it with: arena-jax train … --component-rates {arguments.output}")
    return 0


def notes(run: RunConfig, words: Mapping[str, Any]) -> list[str]:
    """What was never measured of the rates that a command line takes from files.

    Args:
        run: that trains with them.
        words: the parsed options by destination.

    Returns:
        A line per model and file, see `transfer_notes`; none for files without a word on where their rates come from.

    Raises:
        ArenaError: a file that says it in another form than `arena-jax game learn` does.
    """
    by_own = {name: text for name, text in map(_own_rates, words.get("model") or ()) if name}
    lines = []
    for model in run.models:
        path = by_own.get(model.name, words.get("optimizer.component_rates"))
        if not path or not Path(path).is_file() or not model.component_rates + run.optimizer.component_rates:
            continue
        learned = read_file(path, "--component-rates").get("learned")
        if learned is not None:
            try:
                lines += transfer_notes(run, model, path, learned)
            except (KeyError, TypeError, AttributeError):
                raise ArenaError(f"'{path}' says in no known form where its rates are from: remove 'learned'") from None
    return lines


def _own_rates(text: str) -> tuple[str, str]:
    where, _, path = text.partition("=")
    name, _, field = where.partition(".")
    return (name, path) if field == "component_rates" else ("", "")


def transfer_notes(run: RunConfig, model: ModelConfig, where: str, learned: Mapping[str, Any]) -> list[str]:
    """What was never measured of rates that a file holds, for a model that takes them.

    Args:
        run: that trains with them.
        model: of the run.
        where: the file.
        learned: what the file says of where they come from.

    Returns:
        A line for another family or size, task or data; none where all is as it was.

    Example:
        >>> run = presets.joint_synthetic()
        >>> on = {"model": plain(run.model("gpt2")), "family": "gpt2", "parameters": 100_000, "task": run.task}
        >>> transfer_notes(run, run.model("bert"), "r.json", {"on": on | {"data": run.data.name}, "steps": 60})
        ['r.json was learned on gpt2 (100,000 parameters, 60 steps): never measured on bert, another family']
    """
    source = learned["on"]
    reasons = []
    if model.family != source["family"]:
        reasons.append("another family" if model.family else "a checkpoint")
    elif any(plain(model)[field] != source["model"][field] for field in _SIZE):
        reasons.append("another size")
    if run.task != source["task"]:
        reasons.append("another task")
    if run.data.name != source["data"]:
        reasons.append("other data")
    if not reasons:
        return []
    return [
        f"{where} was learned on {source['family']} ({source['parameters']:,} parameters, {learned['steps']} steps): "
        f"never measured on {model.name}, {' and '.join(reasons)}"
    ]
