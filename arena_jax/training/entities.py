"""Named entities in tag sequences, as seqeval and the CoNLL script find them, also where tags are malformed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

IGNORED = -100  # a label that is not scored: special tokens, padding, later pieces of a word


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Find the entities in one sentence.

    A token outside any entity is "O". An entity begins at a "B-" or "S-" tag, after an "O", "E-" or "S-" tag, and
    wherever the type changes: so a stray "I-x" begins one. It goes on until the next beginning or "O".

    Args:
        tags: such as "B-person", "I-person", "O".

    Returns:
        (type, first token, last token) of each, in order.

    Example:
        >>> entities(["B-per", "I-per", "O", "I-loc", "I-org", "B-org"])
        [('per', 0, 1), ('loc', 3, 3), ('org', 4, 4), ('org', 5, 5)]

    Source:
        The definition of the CoNLL-2000 script, which is the default of seqeval.
    """
    spans: list[tuple[str, int, int]] = []
    before, kind_before = "O", ""
    for index, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == "O":
            kind = ""
        elif prefix in ("B", "S") or before in ("O", "E", "S") or kind != kind_before:
            spans.append((kind, index, index))
        else:
            spans[-1] = (kind, spans[-1][1], index)
        before, kind_before = prefix, kind
    return spans


def is_entity_scheme(label_names: Iterable[str]) -> bool:
    """Tell whether tags mark entities: each is "O" or has one of the prefixes B-, I-, E-, S-.

    Args:
        label_names: all tags.

    Returns:
        True if so; part-of-speech tags, for one, do not.

    Example:
        >>> is_entity_scheme(["O", "B-x", "I-x"]), is_entity_scheme(["NOUN", "VERB"])
        (True, False)
    """
    names = list(label_names)
    marked = [name for name in names if name != "O"]
    return bool(marked) and all(name[:2] in ("B-", "I-", "E-", "S-") for name in marked)


def entity_sums(
    labels: np.ndarray, predictions: np.ndarray, label_names: Sequence[str], valid: Iterable[bool] | None = None
) -> dict[str, float]:
    """Count the entities of a batch for precision, recall and F1.

    Args:
        labels: (B, L) int, true tag per token; -100 is not scored.
        predictions: (B, L) int, predicted tag per token.
        label_names: name of each tag.
        valid: (B,) bool, False for rows that do not count.

    Returns:
        "entities_true", "entities_predicted" and "entities_correct" (same type, same first and last token).

    Example:
        >>> names = ["O", "B-x", "I-x"]
        >>> entity_sums(np.array([[1, 2, -100]]), np.array([[1, 0, 1]]), names)
        {'entities_true': 1.0, 'entities_predicted': 1.0, 'entities_correct': 0.0}
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    true_count = predicted_count = correct_count = 0
    rows = range(len(labels)) if valid is None else np.flatnonzero(np.asarray(valid))
    for row in rows:
        scored = labels[row] != IGNORED
        true = set(entities([label_names[tag] for tag in labels[row][scored]]))
        predicted = set(entities([label_names[tag] for tag in predictions[row][scored]]))
        true_count += len(true)
        predicted_count += len(predicted)
        correct_count += len(true & predicted)
    return {
        "entities_true": float(true_count),
        "entities_predicted": float(predicted_count),
        "entities_correct": float(correct_count),
    }
