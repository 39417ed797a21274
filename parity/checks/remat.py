"""What blocks keep for the backward pass: every policy has PyTorch's gradients, and its own with dropout on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax

from arena_jax import models
from parity import inputs
from parity.case import MAIN_TASK, Case, precision, random_case
from parity.checks import backward
from parity.losses import KEY, objective, with_labels
from parity.measure import Measurement, compare
from parity.names import by_reference_name
from parity.registry import Check

BATCH = "right padding"
DROPOUTS = {"embedding_dropout": 0.1, "hidden_dropout": 0.1, "attention_dropout": 0.1}


@dataclasses.dataclass(frozen=True)
class RematCase(Case):
    """A case whose model's blocks keep what a policy says.

    Attributes:
        policy: "none", "dots" or "block".
    """

    policy: str

    def ours(self, dtype: str, **overrides: Any) -> models.Transformer:
        """See :class:`Case`."""
        return super().ours(dtype, remat=self.policy, **overrides)


def dropped_gradient(case: Case, dtype: str) -> dict[str, Any]:
    """The gradient with dropout on, by PyTorch's names."""
    structure, params = models.split(case.ours(dtype, **DROPOUTS))

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        sums = objective(case.task)(models.merge(structure, params), batch, key, True).sums
        return sums["loss_sum"] / sums["count"]

    batch, _ = with_labels(case, inputs.variants(case.sizes)[BATCH])
    gradient = jax.jit(jax.grad(loss))(params, batch, jax.random.key(KEY))
    return by_reference_name(case.family, gradient, case.literals)


def remat(make: Callable[[], Case], dtype: str, policy: str) -> Iterator[Measurement]:
    """Layer 3 by a policy; and with dropout, which is computed again where it is not kept, the default's gradients."""
    plain = make()
    case, default = (
        RematCase(plain.family, plain.task, plain.reference, plain.folder, name) for name in (policy, "dots")
    )
    yield from backward.backward(lambda: case, dtype, (BATCH,))
    with precision(dtype):
        yield from compare(dropped_gradient(case, dtype), dropped_gradient(default, dtype), "dropout on: ")


def checks() -> list[Check]:
    """The layer's checks, in float64; "dots", the default, has all the others."""
    return [
        Check(
            "blocks that compute again",
            family,
            f"{MAIN_TASK[family]}, remat {policy}",
            "float64",
            partial(remat, partial(random_case, family, MAIN_TASK[family]), "float64", policy),
            backward.TOLERANCE["float64"],
        )
        for family in ("bert", "gpt2")  # RoBERTa's blocks are BERT's
        for policy in ("none", "block")
    ]
