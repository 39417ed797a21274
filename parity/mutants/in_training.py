"""Faults in objectives and in the training step."""

from __future__ import annotations

from parity.mutants.in_models import fault

OBJECTIVES = "training.objectives"
CAUSAL = "loss/gpt2/causal-lm/float64"
MASKED = "loss/bert/masked-lm/float64"
HIDING = "batches and labels/bert/masked-lm/int32"
SPAN = "loss/bert/question-answering/float64"
TRAJECTORY = "trajectory/all/paper/float64"

MUTANTS = (
    fault(
        "padding counted in the loss",
        f"{OBJECTIVES}:next_token",
        "real[:, 1:] * real[:, :-1]",
        "jnp.ones_like(real[:, 1:])",
        CAUSAL,
    ),
    fault(
        "each token predicts itself",
        f"{OBJECTIVES}:next_token",
        'batch["input_ids"][:, 1:]',
        'batch["input_ids"][:, :-1]',
        CAUSAL,
    ),
    fault(
        "tokens without a label are scored",
        f"{OBJECTIVES}:tagging",
        '(batch["labels"] != -100)',
        '(batch["labels"] != -1)',
        "loss/bert/token-classification/float64",
    ),
    fault("the two losses of a span not halved", f"{OBJECTIVES}:span", "loss / 2", "loss", SPAN),
    fault(
        "ends scored by the logits of starts",
        f"{OBJECTIVES}:span",
        "negative_log_likelihood(logits[..., 1], ends)",
        "negative_log_likelihood(logits[..., 0], ends)",
        SPAN,
    ),
    fault(
        "places that hide nothing are scored",
        f"{OBJECTIVES}:masked_token",
        "negative_log_likelihood(logits, masked.targets), masked.weight)",
        "negative_log_likelihood(logits, masked.targets), jnp.ones_like(masked.weight))",
        MASKED,
    ),
    fault(
        "special tokens are hidden as well",
        f"{OBJECTIVES}:masked_token",
        "real if special is None else real * (1 - special)",
        "real",
        HIDING,
    ),
    fault("no random token in place of a hidden one", f"{OBJECTIVES}:mask_tokens", "fate < 0.8", "fate < 0.9", HIDING),
    fault(
        "one hidden token per row",
        f"{OBJECTIVES}:mask_tokens",
        "wanted = jnp.minimum(wanted, available)",
        "wanted = jnp.minimum(1, available)",
        HIDING,
    ),
    fault(
        "rows that fill the last batch count",
        f"{OBJECTIVES}:_rows",
        "if valid is None else",
        "if True else",
        "accuracy/all/sequence-classification/float64",
    ),
    fault(
        "accumulated gradients divided by places, not targets",
        "training.step:Step.gradients",
        'targets = jnp.maximum(sums["count"], 1)',
        'targets = jnp.float32(batch["input_ids"].size)',
        TRAJECTORY,
    ),
    fault(
        "every model's rate follows the first one's loss",
        "training.step:Step.update",
        "value=losses",
        "value=dict.fromkeys(losses, losses[min(losses)])",
        TRAJECTORY,
    ),
)
