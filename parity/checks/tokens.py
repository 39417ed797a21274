"""Layer 7: tokenised batches and labels against ``transformers``' tokenizers and data collators."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from arena_jax import data, training
from parity.case import scratch
from parity.checks.metrics import Fixed, questions, tokenizer, window_spans
from parity.measure import Measurement, compare, exactly
from parity.reference import squad
from parity.reference.models import FAMILIES
from parity.registry import Check

IGNORED = -100
SENTENCES = (
    "In 1969 two people walked on the moon",
    "the flight took eight days",
    "",
    "a third stayed in orbit; unheard-of words too: Überraschung, naïve, x_y!",
    "On " * 30 + "and on",
)


@functools.cache
def both(family: str) -> tuple[data.Tokenizer, Any]:
    """Our tokenizer, and the one that ``transformers`` reads from the folder we save."""
    ours = tokenizer(family)
    folder = scratch() / f"tokenizer-{family}"
    ours.save(folder)
    return ours, transformers.AutoTokenizer.from_pretrained(folder)


def same_batch(ours: data.Batch, theirs: Any, where: str) -> Iterator[Measurement]:
    """Every array that both have, number for number; the inputs must be among them."""
    names = ["input_ids", "attention_mask", "labels", "token_type_ids", "start_positions", "end_positions"]
    shared = [name for name in names if name in ours and name in theirs]
    yield exactly(where + f"inputs among {shared}", {"input_ids", "attention_mask"} <= set(shared))
    for name in shared:
        yield exactly(where + name, np.array_equal(ours[name], np.asarray(theirs[name])))


def texts(family: str) -> Iterator[Measurement]:
    """Single texts and pairs, cut and padded, with their labels."""
    ours, theirs = both(family)
    labels = [0, 1, 1, 0, 1]
    pairs = list(reversed(SENTENCES))
    for name, columns in (("texts", {"text": SENTENCES}), ("pairs", {"text": SENTENCES, "text_pair": pairs})):
        source = data.Dataset(name, "sequence-classification", "all", {**columns, "label": labels}, ("no", "yes"))
        rows = data.encode(source, ours, max_length=24)
        (batch,) = data.evaluation_batches(rows, len(SENTENCES))
        features = []
        for i, label in enumerate(labels):
            given = ([SENTENCES[i]],) if name == "texts" else ([SENTENCES[i]], [pairs[i]])
            found = {key: value[0] for key, value in theirs(*given, truncation=True, max_length=24).items()}
            if not found["input_ids"]:  # no token at all: a single end of text stands in, so that no example is lost
                found = {"input_ids": [theirs.eos_token_id], "attention_mask": [1]}
            features.append({**found, "label": label})
        collate = transformers.DataCollatorWithPadding(
            theirs, padding="max_length", max_length=batch["input_ids"].shape[1]
        )
        yield from same_batch(batch, collate(features), f"{name}: ")


def tags(family: str) -> Iterator[Measurement]:
    """Words with tags: the first piece of each carries it."""
    ours, theirs = both(family)
    words = [sentence.split() for sentence in SENTENCES if sentence]
    labels = [[(i + j) % 3 for j in range(len(row))] for i, row in enumerate(words)]
    source = data.Dataset(
        "tags", "token-classification", "all", {"words": words, "labels": labels}, ("O", "B-x", "I-x")
    )
    rows = data.encode(source, ours, max_length=20)
    (batch,) = data.evaluation_batches(rows, len(words))
    if family != "bert":
        theirs = transformers.AutoTokenizer.from_pretrained(scratch() / f"tokenizer-{family}")
        theirs.backend_tokenizer.pre_tokenizer.add_prefix_space = True  # what its own classes do when given words
    features = []
    for row, tagged in zip(words, labels, strict=True):
        found = theirs(row, is_split_into_words=True, truncation=True, max_length=20)
        numbers, seen, aligned = found.word_ids(), set(), []
        for number in numbers:
            aligned.append(IGNORED if number is None or number in seen else tagged[number])
            seen.add(number)
        features.append({**found, "labels": aligned})
    length = batch["input_ids"].shape[1]
    collate = transformers.DataCollatorForTokenClassification(theirs, padding="max_length", max_length=length)
    yield from same_batch(batch, collate(features), "tags: ")


def windows(family: str) -> Iterator[Measurement]:
    """Windows over contexts, the tokens' places in the text, and the answers as first and last token."""
    ours, theirs = both(family)
    asked = questions().columns
    length, stride = 28, 5
    rows = data.encode(questions(), ours, max_length=length, stride=stride)
    found = theirs(
        list(asked["question"]),
        list(asked["context"]),
        truncation="only_second",
        max_length=length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    yield exactly(f"{len(rows)} windows", len(rows) == len(found["input_ids"]))
    features, inside = [], 0
    for i, (ids, example) in enumerate(zip(found["input_ids"], found["overflow_to_sample_mapping"], strict=True)):
        kinds = found.sequence_ids(i)
        spans = [tuple(s) if k == 1 else None for s, k in zip(found["offset_mapping"][i], kinds, strict=True)]
        yield exactly(f"window {i}: places of the tokens", window_spans(rows, i) == spans)
        text, first = asked["answers"][example][0]
        start, end = squad.answer_tokens(spans, first, text)
        inside += end > 0
        feature = {"input_ids": ids, "attention_mask": found["attention_mask"][i]}
        features.append({**feature, "start_positions": start, "end_positions": end})
    yield exactly("some windows hold their answer and some do not", 0 < inside < len(features))
    (batch,) = data.evaluation_batches(rows, len(rows))
    width = batch["input_ids"].shape[1]
    collate = transformers.DataCollatorWithPadding(theirs, padding="max_length", max_length=width)
    yield from same_batch(batch, collate(features), "windows: ")


def language(family: str, task: str) -> tuple[data.Batch, Any]:
    """A batch of packed text, the last row of which is padded, with ``transformers``' tokenizer."""
    ours, theirs = both(family)
    source = data.Dataset("text", "language-model", "all", {"text": [*SENTENCES, *questions().columns["context"]]})
    rows = data.encode(source, ours, task=task, max_length=16)
    (batch,) = data.evaluation_batches(rows, len(rows))
    return batch, theirs


def next_tokens(family: str) -> Iterator[Measurement]:
    """Which tokens are predicted: the loss under given logits with the collator's labels."""
    batch, theirs = language(family, "causal-lm")
    collate = transformers.DataCollatorForLanguageModeling(theirs, mlm=False)
    features = [
        {"input_ids": ids[mask == 1].tolist()}
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    with_pads = collate(features)
    if theirs.pad_token_id == theirs.eos_token_id:
        # The collator cannot tell padding from the end of a text then; the mask can.
        with_pads["labels"] = torch.where(with_pads["attention_mask"] == 1, with_pads["input_ids"], IGNORED)
    width = with_pads["input_ids"].shape[1]
    logits = np.random.default_rng(1).normal(size=(*batch["input_ids"].shape, len(theirs))).astype(np.float32)
    given = {name: jnp.asarray(value) for name, value in batch.items()}
    sums = training.next_token(Fixed(logits), given, jax.random.key(0), False).sums
    shifted = torch.from_numpy(logits[:, : width - 1]).double().flatten(0, 1), with_pads["labels"][:, 1:].flatten()
    wanted = torch.nn.functional.cross_entropy(*shifted, ignore_index=IGNORED, reduction="sum")
    yield exactly("number of predicted tokens", int(sums["count"]) == int((shifted[1] != IGNORED).sum()))
    yield from compare({"loss": sums["loss_sum"]}, {"loss": wanted}, "with the collator's labels: ")


def masked_tokens(family: str) -> Iterator[Measurement]:
    """Labels stand where tokens are hidden and nowhere else; how many, and what becomes of them, as the collator."""
    batch, theirs = language(family, "masked-lm")
    copies = 200
    ids = np.tile(batch["input_ids"], (copies, 1))
    special = np.tile(batch["special_tokens_mask"] | (1 - batch["attention_mask"]), (copies, 1))
    theirs_mask = [
        theirs.get_special_tokens_mask(row.tolist(), already_has_special_tokens=True) for row in batch["input_ids"]
    ]
    unknown = batch["input_ids"] == theirs.unk_token_id
    agreed = np.array_equal(np.array(theirs_mask), batch["special_tokens_mask"] | unknown.astype(np.int32))
    yield exactly("special tokens", agreed or np.array_equal(np.array(theirs_mask), batch["special_tokens_mask"]))
    drawn = training.mask_tokens(
        jax.random.key(2),
        jnp.asarray(ids),
        jnp.asarray(1 - special),
        mask_token_id=theirs.mask_token_id,
        vocab_size=len(theirs),
    )
    ours_ids, labels = np.asarray(drawn.input_ids), np.full(ids.shape, IGNORED)
    r, c = np.nonzero(np.asarray(drawn.weight))
    labels[r, np.asarray(drawn.positions)[r, c]] = np.asarray(drawn.targets)[r, c]
    yield exactly("labels are the hidden tokens", bool((labels[labels != IGNORED] == ids[labels != IGNORED]).all()))
    yield exactly("other tokens stay", bool((ours_ids[labels == IGNORED] == ids[labels == IGNORED]).all()))
    yield exactly("special tokens and padding stay", bool((labels[special == 1] == IGNORED).all()))
    model = Fixed(np.zeros((*batch["input_ids"].shape, len(theirs)), np.float32))
    objective = training.masked_token(theirs.mask_token_id, vocab_size=len(theirs), rate=1.0)
    objective(model, {name: jnp.asarray(value) for name, value in batch.items()}, jax.random.key(4), True)
    kept = np.asarray(model.seen) == batch["input_ids"]
    closed = batch["special_tokens_mask"] == 1
    yield exactly("the objective hides no special token and no padding", bool(kept[closed].all()))
    yield exactly("the objective hides other tokens", bool((~kept[~closed]).mean() > 0.5))
    collate = transformers.DataCollatorForLanguageModeling(theirs, mlm=True, mlm_probability=0.15, seed=3)
    made = collate(
        [{"input_ids": row, "special_tokens_mask": m} for row, m in zip(ids.tolist(), special.tolist(), strict=True)]
    )
    mine = shares(ids, ours_ids, labels, special, theirs)
    other = shares(ids, made["input_ids"].numpy(), made["labels"].numpy(), special, theirs)
    for name, (share, total) in mine.items():
        reference, count = other[name]
        spread = math.sqrt(reference * (1 - reference) * (1 / total + 1 / count))
        # A row's share is rounded to whole tokens, 2 of 14 at most: half a token per row is what that may cost.
        slack = 0.5 / 14 if name == "hidden" else 0.0
        yield exactly(
            f"share {name}: {share:.4f}, collator {reference:.4f}", abs(share - reference) <= 5 * spread + slack
        )


def shares(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, special: np.ndarray, theirs: Any
) -> dict[str, Any]:
    """What part of the tokens is hidden, and what part of those became the mask, another token, or stayed."""
    hidden, may = labels != IGNORED, special == 0
    mask = hidden & (after == theirs.mask_token_id)
    same = hidden & (after == before)
    count = int(hidden.sum())
    parts = {"hidden": (count / may.sum(), int(may.sum())), "masked": (mask.sum() / count, count)}
    return {
        **parts,
        "unchanged": (same.sum() / count, count),
        "replaced": ((hidden & ~mask & ~same).sum() / count, count),
    }


def checks() -> list[Check]:
    """The layer's checks."""
    found = []
    for f in FAMILIES:
        exact = {"sequence-classification": texts, "token-classification": tags}
        if f != "gpt2":
            exact |= {"question-answering": windows, "masked-lm": masked_tokens}
        else:
            exact |= {"question-answering": windows}
        found += [Check("batches and labels", f, task, "int32", partial(run, f), 0.0) for task, run in exact.items()]
        found.append(Check("batches and labels", f, "causal-lm", "float32", partial(next_tokens, f)))
    return found
