"""Layer 6: scores against seqeval, SQuAD's official definitions and scikit-learn."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from arena_jax import data, training
from arena_jax.training import metrics
from arena_jax.training.squad import Answers, answer_scores, normalize_answer
from parity.measure import Measurement, compare, exactly
from parity.reference import squad
from parity.registry import ALL, Check

TOLERANCE = 1e-10
TAGS = ("O", "B-per", "I-per", "B-loc", "I-loc", "E-loc", "S-org", "B-org", "I-org")


def entity_scores() -> Iterator[Measurement]:
    """Entity precision, recall and F1 of random tags, well formed and not, against seqeval."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    for seed in range(40):
        generator = np.random.default_rng(seed)
        kinds = len(TAGS) if seed % 2 else 5
        truth = generator.integers(0, kinds, (6, 12))
        guess = np.where(generator.random(truth.shape) < 0.6, truth, generator.integers(0, kinds, truth.shape))
        if seed % 5 == 0:
            guess = np.zeros_like(guess)  # nothing predicted
        labels = np.where(generator.random(truth.shape) < 0.2, -100, truth)
        valid = generator.random(6) < 0.8
        sums = metrics.total(
            [metrics.entity_sums(labels[i : i + 2], guess[i : i + 2], TAGS, valid[i : i + 2]) for i in (0, 2, 4)]
        )
        ours = metrics.ratios(sums)
        rows = [row for row in range(6) if valid[row]]
        true = [[TAGS[t] for t, lab in zip(truth[r], labels[r], strict=True) if lab != -100] for r in rows]
        predicted = [[TAGS[g] for g, lab in zip(guess[r], labels[r], strict=True) if lab != -100] for r in rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # seqeval warns where nothing was predicted, and of malformed tags
            wanted = {
                "entity_precision": precision_score(true, predicted),
                "entity_recall": recall_score(true, predicted),
                "entity_f1": f1_score(true, predicted),
            }
        yield from compare(ours, wanted, f"tags {seed}: ")


WORDS = (
    "the",
    "The",
    "a",
    "an",
    "Denver",
    "Broncos",
    "broncos,",
    "(1969)",
    "1969",
    "U.S.",
    "it's",
    "its",
    "café",
    "—",
    "A.",
    "x_y",
)


def answers() -> Iterator[Measurement]:
    """Normalised text, exact match and F1 of random answers."""
    generator = random.Random(0)
    for number in range(300):
        prediction, *truths = (
            generator.choice((" ", "  ", "\t")).join(generator.choices(WORDS, k=generator.randint(0, 5)))
            for _ in range(1 + generator.randint(1, 3))
        )
        yield exactly(f"normal form of {prediction!r}", normalize_answer(prediction) == squad.normalized(prediction))
        exact, f1 = answer_scores(prediction, truths)
        wanted = {"exact": squad.exact_match(prediction, truths), "F1": squad.f1(prediction, truths)}
        yield from compare({"exact": exact, "F1": f1}, wanted, f"answer {number}, {prediction!r} for {truths}: ")


def questions() -> data.Dataset:
    """A few questions over a text, with answers inside words' bounds and across them."""
    context = "In 1969 two people walked on the moon, while a third stayed in orbit; the flight took eight days in all."
    found = ["two people", "1969", "a third", "the moon", "eight days in all", "orbit; the flight"]
    asked = [f"question number {i} about it?" for i in range(len(found))]
    columns: dict[str, list[Any]] = {
        "id": [str(i) for i in range(len(found))],
        "question": asked,
        "context": [context] * len(found),
        "answers": [[(text, context.index(text))] for text in found],
    }
    return data.Dataset("moon", "question-answering", "all", columns)


def spans() -> Iterator[Measurement]:
    """The best answer over the windows of each question, from random logits, and the scores over all of them."""
    rows = data.encode(questions(), tokenizer("bert"), max_length=40, stride=6)
    generator = np.random.default_rng(7)
    length = rows.lengths[-1]
    for number in range(20):
        logits = generator.normal(size=(len(rows), length, 2)).astype(np.float32)
        ours = Answers(rows, n_best=length, max_answer_length=9)
        order = generator.permutation(len(rows))
        for part in np.array_split(order, 3):
            ours.add(part, logits[part, :, 0], logits[part, :, 1])
        wanted = []
        for question, context in enumerate(rows.source.columns["context"]):
            windows = [
                (window_spans(rows, row), logits[row, :, 0].tolist(), logits[row, :, 1].tolist())
                for row in range(len(rows))
                if rows.columns["example_index"][row] == question
            ]
            wanted.append(squad.best_answer(context, windows, 9))
        for question, (mine, other) in enumerate(zip(ours.texts(), wanted, strict=True)):
            yield exactly(f"logits {number}, question {question}: {mine!r}, wanted {other!r}", mine == other)
        true = [[text for text, _ in found] for found in rows.source.columns["answers"]]
        sums = metrics.ratios(ours.sums())
        means = {
            "exact_match": np.mean([squad.exact_match(p, t) for p, t in zip(wanted, true, strict=True)]),
            "f1": np.mean([squad.f1(p, t) for p, t in zip(wanted, true, strict=True)]),
        }
        yield from compare(sums, means, f"logits {number}: ")


def window_spans(rows: data.Encoded, row: int) -> list[tuple[int, int] | None]:
    """Each token's characters in the context, or None."""
    assert rows.offsets is not None
    return [None if first < 0 else (int(first), int(last)) for first, last in rows.offsets[row]]


def tokenizer(family: str) -> data.Tokenizer:
    """One trained on the questions' words."""
    texts = [*questions().columns["question"], *questions().columns["context"], " ".join(WORDS)]
    return data.train_tokenizer(texts, family, vocab_size=400, min_frequency=1)


class Fixed:
    """A model whose logits are given, for objectives: what they count does not depend on where logits come from."""

    def __init__(self, logits: np.ndarray):
        self.logits = jnp.asarray(logits)
        self.seen: Any = None

    def __call__(self, input_ids: Any, *unused: Any, key: Any = None, **ignored: Any) -> Any:
        return self.logits

    def encode(self, input_ids: Any, *unused: Any, key: Any = None, **ignored: Any) -> Any:
        self.seen = input_ids  # after the objective has hidden what it hides
        return self.logits

    def predict_tokens(self, hidden: Any) -> Any:
        return hidden


def classes() -> Iterator[Measurement]:
    """Accuracy and loss over batches, the last one filled up, against scikit-learn."""
    import jax
    from sklearn.metrics import accuracy_score, log_loss

    generator, rows, count = np.random.default_rng(8), 10, 3
    logits, labels = generator.normal(size=(rows, count)), generator.integers(0, count, rows)
    parts = []
    for start in range(0, rows, 4):
        index = np.minimum(np.arange(start, start + 4), rows - 1)
        batch: Any = {
            "input_ids": np.ones((4, 2), np.int32),
            "labels": labels[index],
            "valid": np.arange(start, start + 4) < rows,
        }
        batch = {name: jnp.asarray(value) for name, value in batch.items()}
        parts.append(training.classification(Fixed(logits[index]), batch, jax.random.key(0), False).sums)
    ours = metrics.ratios(metrics.total(parts))
    probabilities = np.exp(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    wanted = {
        "accuracy": accuracy_score(labels, logits.argmax(1)),
        "loss": log_loss(labels, probabilities, labels=range(count)),
    }
    yield from compare(ours, wanted, "classification: ")


def perplexity() -> Iterator[Measurement]:
    """Perplexity and bits per byte over two batches of different fill, against PyTorch's cross-entropy."""
    import jax

    generator, vocabulary = np.random.default_rng(9), 11
    parts, losses, sizes = [], [], 0.0
    for fill in (6, 3):
        logits, ids = (
            generator.normal(size=(2, 6, vocabulary)),
            generator.integers(0, vocabulary, (2, 6)).astype(np.int32),
        )
        mask = np.repeat((np.arange(6) < fill)[None].astype(np.int32), 2, axis=0)
        batch: Any = {"input_ids": ids, "attention_mask": mask, "bytes": np.array([20.0, 17.0], np.float32)}
        batch = {name: jnp.asarray(value) for name, value in batch.items()}
        parts.append(training.next_token(Fixed(logits), batch, jax.random.key(0), False).sums)
        kept = torch.from_numpy(logits[:, : fill - 1]).flatten(0, 1), torch.from_numpy(ids[:, 1:fill]).flatten().long()
        losses += torch.nn.functional.cross_entropy(*kept, reduction="none").tolist()
        sizes += 37.0
    ours = metrics.ratios(metrics.total(parts))
    wanted = {
        "loss": np.mean(losses),
        "perplexity": math.exp(float(np.mean(losses))),
        "bits_per_byte": sum(losses) / math.log(2) / sizes,
    }
    yield from compare({name: ours[name] for name in wanted}, wanted, "language model: ")


def in_float64(run: Any) -> Iterator[Measurement]:
    """The same, with 64-bit numbers on."""
    from parity.case import precision

    with precision("float64"):
        yield from run()


def checks() -> list[Check]:
    """The layer's checks."""
    return [
        Check("entity scores", ALL, "token-classification", "float64", entity_scores, TOLERANCE),
        Check("answer scores", ALL, "question-answering", "float64", answers, TOLERANCE),
        Check("best spans", ALL, "question-answering", "float64", spans, TOLERANCE),
        Check("accuracy", ALL, "sequence-classification", "float64", partial(in_float64, classes), TOLERANCE),
        Check("perplexity", ALL, "causal-lm", "float64", partial(in_float64, perplexity), TOLERANCE),
    ]
