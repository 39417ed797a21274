"""SQuAD's official definitions (evaluate-v1.1.py, Rajpurkar et al. 2016), and BERT's labels and answers for it."""

from __future__ import annotations

import string
from collections.abc import Sequence

Span = tuple[int, int] | None


def normalized(answer: str) -> str:
    """Lower case, without punctuation, without the articles a, an, the, with single spaces; in this order."""
    kept = "".join(character for character in answer.lower() if character not in string.punctuation)
    words = []
    word = ""
    for character in kept + " ":
        # A word ends where the script's \\b would: at anything but a letter, digit or underscore.
        if character.isalnum() or character == "_":
            word += character
            continue
        words.append("" if word in ("a", "an", "the") else word)
        words.append(" " if character.isspace() else character)
        word = ""
    return " ".join("".join(w if w else " " for w in words).split())


def exact_match(prediction: str, truths: Sequence[str]) -> float:
    """1 if the prediction is one of the truths, after normalisation."""
    return float(any(normalized(prediction) == normalized(truth) for truth in truths))


def f1(prediction: str, truths: Sequence[str]) -> float:
    """The best overlap of words, counted with their multiplicity."""
    return max(_f1(normalized(prediction).split(), normalized(truth).split()) for truth in truths)


def _f1(prediction: list[str], truth: list[str]) -> float:
    left, common = list(truth), 0
    for word in prediction:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(truth)
    return 2 * precision * recall / (precision + recall)


def answer_tokens(spans: Sequence[Span], first: int, text: str) -> tuple[int, int]:
    """The first and last token of an answer in one window; (0, 0) where the window does not hold the whole answer.

    Args:
        spans: each token's characters [from, to) in the context; None for tokens of the question and special ones.
        first: the answer's first character.
        text: the answer.
    """
    last = first + len(text) - 1
    context = [i for i, span in enumerate(spans) if span is not None]
    if not context or spans[context[0]][0] > first or spans[context[-1]][1] <= last:  # type: ignore[index]
        return 0, 0
    start = max(i for i in context if spans[i][0] <= first)  # type: ignore[index]
    end = min(i for i in context if spans[i][1] > last)  # type: ignore[index]
    return start, end


def best_answer(
    context: str,
    windows: Sequence[tuple[Sequence[Span], Sequence[float], Sequence[float]]],
    longest: int = 30,
) -> str:
    """The text of the span with the largest start + end logit over all windows of one question; every span is tried."""
    best, answer = None, ""
    for spans, starts, ends in windows:
        for i, start in enumerate(spans):
            for j, end in enumerate(spans):
                if start is None or end is None or j < i or j - i + 1 > longest:
                    continue
                score = starts[i] + ends[j]
                if best is None or score > best:
                    best, answer = score, context[start[0] : end[1]]
    return answer
