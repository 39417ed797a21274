"""How much faster and smaller is a pruned model? Tokens per second and bytes, measured after the removal.

    python -m benchmarks.pruned_speed                       # about 8 minutes on 2 cores
    python -m benchmarks.pruned_speed --shape small --batch 1

Random weights in float32: which parts go has no influence on the speed, so that the first of every block do. Heads and
neurons are removed in the compact form, a share of each block; blocks are dropped. A forward pass (GPT-2: language
model, BERT: classifier) over texts of 32 tokens; the contestants take turns. Ratios are of the whole model's time, with
quartiles over rounds. Bytes are the parameters'. Sparse weights are not here: they are multiplied like others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arena_jax import game, models

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import interleaved, machine, ratio, table

LENGTH = 32
SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "small": (
        "gpt2-tiny", "causal-lm",
        {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "intermediate_size": 256, "vocab_size": 2048},
    ),
    "GPT-2 small": (
        "gpt2-tiny", "causal-lm",
        {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072, "vocab_size": 50257},
    ),
    "BERT base": (
        "bert-tiny", "sequence-classification",
        {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072, "vocab_size": 30522},
    ),
}  # fmt: skip
ARMS = ("heads 50 %", "neurons 50 %", "both 25 %", "both 50 %", "blocks 25 %", "blocks 50 %")
BATCHES = (1, 32)


def pruned(model: models.Transformer, arm: str) -> models.Transformer:
    """The model without a share of its heads, neurons, both, or blocks."""
    what, number, _ = arm.split()
    config, share = model.config, int(number) / 100
    if what == "blocks":
        return game.remove_blocks(config, list(range(round(share * config.num_layers)))).model(model)
    players = game.fine_players(config, 4)
    kinds = {"heads": ("head",), "neurons": ("neurons",), "both": ("head", "neurons")}[what]
    counts = {"head": config.num_heads, "neurons": players.groups}
    removed = [
        i for i, p in enumerate(players.players) if p.kind in kinds and (p.index or 0) < round(share * counts[p.kind])
    ]
    return game.prune(players, removed, compact=True).model(model)


def forward(model: models.Transformer, batch: int) -> Callable[[], None]:
    """A compiled forward pass."""
    structure, params = models.split(model)
    ids = np.random.default_rng(0).integers(5, model.config.vocab_size, (batch, LENGTH)).astype(np.int32)
    run = jax.jit(lambda params, ids: models.merge(structure, params)(ids))
    return lambda: jax.block_until_ready(run(params, ids))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=tuple(SHAPES), help="one shape alone")
    parser.add_argument("--batch", type=int, choices=BATCHES, help="one size of batch alone")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for shape in [arguments.shape] if arguments.shape else SHAPES:
        preset, task, sizes = SHAPES[shape]
        whole = models.create(models.preset(preset, **sizes, max_positions=LENGTH), task=task)
        contestants = {"whole": whole} | {arm: pruned(whole, arm) for arm in ARMS}
        sizes_in_bytes = {
            name: sum(x.nbytes for x in jax.tree.leaves(models.split(model)[1])) for name, model in contestants.items()
        }
        for batch in [arguments.batch] if arguments.batch else BATCHES:
            runs = {name: forward(model, batch) for name, model in contestants.items()}
            seconds = interleaved(runs, repeats=arguments.rounds)
            for name in contestants:
                median, low, high = ratio(seconds["whole"], seconds[name])
                speed = batch * LENGTH / float(np.median(seconds[name]))
                share = sizes_in_bytes[name] / sizes_in_bytes["whole"]
                rows.append(
                    (shape, name, batch, f"{speed:,.0f}", f"{median:.2f} ({low:.2f}–{high:.2f})",
                     f"{sizes_in_bytes[name] / 1e6:,.1f} MB ({share:.0%})")
                )  # fmt: skip
    print(machine())
    print(table(("shape", "removed", "batch", "tokens/s", "speed × whole", "parameters"), rows))


if __name__ == "__main__":
    main()
