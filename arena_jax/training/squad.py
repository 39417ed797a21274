"""Answers as spans of text: read off start and end logits, and scored as the official SQuAD script does."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.encoded import Encoded

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Bring an answer into the form in which it is compared.

    Args:
        text: an answer.

    Returns:
        It in lower case, without ASCII punctuation and English articles, with single spaces.

    Example:
        >>> normalize_answer(" The  Eiffel-Tower!")
        'eiffeltower'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def answer_scores(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Score one answer against those of several people.

    Args:
        prediction: the model's answer.
        answers: what people answered; none means that there is no answer (SQuAD 2), and "" is then right.

    Returns:
        (exact match, F1 of the bags of words), each the best over the people, in [0, 1].

    Example:
        >>> answer_scores("the Denver Broncos", ["Broncos", "Denver Broncos"])
        (1.0, 1.0)
        >>> answer_scores("Denver", ["Denver Broncos"])
        (0.0, 0.6666666666666666)

    Source:
        Rajpurkar et al. 2016; the definitions of evaluate-v1.1.py, and of version 2.0 where there is no answer.
    """
    predicted = normalize_answer(prediction)
    if not answers:
        score = float(not predicted)
        return score, score
    exact = f1 = 0.0
    words = Counter(predicted.split())
    for answer in answers:
        accepted = normalize_answer(answer)
        exact = max(exact, float(predicted == accepted))
        true = Counter(accepted.split())
        shared = (words & true).total()
        if shared:
            precision, recall = shared / words.total(), shared / true.total()
            f1 = max(f1, 2 * precision * recall / (precision + recall))
    return exact, f1


class Answers:
    """Collects logits over all windows of all questions, and says the best span of each.

    Of each window the `n_best` starts and ends with the largest logits are paired; a span lies in the context,
    does not end before it starts and has at most `max_answer_length` tokens; the largest start + end logit over
    all windows wins. If some question has no answer (SQuAD 2), the first token stands for "no answer": it
    wins where its smallest logit sum over the windows is larger than that of every span.

    Args:
        rows: questions from `data.encode`.
        n_best: starts and ends considered per window.
        max_answer_length: tokens.

    Raises:
        ArenaError: the rows are not questions.
    """

    def __init__(self, rows: Encoded, *, n_best: int = 20, max_answer_length: int = 30) -> None:
        if rows.offsets is None:
            raise ArenaError(f"rows for {rows.task} have no spans; answers are read off question-answering only")
        self._rows = rows
        self._offsets = rows.offsets
        self._n_best = n_best
        self._longest = max_answer_length
        self._contexts: Sequence[str] = rows.source.columns["context"]
        self._true = [[text for text, _ in answers] for answers in rows.source.columns["answers"]]
        self._may_be_empty = not all(self._true)
        self._best: dict[int, tuple[float, int, int]] = {}
        self._null: dict[int, float] = {}

    def add(
        self,
        feature_index: np.ndarray,
        start_logits: np.ndarray,
        end_logits: np.ndarray,
        valid: np.ndarray | None = None,
    ) -> None:
        """Take in a batch of windows; the order does not matter.

        Args:
            feature_index: (B,) int, the batch's "feature_index".
            start_logits: (B, L).
            end_logits: (B, L).
            valid: (B,) bool, False for rows that do not count.
        """
        features = np.asarray(feature_index)
        starts, ends = np.asarray(start_logits, np.float64), np.asarray(end_logits, np.float64)
        for row in range(len(features)) if valid is None else np.flatnonzero(np.asarray(valid)):
            feature = int(features[row])
            offsets = self._offsets[feature]
            start, end = starts[row, : len(offsets)], ends[row, : len(offsets)]
            question = int(self._rows.columns["example_index"][feature])
            null = float(start[0] + end[0])
            self._null[question] = min(null, self._null.get(question, null))
            first = np.argsort(-start, kind="stable")[: self._n_best]
            last = np.argsort(-end, kind="stable")[: self._n_best]
            length = last[None, :] - first[:, None]
            inside = (offsets[first, 0] >= 0)[:, None] & (offsets[last, 0] >= 0)[None, :]
            possible = inside & (length >= 0) & (length < self._longest)
            if not possible.any():
                continue
            score = np.where(possible, start[first][:, None] + end[last][None, :], -np.inf)
            i, j = np.unravel_index(int(score.argmax()), score.shape)
            best = (float(score[i, j]), int(offsets[first[i], 0]), int(offsets[last[j], 1]))
            if question not in self._best or best[0] > self._best[question][0]:
                self._best[question] = best

    def texts(self) -> list[str]:
        """The best answer to each question.

        Returns:
            One text per question, in the order of the examples; "" where no span was possible.

        Raises:
            ArenaError: some question has not been seen.
        """
        missing = len(self._true) - len(self._null)
        if missing:
            raise ArenaError(f"{missing:,} of {len(self._true):,} questions have no logits yet; score all rows first")
        answers = []
        for question, context in enumerate(self._contexts):
            score, first, last = self._best.get(question, (-np.inf, 0, 0))
            empty = self._may_be_empty and self._null[question] > score
            answers.append("" if empty else context[first:last])
        return answers

    def scores(self) -> list[tuple[float, float]]:
        """Exact match and F1 of each question, in the order of the examples."""
        return [answer_scores(text, true) for text, true in zip(self.texts(), self._true, strict=True)]

    def sums(self) -> dict[str, float]:
        """Score all answers.

        Returns:
            "exact_sum", "f1_sum" and "questions", to be divided by `metrics.ratios`.
        """
        scores = self.scores()
        exact, f1 = np.asarray(scores, np.float64).sum(0)
        return {"exact_sum": float(exact), "f1_sum": float(f1), "questions": float(len(scores))}
