"""Named entities in tag sequences, as seqeval and the CoNLL script find them, also where tags are malformed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from arena_jax.data.tags import Scheme, scheme_of

IGNORED = -100  # a label that is not scored: special tokens, padding, later pieces of a word


def entities(tags: Sequence[str], scheme: Scheme | None = None) -> list[tuple[str, int, int]]:
    """Find the entities in one sentence.

    A token outside any entity is "O". An entity begins at a "B-" or "S-" tag, after an "O", "E-" or "S-" tag, and
    wherever the type changes: so a stray "I-x" begins one. It goes on until the next beginning or "O". Tags of BMES and
    BMEWO are read as IOBES first. In BILOU only well-formed entities count: U, or B, any I and L of one type.

    Args:
        tags: such as "B-person", "I-person", "O".
        scheme: that the tags follow, from :func:`arena_jax.data.tags.scheme_of`; None: prefixes of IOBES before a "-".

    Returns:
        (type, first token, last token) of each, in order.

    Example:
        >>> entities(["B-per", "I-per", "O", "I-loc", "I-org", "B-org"])
        [('per', 0, 1), ('loc', 3, 3), ('org', 4, 4), ('org', 5, 5)]

    Source:
        The definition of the CoNLL-2000 script, which is the default of seqeval; for BILOU seqeval's strict mode.
    """
    if scheme is None:
        parts = [(prefix, kind) for prefix, _, kind in (tag.partition("-") for tag in tags)]
    else:
        parts = [scheme.read(tag) for tag in tags]
        if scheme.strict:
            return _whole_entities(parts)
    spans: list[tuple[str, int, int]] = []
    before, kind_before = "O", ""
    for index, (prefix, kind) in enumerate(parts):
        if prefix == "O":
            kind = ""
        elif prefix in ("B", "S") or before in ("O", "E", "S") or kind != kind_before:
            spans.append((kind, index, index))
        else:
            spans[-1] = (kind, spans[-1][1], index)
        before, kind_before = prefix, kind
    return spans


def _whole_entities(parts: Sequence[tuple[str, str]]) -> list[tuple[str, int, int]]:
    """The well-formed entities of BILOU."""
    spans, begin = [], None
    for index, (prefix, kind) in enumerate(parts):
        goes_on = begin is not None and kind == parts[begin][1]
        if prefix == "U":
            spans.append((kind, index, index))
            begin = None
        elif prefix == "B":
            begin = index
        elif prefix == "L" and goes_on:
            assert begin is not None
            spans.append((kind, begin, index))
            begin = None
        elif prefix != "I" or not goes_on:
            begin = None
    return spans


def is_entity_scheme(label_names: Iterable[str]) -> bool:
    """Whether tags mark entities, in one of the schemes of :mod:`arena_jax.data.tags`.

    Args:
        label_names: all tags.

    Returns:
        True if so; part-of-speech tags, for one, do not.

    Example:
        >>> is_entity_scheme(["O", "B-x", "I-x"]), is_entity_scheme(["NOUN", "VERB"])
        (True, False)
    """
    return scheme_of(label_names) is not None


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
    scheme = scheme_of(label_names)
    true_count = predicted_count = correct_count = 0
    rows = range(len(labels)) if valid is None else np.flatnonzero(np.asarray(valid))
    for row in rows:
        scored = labels[row] != IGNORED
        true = set(entities([label_names[tag] for tag in labels[row][scored]], scheme))
        predicted = set(entities([label_names[tag] for tag in predictions[row][scored]], scheme))
        true_count += len(true)
        predicted_count += len(predicted)
        correct_count += len(true & predicted)
    return {
        "entities_true": float(true_count),
        "entities_predicted": float(predicted_count),
        "entities_correct": float(correct_count),
    }
