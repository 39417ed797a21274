"""Small random models of ``transformers``' own PyTorch classes, every parameter perturbed.

Hugging Face initialises biases to 0 and LayerNorm scales to 1: a weight mapping that swaps two of them passes a test on
a fresh model. Here every value of every parameter is drawn anew, so that no two parameters are alike.

The sizes are odd on purpose: no two axes of one array agree, except where they must (the D×D kernels).
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

FAMILIES = ("bert", "roberta", "gpt2")
TASKS = ("causal-lm", "masked-lm", "sequence-classification", "token-classification", "question-answering")

CLASSES: dict[tuple[str, str], Any] = {
    ("bert", "causal-lm"): transformers.BertLMHeadModel,
    ("bert", "masked-lm"): transformers.BertForMaskedLM,
    ("bert", "sequence-classification"): transformers.BertForSequenceClassification,
    ("bert", "token-classification"): transformers.BertForTokenClassification,
    ("bert", "question-answering"): transformers.BertForQuestionAnswering,
    ("roberta", "causal-lm"): transformers.RobertaForCausalLM,
    ("roberta", "masked-lm"): transformers.RobertaForMaskedLM,
    ("roberta", "sequence-classification"): transformers.RobertaForSequenceClassification,
    ("roberta", "token-classification"): transformers.RobertaForTokenClassification,
    ("roberta", "question-answering"): transformers.RobertaForQuestionAnswering,
    ("gpt2", "causal-lm"): transformers.GPT2LMHeadModel,
    ("gpt2", "sequence-classification"): transformers.GPT2ForSequenceClassification,
    ("gpt2", "token-classification"): transformers.GPT2ForTokenClassification,
    ("gpt2", "question-answering"): transformers.GPT2ForQuestionAnswering,
}

HIDDEN, HEADS, INNER, LAYERS, POSITIONS, LABELS = 20, 5, 28, 3, 17, 3
VOCABULARY = {"bert": 61, "roberta": 59, "gpt2": 67}
PADDING = {"bert": 0, "roberta": 1, "gpt2": 66}


def configuration(family: str, task: str, **changes: Any) -> transformers.PretrainedConfig:
    """A small configuration of one family; ``changes`` are fields of its Hugging Face class."""
    fields: dict[str, Any] = {"vocab_size": VOCABULARY[family], "pad_token_id": PADDING[family]}
    if task != "question-answering":  # which has two labels, start and end, by definition
        fields["num_labels"] = LABELS
    if task == "causal-lm" and family != "gpt2":
        fields["is_decoder"] = True
    if family == "gpt2":
        fields |= {"n_embd": HIDDEN, "n_head": HEADS, "n_inner": INNER, "n_layer": LAYERS, "n_positions": POSITIONS}
        fields |= {"bos_token_id": 65, "eos_token_id": 65}
        return transformers.GPT2Config(**(fields | changes))
    fields |= {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "intermediate_size": INNER}
    fields |= {"num_hidden_layers": LAYERS, "bos_token_id": 2, "eos_token_id": 3}
    if family == "bert":
        fields |= {"max_position_embeddings": POSITIONS, "type_vocab_size": 2}
        return transformers.BertConfig(**(fields | changes))
    # RoBERTa counts positions from padding_idx + 1, so that many rows can never be used by a real token.
    fields |= {"max_position_embeddings": POSITIONS + PADDING[family] + 1, "type_vocab_size": 2}
    return transformers.RobertaConfig(**(fields | changes))


@torch.no_grad()
def perturb(model: torch.nn.Module, seed: int) -> None:
    """Draw every parameter anew: matrices at 1/√(shorter side), vectors with spread 0.3, LayerNorm scales around 1."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        value = noise * min(parameter.shape) ** -0.5 if parameter.ndim == 2 else 0.3 * noise
        if parameter.ndim == 1 and bool((parameter == 1).all()):
            value = 1 + value
        # Rounded to float32, so that a float32 folder and a float64 model hold the same numbers.
        parameter.copy_(value.float())


def create(family: str, task: str, *, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A perturbed model in evaluation mode, with plain ("eager") attention."""
    torch.manual_seed(seed)
    config = configuration(family, task, **changes)
    config._attn_implementation = "eager"
    model = CLASSES[family, task](config)
    perturb(model, seed)
    return model.to(dtype).eval()
