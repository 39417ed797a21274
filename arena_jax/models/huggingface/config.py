"""Hugging Face configurations in and out: every option is implemented, without effect here, or refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from arena_jax.config.agreement import unnamed
from arena_jax.config.errors import ArenaError, few, few_sentences
from arena_jax.models.config import TransformerConfig
from arena_jax.models.model_types import MODEL_TYPES

IMPLEMENTED: dict[str, Mapping[str, str]] = {name: kind.options for name, kind in MODEL_TYPES.items()}
DEFAULTS: dict[str, Mapping[str, Any]] = {name: kind.defaults for name, kind in MODEL_TYPES.items()}
CARRIED: dict[str, tuple[str, ...]] = {name: kind.carried for name, kind in MODEL_TYPES.items()}

# Refused unless they have this value: (harmless value, what to do).
REFUSED: dict[str, tuple[Any, str]] = {
    "add_cross_attention": (False, "a decoder that looks at an encoder is not implemented: set it to false"),
    "is_encoder_decoder": (False, "encoder-decoder models are not implemented: set it to false"),
    "position_embedding_type": ("absolute", "transformers 5 knows absolute positions only: train with 'absolute'"),
    "quantization_config": (None, "quantised weights are not read: save the model unquantised first"),
    "per_layer_config": (None, "all blocks are of one size here: remove it"),
    "tie_last_hidden_states": (None, "hidden states are returned as encode documents: remove it"),
    "pruned_heads": ({}, "heads removed by transformers 4 are not implemented: load an unpruned model"),
    "rope_scaling": (None, "these families have no rotary positions: remove it"),
    "cross_attention_hidden_size": (None, "a decoder that looks at an encoder is not implemented: remove it"),
    "tie_weights_": (True, "DistilBERT's old name of tie_word_embeddings: use that one"),
    "tie_encoder_decoder": (False, "encoder-decoder models are not implemented: set it to false"),
}

# Read elsewhere, or left behind by older versions and published models; they change no number.
_HARMLESS = """
    model_type architectures transformers_version dtype torch_dtype id2label label2id num_labels output_attentions
    name_or_path gradient_checkpointing n_ctx output_past directionality pooler_fc_size pooler_num_attention_heads
    pooler_num_fc_layers pooler_size_per_head pooler_type finetuning_task task_specific_params tokenizer_class
    prefix sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id torchscript
    attn_implementation experts_implementation use_bfloat16 return_token_type_ids
"""
_GENERATION = """
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k
    top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    bad_words_ids num_return_sequences output_scores return_dict_in_generate forced_bos_token_id
    forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens
"""  # transformers drops these from a model's configuration too
_SILENT = frozenset((_HARMLESS + _GENERATION).split())

# What other frameworks write into config.json beside the model's own options: names, versions, settings of training and
# of tokenizers, and what is done with the logits afterwards. None of them is read by transformers' three families, so
# none can change a number; they are named when a folder is read.
_OTHERS = """
    language name revision license author authors description notes tags url citation comment model_name
    model_id model_revision base_model base_model_name parent_model pretrained_model
    pretrained_model_name_or_path model_name_or_path model_version version framework framework_version library
    library_name date created commit git_commit onnx transformers.js_config unsloth_version unsloth_fixed neuron
    openvino coreml quantized_by do_lower_case do_basic_tokenize strip_accents vocab_file merges_file tokenizer
    tokenizer_name tokenizer_file spm_model_file special_tokens max_seq_length max_seq_len max_sequence_length
    seq_length seq_len sequence_length model_max_length max_len block_size doc_stride max_query_length
    max_answer_length train_batch_size eval_batch_size per_device_train_batch_size per_device_eval_batch_size
    batch_size learning_rate lr weight_decay warmup_steps warmup_proportion warmup_ratio num_train_epochs
    num_epochs epochs train_steps max_steps gradient_accumulation_steps adam_epsilon max_grad_norm optimizer
    scheduler seed fp16 bf16 local_rank n_gpu output_dir data_dir logging_steps save_steps eval_steps
    early_stopping_patience loss_fn loss label_smoothing focal_loss class_weights task task_name task_type
    dataset dataset_name datasets train_file validation_file metric metrics label_list labels label_names
    label_column text_column ner_labels num_classes threshold thresholds best_threshold similarity_fn_name
    pooling_mode sentence_embedding_dimension normalize_embeddings head_names heads prediction_heads
    custom_heads keys_to_ignore_at_inference cache_dir force_download resume_download from_tf from_flax
    use_auth_token cell emb_size pre_trained structure training net_type embedding_dim_name
"""
_ELSEWHERE = frozenset(_OTHERS.split())
_ELSEWHERE_BEGINNINGS = (
    "sentence_transformers",
    "sbert_",
    "wandb",
    "mlflow",
    "onnx_",
    "farm_",
    "haystack",
    "autotrain",
    "flair_",
)
# Refused unless they ask for nothing, or for what the model is anyway.
_ASKS_FOR_NOTHING: tuple[Any, ...] = (None, {}, [])


def config_from_hf(config: Any, where: str = "configuration") -> TransformerConfig:
    """Our configuration from that of transformers.

    Args:
        config: a configuration object such as a ``BertConfig``, or the contents of a config.json, of a type that
            :mod:`arena_jax.models.model_types` lists.
        where: named in an error message.

    Returns:
        The configuration; computation settings (dtype, remat, attention) at their defaults.

    Raises:
        ArenaError: another family, an option that is not implemented or not known, or a wrong value.

    Example:
        >>> config_from_hf({"model_type": "gpt2", "n_layer": 3}).num_layers
        3
        >>> config_from_hf({"model_type": "bert", "add_cross_attention": True})
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: configuration: add_cross_attention=True: a decoder that looks at an encoder is
        not implemented: set it to false
    """
    options: dict[str, Any] = dict(config if isinstance(config, Mapping) else config.to_dict())
    kind = options.get("model_type")
    if kind is None:
        raise ArenaError(
            f'{where} has no model_type, as files of 2019: add "model_type": "bert" (or "roberta", "gpt2"), '
            "whichever it is"
        )
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise ArenaError(f"{where}: model_type is {kind!r}; implemented are {', '.join(MODEL_TYPES)}")
    family = MODEL_TYPES[kind].family
    for alias, name in MODEL_TYPES[kind].aliases.items():
        if alias in options:
            options.setdefault(name, options.pop(alias))
    if family == "gpt2":
        options.pop("is_decoder", None)  # GPT-2 is one whatever this says
    problems = _refusals(options, kind)
    names, label_problem = _labels(options)
    if problems or label_problem:
        raise ArenaError(f"{where}: " + few_sentences(problems + label_problem, 5))
    values = {**DEFAULTS[kind], **{k: v for k, v in options.items() if k in IMPLEMENTED[kind]}}
    fields = {**MODEL_TYPES[kind].fixed, **{IMPLEMENTED[kind][name]: value for name, value in values.items()}}
    if family == "gpt2" and fields["intermediate_size"] is None:
        size = fields["hidden_size"]
        fields["intermediate_size"] = 4 * size if isinstance(size, int) else size
    if isinstance(fields["eos_token_id"], list):
        fields["eos_token_id"] = tuple(fields["eos_token_id"])
    if isinstance(fields["pad_token_id"], int) and fields["pad_token_id"] < 0:
        raise ArenaError(f"{where}: pad_token_id is {fields['pad_token_id']}; give it a token number or null")
    carried = tuple((name, options[name]) for name in CARRIED[kind] if name in options)
    try:
        return TransformerConfig(family=family, model_type=kind, **fields, **names, carried=carried)
    except ArenaError as error:
        raise ArenaError(f"{where}: {error}") from None


def config_to_hf(config: TransformerConfig, architecture: str) -> dict[str, Any]:
    """The contents of config.json for transformers.

    Args:
        config: of the model.
        architecture: the transformers class, for example "BertForMaskedLM".

    Returns:
        A dictionary that ``json`` can write.

    Raises:
        ArenaError: heads of a width that transformers cannot express.
    """
    if config.num_heads * config.head_size != config.hidden_size or config.hidden_size % config.num_heads:
        raise ArenaError(
            f"num_heads={config.num_heads} of head_width={config.head_size} in hidden_size={config.hidden_size}: in "
            "transformers heads share out the hidden size; export the masked form, whose removed heads give zero"
        )
    options: dict[str, Any] = {"architectures": [architecture], "model_type": config.model_type}
    for name, field in IMPLEMENTED[config.model_type].items():
        value = getattr(config, field)
        if field == "embedding_size" and value is None:
            value = config.hidden_size
        options[name] = list(value) if isinstance(value, tuple) else value
    if config.family == "gpt2":
        if config.embedding_dropout is None:
            options["embd_pdrop"] = config.hidden_dropout
        if config.classifier_dropout is None:
            del options["classifier_dropout"]  # not an option of the class: there only when set
    options["id2label"] = {str(i): name for i, name in enumerate(config.labels())}
    options["label2id"] = {name: i for i, name in enumerate(config.labels())}
    options["dtype"] = config.param_dtype
    return options | dict(config.carried)


def family_from(options: Mapping[str, Any], weights: Iterable[str] = (), files: Iterable[str] = ()) -> str | None:
    """The family of a config.json without model_type, from what else there is to see; None where that says nothing.

    Args:
        options: the contents of config.json.
        weights: names of the tensors beside it.
        files: names of the files beside it.

    Example:
        >>> family_from({"n_embd": 8}), family_from({"architectures": ["RobertaModel"]}), family_from({})
        ('gpt2', 'roberta', None)
    """
    classes = options.get("architectures")
    if isinstance(classes, list) and classes and isinstance(classes[0], str):
        return next((family for family in ("roberta", "gpt2", "bert") if classes[0].lower().startswith(family)), None)
    if {"n_embd", "n_layer", "n_head"} & set(options):
        return "gpt2"
    if "hidden_size" not in options:
        return None
    names = list(weights)
    prefixed = {family for family in ("bert", "roberta") if any(name.startswith(f"{family}.") for name in names)}
    if len(prefixed) == 1:
        return prefixed.pop()
    beside = set(files)
    if "vocab.txt" in beside:
        return "bert"
    if "merges.txt" in beside:
        return "roberta"
    # RoBERTa has a single token type, and two more positions than tokens.
    types, positions = options.get("type_vocab_size"), options.get("max_position_embeddings")
    if types == 1 or positions in (514, 130, 258, 1026):
        return "roberta"
    return "bert" if types == 2 and options.get("pad_token_id") in (None, 0) else None


def ignored_options(options: Mapping[str, Any], model_type: str) -> list[str]:
    """Names of the options that another framework wrote and that cannot change a number."""
    return [name for name, value in options.items() if _kind(name, value, options, model_type) == "ignored"]


def _kind(name: str, value: Any, options: Mapping[str, Any], model_type: str) -> str:
    if name in IMPLEMENTED[model_type] or name in CARRIED[model_type] or name in REFUSED:
        return "known"
    if name in _SILENT or name.startswith("_"):
        return "known"
    if name == "embedding_size":  # of families with a smaller table
        return "ignored" if value in (None, options.get("hidden_size")) else "unknown"
    if name in _ELSEWHERE or name.startswith(_ELSEWHERE_BEGINNINGS) or value in _ASKS_FOR_NOTHING:
        return "ignored"
    return "unknown"


def _refusals(options: dict[str, Any], model_type: str) -> list[str]:
    problems = []
    for name, value in options.items():
        if name in REFUSED:
            harmless, advice = REFUSED[name]
            if value != harmless and value is not None:
                problems.append(f"{name}={_short(value)}: {advice}")
        elif name in CARRIED[model_type]:
            if not isinstance(value, str | int | float | bool | None):
                problems.append(f"{name}={_short(value)}: a single value is expected")
        elif _kind(name, value, options, model_type) == "unknown":
            problems.append(f"{name}={_short(value)} is not known: remove it if it changes no number")
    return problems


def _labels(options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    names, numbers, count = options.get("id2label"), options.get("label2id"), options.get("num_labels")
    one_way = names is None and isinstance(numbers, Mapping) and numbers  # as in older files
    if names is None and not one_way:
        return ({} if count is None else {"num_labels": count}), []
    try:
        labels = _by_number(_turned(numbers) if one_way else names)
    except _NO_NUMBERS:
        if one_way:
            return {}, [f"label2id must number the classes 0, 1, 2, … one each, not {_short(numbers)}"]
        return {}, [f"id2label must name the classes 0, 1, 2, … one each, not {_short(names)}"]
    if not labels or not all(isinstance(label, str) for label in labels):
        return {}, [f"id2label must give each class a name, not {_short(names)}"]
    if len(set(labels)) < len(labels):
        return {}, [f"id2label gives two classes one name: {few(labels)}"]
    try:
        other = _by_number(_turned(numbers)) if numbers else labels
    except _NO_NUMBERS:
        other = labels  # transformers reads id2label
    if other != labels and not unnamed(other):
        if not unnamed(labels):
            return {}, [f"id2label ({few(labels)}) and label2id ({few(other)}) disagree: correct one of them"]
        if len(other) == len(labels):
            labels = other
    if labels == tuple(f"LABEL_{i}" for i in range(len(labels))):
        return {"num_labels": len(labels)}, []
    return {"num_labels": len(labels), "label_names": labels}, []


# What numbers of classes that are none raise: JSON's Infinity and lists are among them.
_NO_NUMBERS = (AttributeError, TypeError, ValueError, KeyError, OverflowError)


def _turned(numbers: Any) -> dict[Any, str]:
    return {number: name for name, number in numbers.items()}


def _by_number(names: Any) -> tuple[Any, ...]:
    by_index = {int(key): value for key, value in names.items()}
    labels = (by_index[i] for i in range(len(by_index)))
    # Numbers for names are what training on bare numbers leaves.
    return tuple(str(label) if type(label) in (int, float) else label for label in labels)


def _short(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = value if isinstance(value, bool) else json.dumps(value, default=str)
    return str(text)[:60]
