"""Faults in the weights, the configuration and the forward pass."""

from __future__ import annotations

from parity.mutants.fault import Mutant, fault

BERT, ROBERTA, GPT2 = (f"forward/{name}/float64" for name in ("bert/masked-lm", "roberta/masked-lm", "gpt2/causal-lm"))
BERT_CLASS, ROBERTA_CLASS, GPT2_CLASS = (
    f"forward/{name}/sequence-classification/float64" for name in ("bert", "roberta", "gpt2")
)
BERT_WEIGHTS, GPT2_WEIGHTS = "weights/bert/masked-lm/float32", "weights/gpt2/causal-lm/float32"
GPT2_SHARDS = "weights/gpt2/causal-lm, in several files/float32"
RULES, SAVE, LAYERS, HEADS = "models.huggingface.rules", "models.huggingface.save", "models.layers", "models.heads"
TRANSFORMER, PATTERN = "models.transformer", "models.transformer:attention_pattern"
BLOCK, ATTENTION, SCALE = "models.block:Block", "models.attention:Attention.weigh", "models.attention:Attention.scale"


WEIGHTS = (
    Mutant(
        "two norms swapped in BERT's table",
        f"{RULES}:_bert_base",
        (
            (
                'attention.output.LayerNorm", ("blocks", "attention_norm"))',
                'attention.output.LayerNorm", ("blocks", "feed_forward_norm"))',
            ),
            (
                'return rules + _norm(f"{block}output.LayerNorm", ("blocks", "feed_forward_norm"))',
                'return rules + _norm(f"{block}output.LayerNorm", ("blocks", "attention_norm"))',
            ),
        ),
        (BERT, BERT_WEIGHTS),
    ),
    Mutant(
        "two norms swapped in GPT-2's table",
        f"{RULES}:_gpt2_base",
        (
            ('ln_1", ("blocks", "attention_norm")', 'ln_1", ("blocks", "feed_forward_norm")'),
            ('ln_2", ("blocks", "feed_forward_norm")', 'ln_2", ("blocks", "attention_norm")'),
        ),
        (GPT2, GPT2_WEIGHTS),
    ),
    fault(
        "query and key swapped",
        f"{RULES}:_bert_base",
        '("blocks", "attention", part)',
        '("blocks", "attention", {"query": "key", "key": "query"}.get(part, part))',
        BERT_WEIGHTS,
    ),
    fault(
        "key before query in GPT-2's fused projection",
        f"{RULES}:Rule.targets",
        '("query", "key", "value")',
        '("key", "query", "value")',
        GPT2_WEIGHTS,
    ),
    fault(
        "GPT-2's square kernel transposed",
        f"{RULES}:_gpt2_base",
        '("blocks", "attention", "output"))',
        '("blocks", "attention", "output"), TRANSPOSE)',
        GPT2,
    ),
    fault(
        "BERT's square kernel not transposed",
        f"{RULES}:_bert_base",
        '_linear(f"{block}attention.output.dense"',
        '_conv1d(f"{block}attention.output.dense"',
        BERT,
    ),
    Mutant(
        "scale and bias of every norm swapped",
        f"{RULES}:_norm",
        (
            ('(*target, "scale")', '(*target, "b" "ias")'),
            ('(*target, "bias")', '(*target, "scale")'),
        ),
        (BERT,),
    ),
    fault(
        "square kernels saved as they are kept",
        f"{SAVE}:to_tensors",
        "if rule.operation == TRANSPOSE else tensor",
        "if rule.operation == TRANSPOSE and tensor.shape[0] != tensor.shape[1] else tensor",
        BERT_WEIGHTS,
    ),
    fault(
        "tied head stored a second time",
        f"{SAVE}:to_tensors",
        "    if values:\n",
        '    tensors["lm_head.weight"] = tensors[prefix + "wte.weight"].copy()\n    if values:\n',
        GPT2_WEIGHTS,
    ),
    fault(
        "last shard not written",
        f"{SAVE}:_write_weights",
        "for name, shard in zip(names, shards, strict=True):\n        _write_safetensors",
        "for name, shard in zip(names[:-1], shards, strict=False):\n        _write_safetensors",
        GPT2_SHARDS,
    ),
)

PARTS = (
    fault(
        "GELU by its tanh formula in BERT",
        f"{LAYERS}:_gelu",
        "jax.lax.erf(x * math.sqrt(0.5))",
        "jnp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))",
        BERT,
    ),
    fault(
        "exact GELU in GPT-2",
        f"{LAYERS}:_gelu_tanh",
        "jnp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))",
        "jax.lax.erf(x * math.sqrt(0.5))",
        GPT2,
    ),
    fault("ε of the norms of another family", f"{LAYERS}:LayerNorm.__call__", "self.epsilon", "1e-5", BERT),
    fault(
        "ε outside the root",
        f"{LAYERS}:LayerNorm.__call__",
        "jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)",
        "1 / (jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True)) + self.epsilon)",
        GPT2,
    ),
    fault(
        "variance over n − 1",
        f"{LAYERS}:LayerNorm.__call__",
        "jnp.square(centred).mean(-1, keepdims=True)",
        "wide.var(-1, keepdims=True, ddof=1)",
        GPT2,
    ),
    fault(
        "the padding token learns from look-ups",
        f"{LAYERS}:Embedding.__call__",
        "jax.lax.stop_gradient(rows), rows",
        "rows, rows",
        "backward/roberta/token-classification/float64",
    ),
    fault(
        "position offset off by one",
        "models.embeddings:default_positions",
        "jnp.cumsum(real, axis=1) * real",
        "(jnp.cumsum(real, axis=1) - 1) * real",
        ROBERTA,
    ),
    fault(
        "padding on the left counted as positions",
        "models.embeddings:default_positions",
        "jnp.cumsum(real, axis=1) * real",
        "jnp.arange(1, input_ids.shape[1] + 1, dtype=jnp.int32)[None, :] * real",
        ROBERTA,
    ),
    fault(
        "positions counted from 1",
        "models.embeddings:default_positions",
        "jnp.arange(input_ids.shape[1], dtype=jnp.int32)",
        "jnp.arange(1, input_ids.shape[1] + 1, dtype=jnp.int32)",
        GPT2,
    ),
    fault(
        "texts that share a row see one another",
        PATTERN,
        "if segment_ids is not None:",
        "if False:",
        "packed rows/gpt2/causal-lm/float64",
    ),
    fault(
        "positions go on through a row's texts",
        "models.segments:places_in_segments",
        "jnp.where(begins, numbers, 0)",
        "jnp.zeros_like(numbers)",
        "packed rows/bert/masked-lm/float64",
    ),
    fault(
        "RoBERTa's offset is lost where texts share rows",
        "models.embeddings:default_positions",
        "place + padding + 1",
        "place + padding",
        "packed rows/roberta/masked-lm/float64",
    ),
    fault(
        "given positions ignored",
        "models.embeddings:Embeddings.__call__",
        "if position_ids is None:",
        "if True:",
        ROBERTA,
    ),
    fault(
        "token types ignored",
        "models.embeddings:Embeddings.__call__",
        "if token_type_ids is None else token_type_ids",
        "if True else token_type_ids",
        BERT,
    ),
    fault(
        "GPT-2's token types ignored",
        "models.embeddings:Embeddings.__call__",
        "x = x + self.token(token_type_ids, dtype)",
        "pass",
        GPT2,
    ),
    fault(
        "residual taken after GPT-2's norm",
        f"{BLOCK}.attend",
        "self._sum(x, ",
        "self._sum(self.attention_input(x), ",
        GPT2,
    ),
    fault(
        "final norm left out",
        f"{TRANSFORMER}:Transformer.encode",
        "hidden = self.final_norm(hidden)",
        "hidden = hidden * 1",
        GPT2,
    ),
)

ATTENTIONS = (
    fault("mask inverted", PATTERN, "jnp.not_equal(attention_mask, 0)", "jnp.equal(attention_mask, 0)", BERT),
    fault(
        "mask one off",
        PATTERN,
        "jnp.not_equal(attention_mask, 0)",
        "jnp.not_equal(jnp.roll(attention_mask, 1, axis=1), 0)",
        BERT,
    ),
    fault(
        "padding is seen", PATTERN, "return visible\n", "return None\n", "padding content/bert/masked-lm/float32", BERT
    ),
    fault(
        "padding is seen by a causal model",
        PATTERN,
        "return earlier if visible is None else visible & earlier",
        "return earlier",
        GPT2,
    ),
    fault(
        "the next token is seen",
        PATTERN,
        "jnp.tril(jnp.ones((length, length), bool))",
        "jnp.tril(jnp.ones((length, length), bool), 1)",
        "causality/gpt2/causal-lm/float32",
        GPT2,
    ),
    fault(
        "a token does not see itself",
        PATTERN,
        "jnp.tril(jnp.ones((length, length), bool))",
        "jnp.tril(jnp.ones((length, length), bool), -1)",
        GPT2,
    ),
    fault(
        "a decoder of BERT's family sees everything",
        PATTERN,
        "if not config.causal:",
        'if config.family != "gpt2":',
        "causality/roberta/causal-lm/float32",
    ),
    fault("scores scaled by the whole width", SCALE, "config.head_size**-0.5", "config.hidden_size**-0.5", BERT),
    fault(
        "attention normalised over the queries",
        ATTENTION,
        "weights.sum(-1, keepdims=True)",
        "weights.sum(-2, keepdims=True).swapaxes(-1, -2)",
        BERT,
    ),
    fault("keys mixed instead of values", ATTENTION, "weights, values)", "weights, keys)", GPT2),
    fault(
        "blocks numbered from 0 in the scale",
        SCALE,
        "scale / (layer + 1)",
        "scale / jnp.maximum(layer, 1)",
        "options/gpt2/scale_attn_by_inverse_layer_idx=True/float64",
    ),
)

HEAD = (
    fault(
        "pooler without tanh",
        f"{HEADS}:label_logits",
        "jnp.tanh(pooler(hidden[:, 0]))",
        "pooler(hidden[:, 0])",
        BERT_CLASS,
    ),
    fault(
        "RoBERTa classifies by its last token",
        f"{HEADS}:label_logits",
        "head.dense(dropout(hidden[:, 0], ",
        "head.dense(dropout(hidden[:, -1], ",
        ROBERTA_CLASS,
    ),
    fault(
        "GPT-2 classifies at the last place, padding or not",
        f"{HEADS}:_last_token",
        "numbers * real",
        "numbers",
        GPT2_CLASS,
    ),
    fault(
        "GPT-2 takes padding to be on the right",
        f"{HEADS}:_last_token",
        "jnp.argmax(numbers * real, axis=-1)",
        "real.sum(axis=-1) - 1",
        GPT2_CLASS,
    ),
    fault(
        "norm of the language head left out",
        f"{HEADS}:LanguageHead.features",
        "self.norm(activation(self.activation)(self.transform(hidden)))",
        "activation(self.activation)(self.transform(hidden))",
        BERT,
    ),
    fault(
        "RoBERTa's head follows the blocks' activation",
        f"{HEADS}:LanguageHead.__init__",
        "MODEL_TYPES[config.model_type].language_activation or config.activation",
        "config.activation",
        "options/roberta/hidden_act=relu/float64",
    ),
    fault(
        "DistilBERT classifies through tanh, as BERT does",
        f"{HEADS}:label_logits",
        "activation(layer.activation)",
        "jnp.tanh",
        "type: forward/distilbert/sequence-classification/float64",
    ),
    fault(
        "the tied bias of DistilBERT taken for its own twin",
        f"{RULES}:_own_pairs",
        "if first != second",
        "if True",
        "type: export/distilbert/masked-lm/float32",
    ),
    fault(
        "vocabulary bias left out",
        f"{HEADS}:LanguageHead.__call__",
        "return logits + ",
        "return logits + 0 * ",
        BERT,
    ),
)

GATES = (
    fault(
        "gates laid over the heads in turns",
        "models.gates:gate",
        "jnp.repeat(gates.astype(z.dtype), z.shape[-1] // gates.shape[-1])",
        "jnp.tile(gates.astype(z.dtype), z.shape[-1] // gates.shape[-1])",
        "gates/bert/masked-lm/float64",
    ),
    fault(
        "an open part gives its mean as well",
        "models.gates:gate",
        "factors * z + (1 - factors) * jnp",
        "factors * z + jnp",
        "gates/gpt2/causal-lm/float64",
    ),
    fault(
        "the neurons' gates act on the heads' side alone",
        f"{BLOCK}.feed",
        "self.feed_forward(self.feed_forward_input(x), gates)",
        "self.feed_forward(self.feed_forward_input(x))",
        "gates/roberta/masked-lm/float64",
    ),
)

WRITE = "models.generate:_write"
GREEDY, LIKELY = "generation/gpt2/greedy, left-padded/float64", "generation/gpt2/likely logits/float64"
GENERATION = (
    fault("padding on the left is seen", "models.decode:decode", "real[:, None, None, :] & ", "", GREEDY),
    fault(
        "padding on the left has positions",
        WRITE,
        "jnp.cumsum(real[:, :length]",
        "jnp.cumsum(jnp.ones_like(real[:, :length])",
        GREEDY,
    ),
    fault("a new token lands a place too late", WRITE, "length + i - 1", "length + i", GREEDY),
    fault("new tokens all have one position", WRITE, "places[:, -1:] + i", "places[:, -1:] + 1", GREEDY),
    fault(
        "the nucleus keeps a token too many", "models.generate:likely_logits", "(below > 1 -", "(below > 0.9 -", LIKELY
    ),
)
HAND_DOWN = "tests/models/test_hand_down.py"
WARM_STARTS = (
    fault(
        "the order of units taken the wrong way round",
        "models.crossover:align",
        "heads=(heads, np.ones(heads.shape))",
        "heads=(np.argsort(heads, axis=1), np.ones(heads.shape))",
        "tests/models/test_crossover.py::test_a_shuffled_copy_is_found_again_to_the_bit",
    ),
    fault(
        "positions handed down without RoBERTa's offset",
        "models.hand_down:hand_down",
        "at = target.config.position_offset + np.arange(count)",
        "at = np.arange(count)",
        f"{HAND_DOWN}::test_positions_are_counted_from_each_familys_first",
    ),
    fault(
        "a table handed down in its own scale",
        "models.hand_down:_rows",
        "return wide * scale, scale",
        "return wide, scale",
        f"{HAND_DOWN}::test_tables_arrive_in_the_scale_of_the_targets_initialiser",
    ),
    fault(
        "a piece inside a word matched with a word",
        "models.token_spelling:read_token",
        "begins = not inside and",
        "begins = True and",
        f"{HAND_DOWN}::test_tokens_are_matched_by_their_text",
    ),
)

MUTANTS = (*WEIGHTS, *PARTS, *ATTENTIONS, *HEAD, *GATES, *GENERATION, *WARM_STARTS)
