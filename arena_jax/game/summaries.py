"""Summaries in one sentence (SciTLDR): written by a causal model, scored by ROUGE and BLEU, with floors beside them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from arena_jax import data, models
from arena_jax.config.errors import ArenaError
from arena_jax.equilibria.arguments import count

PROMPT = "\nTL;DR:"
METRICS = ("rouge1", "rouge2", "rougeL", "bleu")


class Papers(NamedTuple):
    """Abstracts and their summaries.

    Attributes:
        sentences: of each abstract.
        summaries: what people wrote, one or more for each.
    """

    sentences: list[list[str]]
    summaries: list[list[str]]


def load_papers(path: str | Path, limit: int | None = None) -> Papers:
    """Read a JSON-lines file with "source" (sentences) and "target" (summaries), as SciTLDR has it.

    Raises:
        ArenaError: no such file, a limit below 1, or lines of another form.
    """
    if limit is not None:
        count(limit, "the number of papers", "how many are read")
    papers = Papers([], [])
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()[:limit]
    except OSError as error:
        raise ArenaError(f"cannot read '{path}': {error.strerror or error}") from None
    except ValueError:  # also a NUL in the path
        raise ArenaError(f"cannot read '{path}': it is not UTF-8 text; give a file of JSON lines") from None
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            source, target = content["source"], content["target"]
            if not all(isinstance(part, list) and all(isinstance(t, str) for t in part) for part in (source, target)):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ArenaError(
                f"'{path}', line {number}: give an object with 'source' and 'target', lists of texts"
            ) from None
        if not source or not target:
            raise ArenaError(f"'{path}', line {number}: 'source' or 'target' is empty; leave the line out")
        papers.sentences.append(source)
        papers.summaries.append(target)
    if not papers.sentences:
        raise ArenaError(f"'{path}' holds no papers")
    return papers


def scores(predictions: Sequence[str], papers: Papers) -> dict[str, float]:
    """Score summaries: ROUGE F1 (the best over the people, in percent, averaged) and corpus BLEU.

    Args:
        predictions: one per paper.
        papers: what people wrote.

    Returns:
        ``rouge1``, ``rouge2``, ``rougeL``, ``bleu``, all from 0 to 100.

    Raises:
        ArenaError: another number of predictions, or rouge-score or sacrebleu is not installed.
    """
    if len(predictions) != len(papers.summaries):
        raise ArenaError(f"{len(predictions)} summaries for {len(papers.summaries)} papers; give one each")
    rouge, bleu = importlib.import_module("rouge_score.rouge_scorer"), importlib.import_module("sacrebleu")
    scorer = rouge.RougeScorer(list(METRICS[:3]), use_stemmer=True)
    rows = []
    for prediction, references in zip(predictions, papers.summaries, strict=True):
        reference_scores = [scorer.score(reference, prediction) for reference in references]
        rows.append([max(score[name].fmeasure for score in reference_scores) for name in METRICS[:3]])
    result = dict(zip(METRICS, (100 * np.mean(rows, axis=0)).tolist(), strict=False))
    # As many streams of references as anybody has; who has fewer repeats the last.
    most = max(map(len, papers.summaries))
    streams = [[refs[min(i, len(refs) - 1)] for refs in papers.summaries] for i in range(most)]
    return {**result, "bleu": float(bleu.corpus_bleu(list(predictions), streams).score)}


def floors(papers: Papers, seed: int = 0) -> dict[str, list[str]]:
    """What a summary must beat: the abstract's first sentence, and one at random."""
    random = np.random.default_rng(seed)
    return {
        "first sentence": [sentences[0] for sentences in papers.sentences],
        "random sentence": [sentences[random.integers(len(sentences))] for sentences in papers.sentences],
    }


def summarize(
    model: models.Transformer, tokenizer: data.Tokenizer, papers: Papers, *, tokens: int = 32, batch_size: int = 16
) -> list[str]:
    """Let a causal model go on after "abstract TL;DR:", always by its likeliest token.

    Args:
        model: of the task causal-lm.
        tokenizer: its own.
        papers: to summarise; abstracts are cut at their front where prompt and answer would not fit.
        tokens: longest summary.
        batch_size: papers at a time.

    Returns:
        One text per paper, up to its first line break.

    Raises:
        ArenaError: another task, or a model too short for the answer.
    """
    if model.task != "causal-lm":
        raise ArenaError(f"only a causal language model writes; this one's task is {model.task!r}")
    length = model.config.max_length
    if tokens >= length // 2:
        raise ArenaError(f"summaries of {tokens} tokens leave no room for abstracts in {length}; give fewer")
    prompts = [tokenizer.encode(" ".join(s) + PROMPT).ids[-(length - tokens) :] for s in papers.sentences]
    written = models.generate(model, prompts, tokens=tokens, batch_size=min(batch_size, len(prompts)))
    return [tokenizer.decode(text).strip().split("\n")[0].strip() for text in written]


def evaluate_summaries(
    model: models.Transformer, tokenizer: data.Tokenizer, papers: Papers, *, tokens: int = 32, seed: int = 0
) -> dict[str, dict[str, float]]:
    """The model's scores with the floors' beside them: a model of a few million parameters sits at or below them."""
    texts_by_writer: Mapping[str, list[str]] = {
        "model": summarize(model, tokenizer, papers, tokens=tokens),
        **floors(papers, seed),
    }
    return {name: scores(texts, papers) for name, texts in texts_by_writer.items()}
