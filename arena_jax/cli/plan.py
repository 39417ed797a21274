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

from arena_jax.cli.train import base
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.model import MODEL_PRESETS
from arena_jax.config.standard_error import quiet

if TYPE_CHECKING:
    from arena_jax.reports.document import Block
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
    parser.add_argument("--memory", metavar="AMOUNT", help="what programs may take on each GPU, e.g. 38GB [90%%]")
    parser.add_argument(
        "--variants", action="store_true", help="also try all of --remat and cuDNN's attention, for each model alone"
    )
    parser.add_argument("--output", metavar="FILE", help="write the plan as JSON, too")
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
    if sys.platform != "linux" or importlib.util.find_spec("jax_cuda12_plugin") is None:
        raise ArenaError(
            "a plan needs XLA's compiler for GPUs: pip install 'arena-jax[plan]' (Linux only, no GPU needed)"
        )
    from arena_jax.reports import document
    from arena_jax.runtime.target import target
    from arena_jax.training import plan

    where = target(arguments.device, gpus=arguments.gpus, hosts=arguments.hosts, memory_budget=arguments.memory)

    def progress(line: str) -> None:
        print(f"… {line}", file=sys.stderr, flush=True)

    if config.training.shard == "parameters":
        where = where.sharded()
    config = plan.with_cheapest_remat(plan.for_target(config, where), where, progress=progress)
    needs = list(plan.plan(config, where, progress=progress))
    tried = [
        variant
        for model in (config.models if arguments.variants else ())
        for variant in plan.variants(config, model.name, where, progress=progress)
    ]
    print(document.text(described(config, where, needs, tried)))
    if arguments.output:
        _write(Path(arguments.output), config, where, needs, tried)
        print(f"\nthe plan is in {arguments.output}")
    return 0


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


def described(config: RunConfig, where: Target, needs: list[Need], tried: list[Variant]) -> list[Block]:
    """The plan as tables."""
    from arena_jax.reports.document import Heading, Items, Paragraph, Table
    from arena_jax.runtime.memory import format_bytes

    count = where.mesh.size
    title = f"{count} × {where.gpu.title}, {format_bytes(where.budget)} of {format_bytes(where.gpu.memory)} each"
    training = config.training
    settings = f"length {config.data.max_length}, {training.dtype}, attention {training.attention}"
    settings += f", remat {training.remat}, shard {training.shard}"
    header = ("models", "batch per GPU", "parameters", "optimizer", "the rest", "in all", "at least", "compiled")
    rows = [
        (
            " + ".join(need.models),
            str(need.batch_size),
            format_bytes(need.parameters),
            format_bytes(need.optimizer),
            format_bytes(need.temporaries),
            format_bytes(need.total),
            f"{1000 * need.least_seconds:.3g} ms",
            f"{need.compilations} × {need.compile_seconds / max(1, need.compilations):.0f} s",
        )
        for need in needs
    ]
    blocks: list[Block] = [
        Heading(title, 1),
        Paragraph(f"{settings}; bytes are per GPU, read off the compiled step."),
        Table(header, rows),
        Items([f"{' + '.join(need.models)}: {need.bound}" for need in needs]),
    ]
    if tried:
        ways = [
            (
                variant.model,
                variant.attention,
                variant.remat,
                f"{variant.attention_dropout:g}",
                str(variant.need.batch_size) if variant.need else "–",
                f"{1000 * variant.need.least_seconds / variant.need.batch_size:.3g} ms" if variant.need else "–",
                variant.options if variant.need else variant.reason,
            )
            for variant in tried
        ]
        head = ("model", "attention", "remat", "attention dropout", "batch per GPU", "at least, per example", "options")
        blocks += [Heading("Variants, each model alone"), Table(head, ways, numbers=len(head))]
    blocks.append(
        Paragraph(
            "“At least”: matrix products at the GPU's peak, or parameters and moments moved once; no step is faster and"
            " most are slower. Not known here: kernels that a GPU tunes by trying, and memory lost to fragments."
            " Nothing of this has run on a GPU."
        )
    )
    return blocks


def _write(path: Path, config: RunConfig, where: Target, needs: list[Need], tried: list[Variant]) -> None:
    from arena_jax import config as configurations

    content = {
        "device": where.gpu._asdict(),
        "gpus": where.mesh.size,
        "memory": where.budget,
        "config": configurations.to_dict(config),
        "needs": [need._asdict() for need in needs],
        "variants": [variant._asdict() | {"need": variant.need and variant.need._asdict()} for variant in tried],
    }
    try:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write the plan to '{path}': {error.strerror}; give another --output") from None
