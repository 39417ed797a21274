"""Layer 3: the gradient of every parameter, by PyTorch's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax

from arena_jax import models
from parity import inputs
from parity.case import MAIN_TASK, Case, precision, random_case, reported
from parity.losses import our_loss, with_labels
from parity.measure import Measurement, compare
from parity.names import by_reference_name
from parity.reference.models import CLASSES
from parity.registry import Check

TOLERANCE = {"float64": 1e-10}
VARIANTS = ("right padding", "left padding", "token types", "padding token in view")
# What a padded token attends to when it sees no real one is nobody's business, but GPT-2's span loss would be: its
# softmax runs over padded positions too, and those of padding on the left see nothing.
UNDEFINED = {("gpt2", "question-answering"): ("left padding",)}


def backward(make: Callable[[], Case], dtype: str, chosen: Sequence[str] = ()) -> Iterator[Measurement]:
    """Gradients of the mean loss on batches with padding, with token types, and with the padding token in view.

    Args:
        make: the case.
        dtype: of our side.
        chosen: of these batches; if not given all in float64, and else the first.
    """
    case = make()
    with precision(dtype):
        structure, params = models.split(case.ours(dtype))
        gradient = jax.jit(jax.grad(lambda p, b: our_loss(case, models.merge(structure, p), b)))
        found = inputs.variants(case.sizes)
        for name in chosen or (VARIANTS if dtype == "float64" else VARIANTS[:1]):
            if name == "token types" and case.task != MAIN_TASK[case.family]:
                continue  # another program to compile, and the encoder is the same
            if name not in found or name in UNDEFINED.get((case.family, case.task), ()):
                continue
            batch, labelled = with_labels(case, found[name])
            case.reference.zero_grad()
            case.torch_loss(labelled).backward()
            wanted = {p.name: p.grad for p in case.literals if p.grad is not None}
            ours = by_reference_name(case.family, gradient(params, batch), case.literals)
            yield from compare(ours, wanted, f"{name}: ")


def checks() -> list[Check]:
    """The layer's checks."""
    return [
        Check("backward", f, t, dtype, partial(backward, partial(random_case, f, t), dtype), TOLERANCE.get(dtype))
        for f, t in CLASSES
        for dtype in reported(f, t)
    ]
