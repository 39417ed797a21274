"""transformers' PyTorch models with every parameter perturbed, and the inputs both sides are given.

A fresh model hides faults: its biases are 0 and its norm scales 1. So each parameter gets noise.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    # Importing transformers and torch warns about their own deprecated parts, which are not ours to fix.
    warnings.simplefilter("ignore")
    import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "vocab_size": 61}
CONFIGS = {
    "bert": lambda **o: transformers.BertConfig(
        **{**SIZES, "intermediate_size": 37, "max_position_embeddings": 19, "type_vocab_size": 3, **o}
    ),
    "roberta": lambda **o: transformers.RobertaConfig(
        **{**SIZES, "intermediate_size": 37, "max_position_embeddings": 21, "type_vocab_size": 3, **o}
    ),
    "gpt2": lambda **o: transformers.GPT2Config(
        **{
            "n_embd": 24,
            "n_layer": 3,
            "n_head": 3,
            "vocab_size": 61,
            "n_inner": 37,
            "n_positions": 19,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **o,
        }
    ),
}
CLASSES = {
    ("bert", "causal-lm"): "BertLMHeadModel",
    ("bert", "masked-lm"): "BertForMaskedLM",
    ("bert", "sequence-classification"): "BertForSequenceClassification",
    ("bert", "token-classification"): "BertForTokenClassification",
    ("bert", "question-answering"): "BertForQuestionAnswering",
    ("roberta", "causal-lm"): "RobertaForCausalLM",
    ("roberta", "masked-lm"): "RobertaForMaskedLM",
    ("roberta", "sequence-classification"): "RobertaForSequenceClassification",
    ("roberta", "token-classification"): "RobertaForTokenClassification",
    ("roberta", "question-answering"): "RobertaForQuestionAnswering",
    ("gpt2", "causal-lm"): "GPT2LMHeadModel",
    ("gpt2", "sequence-classification"): "GPT2ForSequenceClassification",
    ("gpt2", "token-classification"): "GPT2ForTokenClassification",
    ("gpt2", "question-answering"): "GPT2ForQuestionAnswering",
}


def make(family: str, task: str, *, noise: float = 0.2, dtype=torch.float32, **options):
    """A perturbed PyTorch model in evaluation mode."""
    if task == "causal-lm" and family != "gpt2":
        options.setdefault("is_decoder", True)
    if task in ("sequence-classification", "token-classification"):
        options.setdefault("num_labels", 5)
    torch.manual_seed(7)
    model = getattr(transformers, CLASSES[family, task])(CONFIGS[family](**options)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


def inputs(family: str, *, length: int = 11, batch: int = 3, padding: str | None = "right") -> dict:
    """Random tokens; row 0 is full, the others are padded more and more on one side."""
    random = np.random.default_rng(3)
    pad = {"bert": 0, "roberta": 1, "gpt2": 0}[family]
    ids = random.integers(4, 61, (batch, length)).astype(np.int32)
    mask = np.ones_like(ids)
    for row in range(1, batch) if padding else ():
        gone = slice(length - 2 * row, None) if padding == "right" else slice(0, 2 * row)
        ids[row, gone], mask[row, gone] = pad, 0
    return {"input_ids": ids, "attention_mask": mask}


def logits(model, **given) -> np.ndarray:
    """The PyTorch logits; of question answering, start and end stacked on the last axis."""
    with torch.no_grad():
        out = model(**{name: torch.from_numpy(np.asarray(value)).long() for name, value in given.items()})
    if hasattr(out, "start_logits"):
        return torch.stack([out.start_logits, out.end_logits], dim=-1).numpy()
    return out.logits.numpy()
