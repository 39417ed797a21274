"""Which utility prunes best? Small GPT-2 and BERT, trained on WikiText, lose their least valuable parts one by one.

    ARENA_DATA=FOLDER python benchmarks/pruning.py        # about 20 minutes on 2 cores; resumes cell by cell

Each cell (family, seed) trains a model, measures every utility on one half of the held-out text, and draws the loss on
the other half while heads and groups of neurons are replaced by their mean, the least valuable first, up to 75 %. The
score is the area under the increase of the loss (its mean over the removals, nats); lower is better. Intervals are
Student's over seeds; differences are paired by seed. FOLDER holds wikitext/wt103-vocab (see its SOURCE.md).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from scipy import stats

from arena_jax import data, game, models, training
from arena_jax.compare.confidence import confidence_interval
from arena_jax.data.documents import read_documents
from arena_jax.training.objectives import objective_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import machine, table

METHODS = ("banzhaf", "leave-one-out", "sensitivity", "shapley")
RANDOM_ORDERS = 20
LENGTH, BATCH, VOCABULARY = 64, 16, 2048
RATES = {"gpt2": 4e-3, "bert": 2e-3}
TASKS = {"gpt2": "causal-lm", "bert": "masked-lm"}
# A masked model predicts 15 % of its tokens: its probe is longer, so that as many predictions decide.
PROBE_ROWS = {"gpt2": 16, "bert": 64}


def text(folder: Path) -> tuple[data.Dataset, data.Dataset]:
    where = folder / "wikitext" / "wt103-vocab"
    files = [where / "train_prefix.tokens", where / "valid.tokens"]
    train, held = (
        data.Dataset("wikitext", "language-model", split, {"text": read_documents(path)})
        for path, split in zip(files, ("train", "validation"), strict=True)
    )
    return train, held


def stream(rows: data.Encoded, seed: int) -> Iterator[Mapping[str, Any]]:
    batches = data.Batches(rows, seed=seed)
    while True:
        yield batches.next(BATCH)


def spread(rows: data.Encoded, start: int, stop: int, count: int, size: int = 16) -> list[Mapping[str, Any]]:
    chosen = np.linspace(start, stop - 1, count).astype(int)
    return [rows.batch(chosen[i : i + size], LENGTH) for i in range(0, count, size)]


def train_model(family: str, seed: int, rows: data.Encoded, tokenizer: data.Tokenizer, steps: int) -> Any:
    config = models.preset(
        f"{family}-tiny",
        vocab_size=tokenizer.vocab_size,
        pad_token_id=tokenizer.pad_id,
        hidden_size=64,
        num_layers=4,
        num_heads=4,
        intermediate_size=256,
        max_positions=LENGTH,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    model = models.create(config, TASKS[family], seed=seed)
    objective = objective_for(TASKS[family], mask_token_id=tokenizer.mask_id, vocab_size=tokenizer.vocab_size)
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATES[family], steps // 20, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))
    step = training.make_step({family: model}, optimizer, {family: objective}, seed=seed)
    state = step.init()
    batches = stream(rows, seed)
    for _ in range(steps):
        state, _ = step(state, {family: next(batches)})
    return models.merge(step.structures[family], state.params[family]), objective


def cell(family: str, seed: int, parts: Mapping[str, Any], steps: int) -> dict[str, Any]:
    began = time.perf_counter()
    train, held = parts["train"], parts["held"]
    model, objective = train_model(family, seed, train, parts["tokenizer"], steps)
    trained = time.perf_counter()
    half, rows = len(held) // 2, PROBE_ROWS[family]
    calibration = spread(train, 0, len(train), rows)
    played = game.AblationGame(model, spread(held, 0, half, rows), objective, calibration=calibration, seed=seed)
    other = game.AblationGame(model, spread(held, half, len(held), 4 * rows), objective, calibration=calibration)
    n = len(played.table)
    found = {name: game.measure(played, name, seed=seed) for name in METHODS}
    most = n * 3 // 4

    def curve(order: np.ndarray) -> np.ndarray:
        kept = np.ones((most + 1, n), bool)
        for k in range(1, most + 1):
            kept[k:, order[k - 1]] = False
        values = other(kept)
        return values[0] - values[1:]

    curves = {name: curve(np.argsort(values.values, kind="stable")) for name, values in found.items()}
    random = np.random.default_rng(seed)
    curves["random"] = np.mean([curve(random.permutation(n)) for _ in range(RANDOM_ORDERS)], axis=0)
    ranks = {
        name: float(stats.spearmanr(v.values, found["leave-one-out"].values).statistic) for name, v in found.items()
    }
    return {
        "loss": -float(other(np.ones((1, n), bool))[0]),
        "curves": {name: values.tolist() for name, values in curves.items()},
        "evaluations": {name: v.evaluations + 3 * v.gradients for name, v in found.items()},
        "rank correlation with leave-one-out": ranks,
        "seconds": {"training": trained - began, "games": time.perf_counter() - trained},
    }


def report(cells: Mapping[str, Mapping[str, Any]]) -> None:
    for family in TASKS:
        own = [c for name, c in cells.items() if name.startswith(family)]
        if not own:
            continue
        losses = ", ".join(f"{c['loss']:.3f}" for c in own)
        seconds = np.sum([[c["seconds"]["training"], c["seconds"]["games"]] for c in own], axis=0)
        print(f"\n{family}, {len(own)} seeds, loss {losses} nats per predicted token; "
              f"{seconds[0]:.0f} s training, {seconds[1]:.0f} s games\n")  # fmt: skip
        areas = {name: np.array([np.mean(c["curves"][name]) for c in own]) for name in own[0]["curves"]}
        rows = []
        for name, area in areas.items():
            curves = np.array([c["curves"][name] for c in own])
            quarter, half = (curves[:, round(curves.shape[1] * part) - 1].mean() for part in (1 / 3, 2 / 3))
            own_ranks = [c["rank correlation with leave-one-out"].get(name, np.nan) for c in own]
            rows.append(
                [
                    name,
                    confidence_interval(area).plus_minus("+.4f"),
                    f"{np.median(area):+.4f}",
                    "" if name == "banzhaf" else confidence_interval(area - areas["banzhaf"]).plus_minus("+.4f"),
                    f"{quarter:.3f}",
                    f"{half:.3f}",
                    "" if name == "random" else f"{np.mean(own_ranks):.2f}",
                    own[0]["evaluations"].get(name, 0),
                ]
            )
        areas_of = ("area, nats: mean", "median", "minus banzhaf's")
        head = ["utility", *areas_of, "at 25 %", "at 50 %", "rank corr. with LOO", "cost, passes"]
        print(table(head, rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/pruning"), help="where cells are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    folder = os.environ.get("ARENA_DATA")
    if not folder:
        print("ARENA_DATA does not name the folder of data sets", file=sys.stderr)
        return 2
    print(machine())
    arguments.output.mkdir(parents=True, exist_ok=True)
    cells: dict[str, Any] = {}
    train, held = text(Path(folder))
    for family, task in TASKS.items():
        parts: dict[str, Any] = {}
        for seed in range(arguments.seeds):
            name = f"{family}-{seed}"
            kept = arguments.output / f"{name}-{arguments.steps}.json"
            if not kept.exists():
                if not parts:
                    tokenizer = data.train_tokenizer(train, family, vocab_size=VOCABULARY)
                    parts = {"tokenizer": tokenizer} | {
                        split: data.encode(rows, tokenizer, task=task, max_length=LENGTH)
                        for split, rows in (("train", train), ("held", held))
                    }
                result = cell(family, seed, parts, arguments.steps)
                temporary = kept.with_suffix(".part")
                temporary.write_text(json.dumps(result))
                temporary.rename(kept)
                jax.clear_caches()
                print(f"{name}: loss {result['loss']:.3f}, {sum(result['seconds'].values()):.0f} s", flush=True)
            cells[name] = json.loads(kept.read_text())
    report(cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
