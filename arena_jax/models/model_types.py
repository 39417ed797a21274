"""The model types of transformers that are read: each is one of three families, with what it has of its own.

The one table of what a ``model_type`` is: its options and their defaults, its classes, its names on disk, and what its
heads do. Everything else asks the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

# Option of transformers → field of TransformerConfig.
_COMMON = {
    "vocab_size": "vocab_size",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "tie_word_embeddings": "tie_word_embeddings",
    "problem_type": "problem_type",
}
_BERT = _COMMON | {
    "classifier_dropout": "classifier_dropout",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "activation",
    "hidden_dropout_prob": "hidden_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "type_vocab_size",
    "layer_norm_eps": "layer_norm_eps",
    "is_decoder": "is_decoder",
}
_GPT2 = _COMMON | {
    "classifier_dropout": "classifier_dropout",
    "n_embd": "hidden_size",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_positions",
    "activation_function": "activation",
    "resid_pdrop": "hidden_dropout",
    "embd_pdrop": "embedding_dropout",
    "attn_pdrop": "attention_dropout",
    "layer_norm_epsilon": "layer_norm_eps",
    "scale_attn_weights": "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx": "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn": "reorder_and_upcast_attn",
}
_DISTILBERT = _COMMON | {
    "dim": "hidden_size",
    "n_layers": "num_layers",
    "n_heads": "num_heads",
    "hidden_dim": "intermediate_size",
    "activation": "activation",
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "seq_classif_dropout": "classifier_dropout",
    "qa_dropout": "span_dropout",
    "max_position_embeddings": "max_positions",
}

# What transformers 5 assumes when config.json leaves an option out.
_ANY_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": True,
    "problem_type": None,
}
_BERT_DEFAULTS: dict[str, Any] = _ANY_DEFAULTS | {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "classifier_dropout": None,
    "is_decoder": False,
}
_ROBERTA_DEFAULTS = _BERT_DEFAULTS | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_GPT2_DEFAULTS: dict[str, Any] = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "scale_attn_weights": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "pad_token_id": None,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "tie_word_embeddings": True,
    "problem_type": None,
    "classifier_dropout": None,
}
_DISTILBERT_DEFAULTS = _ANY_DEFAULTS | {
    "dim": 768,
    "n_layers": 6,
    "n_heads": 12,
    "hidden_dim": 3072,
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "qa_dropout": 0.1,
}
_ELECTRA_DEFAULTS = _BERT_DEFAULTS | {
    "embedding_size": 128,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}

# Options of the classes that change no number of the five tasks: kept and written back.
_CARRIED = (
    "use_cache",  # generation keeps keys and values; there is no generation here
    "return_dict",  # the form of a transformers output object
    "output_hidden_states",  # here: encode(..., return_blocks=True)
    "chunk_size_feed_forward",  # the same numbers in pieces; here: remat
)


def _summary(*names: str) -> tuple[str, ...]:  # of classes that choose among answers, not a task here
    return tuple(f"summary_{name}" for name in names)


_CAUSAL, _MASKED = "causal-lm", "masked-lm"
_LABELLED = {
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
}
_ENCODER_TASKS = {_CAUSAL: "ForCausalLM", _MASKED: "ForMaskedLM", **_LABELLED}

_ANY_LABELS = r"|(classifier|qa_outputs)\.(weight|bias)|pooler\.dense\.(weight|bias)"
_BERT_HEADS = (
    r"cls\.predictions\.(bias|(decoder|transform\.dense|transform\.LayerNorm)\.(weight|bias))"
    r"|cls\.seq_relationship\.(weight|bias)"
)
_ROBERTA_HEADS = (
    r"lm_head\.(bias|(decoder|dense|layer_norm)\.(weight|bias))|classifier\.(dense|out_proj)\.(weight|bias)"
)
_GPT2_HEADS = (
    r"(lm_head|score)\.weight|(classifier|qa_outputs)\.(weight|bias)|multiple_choice_head\.summary\.(weight|bias)"
)
_DISTILBERT_HEADS = r"(vocab_transform|vocab_layer_norm|vocab_projector|pre_classifier)\.(weight|bias)"
_ELECTRA_HEADS = (
    r"discriminator_predictions\.(dense|dense_prediction)\.(weight|bias)"
    r"|generator_predictions\.(dense|LayerNorm)\.(weight|bias)|generator_lm_head\.(weight|bias)"
    r"|classifier\.(dense|out_proj)\.(weight|bias)|sequence_summary\.summary\.(weight|bias)"
)


@dataclasses.dataclass(frozen=True)
class FirstToken:
    """The layer between the first token's state and a sequence's classes."""

    activation: str = "tanh"  # of that layer
    pooler: bool = False  # the layer is the base model's pooler, not the head's
    dropout: bool = True  # before the layer too, not after it alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelType:
    """One ``model_type`` of transformers.

    Attributes:
        family: whose blocks it has: "bert", "roberta" or "gpt2".
        classes: task → class of transformers.
        prefix: of the base model's names on disk.
        options: option of transformers → field of :class:`~arena_jax.models.TransformerConfig`.
        defaults: what transformers assumes of each.
        carried: options without effect here, written back.
        aliases: other names of options that its class accepts.
        fixed: fields that have one value, for which transformers has no option.
        first_token: how a sequence is classified; None: from its last token, without a layer.
        language_activation: of the language head's layer; None: the blocks' own.
        names: beginnings of names on disk where they are not the family's: family's → its own.
        more_classes: further classes → the task that one of their heads is for.
        other_heads: names of the heads of its other classes, as a regular expression; left out, and said so.
    """

    family: str
    classes: Mapping[str, str]
    prefix: str
    options: Mapping[str, str]
    defaults: Mapping[str, Any]
    other_heads: str
    first_token: FirstToken | None
    carried: tuple[str, ...] = _CARRIED
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    language_activation: str | None = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    more_classes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def tasks(self) -> dict[str, str]:
        """Class of transformers → task."""
        return {name: task for task, name in self.classes.items()} | dict(self.more_classes)


def _classes(beginning: str, tasks: Mapping[str, str]) -> dict[str, str]:
    return {task: beginning + ending for task, ending in tasks.items()}


def _roberta(beginning: str, vocabulary: int) -> ModelType:
    """RoBERTa under the name of one of its kin: the same numbers from the same weights."""
    return ModelType(
        family="roberta",
        classes=_classes(beginning, _ENCODER_TASKS),
        prefix="roberta.",
        options=_BERT,
        defaults=_ROBERTA_DEFAULTS | {"vocab_size": vocabulary},
        first_token=FirstToken(),
        language_activation="gelu",  # the exact one, whatever the blocks use
        other_heads=_ROBERTA_HEADS + _ANY_LABELS,
    )


MODEL_TYPES: dict[str, ModelType] = {
    "bert": ModelType(
        family="bert",
        classes=_classes("Bert", {**_ENCODER_TASKS, _CAUSAL: "LMHeadModel"}),
        prefix="bert.",
        options=_BERT,
        defaults=_BERT_DEFAULTS,
        first_token=FirstToken(pooler=True, dropout=False),
        more_classes={"BertForPreTraining": _MASKED},  # whose second head tells whether two sentences follow each other
        other_heads=_BERT_HEADS + _ANY_LABELS,
    ),
    "roberta": _roberta("Roberta", 50265),
    "gpt2": ModelType(
        family="gpt2",
        classes=_classes("GPT2", {_CAUSAL: "LMHeadModel", **_LABELLED}),
        prefix="transformer.",
        options=_GPT2,
        defaults=_GPT2_DEFAULTS,
        first_token=None,
        more_classes={"GPT2DoubleHeadsModel": _CAUSAL},  # whose second head chooses among answers
        carried=(*_CARRIED, *_summary("type", "use_proj", "activation", "proj_to_labels", "first_dropout")),
        aliases={
            "hidden_size": "n_embd",
            "max_position_embeddings": "n_positions",
            "num_attention_heads": "n_head",
            "num_hidden_layers": "n_layer",
        },
        other_heads=_GPT2_HEADS,
    ),
    "xlm-roberta": _roberta("XLMRoberta", 30522),
    "camembert": _roberta("Camembert", 30522),
    "distilbert": ModelType(
        family="bert",
        classes=_classes("DistilBert", {_MASKED: "ForMaskedLM", **_LABELLED}),
        prefix="distilbert.",
        options=_DISTILBERT,
        defaults=_DISTILBERT_DEFAULTS,
        # How a new position table begins; the one on disk is read whichever it was.
        carried=(*_CARRIED, "sinusoidal_pos_embds"),
        aliases={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
        fixed={"type_vocab_size": 0, "layer_norm_eps": 1e-12, "is_decoder": False},
        first_token=FirstToken("relu", dropout=False),
        names={
            "encoder.layer.{layer}.attention.self.query.": "transformer.layer.{layer}.attention.q_lin.",
            "encoder.layer.{layer}.attention.self.key.": "transformer.layer.{layer}.attention.k_lin.",
            "encoder.layer.{layer}.attention.self.value.": "transformer.layer.{layer}.attention.v_lin.",
            "encoder.layer.{layer}.attention.output.dense.": "transformer.layer.{layer}.attention.out_lin.",
            "encoder.layer.{layer}.attention.output.LayerNorm.": "transformer.layer.{layer}.sa_layer_norm.",
            "encoder.layer.{layer}.intermediate.dense.": "transformer.layer.{layer}.ffn.lin1.",
            "encoder.layer.{layer}.output.dense.": "transformer.layer.{layer}.ffn.lin2.",
            "encoder.layer.{layer}.output.LayerNorm.": "transformer.layer.{layer}.output_layer_norm.",
            "cls.predictions.transform.dense.": "vocab_transform.",
            "cls.predictions.transform.LayerNorm.": "vocab_layer_norm.",
            "cls.predictions.decoder.": "vocab_projector.",
            "cls.predictions.bias": "vocab_projector.bias",
            "classifier.dense.": "pre_classifier.",
            "classifier.out_proj.": "classifier.",
        },
        other_heads=_DISTILBERT_HEADS + _ANY_LABELS,
    ),
    "electra": ModelType(
        family="bert",
        # Of the discriminator, but for the masked language model, which is the generator.
        classes=_classes("Electra", _ENCODER_TASKS),
        prefix="electra.",
        options={**_BERT, "embedding_size": "embedding_size"},
        defaults=_ELECTRA_DEFAULTS,
        carried=(*_CARRIED, *_summary("type", "use_proj", "activation", "last_dropout")),
        first_token=FirstToken("gelu"),
        language_activation="gelu",
        names={
            "cls.predictions.transform.dense.": "generator_predictions.dense.",
            "cls.predictions.transform.LayerNorm.": "generator_predictions.LayerNorm.",
            "cls.predictions.decoder.": "generator_lm_head.",
            "cls.predictions.bias": "generator_lm_head.bias",
        },
        other_heads=_ELECTRA_HEADS + _ANY_LABELS,
    ),
}
