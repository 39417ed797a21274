"""Folders that transformers' own Flax models write, with the logits they compute: the reference of test_flax_files.py.

transformers 5 has no Flax models, so this runs in an environment of its own, made once:

    pip install --target FLAX 'transformers==4.57.*' flax==0.7.0 jax==0.4.13 jaxlib==0.4.13 'numpy<2' 'scipy<1.12' \\
        'ml_dtypes<0.4' 'orbax-checkpoint<0.4' 'optax<0.2'
    PYTHONPATH=FLAX JAX_PLATFORMS=cpu python -S tests/models/flax_reference.py tests/models/flax_folders

(Python 3.11.) Every parameter is drawn anew, as a fresh model's biases are 0 and its scales 1. Logits are float64.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import transformers

ENCODER = {"vocab_size": 23, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODER |= {"intermediate_size": 12, "max_position_embeddings": 14, "num_labels": 2}
GPT2 = {"vocab_size": 23, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 12, "num_labels": 2}
GPT2 |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
UNTIED = {"tie_word_embeddings": False}
# Name of the folder: Flax class, configuration class, options.
CASES = {
    "bert-masked-lm": ("FlaxBertForMaskedLM", "BertConfig", ENCODER),
    "bert-masked-lm-untied": ("FlaxBertForMaskedLM", "BertConfig", ENCODER | UNTIED),
    "bert-pre-training": ("FlaxBertForPreTraining", "BertConfig", ENCODER),
    "bert-sequence-classification": ("FlaxBertForSequenceClassification", "BertConfig", ENCODER),
    "bert-token-classification": ("FlaxBertForTokenClassification", "BertConfig", ENCODER),
    "bert-question-answering": ("FlaxBertForQuestionAnswering", "BertConfig", ENCODER),
    "roberta-masked-lm": ("FlaxRobertaForMaskedLM", "RobertaConfig", ENCODER),
    "roberta-masked-lm-untied": ("FlaxRobertaForMaskedLM", "RobertaConfig", ENCODER | UNTIED),
    "roberta-sequence-classification": ("FlaxRobertaForSequenceClassification", "RobertaConfig", ENCODER),
    "gpt2-causal-lm": ("FlaxGPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt2-causal-lm-untied": ("FlaxGPT2LMHeadModel", "GPT2Config", GPT2 | UNTIED),
    "gpt2-causal-lm-bfloat16": ("FlaxGPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt2-causal-lm-shards": ("FlaxGPT2LMHeadModel", "GPT2Config", GPT2),
}


def perturbed(params, seed):
    """Every leaf anew, rounded to float32."""
    generator = np.random.default_rng(seed)

    def draw(leaf):
        noise = generator.normal(size=leaf.shape)
        noise = noise * min(leaf.shape) ** -0.5 if leaf.ndim == 2 else 0.3 * noise
        centre = 1.0 if leaf.ndim == 1 and np.all(np.asarray(leaf) == 1) else 0.0
        return jnp.asarray((centre + noise).astype(np.float32))

    return jax.tree_util.tree_map(draw, params)


def main(target):
    """Write every folder."""
    jax.config.update("jax_enable_x64", True)
    for seed, (name, (kind, config, options)) in enumerate(CASES.items()):
        model = getattr(transformers, kind)(getattr(transformers, config)(**options), dtype=jnp.float64)
        params = perturbed(model.params, seed)
        if name.endswith("bfloat16"):
            params = model.to_bf16(params)
        wide = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.float64), params)
        ids = np.random.default_rng(seed).integers(3, 23, (3, 9)).astype(np.int32)
        mask = np.ones_like(ids)
        mask[1, 6:], mask[2, 4:] = 0, 0
        ids[mask == 0] = model.config.pad_token_id
        output = model(ids, attention_mask=mask, params=wide)
        if "start_logits" in output:
            logits = np.stack([output["start_logits"], output["end_logits"]], axis=-1)
        else:
            logits = output["prediction_logits"] if "prediction_logits" in output else output["logits"]
        folder = Path(target) / name
        limit = {"max_shard_size": "4KB"} if name.endswith("shards") else {}
        model.save_pretrained(folder, params=params, **limit)
        np.savez_compressed(folder / "reference.npz", input_ids=ids, attention_mask=mask, logits=np.asarray(logits))


if __name__ == "__main__":
    main(sys.argv[1])
