"""GPT-2 small on 8 A100 that are not here: the batch that each attention, remat policy and sharding allows.

Needs the extra `plan`. A search of several compilations for each variant, so each is a command of its own, which leaves
its result in a folder; without `--attention` the folder's results are printed as a Markdown table:
`JAX_PLATFORMS=cpu python -m benchmarks.plan_variants FOLDER [--attention chunked --remat block --shard parameters]`.
It is `arena-jax plan --models gpt2 --length 1024 --dtype bfloat16 --memory-budget 40GB --gpus 8 --variants`, in pieces.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path

from arena_jax import runtime
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.models import preset
from arena_jax.models.config import REMATS
from arena_jax.runtime.memory import format_bytes
from arena_jax.training.plan_variants import variants
from benchmarks.measure import machine, table


def configuration(size: str) -> RunConfig:
    """The run whose step is compiled."""
    return RunConfig(
        preset="plan",
        task="language-model",
        models=(ModelConfig(size, preset=size, vocab_size=preset(size).vocab_size),),
        data=DataConfig(name="python-docs", max_length=1024),
        optimizer=OptimizerConfig(),
        training=TrainingConfig(steps=1, dtype="bfloat16"),
    )


def measured(arguments: argparse.Namespace) -> dict[str, object]:
    """One variant's largest batch, and what it needs."""
    where = runtime.target("a100-40gb", gpus=arguments.gpus, memory_budget="40GB")
    (variant,) = variants(
        configuration(arguments.model),
        [arguments.model],
        where,
        attentions=[arguments.attention],
        remats=[arguments.remat],
        shards=[arguments.shard],
        start=arguments.start,
    )
    need = variant.need
    own, ptxas = (
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )  # user and system seconds of this process, and of those that XLA starts to assemble kernels
    return {
        "attention": variant.attention,
        "remat": variant.remat,
        "shard": variant.shard,
        "dropout": variant.attention_dropout,
        "reason": variant.reason,
        "batch": need.batch_size if need else 0,
        "state": need.parameters + need.optimizer if need else 0,
        "rest": need.temporaries if need else 0,
        "total": need.total if need else 0,
        "compilations": need.compilations if need else 0,
        "seconds": need.compile_seconds if need else 0,
        "processor": own,
        "ptxas": ptxas,
    }


def printed(folder: Path) -> str:
    """The results of a folder, the largest batch first."""
    results = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    header = ("attention", "remat", "shard", "attention dropout", "batch per GPU", "parameters and moments")
    rows = [
        (
            *(result[name] for name in ("attention", "remat", "shard")),
            f"{result['dropout']:g}",
            result["batch"] or result["reason"],
            format_bytes(result["state"]),
            format_bytes(result["rest"]),
            f"{result['compilations']} × {result['seconds'] / max(1, result['compilations']):.0f} s",
        )
        for result in sorted(results, key=lambda result: (-result["batch"], result["attention"], result["remat"]))
    ]
    return table((*header, "the rest", "compiled"), rows)


def main() -> None:
    """Compile one variant, or print what was compiled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where results are kept")
    parser.add_argument("--model", default="gpt2", help="a size by name")
    parser.add_argument("--gpus", type=int, default=8, help="of one machine")
    parser.add_argument("--attention", choices=("xla", "chunked", "cudnn"), help="the variant to compile")
    parser.add_argument("--remat", choices=REMATS, default="dots")
    parser.add_argument("--shard", choices=("none", "parameters"), default="none")
    parser.add_argument("--start", type=int, help="the batch to compile first: near the answer, two are enough")
    arguments = parser.parse_args()
    if not arguments.attention:
        print(f"{machine()}\n\n{printed(arguments.folder)}")
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    result = measured(arguments)
    name = f"{arguments.attention}-{arguments.remat}-{arguments.shard}.json"
    (arguments.folder / name).write_text(json.dumps(result, indent=1) + "\n")
    print(result, file=sys.stderr)


if __name__ == "__main__":
    main()
