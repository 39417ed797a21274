"""The papers' synthetic sentiment set: short film opinions made from templates, no download."""

from __future__ import annotations

import random
from typing import Any

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.data.dataset import CLASSIFICATION, Dataset

_SUBJECTS = ("this movie", "this film", "the movie", "the film", "the story", "the acting", "the plot")
_ADJECTIVES = (
    ("bad", "terrible", "awful", "boring", "poor", "dreadful", "horrible", "weak"),
    ("good", "great", "excellent", "wonderful", "amazing", "superb", "fantastic", "brilliant"),
)
_VERBS = (("hated", "disliked"), ("loved", "enjoyed"))
_INTENSIFIERS = ("very", "really", "truly", "extremely", "absolutely", "so")
_VERB_INTENSIFIERS = ("really", "truly", "absolutely")
_FILLERS = (
    *("well", "today", "overall", "actually", "again", "yesterday", "people", "time", "screen", "evening"),
    *("friends", "cinema", "watched", "watching", "maybe", "also", "there", "when", "with", "about"),
)


def _sentence(rng: random.Random, label: int) -> str:
    subject = rng.choice(_SUBJECTS)
    stressed = rng.random() < 0.5
    if rng.random() < 0.75:
        strength = f"{rng.choice(_INTENSIFIERS)} " if stressed else ""
        core = f"{subject} is {strength}{rng.choice(_ADJECTIVES[label])}"
    else:
        strength = f"{rng.choice(_VERB_INTENSIFIERS)} " if stressed else ""
        core = f"i {strength}{rng.choice(_VERBS[label])} {subject}"
    before = [rng.choice(_FILLERS) for _ in range(rng.randrange(3))]
    after = [rng.choice(_FILLERS) for _ in range(rng.randrange(4))]
    return " ".join([*before, core, *after])


def synthetic_sentiment(split: str = "train", *, train: int = 500, validation: int = 100, seed: int = 0) -> Dataset:
    """Make the synthetic sentiment set: "this movie is [very] good" with random filler words around it.

    The classes alternate, so both are equally frequent, and no sentence occurs twice, so none of the
    validation sentences is a training sentence.

    Args:
        split: "train" or "validation".
        train: training sentences.
        validation: validation sentences.
        seed: of the words drawn; the sentences of a seed never change.

    Returns:
        A data set for sequence classification with the classes "negative" (0) and "positive" (1).

    Raises:
        ArenaError: an unknown split, or fewer than one sentence.

    Example:
        >>> sentences = synthetic_sentiment()
        >>> len(sentences), len(synthetic_sentiment("validation"))
        (500, 100)
        >>> sentences.columns["text"][:2], sentences.columns["label"][:2]
        (['...', '...'], [0, 1])

    Source:
        The data of the MultiModelOptimizer and ModelArena experiments, from their description; the words are ours.
    """
    if split not in ("train", "validation"):
        raise ArenaError(f"synthetic-sentiment has no split '{split}'; {nearest(split, ['train', 'validation'])}")
    if train < 1 or validation < 1:
        raise ArenaError(f"synthetic-sentiment: {train} training and {validation} validation sentences; give 1 or more")
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    attempts = 0
    while len(texts) < train + validation:
        texts.setdefault(_sentence(rng, len(texts) % 2))
        attempts += 1
        if attempts > 100 * (train + validation) + 1000:
            raise ArenaError(
                f"synthetic-sentiment: the templates do not make {train + validation:,} different sentences"
            )
    first, last = (0, train) if split == "train" else (train, train + validation)
    columns: dict[str, list[Any]] = {
        "text": list(texts)[first:last],
        "label": [index % 2 for index in range(first, last)],
    }
    return Dataset(
        name="synthetic-sentiment",
        task=CLASSIFICATION,
        split=split,
        columns=columns,
        label_names=("negative", "positive"),
        provenance=f"built in, seed {seed}",
    )
