"""One joint step of large models on 8 to 512 GPUs that are not here: bytes per GPU and collectives per step.

GPT-2 XL, BERT large and RoBERTa large with the default form's sharing and AdamW, bfloat16, cuDNN's attention, blocks
that keep their input, parameters dealt out over the GPUs of each machine. Needs the extra `plan`:
`JAX_PLATFORMS=cpu python -m benchmarks.scale [--gpus 8,64,512]`. Models and batches are shapes; nothing runs. Prints
two Markdown tables: on whole machines of 8 GPUs, and GPT-2 XL alone on 1 to 8 GPUs of one machine.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from typing import NamedTuple

from arena_jax import runtime
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.models import preset
from arena_jax.runtime.memory import format_bytes
from arena_jax.training import plan
from benchmarks.measure import machine, table

MODELS = ("gpt2-xl", "bert-large", "roberta-large")
ROWS, LENGTH = 8, 512  # examples per GPU and model, tokens
_COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(rf"= .* ({'|'.join(_COLLECTIVES)})(?:-start)?\(")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


class Collectives(NamedTuple):
    """Collective operations of a program, by kind: instructions, and runs of them in a step, loops counted."""

    instructions: Counter[str]
    runs: Counter[str]


def collectives(text: str) -> Collectives:
    """Count the collective operations in a compiled program's text; a loop's body counts as often as it runs."""
    bodies: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        header = re.match(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        if header:
            lines = bodies.setdefault("ENTRY" if line.startswith("ENTRY") else header[1], [])
        else:
            lines.append(line)
    instructions: Counter[str] = Counter()
    runs: Counter[str] = Counter()

    def walk(name: str, times: int) -> None:
        for line in bodies.get(name, ()):
            kind = _INSTRUCTION.search(line)
            if kind:
                instructions[kind[1]] += 1
                runs[kind[1]] += times
            trips = _TRIPS.search(line)
            for callee in re.findall(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)", line):
                walk(callee, times * (int(trips[1]) if trips and f"body=%{callee}" in line else 1))
            for group in re.findall(r"branch_computations=\{([^}]*)\}", line):
                for callee in group.split(","):
                    walk(callee.strip().lstrip("%"), times)

    walk("ENTRY", 1)
    return Collectives(instructions, runs)


def configuration(models: tuple[str, ...]) -> RunConfig:
    """The run whose step is compiled."""
    return RunConfig(
        preset="scale",
        task="language-model",
        models=tuple(
            ModelConfig(name, preset=name, vocab_size=preset(name).vocab_size, attention_dropout=0.0) for name in models
        ),
        data=DataConfig(name="python-docs", max_length=LENGTH),
        optimizer=OptimizerConfig(),
        training=TrainingConfig(steps=1, dtype="bfloat16", remat="block", attention="cudnn", shard="parameters"),
    )


def measured(models: tuple[str, ...], gpus: int, hosts: int) -> tuple[object, ...]:
    """A row of the table."""
    config = configuration(models)
    where = runtime.target("a100-80gb", gpus=gpus, hosts=hosts).sharded()
    networks = plan.abstract_models(config)
    step, arguments_of = plan.step_and_arguments(networks, config, where)
    began = time.perf_counter()
    arguments = arguments_of(dict.fromkeys(networks, ROWS))
    program = where.compile_program(step, *arguments)
    seconds = time.perf_counter() - began
    counted = collectives(program.executable.as_text())
    kinds = [kind for kind in _COLLECTIVES if counted.instructions[kind]]
    row = (
        gpus,
        hosts,
        format_bytes(runtime.memory.device_bytes(arguments[0])),
        format_bytes(program.bytes.temporaries),
        f"{program.bytes.total / 1e9:.3f} GB",
        ", ".join(f"{counted.runs[kind]} {kind}" for kind in kinds) or "none",
        f"{seconds:.0f}",
    )
    print(row, file=sys.stderr, flush=True)
    return row


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", default="8,64,512", help="on machines of 8")
    parser.add_argument("--small", default="1,2,4,8", help="on one machine")
    arguments = parser.parse_args()
    header = ("GPUs", "machines", "parameters and moments", "the rest", "in all", "collectives per step", "seconds")
    print(f"{machine()}\n")
    rows = [measured(MODELS, gpus, gpus // 8) for gpus in map(int, arguments.gpus.split(",") if arguments.gpus else ())]
    print(table(header, rows) + "\n")
    small = [measured(MODELS[:1], gpus, 1) for gpus in map(int, arguments.small.split(",") if arguments.small else ())]
    print(table(header, small))


if __name__ == "__main__":
    main()
