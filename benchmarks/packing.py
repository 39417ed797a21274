"""Short texts in rows that they share, against a row each: tokens per second of the same training step.

    python -m benchmarks.packing                  # SST-2's sentences, GPT-2 and BERT, 64 wide; about 3 minutes
    python -m benchmarks.packing --rounds 5

A token is one of a text with its ends, never padding. The contestants are `--documents packed`, `apart` with every row
padded to the longest, and `apart` with lengths of 16, 32 and 64 beside it. They take turns in one process; a step of
each computes about as many places (rows × length). Needs $ARENA_DATA, or SST-2 from the Hub.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import numpy as np

from arena_jax import data, models, training, transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import interleaved, machine, ratio, table

LENGTH, PLACES, STEPS = 128, 4096, 6
TASKS = {"gpt2": "causal-lm", "bert": "masked-lm"}
# name: (options of the encoding, rows of a step)
CONTESTANTS = {
    "packed": ({"documents": "packed"}, PLACES // LENGTH),
    "apart": ({"documents": "apart"}, None),
    "apart, 4 lengths": ({"documents": "apart", "lengths": (16, 32, 64)}, PLACES // 32),
}


class Contestant:
    """A training step and the rows that it is fed."""

    def __init__(self, family: str, rows: data.Encoded, tokenizer: data.Tokenizer, batch_size: int | None) -> None:
        shape = models.preset(
            f"{family}-tiny",
            vocab_size=tokenizer.vocab_size,
            pad_token_id=tokenizer.pad_id,
            hidden_size=64,
            num_heads=2,
            intermediate_size=256,
            max_positions=LENGTH,
        )
        model = models.create(shape, task=TASKS[family])
        objective = training.objective_for(model.task, mask_token_id=tokenizer.mask_id)
        self.step = training.make_step({family: model}, transforms.multi_model_adamw(1e-4), {family: objective})
        self.state, self.family, self.rows = self.step.init(), family, rows
        self.batch_size = batch_size or PLACES // rows.lengths[-1]
        self.stream, self.tokens = data.Batches(rows, seed=0), []
        for length in rows.lengths:  # so that no turn compiles
            fitting = np.flatnonzero(rows.row_lengths <= length)
            self.run(rows.batch(np.resize(fitting, self.batch_size), length))

    def run(self, batch: data.Batch) -> None:
        """One step."""
        self.state, _ = self.step(self.state, {self.family: batch})

    def turn(self) -> None:
        """A few steps, whose tokens are counted."""
        tokens = 0
        for _ in range(STEPS):
            batch = self.stream.next(self.batch_size)
            tokens += int(batch["attention_mask"].sum())
            self.run(batch)
        jax.block_until_ready(self.state)
        self.tokens.append(tokens)


def main() -> None:
    """Both families, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--texts", type=int, default=20_000, help="of SST-2's training sentences")
    options = parser.parse_args()
    sentences = data.load("sst2", split="train", limit=options.texts)
    texts = data.Dataset("sst2", "language-model", "train", {"text": sentences.columns["text"]})
    print(machine(), flush=True)
    lines = []
    for family, task in TASKS.items():
        tokenizer = data.train_tokenizer(texts, family, vocab_size=4096)
        sides = {}
        for name, (how, batch_size) in CONTESTANTS.items():
            rows = data.encode(texts, tokenizer, task=task, max_length=LENGTH, **how)
            print(f"{family}, {name}: {rows.report()[0]}; {'; '.join(rows.notes[1:])}", flush=True)
            sides[name] = Contestant(family, rows, tokenizer, batch_size)
        seconds = interleaved({name: side.turn for name, side in sides.items()}, repeats=options.rounds)
        per_token = {
            name: [one / tokens for one, tokens in zip(seconds[name], side.tokens[1:], strict=True)]
            for name, side in sides.items()
        }
        for name, side in sides.items():
            times, low, high = ratio(per_token[name], per_token["packed"])
            speed = 1 / np.median(per_token[name])
            against = "1" if name == "packed" else f"{times:.2f} ({low:.2f}–{high:.2f})"
            lines.append((family, name, f"{side.batch_size}", f"{speed:,.0f}", against))
    print(table(("model", "rows", "rows a step", "tokens/s, median", "packed is faster by"), lines))


if __name__ == "__main__":
    main()
