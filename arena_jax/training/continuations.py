"""What language models write after texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arena_jax import models
from arena_jax.config.agreement import check
from arena_jax.config.errors import ArenaError
from arena_jax.training.predict import Subject


def continuations(
    subject: Subject, inputs: Sequence[Mapping[str, str]], *, tokens: int = 32, **options: Any
) -> Iterator[dict[str, Any]]:
    """Let a causal language model go on after each text, until its tokenizer's end of text or for so many tokens.

    Args:
        subject: the model and its tokenizer.
        inputs: each with a "text"; where it is empty the model begins with its end-of-text token.
        tokens: how many new ones at most; of longer texts the front is cut, so that they fit.
        options: of `models.generate`: temperature, top_k, top_p, seed, batch_size.

    Yields:
        For each input, in order: "continuation", the "tokens" it has, and "cut" where the front of the text was.

    Raises:
        ArenaError: a model that is no causal language model, an input without a text, or a bad number.
    """
    if subject.model.task != "causal-lm":
        raise ArenaError(f"'{subject.name}' is of the task {subject.model.task}: only a causal language model writes")
    check(models.facts(subject.model.config, subject.model.task, subject.name), subject.tokenizer.facts)
    for number, entry in enumerate(inputs, 1):
        if "text" not in entry:
            raise ArenaError(f"input {number} has no text: give lines of text, or JSON lines with text")
    room = subject.model.config.max_length - tokens
    if room < 1:
        raise ArenaError(
            f"{tokens} tokens are to be written, but '{subject.name}' takes {subject.model.config.max_length} with the"
            " text; write fewer"
        )
    prompts = [list(subject.tokenizer.encode(entry["text"]).ids) or [subject.tokenizer.stand_in_id] for entry in inputs]
    texts = models.generate(
        subject.model,
        [prompt[-room:] for prompt in prompts],
        tokens=tokens,
        end_id=subject.tokenizer.eos_id,
        **options,
    )
    for prompt, written in zip(prompts, texts, strict=True):
        cut = {"cut": True} if len(prompt) > room else {}
        yield {"continuation": subject.tokenizer.decode(written), "tokens": len(written), **cut}
