"""The one configuration of the one transformer: a frozen dataclass, each field with its unit."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.tasks import PROBLEM_TYPES, task_hint
from arena_jax.models.model_types import MODEL_TYPES

FAMILIES = ("bert", "roberta", "gpt2")
TASKS = ("causal-lm", "masked-lm", "sequence-classification", "token-classification", "question-answering")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")
COMPUTE_TYPES = ("bfloat16", "float16", "float32", "float64")
# A damaged configuration must be told before it asks for memory that no machine has.
_LARGEST = {"num_layers": 2**12, "vocab_size": 2**26, "max_positions": 2**26}
ATTENTIONS = ("xla", "dot_product", "cudnn")
REMATS = ("none", "dots", "block")  # the first computes least again, the last keeps least


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The configuration of a transformer: BERT, RoBERTa and GPT-2 are settings of it.

    Every size is checked when the object is made, so that a wrong one is refused before anything is compiled.

    Raises:
        ArenaError: a value that no transformer of this family can have.

    Example:
        >>> config = TransformerConfig(family="gpt2", vocab_size=100, hidden_size=32, num_layers=2, num_heads=4,
        ...                            intermediate_size=128, max_positions=64)
        >>> config.head_size, config.causal, config.max_length
        (8, True, 64)
    """

    family: str  # "bert", "roberta" or "gpt2"
    vocab_size: int  # tokens
    hidden_size: int  # numbers per token
    num_layers: int  # blocks
    num_heads: int  # attention heads per block; divides hidden_size unless head_width is given
    intermediate_size: int  # numbers per token inside the feed-forward part
    max_positions: int  # rows of the position table; RoBERTa leaves pad_token_id + 1 of them unused
    head_width: int | None = None  # numbers per head; None: hidden_size / num_heads, the one transformers can express
    model_type: str = ""  # the name transformers has for it, of the family's kin; empty: the family itself
    embedding_size: int | None = None  # ELECTRA: numbers per row of the tables, mapped to hidden_size; None: those
    type_vocab_size: int = 2  # token types (segments), 0 in DistilBERT; GPT-2 has none of its own and uses token rows
    activation: str = ""  # of the feed-forward part; empty: the family's own (gelu, or gelu_new for GPT-2)
    embedding_dropout: float | None = None  # probability in [0, 1) after the embeddings; None: hidden_dropout
    hidden_dropout: float = 0.1  # probability in [0, 1): before each residual sum
    attention_dropout: float = 0.1  # probability in [0, 1): of attention weights
    classifier_dropout: float | None = None  # probability in [0, 1) before a classifier; None: transformers' own
    span_dropout: float = 0.0  # DistilBERT: probability in [0, 1) before the head of question answering
    layer_norm_eps: float | None = None  # added to the variance; None: 1e-12, or 1e-5 for GPT-2
    initializer_range: float = 0.02  # standard deviation of new kernels and embeddings
    pad_token_id: int | None = -1  # token that only fills up; -1: the family's own (0, 1, or none for GPT-2)
    bos_token_id: int | None = None  # token that starts a text; kept for transformers, not used here
    eos_token_id: int | tuple[int, ...] | None = None  # token(s) that end a text; kept, not used here
    is_decoder: bool = False  # BERT and RoBERTa: a token sees only itself and earlier ones; GPT-2 always does
    tie_word_embeddings: bool = True  # the language-model head reuses the token table
    scale_attn_weights: bool = True  # divide attention scores by sqrt(head size); only GPT-2 may turn it off
    scale_attn_by_inverse_layer_idx: bool = False  # GPT-2: divide scores of block i (from 0) by i + 1 as well
    reorder_and_upcast_attn: bool = False  # GPT-2: scores are summed in float32 even with a smaller dtype
    num_labels: int = 2  # classes of a classifier
    label_names: tuple[str, ...] | None = None  # a name per class; None: LABEL_0, LABEL_1, ...
    problem_type: str | None = None  # what the labels of sequence classification are; None: decided by the labels
    dtype: str | None = None  # of the computation; None: param_dtype
    param_dtype: str = "float32"  # of the parameters
    attention: str = "xla"  # products written out; "dot_product": jax.nn's; "cudnn": NVIDIA's fused one (not yet run)
    right_padded: bool = False  # padding always follows the real tokens: library attention is told lengths, not a mask
    remat: str = "dots"  # what blocks keep for the backward pass: "none": all; products with kernels; "block": inputs
    carried: tuple[tuple[str, Any], ...] = ()  # Hugging Face options without effect here, written back on saving

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ArenaError(f"unknown family {self.family!r}; {nearest(str(self.family), FAMILIES)}")
        gpt2 = self.family == "gpt2"
        if self.model_type == "":
            object.__setattr__(self, "model_type", self.family)
        if self.model_type not in MODEL_TYPES:
            raise ArenaError(f"unknown model_type {self.model_type!r}; {nearest(str(self.model_type), MODEL_TYPES)}")
        defaults = {
            "activation": "gelu_new" if gpt2 else "gelu",
            "layer_norm_eps": 1e-5 if gpt2 else 1e-12,
            "pad_token_id": {"bert": 0, "roberta": 1, "gpt2": None}[self.family],
        }
        for name, unset in (("activation", ""), ("layer_norm_eps", None), ("pad_token_id", -1)):
            if getattr(self, name) == unset:
                object.__setattr__(self, name, defaults[name])
        problems = [*_wrong_numbers(self), *_wrong_names(self), *_wrong_together(self)]
        if problems:
            raise ArenaError(f"{self.model_type} configuration: " + "; ".join(problems))

    @property
    def head_size(self) -> int:
        """Numbers per attention head."""
        return self.head_width or self.hidden_size // self.num_heads

    @property
    def table_width(self) -> int:
        """Numbers per row of the token table, which a tied language head multiplies with."""
        return self.embedding_size or self.hidden_size

    @property
    def causal(self) -> bool:
        """Whether a token sees only itself and earlier tokens."""
        return self.family == "gpt2" or self.is_decoder

    @property
    def max_length(self) -> int:
        """The longest sequence in tokens: RoBERTa's positions start after the padding index."""
        return self.max_positions - self.position_offset

    @property
    def position_offset(self) -> int:
        """The position of the first token."""
        return (self.pad_token_id or 0) + 1 if self.family == "roberta" else 0

    @property
    def compute_dtype(self) -> str:
        """The type in which blocks compute."""
        return self.dtype or self.param_dtype

    @property
    def labels_are(self) -> str | None:
        """What the labels of a trained sequence classifier are: ``problem_type``, else regression for one output."""
        return self.problem_type or ("regression" if self.num_labels == 1 else None)

    def labels(self) -> tuple[str, ...]:
        """The name of each class, in the order of the logits."""
        return self.label_names or tuple(f"LABEL_{i}" for i in range(self.num_labels))

    def replace(self, **changes: Any) -> TransformerConfig:
        """A copy with some fields changed; ``num_labels`` alone forgets names that no longer fit.

        Example:
            >>> from arena_jax import models
            >>> models.preset("bert-tiny").replace(num_labels=3).labels()
            ('LABEL_0', 'LABEL_1', 'LABEL_2')
        """
        names = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise ArenaError(f"unknown configuration field {name!r}; {nearest(name, names)}")
        if "num_labels" in changes and changes["num_labels"] != self.num_labels:
            changes.setdefault("label_names", None)
        if changes.get("label_names") is not None:
            changes.setdefault("num_labels", len(changes["label_names"]))
        return dataclasses.replace(self, **changes)


def check_task(config: TransformerConfig, task: str) -> None:
    """Refuse a task that transformers has no class for in this family.

    Raises:
        ArenaError: unknown task, or one this family does not have.
    """
    if task not in TASKS:
        raise ArenaError(f"unknown task {task!r}; {task_hint(task, TASKS)}")
    if config.family == "gpt2" and task == "masked-lm":
        raise ArenaError(
            "gpt2 has no masked-lm: each token sees earlier ones only; use task='causal-lm', or bert or roberta"
        )
    if task not in MODEL_TYPES[config.model_type].classes:
        raise ArenaError(
            f"{config.model_type} has no {task}; {task_hint(task, MODEL_TYPES[config.model_type].classes)}"
        )
    if task == "causal-lm" and not config.causal:
        raise ArenaError(f"{config.family} causal-lm needs is_decoder=True: otherwise tokens see what they predict")
    if task == "question-answering" and config.family != "gpt2" and config.num_labels != 2:
        raise ArenaError(
            f"question-answering has two outputs, start and end: set num_labels=2 (it is {config.num_labels})"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong_numbers(c: TransformerConfig) -> list[str]:
    wrong = []
    sizes = ["vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions"]
    sizes += [name for name in ("head_width", "embedding_size") if getattr(c, name) is not None]
    types = c.family != "gpt2" and "type_vocab_size" not in MODEL_TYPES[c.model_type].fixed
    for name in [*sizes, "num_labels"] + (["type_vocab_size"] if types else []):
        value = getattr(c, name)
        if not _is_count(value) or not 1 <= value <= _LARGEST.get(name, 2**20):
            wrong.append(f"{name} must be a whole number from 1 to {_LARGEST.get(name, 2**20)}, not {value!r}")
    rates = ["hidden_dropout", "attention_dropout", "span_dropout"]
    rates += [name for name in ("embedding_dropout", "classifier_dropout") if getattr(c, name) is not None]
    for name in rates:
        value = getattr(c, name)
        if not _is_number(value) or not 0 <= value < 1:
            wrong.append(f"{name} must be a probability in [0, 1), not {value!r}")
    if not _is_number(c.layer_norm_eps) or c.layer_norm_eps < 0:  # type: ignore[operator]
        wrong.append(f"layer_norm_eps must be a number of at least 0, not {c.layer_norm_eps!r}")
    if not _is_number(c.initializer_range) or c.initializer_range <= 0:
        wrong.append(f"initializer_range must be a number above 0, not {c.initializer_range!r}")
    if c.pad_token_id is not None and not _is_count(c.pad_token_id):
        wrong.append(f"pad_token_id must be a token number or None, not {c.pad_token_id!r}")
    for name in ("is_decoder", "tie_word_embeddings", "scale_attn_weights"):
        if not isinstance(getattr(c, name), bool):
            wrong.append(f"{name} must be True or False, not {getattr(c, name)!r}")
    for name in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
        if not isinstance(getattr(c, name), bool):
            wrong.append(f"{name} must be True or False, not {getattr(c, name)!r}")
    return wrong


def _wrong_names(c: TransformerConfig) -> list[str]:
    wrong = []
    choices: list[tuple[str, tuple[str | None, ...]]] = [
        ("activation", ACTIVATIONS),
        ("problem_type", (None, *PROBLEM_TYPES)),
        ("dtype", (None, *COMPUTE_TYPES)),
        ("param_dtype", COMPUTE_TYPES),
        ("attention", ATTENTIONS),
        ("remat", REMATS),
    ]
    for name, allowed in choices:
        value = getattr(c, name)
        if value not in allowed:
            hint = nearest(str(value), [k for k in allowed if k])
            wrong.append(f"{name} {value!r} is not implemented; {hint}")
    if c.label_names is not None and not (
        isinstance(c.label_names, tuple) and all(isinstance(n, str) for n in c.label_names)
    ):
        wrong.append("label_names must be a tuple of names")
    return wrong


def _wrong_for_type(c: TransformerConfig) -> list[str]:
    kind = MODEL_TYPES[c.model_type]
    if c.family != kind.family:
        return [f"{c.model_type} is of the family {kind.family}, not {c.family}"]
    wrong = [f"{name} is {value} in {c.model_type}" for name, value in kind.fixed.items() if getattr(c, name) != value]
    options = set(kind.options.values())
    if c.table_width != c.hidden_size and "embedding_size" not in options:
        wrong.append(f"embedding_size is hidden_size in {c.model_type}: leave it out")
    if c.span_dropout and "span_dropout" not in options:
        wrong.append(f"{c.model_type} has no span_dropout: leave it at 0")
    return wrong


def _wrong_together(c: TransformerConfig) -> list[str]:
    if _wrong_numbers(c) or _wrong_names(c):
        return []
    wrong = _wrong_for_type(c)
    if c.head_width is None and c.hidden_size % c.num_heads:
        wrong.append(f"num_heads={c.num_heads} must divide hidden_size={c.hidden_size}")
    if c.label_names is not None and len(c.label_names) != c.num_labels:
        wrong.append(f"{len(c.label_names)} label_names were given for num_labels={c.num_labels}")
    if c.problem_type == "single_label_classification" and c.num_labels == 1:
        wrong.append("problem_type 'single_label_classification' needs num_labels > 1, or use 'regression'")
    if c.family != "gpt2":
        if c.pad_token_id is None and c.family == "roberta":
            wrong.append("roberta counts positions from pad_token_id: give it a token number")
        if c.pad_token_id is not None and not 0 <= c.pad_token_id < c.vocab_size:
            wrong.append(f"pad_token_id={c.pad_token_id} is outside the vocabulary of {c.vocab_size} tokens")
        for name, plain in (
            ("scale_attn_weights", True),
            ("scale_attn_by_inverse_layer_idx", False),
            ("reorder_and_upcast_attn", False),
        ):
            if getattr(c, name) != plain:
                wrong.append(f"{name} is an option of gpt2 alone: leave it at {plain}")
        if c.embedding_dropout not in (None, c.hidden_dropout):
            wrong.append("embedding_dropout is hidden_dropout in this family: leave it out")
    if c.attention == "cudnn" and c.compute_dtype not in ("bfloat16", "float16"):
        wrong.append("attention='cudnn' computes in 16 bits: set dtype='bfloat16', or attention='xla'")
    if c.family == "roberta" and not wrong and c.max_length < 1:
        wrong.append(f"max_positions={c.max_positions} leaves no position after pad_token_id={c.pad_token_id}")
    return wrong
