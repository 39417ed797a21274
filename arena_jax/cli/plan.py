"""`arena-jax plan`: the largest batches on GPUs that are not here, before anything is rented."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena_jax.cli import plan_file
from arena_jax.cli.train import base
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.model import MODEL_PRESETS
from arena_jax.config.standard_error import quiet

if TYPE_CHECKING:
    from arena_jax.arena.plan import ShareNeed
    from arena_jax.runs.document import Block
    from arena_jax.runtime.target import Target
    from arena_jax.training.plan import Need, Variant

TASKS = ("language-model", "sequence-classification", "token-classification", "question-answering")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="the largest batches on a GPU that is not here: the run's own step, compiled for it",
        description="Compile a run's step for GPUs that are not here, and say which batches fit. Needs the extra `plan`"
        " (Linux, no GPU). A compilation takes 10 to 60 seconds, a model some three of them.",
        usage="arena-jax plan [PRESET] [options]",
    )
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="of a run, as `arena-jax train` takes it")
    parser.add_argument("--config", metavar="FILE", help="the run's configuration instead, e.g. a run's config.json")
    parser.add_argument(
        "--models",
        metavar="LIST",
        help=f"sizes by name instead of a run, e.g. gpt2,bert-large: {', '.join(MODEL_PRESETS)}",
    )
    parser.add_argument("--task", choices=TASKS, default="language-model", help="of --models [language-model]")
    parser.add_argument("--length", type=int, metavar="N", help="tokens per row [the run's; 128]")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "auto"), help="precision of the computation [the run's]"
    )
    parser.add_argument(
        "--remat", choices=("none", "dots", "block", "auto"), help="what blocks keep for the backward pass [the run's]"
    )
    parser.add_argument("--attention", choices=("xla", "cudnn"), help="who computes attention [the run's]")
    parser.add_argument(
        "--device", default="a100-40gb", metavar="GPU", help="kind of GPU, or a file of its facts [a100-40gb]"
    )
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="how many; a batch is dealt out over them [1]")
    parser.add_argument(
        "--shard", choices=("none", "parameters"), help="deal parameters out over each machine's GPUs [the run's]"
    )
    parser.add_argument("--hosts", type=int, default=1, metavar="N", help="over how many machines [1]")
    parser.add_argument(
        "--memory-budget",
        metavar="AMOUNT",
        help="what programs may take on each GPU, e.g. 38GB [a competition's own; 90%% of the GPU]",
    )
    parser.add_argument(
        "--variants",
        action="store_true",
        help="also try all of --remat and cuDNN's attention, for each model alone and for all together",
    )
    parser.add_argument(
        "--shares",
        metavar="NAME=PART,…",
        help="of a competition: also the batches that these parts of its memory allow, e.g. bert=13%%,gpt2=31%%",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        action="append",
        default=[],
        help="write the plan, too: FILE.json for `arena-jax train --plan`, FILE.html to look at; can be repeated",
    )
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    # The compiler needs no GPU, but JAX would look for one and complain.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA says of each size by how much it is too large
    with quiet():
        import jax

        jax.devices()
    config = configuration(arguments)
    shares = _shares(arguments.shares)
    for output in arguments.output:
        if Path(output).suffix not in (".json", ".html"):
            raise ArenaError(f"--output is '{output}': it must end in .json or .html")
    if arguments.shares and config.arena is None:
        raise ArenaError("--shares: the run is no competition, and nobody shares out its memory; leave it out")
    if sys.platform != "linux" or importlib.util.find_spec("jax_cuda12_plugin") is None:
        raise ArenaError(
            "a plan needs XLA's compiler for GPUs: pip install 'arena-jax[plan]' (Linux only, no GPU needed)"
        )
    from arena_jax.arena.plan import plan_shares
    from arena_jax.reports import plan_page
    from arena_jax.runs import document
    from arena_jax.runtime.target import target
    from arena_jax.training import plan

    budget = arguments.memory_budget or (config.arena.memory_budget if config.arena else None)
    where = target(arguments.device, gpus=arguments.gpus, hosts=arguments.hosts, memory_budget=budget)

    def progress(line: str) -> None:
        print(f"… {line}", file=sys.stderr, flush=True)

    if config.training.shard == "parameters":
        where = where.sharded()
    config = plan.with_cheapest_remat(plan.for_target(config, where), where, progress=progress)
    # Models that compete take turns: no step holds them all.
    groups = [group for group in plan.groups(config) if config.arena is None or len(group) == 1]
    needs = list(plan.plan(config, where, groups, progress=progress))
    variants = [
        variant
        for names in (groups if arguments.variants else ())
        for variant in plan.variants(config, names, where, progress=progress)
    ]
    shared = list(plan_shares(config, where, stated=shares, progress=progress)) if config.arena else []
    blocks = plan_page.compose(config, where, needs, variants, shared, _command(arguments))
    print(document.text(blocks))
    for output in arguments.output:
        _write(Path(output), config, where, needs, variants, shared, blocks)
        print(f"\nthe plan is in {output}")
    return 0


def _command(arguments: argparse.Namespace) -> str | None:
    """The command that trains what is planned; None where sizes were named and no run."""
    if arguments.models:
        return None
    source = arguments.preset if arguments.preset else f"--config {arguments.config}"
    words = ["arena-jax train", source]
    words += [f"--dtype {arguments.dtype}"] if arguments.dtype else []
    words += [f"--max-length {arguments.length}"] if arguments.length else []
    return " ".join(words)


def _shares(text: str | None) -> dict[str, float]:
    shares = {}
    for part in (text or "").split(",") if text else ():
        name, equals, amount = (piece.strip() for piece in part.partition("="))
        try:
            shares[name] = float(amount[:-1]) / 100 if amount.endswith("%") else float(amount)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise ArenaError(f"--shares holds '{part}': write NAME=PART, e.g. bert=13%,gpt2=0.31")
    return shares


def configuration(arguments: argparse.Namespace) -> RunConfig:
    """The run that is planned.

    Raises:
        ArenaError: neither or several ways to name it, or an unknown size.
    """
    if arguments.models and (arguments.preset or arguments.config):
        raise ArenaError("both --models and a run are given: give one of the two")
    if arguments.models:
        names = [name.strip() for name in arguments.models.split(",") if name.strip()]
        for name in names:
            if name not in MODEL_PRESETS:
                raise ArenaError(f"--models: unknown size '{name}'; {nearest(name, MODEL_PRESETS)}")
        config = RunConfig(
            preset="plan",
            task=arguments.task,
            models=tuple(ModelConfig(name, preset=name, vocab_size=_vocabulary(name)) for name in names),
            data=DataConfig(name="python-docs", max_length=arguments.length or 128),
            optimizer=OptimizerConfig(),
            training=TrainingConfig(steps=1),
        )
    elif arguments.preset or arguments.config:
        config = base(arguments.preset, arguments.config)
    else:
        raise ArenaError("nothing to plan: give a preset, --config FILE or --models gpt2,bert-large")
    fields = ("dtype", "attention", "remat", "shard")
    changes: dict[str, Any] = {name: getattr(arguments, name) for name in fields if getattr(arguments, name)}
    models = config.models
    if arguments.attention == "cudnn":
        models = tuple(dataclasses.replace(model, attention_dropout=0.0) for model in models)
    data = config.data
    if arguments.length:
        shorter = tuple(length for length in data.lengths if length < arguments.length)
        data = dataclasses.replace(data, max_length=arguments.length, lengths=shorter)
    return dataclasses.replace(
        config, models=models, data=data, training=dataclasses.replace(config.training, **changes)
    )


def _vocabulary(name: str) -> int:
    from arena_jax.models import preset

    return max(300, preset(name).vocab_size)  # the least that a run takes


def _write(
    path: Path,
    config: RunConfig,
    where: Target,
    needs: list[Need],
    variants: list[Variant],
    shares: list[ShareNeed],
    blocks: list[Block],
) -> None:
    from arena_jax.runs import document

    if path.suffix == ".html":
        text = document.page(blocks[0].text if isinstance(blocks[0], document.Heading) else "plan", blocks)
    else:
        gpus = where.mesh.size
        content = plan_file.content(config, where.gpu._asdict(), gpus, where.budget, needs, variants, shares)
        text = json.dumps(content, indent=1) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write the plan to '{path}': {error.strerror}; give another --output") from None
