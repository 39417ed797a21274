"""The table between names in Hugging Face files and our parameters; it is used both ways."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping

from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.models.config import TransformerConfig
from arena_jax.models.model_types import MODEL_TYPES

Path = tuple[str, ...]

COPY = "copy"  # the same array
TRANSPOSE = "transpose"  # torch keeps Linear weights as (out, in)
SPLIT = "split"  # GPT-2 keeps query, key and value side by side on the last axis


@dataclasses.dataclass(frozen=True)
class Rule:
    """One name in a file, one parameter of ours, and how to get from one to the other."""

    source: str  # name on disk; {layer} stands for the block's number; base names without the family's prefix
    target: Path  # our path; "*" stands for query, key and value
    operation: str = COPY
    base: bool = True  # part of the model that all tasks share, stored under the family's prefix

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the whole name; group 1 is the block's number."""
        return re.compile(re.escape(self.source).replace(r"\{layer\}", r"(0|[1-9]\d{0,5})"))

    @property
    def stacked(self) -> bool:
        """Whether the target has a leading axis of blocks."""
        return "{layer}" in self.source

    def targets(self) -> tuple[Path, ...]:
        """The parameters this rule fills."""
        if self.operation != SPLIT:
            return (self.target,)
        return tuple(tuple(part if name == "*" else name for name in self.target) for part in ("query", "key", "value"))


def _linear(source: str, target: Path, *, base: bool = True, bias: bool = True) -> list[Rule]:
    rules = [Rule(f"{source}.weight", (*target, "kernel"), TRANSPOSE, base)]
    return rules + ([Rule(f"{source}.bias", (*target, "bias"), COPY, base)] if bias else [])


def _norm(source: str, target: Path, *, base: bool = True) -> list[Rule]:
    return [
        Rule(f"{source}.weight", (*target, "scale"), COPY, base),
        Rule(f"{source}.bias", (*target, "bias"), COPY, base),
    ]


def _conv1d(source: str, target: Path, operation: str = COPY) -> list[Rule]:
    # GPT-2's Conv1D keeps its weight as (in, out), as we do.
    return [
        Rule(f"{source}.weight", (*target, "kernel"), operation),
        Rule(f"{source}.bias", (*target, "bias"), operation),
    ]


def _bert_base() -> list[Rule]:
    block = "encoder.layer.{layer}."
    rules = [
        Rule("embeddings.word_embeddings.weight", ("embeddings", "token", "embedding")),
        Rule("embeddings.position_embeddings.weight", ("embeddings", "position", "embedding")),
        Rule("embeddings.token_type_embeddings.weight", ("embeddings", "token_type", "embedding")),
        *_norm("embeddings.LayerNorm", ("embeddings", "norm")),
    ]
    for part in ("query", "key", "value"):
        rules += _linear(f"{block}attention.self.{part}", ("blocks", "attention", part))
    rules += _linear(f"{block}attention.output.dense", ("blocks", "attention", "output"))
    rules += _norm(f"{block}attention.output.LayerNorm", ("blocks", "attention_norm"))
    rules += _linear(f"{block}intermediate.dense", ("blocks", "feed_forward", "up"))
    rules += _linear(f"{block}output.dense", ("blocks", "feed_forward", "down"))
    return rules + _norm(f"{block}output.LayerNorm", ("blocks", "feed_forward_norm"))


def _gpt2_base() -> list[Rule]:
    block = "h.{layer}."
    return [
        Rule("wte.weight", ("embeddings", "token", "embedding")),
        Rule("wpe.weight", ("embeddings", "position", "embedding")),
        *_norm(f"{block}ln_1", ("blocks", "attention_norm")),
        *_conv1d(f"{block}attn.c_attn", ("blocks", "attention", "*"), SPLIT),
        *_conv1d(f"{block}attn.c_proj", ("blocks", "attention", "output")),
        *_norm(f"{block}ln_2", ("blocks", "feed_forward_norm")),
        *_conv1d(f"{block}mlp.c_fc", ("blocks", "feed_forward", "up")),
        *_conv1d(f"{block}mlp.c_proj", ("blocks", "feed_forward", "down")),
        *_norm("ln_f", ("final_norm",)),
    ]


def _language_head(config: TransformerConfig) -> list[Rule]:
    tied = config.tie_word_embeddings
    if config.family == "gpt2":
        return [] if tied else _linear("lm_head", ("head", "output"), base=False, bias=False)
    if config.family == "bert":
        outer, dense, norm = "cls.predictions", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"
    else:
        outer, dense, norm = "lm_head", "lm_head.dense", "lm_head.layer_norm"
    rules = _linear(dense, ("head", "transform"), base=False) + _norm(norm, ("head", "norm"), base=False)
    if tied:
        return [*rules, Rule(f"{outer}.bias", ("head", "bias"), COPY, False)]
    kernel, bias = ("head", "output", "kernel"), ("head", "bias")
    return [
        *rules,
        Rule(f"{outer}.decoder.weight", kernel, TRANSPOSE, False),
        Rule(f"{outer}.decoder.bias", bias, COPY, False),
    ]


def rules_for(config: TransformerConfig, task: str) -> list[Rule]:
    """The table of one model: exactly the tensors that its transformers class keeps.

    Args:
        config: of the model.
        task: of the model.

    Returns:
        One rule per tensor name (blocks counted once).
    """
    names = MODEL_TYPES[config.model_type].names
    return [dataclasses.replace(rule, source=_own_name(rule.source, names)) for rule in _rules_of_family(config, task)]


def _own_name(name: str, names: Mapping[str, str]) -> str:
    """A name of the family as the model's own type has it."""
    beginning = next((beginning for beginning in names if name.startswith(beginning)), "")
    return names.get(beginning, "") + name.removeprefix(beginning)


def _rules_of_family(config: TransformerConfig, task: str) -> list[Rule]:
    kind = MODEL_TYPES[config.model_type]
    rules = _gpt2_base() if config.family == "gpt2" else _bert_base()
    if not config.type_vocab_size:
        rules = [rule for rule in rules if "token_type" not in rule.target]
    if config.table_width != config.hidden_size:
        rules += _linear("embeddings_project", ("embeddings", "project"))
    output: Path = ("head", "output")
    if task in LANGUAGE_MODELS:
        return rules + _language_head(config)
    if task == "question-answering":
        return rules + _linear("qa_outputs", output, base=False)
    if task == "token-classification":
        return rules + _linear("classifier", output, base=False)
    if kind.first_token is None:
        return rules + _linear("score", output, base=False, bias=False)
    if kind.first_token.pooler:
        return rules + _linear("pooler.dense", ("pooler",)) + _linear("classifier", output, base=False)
    return [
        *rules,
        *_linear("classifier.dense", ("head", "dense"), base=False),
        *_linear("classifier.out_proj", output, base=False),
    ]


def twins(config: TransformerConfig, task: str) -> dict[str, str]:
    """Second names of one tensor: {name that may be in a file too: name in the table}.

    Tied heads are stored once by transformers 5, but older files hold both, or the second alone.
    """
    if task not in LANGUAGE_MODELS or not config.tie_word_embeddings:
        return {}
    if config.family == "gpt2":
        return {"lm_head.weight": "wte.weight"}
    outer = "cls.predictions" if config.family == "bert" else "lm_head"
    pairs = {
        f"{outer}.decoder.weight": "embeddings.word_embeddings.weight",
        f"{outer}.decoder.bias": f"{outer}.bias",
    }
    return _own_pairs(config, pairs)


def spare_biases(config: TransformerConfig, task: str) -> dict[str, str]:
    """Tensors that transformers stores and never uses: {their name: the name whose values we write there}.

    With an untied head, the bias beside the decoder's own is such a one. Not read; written as a copy.
    """
    if task not in LANGUAGE_MODELS or config.tie_word_embeddings or config.family == "gpt2":
        return {}
    outer = "cls.predictions" if config.family == "bert" else "lm_head"
    return _own_pairs(config, {f"{outer}.bias": f"{outer}.decoder.bias"})


def _own_pairs(config: TransformerConfig, pairs: Mapping[str, str]) -> dict[str, str]:
    """Pairs of names as the model's own type has them, without those that are one name there."""
    names = MODEL_TYPES[config.model_type].names
    renamed = {_own_name(first, names): _own_name(second, names) for first, second in pairs.items()}
    return {first: second for first, second in renamed.items() if first != second}


# Not weights: constants that older versions stored.
BUFFERS = {
    "bert": re.compile(r"embeddings\.(position_ids|token_type_ids)"),
    "roberta": re.compile(r"embeddings\.(position_ids|token_type_ids)"),
    "gpt2": re.compile(r"h\.\d+\.(attn|crossattention)\.(bias|masked_bias)"),
}

# Heads of a type's other classes: left out, and said so.
OTHER_HEADS = {name: re.compile(kind.other_heads) for name, kind in MODEL_TYPES.items()}


# What training leaves before, or inside, the names of a model it has wrapped: PyTorch's data parallelism, compilation,
# sharding and recomputation; Lightning and the like, which keep a model as a field.
_WRAPPED = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
_FIELD = re.compile(r"^(?:(?:model|auto_model|net|backbone|\d+)\.)+")


def unwrapped(name: str) -> str:
    """A name without what wrapping the model in training left in it.

    Example:
        >>> unwrapped("module.bert.pooler.dense.bias"), unwrapped("_orig_mod.model.wte.weight")
        ('bert.pooler.dense.bias', 'wte.weight')
    """
    return _FIELD.sub("", _WRAPPED.sub("", name))


def plain_name(model_type: str, name: str) -> str:
    """A name on disk without wrapping, without the type's prefix and with today's names of a norm's two vectors."""
    name = unwrapped(name).removeprefix(MODEL_TYPES[model_type].prefix)
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name
