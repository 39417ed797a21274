"""What should be pruned first? The game's values against the criteria of the literature, on six small models.

    ARENA_DATA=FOLDER python -m benchmarks.pruning                   # six cells of a few minutes on 2 cores; resumes
    ARENA_DATA=FOLDER python -m benchmarks.pruning --only gpt2-0     # one cell

The plan, fixed before the first final cell:

- Models (4 blocks, 4 heads, 64 wide, 256 neurons in 4 groups), two seeds each: GPT-2 on WikiText-103, BERT and RoBERTa
  on SST-2, from random weights.
- Heads and neurons: the same share of every block goes (25, 50, 75 %), so that all criteria give models of one shape
  and speed. Arms: criteria × repair (the mean in the bias; output maps refitted by least squares), and at 50 %, of
  three criteria, × recovery by 30 steps of training. Blocks (1 and 2 of 4) and single weights (25, 50, 75 %) beside
  them.
- Criteria see training text only, and half of the held-out text (the game's probe); the score is the increase of the
  loss on the other half, nats. Intervals are Student's, 95 %, over the six models; differences are paired by model.
- Decision: the criterion with the lowest mean over 25 and 50 % (repaired by the mean, not trained further) becomes the
  default of `game prune`; if the default, banzhaf, is not distinguishable from it, the one that costs fewer passes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from arena_jax import data, game, models, training
from arena_jax.compare.confidence import confidence_interval
from arena_jax.data.documents import read_documents
from arena_jax.training.objectives import objective_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import machine, table

CRITERIA = ("banzhaf", "leave-one-out", "sensitivity", "magnitude", "wanda", "least-squares", "random")
REPAIRS = ("mean", "least-squares")
SHARES, BLOCK_SHARES = (0.25, 0.5, 0.75), (0.25, 0.5)
RECOVERED, RECOVERY_STEPS = 0.5, 30
RECOVERED_CRITERIA = ("banzhaf", "magnitude", "least-squares")
BANZHAF_EVALUATIONS = 330
VOCABULARY, BATCH = 2048, 32
TASKS = {"gpt2": "causal-lm", "bert": "sequence-classification", "roberta": "sequence-classification"}
LENGTHS = {"causal-lm": 64, "sequence-classification": 32}
STEPS = {"causal-lm": 400, "sequence-classification": 800}
RATES = {"causal-lm": 3e-3, "sequence-classification": 1e-3}
INITIAL = {
    "gpt2": 0.02,
    "bert": 0.1,
    "roberta": 0.1,
}  # at 0.02 a BERT of this width had learned nothing after 400 steps
PROBE_ROWS = {"causal-lm": 16, "sequence-classification": 128}
SCORE_ROWS = {"causal-lm": 96, "sequence-classification": 432}

Batch = Mapping[str, Any]


def load(folder: Path, family: str) -> dict[str, Any]:
    """The data and the tokenizer of a family's task."""
    task = TASKS[family]
    if task == "causal-lm":
        where = folder / "wikitext" / "wt103-vocab"
        files = {"train": where / "train_prefix.tokens", "validation": where / "valid.tokens"}
        sets = {
            name: data.Dataset("wikitext", "language-model", name, {"text": read_documents(path)})
            for name, path in files.items()
        }
    else:
        sets = {split: data.load(str(folder / "sst2"), task=task, split=split) for split in ("train", "validation")}
    tokenizer = data.train_tokenizer(sets["train"], family, vocab_size=VOCABULARY)
    encoded = {name: data.encode(rows, tokenizer, task=task, max_length=LENGTHS[task]) for name, rows in sets.items()}
    return {"tokenizer": tokenizer, **encoded}


def stream(rows: data.Encoded, seed: int) -> Iterator[Batch]:
    batches = data.Batches(rows, seed=seed)
    while True:
        yield batches.next(BATCH)


def spread(rows: data.Encoded, start: int, stop: int, count: int, length: int, size: int = 16) -> list[Batch]:
    """Rows spread over a part of a set, as batches of one shape."""
    chosen = np.linspace(start, stop - 1, count).astype(int)
    return [rows.batch(chosen[i : i + size], length) for i in range(0, count, size)]


def train_model(family: str, seed: int, parts: Mapping[str, Any]) -> tuple[models.Transformer, Any]:
    task, tokenizer = TASKS[family], parts["tokenizer"]
    config = models.preset(
        f"{family}-tiny", vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id, hidden_size=64, num_layers=4,
        num_heads=4, intermediate_size=256, max_positions=LENGTHS[task] + 2, hidden_dropout=0.0, attention_dropout=0.0,
        initializer_range=INITIAL[family],
    )  # fmt: skip
    model, objective = models.create(config, task, seed=seed), objective_for(task)
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATES[task], STEPS[task] // 20, STEPS[task])
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))
    step = training.make_step({family: model}, optimizer, {family: objective}, seed=seed)
    state, batches = step.init(), stream(parts["train"], seed)
    for _ in range(STEPS[task]):
        state, _ = step(state, {family: next(batches)})
    return models.merge(step.structures[family], state.params[family]), objective


def loss_of(batches: list[Batch], objective: Any) -> Callable[[models.Transformer], float]:
    """The mean loss over batches, compiled once for each structure."""

    def sums(structure: Any, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        result = objective(models.merge(structure, params), batch, jax.random.key(0), False).sums
        return result["loss_sum"], result["count"]

    run = jax.jit(sums, static_argnums=0)
    numeric = [{name: x for name, x in batch.items() if np.asarray(x).dtype != object} for batch in batches]

    def loss(model: models.Transformer) -> float:
        structure, params = models.split(model)
        pairs = np.array([run(structure, params, batch) for batch in numeric], np.float64)
        return float(pairs[:, 0].sum() / pairs[:, 1].sum())

    return loss


def cell(family: str, seed: int, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Train one model, prune it by every arm; the increases of the loss."""
    began = time.perf_counter()
    task, train, validation = TASKS[family], parts["train"], parts["validation"]
    model, objective = train_model(family, seed, parts)
    trained, length, half = time.perf_counter(), LENGTHS[task], len(validation) // 2
    calibration = spread(train, 0, len(train), PROBE_ROWS[task], length)
    probe = spread(validation, 0, half, PROBE_ROWS[task], length)
    loss = loss_of(spread(validation, half, len(validation), SCORE_ROWS[task], length), objective)
    played = game.AblationGame(model, probe, objective, calibration=calibration, seed=seed)
    whole, players = loss(model), played.table
    arms: dict[str, float] = {}
    passes: dict[str, int] = {}
    batches = stream(train, seed + 100)
    for criterion in CRITERIA:
        if criterion == "banzhaf":
            values = game.measure(played, criterion, evaluations=BANZHAF_EVALUATIONS, seed=seed)
        else:
            values = game.score(played, criterion, seed=seed)
        passes[criterion] = values.evaluations + 3 * values.gradients
        for share in SHARES:
            removed = game.choose(values, players, share=share, even=True)
            for repair in REPAIRS:
                if repair == "mean":
                    pruned = game.prune(players, removed, played.observed.means).model(model)
                else:
                    refitted = game.refit_without(model, players, removed, calibration)
                    pruned = game.prune(players, removed).model(refitted)
                arms[f"parts/{criterion}/{repair}/{share}"] = loss(pruned) - whole
                if share == RECOVERED and criterion in RECOVERED_CRITERIA:
                    after = game.recover(
                        pruned,
                        objective,
                        lambda: next(batches),
                        RECOVERY_STEPS,
                        learning_rate=RATES[task] / 3,
                        seed=seed,
                    )
                    arms[f"parts/{criterion}/{repair}, trained/{share}"] = loss(after) - whole
    for criterion in game.BLOCK_CRITERIA:
        values = game.score_blocks(played, criterion, seed=seed)
        for share in BLOCK_SHARES:
            cut = game.remove_blocks(model.config, game.choose_blocks(values, share))
            arms[f"blocks/{criterion}/none/{share}"] = loss(cut.model(model)) - whole
    for criterion in game.WEIGHT_CRITERIA:
        for share in SHARES:
            sparse = game.sparsify(model, calibration, share, criterion=criterion, seed=seed)
            arms[f"weights/{criterion}/none/{share}"] = loss(sparse) - whole
    seconds = {"training": trained - began, "pruning": time.perf_counter() - trained}
    return {"loss": whole, "arms": arms, "passes": passes, "seconds": seconds}


def report(cells: Mapping[str, Mapping[str, Any]]) -> None:
    """Tables of all cells that there are."""
    print(f"{len(cells)} models, loss: " + ", ".join(f"{name} {c['loss']:.3f}" for name, c in cells.items()) + "\n")
    first = next(iter(cells.values()))
    for what in ("parts", "blocks", "weights"):
        names = [name.split("/") for name in first["arms"] if name.startswith(f"{what}/")]
        shares = sorted({name[3] for name in names}, key=float)
        rows = []
        for criterion, repair in dict.fromkeys((name[1], name[2]) for name in names):
            row: list[Any] = [criterion, repair]
            for share in shares:
                arm = f"{what}/{criterion}/{repair}/{share}"
                if arm not in first["arms"]:
                    row += ["", ""]
                    continue
                increases = np.array([c["arms"][arm] for c in cells.values()])
                base = np.array([c["arms"][f"{what}/magnitude/{repair}/{share}"] for c in cells.values()])
                less = (
                    confidence_interval(list(increases - base)).plus_minus("+.3f") if criterion != "magnitude" else ""
                )
                row += [confidence_interval(list(increases)).plus_minus("+.3f"), less]
            rows.append([*row, first["passes"].get(criterion, "") if what == "parts" else ""])
        heads = [head for s in shares for head in (f"{float(s):.0%}, nats", f"{float(s):.0%}, less magnitude")]
        print(f"{what}\n\n{table(['criterion', 'repair', *heads, 'passes'], rows)}\n")
    both = {
        c: np.array([np.mean([x["arms"][f"parts/{c}/mean/{s}"] for s in (0.25, 0.5)]) for x in cells.values()])
        for c in CRITERIA
    }
    best = min(both, key=lambda c: both[c].mean())
    rows = [
        [
            c,
            f"{both[c].mean():+.4f}",
            confidence_interval(list(both[c] - both[best])).plus_minus("+.4f") if c != best else "",
        ]
        for c in sorted(both, key=lambda c: both[c].mean())
    ]
    print("decision: the mean over 25 and 50 %, parts, repaired by the mean\n")
    print(table(["criterion", "nats", f"less {best}"], rows))


def main() -> int:
    """Run the cells that are missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/pruning"), help="where cells are kept")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", help="one cell, such as bert-1")
    arguments = parser.parse_args()
    folder = os.environ.get("ARENA_DATA")
    if not folder:
        print("ARENA_DATA does not name the folder of data sets", file=sys.stderr)
        return 2
    print(machine())
    arguments.output.mkdir(parents=True, exist_ok=True)
    cells: dict[str, Any] = {}
    for seed in range(arguments.seeds):
        for family in TASKS:
            name = f"{family}-{seed}"
            file = arguments.output / f"{name}.json"
            if not file.exists() and arguments.only in (None, name):
                result = cell(family, seed, load(Path(folder), family))
                temporary = file.with_suffix(".part")
                temporary.write_text(json.dumps(result))
                temporary.rename(file)
                jax.clear_caches()
                print(f"{name}: loss {result['loss']:.3f}, {sum(result['seconds'].values()):.0f} s", flush=True)
            if file.exists():
                cells[name] = json.loads(file.read_text())
    if cells:
        report(cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
