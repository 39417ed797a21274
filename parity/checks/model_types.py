"""Checkpoints that are one of the three families under another name: every type and task, read, computed and written.

Tiny random models of ``transformers``' own PyTorch classes, every parameter perturbed, against ours in float64: logits,
gradients, and the folder written back under its own type. The settings are those of published checkpoints where these
differ from the family's own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
import transformers

from arena_jax import models
from parity import inputs
from parity.case import Case, precision, scratch
from parity.checks.forward import as_numpy, compiled, detached, reference_outputs, visible
from parity.checks.weights import new_folder, on_disk
from parity.losses import our_loss, with_labels
from parity.measure import Measurement, compare, exactly, identical
from parity.reference import models as reference_models
from parity.registry import Check

TOLERANCE = 1e-10
CLASSIFIERS = ("sequence-classification", "token-classification", "question-answering")
ENDINGS = {
    "causal-lm": "ForCausalLM",
    "masked-lm": "ForMaskedLM",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
}
WIDE = {"hidden_size": 20, "num_attention_heads": 5, "intermediate_size": 28, "num_hidden_layers": 2}
ROBERTA = {**WIDE, "max_position_embeddings": 19, "pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
BERT = {**WIDE, "max_position_embeddings": 17, "pad_token_id": 0}
GPT2 = {"n_embd": 20, "n_head": 5, "n_layer": 2, "n_positions": 17, "pad_token_id": 66}
# What published configurations hold beside the sizes.
POOLER = {"directionality": "bidi", "pooler_fc_size": 768, "pooler_num_fc_layers": 3, "pooler_type": "first_token"}

# Kind of checkpoint: beginning of the classes, tasks, options.
KINDS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "distilbert": (
        "DistilBert",
        ("masked-lm", *CLASSIFIERS),
        {
            "dim": 20,
            "n_heads": 5,
            "hidden_dim": 28,
            "n_layers": 2,
            "max_position_embeddings": 17,
            "pad_token_id": 0,
            "qa_dropout": 0.15,
            "seq_classif_dropout": 0.25,
        },
    ),
    "xlm-roberta": ("XLMRoberta", tuple(ENDINGS), ROBERTA),
    "camembert": ("Camembert", tuple(ENDINGS), ROBERTA),
    "distilroberta": ("Roberta", ("masked-lm", "sequence-classification"), ROBERTA),
    "electra": ("Electra", tuple(ENDINGS), {**BERT, "embedding_size": 12}),
    "electra, one width": ("Electra", ("sequence-classification",), {**BERT, "embedding_size": 20}),
    "electra, another activation": (
        "Electra",
        ("sequence-classification", "masked-lm"),
        {**BERT, "hidden_act": "relu"},
    ),
    "bert, multilingual cased": ("Bert", ("masked-lm", "token-classification"), {**BERT, **POOLER}),
    "gpt2, another language": ("GPT2", ("causal-lm",), {**GPT2, "n_ctx": 17, "gradient_checkpointing": False}),
}
# Kinds with a layer of their own: gradients too. The others are the same program as their family's.
OWN = ("distilbert", "electra")
LEFT_BEHIND = ("n_ctx", "gradient_checkpointing", "n_inner")  # n_inner=None is written as the number that it means
GENERATED = ("dtype", "_name_or_path", "transformers_version", "architectures")


@functools.cache
def case_of(kind: str, task: str) -> Case:
    """One small perturbed model and its folder."""
    beginning, _, options = KINDS[kind]
    fields = {"vocab_size": 67, "bos_token_id": 2, "eos_token_id": 3, **options}
    if task != "question-answering":
        fields["num_labels"] = 3
    if task == "causal-lm" and beginning != "GPT2":
        fields["is_decoder"] = True
    ending = "LMHeadModel" if beginning == "GPT2" else ENDINGS[task]
    torch.manual_seed(0)
    config = getattr(transformers, f"{beginning}Config")(**fields)
    config._attn_implementation = "eager"
    reference = getattr(transformers, beginning + ending)(config)
    reference_models.perturb(reference, 0)
    folder = scratch() / f"type-{kind}-{task}"
    reference.save_pretrained(folder)
    return Case(models.read_config(folder).family, task, reference.double().eval(), folder)


def batches(case: Case) -> dict[str, inputs.Arrays]:
    """Padding on both sides, and token types where the type has them."""
    names = ("right padding", "left padding", *(("token types",) if case.sizes.types else ()))
    variants = inputs.variants(case.sizes)
    return {name: variants[name] for name in names}


def forward(kind: str, task: str) -> Iterator[Measurement]:
    """Embeddings, blocks and logits."""
    case = case_of(kind, task)
    with precision("float64"):
        structure, params = models.split(case.ours("float64"))
        blocks = task == KINDS[kind][1][0]  # one task shows the encoder, the others their head
        run = compiled(structure, blocks=blocks)
        for name, batch in batches(case).items():
            reference = as_numpy(reference_outputs(case, batch, blocks=blocks))
            yield from compare(visible(detached(run(params, batch)), batch), visible(reference, batch), f"{name}: ")


def backward(kind: str, task: str) -> Iterator[Measurement]:
    """The gradient of every parameter: PyTorch's, put in the place of its weights, is read as weights are."""
    case = case_of(kind, task)
    with precision("float64"):
        structure, params = models.split(case.ours("float64"))
        gradient = jax.jit(jax.grad(lambda p, b: our_loss(case, models.merge(structure, p), b)))
        batch, labelled = with_labels(case, batches(case)["right padding"])
        ours = dict(leaves(gradient(params, batch)))
        case.reference.zero_grad()
        case.torch_loss(labelled).backward()
        state = {name: value.clone() for name, value in case.reference.state_dict().items()}
        with torch.no_grad():
            for parameter in case.reference.parameters():
                parameter.copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
        folder = new_folder()
        case.reference.save_pretrained(folder)
        case.reference.load_state_dict(state)
        theirs = models.from_pretrained(folder, task, param_dtype="float64")
        yield from compare(ours, dict(leaves(models.split(theirs)[1])))


def export(kind: str, task: str) -> Iterator[Measurement]:
    """The folder written back: the same names and bits, and transformers reads it as the class it came from."""
    case = case_of(kind, task)
    source, target = case.folder, new_folder()
    with precision("float32"):
        models.save_pretrained(models.from_pretrained(source, task, param_dtype="float32"), target)
    before, after = on_disk(source), on_disk(target)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield exactly(f"{name} is on one side only", False)
        else:
            yield identical(after[name], before[name], name)
    again, report = type(case.reference).from_pretrained(target, output_loading_info=True, dtype="auto")
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        yield exactly(f"transformers: {problem} {sorted(report[problem])[:3]}", not report[problem])
    options = again.config.to_dict()
    for name, value in case.reference.config.to_dict().items():
        if name not in (*GENERATED, *POOLER, *LEFT_BEHIND):
            yield exactly(f"configuration field {name}", options.get(name) == value)
    yield exactly("model_type", options["model_type"] == case.reference.config.model_type)


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every leaf of a nested dictionary with its path."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}/")
        else:
            yield path + name, np.asarray(value)


def checks() -> list[Check]:
    """Two or three rows per kind and task; the table is the list of what is read."""
    rows = []
    for kind, (_, tasks, _) in KINDS.items():
        for task in tasks:
            for layer, run, dtype, allowed in (
                ("type: forward", forward, "float64", TOLERANCE),
                ("type: backward", backward, "float64", TOLERANCE),
                ("type: export", export, "float32", 0.0),
            ):
                if run is backward and kind not in OWN:
                    continue
                rows.append(Check(layer, kind, task, dtype, partial(run, kind, task), allowed))
    return rows
