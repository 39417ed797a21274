"""Tokens per second that GPT-2 writes, greedy, against transformers on PyTorch; both keep keys and values.

    python -m benchmarks.generate                 # about 3 minutes on 2 cores
    python -m benchmarks.generate --size small --rounds 9

Random weights, read by both from one folder, float32; prompts of 32 tokens; both sides must write the same tokens. They
take turns in one process; compiling is left out. PyTorch has the threads that the machine has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from arena_jax import models

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import interleaved, machine, ratio, table

PROMPT, TOKENS = 32, 32
SIZES: dict[str, dict[str, Any]] = {
    "narrow": {"hidden_size": 256, "num_layers": 6, "num_heads": 8, "intermediate_size": 1024, "vocab_size": 8192},
    "small": {
        "hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072, "vocab_size": 50257
    },
}  # fmt: skip
BATCHES = (1, 8)


def contestants(size: dict[str, Any], batch: int, folder: Path) -> tuple[dict[str, Callable[[], None]], float]:
    """Both sides over one folder's weights, and the part of the tokens that they agree on."""
    model = models.from_pretrained(folder, "causal-lm")
    reference = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    prompts = np.random.default_rng(0).integers(1, size["vocab_size"], (batch, PROMPT))
    ids = torch.from_numpy(prompts)
    mask, rows = torch.ones_like(ids), prompts.tolist()
    options = {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}

    written: dict[str, Any] = {}

    def ours() -> None:
        written["arena_jax"] = np.asarray(models.generate(model, rows, tokens=TOKENS, batch_size=batch))

    def pytorch() -> None:
        with torch.no_grad():
            ids_and_new = reference.generate(input_ids=ids, attention_mask=mask, **options)
        written["transformers"] = ids_and_new[:, PROMPT:].numpy()

    ours()
    pytorch()
    return {"arena_jax": ours, "transformers": pytorch}, float((written["arena_jax"] == written["transformers"]).mean())


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", choices=tuple(SIZES), help="one size alone; small is GPT-2 small's")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    transformers.utils.logging.disable_progress_bar()
    rows = []
    for name in [arguments.size] if arguments.size else SIZES:
        size = SIZES[name]
        for batch in BATCHES:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "model"
                config = models.preset("gpt2-tiny", **size, max_positions=256, initializer_range=0.1)
                models.save_pretrained(models.create(config, task="causal-lm"), folder)
                sides, same = contestants(size, batch, folder)
                seconds = interleaved(sides, repeats=rounds)
            median, lower, upper = ratio(seconds["transformers"], seconds["arena_jax"])
            speeds = [batch * TOKENS / float(np.median(seconds[side])) for side in ("arena_jax", "transformers")]
            rows.append(
                (name, batch, *(f"{speed:,.0f}" for speed in speeds), f"{median:.2f} ({lower:.2f}–{upper:.2f})",
                 f"{same:.1%}")
            )  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    print(machine())
    header = ("GPT-2", "batch", "arena_jax, tokens/s", "transformers, tokens/s", "faster by", "same tokens")
    print(table(header, rows))


if __name__ == "__main__":
    main()
