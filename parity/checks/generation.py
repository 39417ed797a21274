"""What GPT-2 writes, against ``transformers.generate``: tokens, and the logits that draws are made from.

Through ``models.generate``, the function that ``arena-jax generate`` calls. Prompts of several lengths are padded on
the left, in several batches; a token that is often written is then declared the end of a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from arena_jax import models
from arena_jax.models.generate import likely_logits
from parity.case import Case, precision, random_case
from parity.measure import Measurement, compare
from parity.registry import Check

TOKENS, LENGTHS = 24, (1, 7, 12, 3, 19)
WARPED = ((0.7, None, None), (1.3, 5, None), (1.0, None, 0.6), (0.9, 9, 0.8), (2.0, 1, 0.1))


def reference_texts(case: Case, prompts: list[list[int]], end: int | None, *, padded: bool) -> list[list[int]]:
    """What PyTorch writes: all at once, padded on the left, or each by itself."""
    if not padded:
        return [text for prompt in prompts for text in reference_texts(case, [prompt], end, padded=True)]
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    options = {"max_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0, "eos_token_id": end, "use_cache": True}
    with torch.no_grad():
        rows = case.reference.generate(input_ids=ids, attention_mask=mask, **options)[:, longest:].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def greedy(dtype: str, padded: bool) -> Iterator[Measurement]:
    """Token for token, without an end and with one."""
    case = random_case("gpt2", "causal-lm", 3, (("n_positions", 64),))
    generator = np.random.default_rng(3)
    vocabulary = case.reference.config.vocab_size
    with precision(dtype):
        model = case.ours(dtype)
        prompts = [generator.integers(1, vocabulary, length).tolist() for length in LENGTHS]
        plain = reference_texts(case, prompts, None, padded=padded)
        later = Counter(token for text in plain for token in text[2:])
        for end in (None, later.most_common(1)[0][0]):
            references = plain if end is None else reference_texts(case, prompts, end, padded=padded)
            for batch in (2, 8):
                written = models.generate(model, prompts, tokens=TOKENS, end_id=end, batch_size=batch)
                for number, (text, reference) in enumerate(zip(written, references, strict=True)):
                    where = f"end {end}, batches of {batch}, prompt {number}: "
                    yield from compare({"length": np.asarray(len(text))}, {"length": len(reference)}, where)
                    yield from compare({"tokens": np.asarray(text)}, {"tokens": np.asarray(reference)}, where)


def likely(dtype: str) -> Iterator[Measurement]:
    """The logits that remain, as transformers' warpers leave them, in their order."""
    with precision(dtype):
        logits = 3 * np.random.default_rng(4).standard_normal((6, 40))
        for temperature, top_k, top_p in WARPED:
            scores = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(logits))
            scores = scores if top_k is None else TopKLogitsWarper(top_k)(None, scores)
            scores = scores if top_p is None else TopPLogitsWarper(top_p)(None, scores)
            warped = jax.jit(partial(likely_logits, top_k=top_k, top_p=top_p))(logits.astype(dtype), temperature)
            where = f"temperature {temperature}, top_k {top_k}, top_p {top_p}: "
            yield from compare({"in": np.isfinite(warped).astype(int)}, {"in": torch.isfinite(scores).int()}, where)
            finite = np.where(np.isfinite(warped), warped, 0.0)
            yield from compare({"logits": finite}, {"logits": torch.where(torch.isfinite(scores), scores, 0.0)}, where)


def checks() -> list[Check]:
    """The layer's checks."""
    rows = [
        Check("generation", "gpt2", f"greedy, {task}", "float64", partial(greedy, "float64", padded), 0.0)
        for task, padded in (("left-padded", True), ("one by one", False))
    ]
    return [*rows, Check("generation", "gpt2", "likely logits", "float64", partial(likely, "float64"), 1e-14)]
