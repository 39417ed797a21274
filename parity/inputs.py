"""The batches on which models are compared: padding on either side, types, positions, the shortest, the longest."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
ROWS = 4
COUNT_FROM_PADDING = ("roberta", "xlm-roberta", "camembert")  # types whose positions begin after the padding's number


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a batch must fit: read off a Hugging Face configuration."""

    family: str
    vocabulary: int
    longest: int
    padding: int | None
    types: int
    positions: int

    @classmethod
    def of(cls, config: Any) -> Sizes:
        """Of one configuration."""
        family, padding = config.model_type, config.pad_token_id
        longest = config.max_position_embeddings - (padding + 1 if family in COUNT_FROM_PADDING else 0)
        types = getattr(config, "type_vocab_size", 0)
        return cls(family, config.vocab_size, longest, padding, types, config.max_position_embeddings)


def tokens(sizes: Sizes, rows: int, length: int, generator: np.random.Generator) -> np.ndarray:
    """Random tokens that are not padding."""
    ids = generator.integers(0, sizes.vocabulary - 1, (rows, length))
    if sizes.padding is not None:
        ids = ids + (ids >= sizes.padding)
    return ids.astype(np.int32)


def padded(sizes: Sizes, length: int, generator: np.random.Generator, *, left: bool) -> Arrays:
    """Rows of different lengths, one of them full, filled up on one side."""
    ids, mask = tokens(sizes, ROWS, length, generator), np.ones((ROWS, length), np.int32)
    for row in range(1, ROWS):
        missing = row * (length - 2) // (ROWS - 1)
        place = slice(0, missing) if left else slice(length - missing, length)
        mask[row, place] = 0
        if sizes.padding is not None:
            ids[row, place] = sizes.padding
    return {"input_ids": ids, "attention_mask": mask}


def variants(sizes: Sizes, seed: int = 0) -> dict[str, Arrays]:
    """Every way to call a model, by name."""
    generator = np.random.default_rng(seed)
    length = min(11, sizes.longest)
    right = padded(sizes, length, generator, left=False)
    found = {"right padding": right, "left padding": padded(sizes, length, generator, left=True)}
    types = generator.integers(0, sizes.types or sizes.vocabulary, right["input_ids"].shape).astype(np.int32)
    found["token types"] = {**right, "token_type_ids": types}
    positions = generator.integers(0, sizes.positions, right["input_ids"].shape).astype(np.int32)
    found["given positions"] = {**right, "position_ids": positions}
    found["length 1"] = {"input_ids": tokens(sizes, ROWS, 1, generator), "attention_mask": np.ones((ROWS, 1), np.int32)}
    rows = ROWS if sizes.vocabulary * sizes.longest < 1e6 else 1  # a checkpoint's logits are large
    found["full length, no mask"] = {"input_ids": tokens(sizes, rows, sizes.longest, generator)}
    if sizes.padding is not None:
        # The padding token where the mask says it is real: PyTorch's tables learn nothing from that row all the same.
        attended = {name: value.copy() for name, value in right.items()}
        attended["input_ids"][0, 3] = sizes.padding
        found["padding token in view"] = attended
    return found


def labels(task: str, sizes: Sizes, batch: Arrays, classes: int, generator: np.random.Generator) -> Arrays:
    """Labels for one batch, -100 where nothing is to be predicted."""
    ids = batch["input_ids"]
    rows, length = ids.shape
    real = batch.get("attention_mask", np.ones_like(ids)) != 0
    if task == "sequence-classification":
        return {"labels": np.asarray(generator.integers(0, classes, rows))}
    if task == "question-answering":
        ends = np.asarray(generator.integers(0, length, (2, rows)))
        return {"start_positions": np.min(ends, axis=0), "end_positions": np.max(ends, axis=0)}
    if task == "token-classification":
        chosen = real & (generator.random(ids.shape) < 0.7)
        return {"labels": np.where(chosen, generator.integers(0, classes, ids.shape), -100)}
    if task == "masked-lm":
        chosen = real & (generator.random(ids.shape) < 0.5)
        return {"labels": np.where(chosen, generator.integers(0, sizes.vocabulary, ids.shape), -100)}
    # Next token: PyTorch shifts by itself. A token after padding has no context; it is no target on our side.
    previous = np.concatenate([np.zeros((rows, 1), bool), real[:, :-1]], axis=1)
    return {"labels": np.where(real & previous, ids, -100)}
