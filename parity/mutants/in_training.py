"""Faults in objectives and in the training step."""

from __future__ import annotations

from parity.mutants.fault import fault

OBJECTIVES = "training.objectives"
CAUSAL = "loss/gpt2/causal-lm/float64"
MASKED = "loss/bert/masked-lm/float64"
HIDING = "batches and labels/bert/masked-lm/int32"
SPAN = "loss/bert/question-answering/float64"
TRAJECTORY = "trajectory/all/paper/float64"

VOCABULARY = "training.vocabulary_loss"
CHUNKS_TIED = "vocabulary in chunks/gpt2/causal-lm, tied/float64"
CHUNKS_BIAS = "vocabulary in chunks/bert/masked-lm, untied/float64"

DISTILLATION = "training.distillation"
TAUGHT = "distillation/bert/sequence-classification, one teacher/float64"
TAUGHT_BY_SEVERAL = "distillation/gpt2/sequence-classification, ensemble/float64"
TAUGHT_BY_WEIGHT = "distillation/bert/sequence-classification, ensemble, weighted/float64"
TAUGHT_TOKENS_BY_WEIGHT = "distillation/gpt2/causal-lm, ensemble, weighted/float64"
TAUGHT_TOKENS = "distillation/gpt2/causal-lm, one teacher, in chunks/float64"
TAUGHT_HIDDEN_TOKENS = "distillation/bert/masked-lm, one teacher/float64"

MUTANTS = (
    fault(
        "the divergence the wrong way round",
        f"{DISTILLATION}:divergence_sum",
        "jnp.exp(teacher_log_probs) * (teacher_log_probs - student)",
        "jnp.exp(student) * (student - teacher_log_probs)",
        TAUGHT,
    ),
    fault(
        "the divergence without the square of the temperature",
        f"{DISTILLATION}:divergence_sum",
        "temperature**2 * masked_sum",
        "masked_sum",
        TAUGHT,
    ),
    fault(
        "the student is not tempered",
        f"{DISTILLATION}:divergence_sum",
        "widened(logits) / temperature",
        "widened(logits)",
        TAUGHT,
    ),
    fault(
        "the model that learns from the ensemble teaches itself",
        "training.teachers:teachers_at_rest",
        "if model.name != student",
        "if model.name",
        "tests/training/test_distil_into.py::test_who_teaches_and_who_rests",
    ),
    fault(
        "several teachers by the mean of their logits",
        f"{DISTILLATION}:teacher_log_probabilities",
        "jax.nn.logsumexp(jnp.stack(each), axis=0) - jnp.log(float(len(each)))",
        "jax.nn.log_softmax(jnp.mean(jnp.stack(each), axis=0))",
        TAUGHT_BY_SEVERAL,
    ),
    fault(
        "several teachers by the weights of each other",
        f"{DISTILLATION}:teacher_log_probabilities",
        "zip(each, weights, strict=True)",
        "zip(each, reversed(weights), strict=True)",
        TAUGHT_BY_WEIGHT,
    ),
    fault(
        "the weights of teachers as logits, not as probabilities",
        f"{DISTILLATION}:teacher_log_probabilities",
        "log_probs + jnp.log(weight)",
        "log_probs + weight",
        TAUGHT_BY_WEIGHT,
    ),
    fault(
        "teachers of tokens count alike",
        f"{DISTILLATION}:token_divergence_sum",
        "teacher_log_probabilities(logits, temperature, teacher_weights)",
        "teacher_log_probabilities(logits, temperature)",
        TAUGHT_TOKENS_BY_WEIGHT,
    ),
    fault(
        "tokens that fill the last chunk are taught",
        f"{DISTILLATION}:divergence_sum",
        "masked_sum(divergence, weight)",
        "jnp.sum(divergence)",
        TAUGHT_TOKENS,
    ),
    fault(
        "a teacher's vocabulary without its bias",
        f"{DISTILLATION}:token_divergence_sum",
        "chunk_logits(t, *vocabulary)",
        "chunk_logits(t, vocabulary.table, None)",
        TAUGHT_HIDDEN_TOKENS,
    ),
    fault(
        "teacher and student guess other tokens",
        "training.step:Step.__init__",
        "common or name",
        "name",
        TAUGHT_HIDDEN_TOKENS,
    ),
    fault(
        "the target's logit has no gradient",
        f"{VOCABULARY}:_forward",
        "probabilities - hit",
        "probabilities",
        CHUNKS_TIED,
    ),
    fault(
        "tokens that do not count have a gradient",
        f"{VOCABULARY}:_forward",
        "jnp.where(counted[..., None] > 0, chunk.probabilities - hit, 0)",
        "chunk.probabilities - hit",
        CHUNKS_TIED,
    ),
    fault(
        "a chunk's gradient of the table replaces the others'",
        f"{VOCABULARY}:_forward",
        "of_table +=",
        "of_table =",
        CHUNKS_TIED,
    ),
    fault(
        "the vocabulary's bias has no gradient",
        f"{VOCABULARY}:_forward",
        "of_bias + of_logits.sum((0, 1))",
        "of_bias",
        CHUNKS_BIAS,
    ),
    fault(
        "the loss's own cotangent is left out",
        f"{VOCABULARY}:_backward",
        "factor.astype(gradient.dtype)",
        "1",
        CHUNKS_TIED,
    ),
    fault(
        "the positions that fill the last chunk count",
        f"{VOCABULARY}:_Chunk.of",
        "masked_sum(losses, weight)",
        "losses.sum()",
        CHUNKS_TIED,
    ),
    fault(
        "padding counted in the loss",
        "training.batch_sums:followed",
        "real[:, 1:] * real[:, :-1]",
        "jnp.ones_like(real[:, 1:])",
        CAUSAL,
    ),
    fault(
        "a text predicts the next one's first token",
        "training.batch_sums:followed",
        "if segments is None",
        "if True",
        "packed rows/gpt2/causal-lm/float64",
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
        "token_sums(model, hidden_tokens, masked.targets, masked.weight,",
        "token_sums(model, hidden_tokens, masked.targets, jnp.ones_like(masked.weight),",
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
        "count = jnp.minimum(count, available)",
        "count = jnp.minimum(1, available)",
        HIDING,
    ),
    fault(
        "squared error halved",
        "training.regression:regression",
        "jnp.square(outputs - ",
        "0.5 * jnp.square(outputs - ",
        "loss/bert/regression/float64",
    ),
    fault(
        "decisions of a row added, not averaged",
        "training.multi_label:multi_label",
        "jnp.mean(loss, axis=-1)",
        "jnp.sum(loss, axis=-1)",
        "loss/bert/multi_label_classification/float64",
    ),
    fault(
        "a decision's loss forgets what was decided",
        "training.multi_label:multi_label",
        "jnp.maximum(logits, 0) - logits * labels",
        "jnp.maximum(logits, 0)",
        "loss/bert/multi_label_classification/float64",
    ),
    fault(
        "rows that fill the last batch count",
        "training.batch_sums:example_rows",
        "if valid is None else",
        "if True else",
        "accuracy/all/sequence-classification/float64",
    ),
    fault(
        "accumulated gradients divided by places, not targets",
        "training.gradients:mean_gradient",
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
    fault(
        "CKA without centering",
        "training.similarity:linear_cka",
        "left - left.mean(axis=0), right - right.mean(axis=0)",
        "left, right",
        "tests/training/test_similarity.py::test_cka_is_that_of_the_centered_kernels",
    ),
    fault(
        "a model's influence by the pool of all",
        "training.influence:shared_gradient",
        "tree if name == giver else jax.tree.map(jnp.zeros_like, tree)",
        "tree",
        "tests/training/test_influence.py::test_the_parts_of_all_models_are_the_pool_of_algorithm_1",
    ),
    fault(
        "influence along the gradient, not against it",
        "training.influence:influences",
        "p - jnp.asarray(scale, p.dtype) * d",
        "p + jnp.asarray(scale, p.dtype) * d",
        "tests/training/test_influence.py::test_the_gain_of_a_quadratic_loss_is_the_one_on_paper",
    ),
)
