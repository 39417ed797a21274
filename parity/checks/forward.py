"""Layer 2: embeddings, every block, logits and loss, for every way to call a model; causality and padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from arena_jax import models
from parity import inputs
from parity.case import MAIN_TASK, Case, precision, random_case, reported
from parity.losses import our_loss, with_labels
from parity.measure import Measurement, compare, exactly
from parity.reference.models import CLASSES
from parity.registry import ALL, Check

TOLERANCE = {"float64": 1e-10}  # the other types: measured, in tolerances.json


def compiled(structure: Any, *, blocks: bool) -> Callable[[Any, Mapping[str, Any]], dict[str, Any]]:
    """Our model's outputs by name; a new function each time, so that nothing compiled outlives a fault."""

    def outputs(params: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        model = models.merge(structure, params)
        found = {"logits": model(**batch)}
        if blocks:
            final, stages = model.encode(**batch, return_blocks=True)
            found |= {"final hidden state": final, "embeddings": stages[0]}
            found |= {f"block {i}": stages[i] for i in range(1, stages.shape[0])}
        return found

    return jax.jit(outputs)


def reference_outputs(case: Case, batch: inputs.Arrays, *, blocks: bool) -> dict[str, Any]:
    """The same, from PyTorch."""
    out = case.torch_outputs(batch)
    if hasattr(out, "start_logits"):
        found = {"logits": np.stack([out.start_logits.detach(), out.end_logits.detach()], axis=-1)}
    else:
        found = {"logits": out.logits}
    if blocks:
        stages = list(out.hidden_states)
        found["embeddings"], found["final hidden state"] = stages[0], stages[-1]
        found |= {f"block {i}": stages[i] for i in range(1, len(stages))}
        if case.family == "gpt2":
            # Hugging Face keeps the last block's output only after the final norm.
            last = f"block {len(stages) - 1}"
            found[last] = last_block(case, batch)
    return found


def last_block(case: Case, batch: inputs.Arrays) -> Any:
    """GPT-2's last block's own output, before ``ln_f``."""
    kept = []
    block = case.reference.get_submodule("transformer.h")[-1]
    handle = block.register_forward_hook(lambda module, given, output: kept.append(output))
    case.torch_outputs(batch)
    handle.remove()
    return kept[0][0] if isinstance(kept[0], tuple) else kept[0]


def visible(found: dict[str, Any], batch: inputs.Arrays) -> dict[str, Any]:
    """Outputs at real tokens: what stands at padding is nobody's business, the mean over nothing included."""
    if "attention_mask" not in batch:
        return found
    real = batch["attention_mask"] != 0
    shape = real.shape
    return {name: np.asarray(x)[real] if tuple(x.shape[:2]) == shape else x for name, x in found.items()}


def forward(make: Callable[[], Case], dtype: str, only: tuple[str, ...] | None = None) -> Iterator[Measurement]:
    """Every output of every variant. The encoder is shown by one task of each family, the others show their head."""
    case = make()
    with precision(dtype):
        structure, params = models.split(case.ours(dtype))
        main = case.task == MAIN_TASK[case.family] or only is not None
        run = compiled(structure, blocks=main)
        for name, batch in inputs.variants(case.sizes).items():
            # In smaller types the same program runs: two variants show its rounding.
            if name not in (only or ((name,) if main and dtype == "float64" else ("right padding", "left padding"))):
                continue
            wanted = reference_outputs(case, batch, blocks=main)
            found = detached(run(params, batch))
            yield from compare(visible(found, batch), visible(as_numpy(wanted), batch), f"{name}: ")


def loss(make: Callable[[], Case], dtype: str) -> Iterator[Measurement]:
    """The mean loss of a batch with padding on the right, and on the left."""
    case = make()
    with precision(dtype):
        structure, params = models.split(case.ours(dtype))
        compute = jax.jit(lambda p, b: our_loss(case, models.merge(structure, p), b))
        for name in ("right padding", "left padding"):
            batch, labelled = with_labels(case, inputs.variants(case.sizes)[name])
            wanted = case.torch_loss(labelled).detach()
            yield from compare({"loss": compute(params, batch)}, {"loss": wanted}, f"{name}: ")


def causality(make: Callable[[], Case], dtype: str) -> Iterator[Measurement]:
    """A later token never changes an earlier logit, to the bit."""
    case = make()
    generator = np.random.default_rng(1)
    with precision(dtype):
        structure, params = models.split(case.ours(dtype))
        run = compiled(structure, blocks=False)
        length = min(9, case.sizes.longest)
        ids = inputs.tokens(case.sizes, 2, length, generator)
        before = np.asarray(run(params, {"input_ids": ids})["logits"])
        for t in range(1, length):
            changed = ids.copy()
            changed[:, t:] = inputs.tokens(case.sizes, 2, length - t, generator)
            after = np.asarray(run(params, {"input_ids": changed})["logits"])
            yield exactly(f"logits before token {t}", np.array_equal(before[:, :t], after[:, :t]))
            yield exactly(f"logits from token {t} on do change", not np.array_equal(before[:, t:], after[:, t:]))


def padding(make: Callable[[], Case], dtype: str) -> Iterator[Measurement]:
    """What stands at padded positions never changes a real logit, to the bit."""
    case = make()
    generator = np.random.default_rng(2)
    with precision(dtype):
        structure, params = models.split(case.ours(dtype))
        run = compiled(structure, blocks=False)
        for name in ("right padding", "left padding"):
            batch = inputs.variants(case.sizes)[name]
            real = batch["attention_mask"] != 0
            # RoBERTa counts positions by tokens, GPT-2 classifies at the last token: both must be told what is padding.
            positions = np.broadcast_to(np.arange(real.shape[1], dtype=np.int32), real.shape) % case.sizes.longest
            batch = {**batch, "position_ids": positions}
            before = np.asarray(run(params, batch)["logits"])
            other = np.where(
                real, batch["input_ids"], inputs.tokens(case.sizes, real.shape[0], real.shape[1], generator)
            )
            after = np.asarray(run(params, {**batch, "input_ids": other})["logits"])
            yield exactly(f"{name}: real logits", np.array_equal(before[real], after[real]))
            hidden = {**batch, "attention_mask": np.ones_like(batch["attention_mask"]), "input_ids": other}
            seen = np.asarray(run(params, hidden)["logits"])
            if name == "left padding" or case.task != "causal-lm":
                yield exactly(f"{name}: unmasked, it does change them", not np.array_equal(before[real], seen[real]))


def detached(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """JAX arrays as float64 numpy."""
    return {name: np.asarray(x).astype(np.float64) for name, x in found.items()}


def as_numpy(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """PyTorch tensors as numpy."""
    return {name: x.detach().numpy() if hasattr(x, "detach") else x for name, x in found.items()}


# Options that change what is computed, one at a time, each against the Hugging Face class that has it.
OPTIONS: tuple[tuple[str, str, tuple[tuple[str, Any], ...]], ...] = (
    *((f, MAIN_TASK[f], (("hidden_act", a),)) for f in ("bert", "roberta") for a in ("gelu_new", "relu")),
    *(("gpt2", "causal-lm", (("activation_function", a),)) for a in ("gelu", "relu", "silu", "tanh")),
    ("gpt2", "causal-lm", (("scale_attn_by_inverse_layer_idx", True),)),
    ("gpt2", "causal-lm", (("scale_attn_weights", False),)),
    ("gpt2", "causal-lm", (("tie_word_embeddings", False),)),
    ("gpt2", "causal-lm", (("n_inner", None),)),
    ("bert", "masked-lm", (("tie_word_embeddings", False),)),
    ("bert", "masked-lm", (("layer_norm_eps", 0.01),)),
    ("bert", "masked-lm", (("pad_token_id", 7),)),
    ("roberta", "masked-lm", (("pad_token_id", 3), ("max_position_embeddings", 21))),
)


def checks() -> list[Check]:
    """The layer's checks."""
    found = []
    for family, task in CLASSES:
        make = partial(random_case, family, task)
        for dtype in reported(family, task):
            allowed = TOLERANCE.get(dtype)
            found.append(Check("forward", family, task, dtype, partial(forward, make, dtype), allowed))
            found.append(Check("loss", family, task, dtype, partial(loss, make, dtype), allowed))
        if task in ("causal-lm", "masked-lm"):
            found.append(Check("padding content", family, task, "float32", partial(padding, make, "float32"), 0.0))
        if task == "causal-lm":
            found.append(Check("causality", family, task, "float32", partial(causality, make, "float32"), 0.0))
    return found


def option_checks() -> Iterator[Check]:
    """One forward check in float64 per option."""
    for family, task, options in OPTIONS:
        name = ", ".join(f"{key}={value}" for key, value in options)
        run = partial(forward, partial(random_case, family, task, 0, options), "float64", ("right padding",))
        yield Check("options", family, name, "float64", run, TOLERANCE["float64"])


__all__ = ["ALL", "checks", "option_checks"]
