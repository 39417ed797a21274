"""One transformer for BERT, RoBERTa and GPT-2: embeddings, a scanned stack of blocks, a task head."""

from __future__ import annotations

import functools
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.models import heads, shards
from arena_jax.models.attention import in_library
from arena_jax.models.block import Block
from arena_jax.models.chunked_attention import RESIDUALS
from arena_jax.models.config import TransformerConfig, check_task
from arena_jax.models.embeddings import Embeddings
from arena_jax.models.gates import Gates, check_gates
from arena_jax.models.initial import Initial
from arena_jax.models.layers import LayerNorm
from arena_jax.models.segments import same_segment

Params = dict[str, Any]  # nested dictionary of names, arrays at the leaves


class Transformer(nnx.Module):
    """BERT, RoBERTa or GPT-2 with the head of one task.

    Make one with :func:`create` or ``from_pretrained``. Parameters are the only state; random keys are arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> from arena_jax import models
        >>> model = models.create("bert-tiny", task="sequence-classification", seed=0)
        >>> model(jnp.ones((2, 7), jnp.int32)).shape
        (2, 2)
    """

    def __init__(self, config: TransformerConfig, task: str, initial: Initial) -> None:
        check_task(config, task)
        self.config = config
        self.task = task
        self.embeddings = Embeddings(config, initial)
        # One block whose every parameter has a leading axis of layers; encode runs it one layer at a time.
        self.blocks = Block(config, initial.stacked(config.num_layers))
        eps = config.layer_norm_eps or 0.0
        self.final_norm = LayerNorm(config.hidden_size, eps, initial) if config.family == "gpt2" else None
        self.pooler = heads.make_pooler(config, task, initial)
        self.head = heads.make_head(config, task, initial)

    def __call__(
        self,
        input_ids: Array,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        *,
        segment_ids: Array | None = None,
        key: Array | None = None,
        gates: Gates | None = None,
        **unknown: Any,
    ) -> Array:
        """The logits of the model's task.

        Args:
            input_ids: int32 (B, L), token numbers.
            attention_mask: int32 or bool (B, L), 0 where a token is padding; None: no padding.
            token_type_ids: int32 (B, L), segment numbers; None: segment 0 (nothing is added in GPT-2).
            position_ids: int32 (B, L) or (1, L), rows of the position table; None: transformers' own.
            segment_ids: int32 (B, L), which of several texts in a row a token is of: 1, 2, …, and 0 where it is
                padding. Tokens see those of their own segment alone, and positions count anew. None: a text per row.
            key: random key of the dropout; None: evaluation, no dropout.
            gates: on heads and groups of neurons; None: all open, and nothing of them in the compiled program.
            unknown: refused, with what to use instead: a model gives logits, and an objective makes a loss of them.

        Returns:
            Language models (B, L, V); sequence classification (B, classes); token classification (B, L, classes);
            question answering (B, L, 2): start and end. In the computation's dtype.

        Raises:
            ArenaError: a wrong shape or type, more tokens than positions, labels, or an unknown argument.
        """
        if unknown:
            _refuse_arguments(self.task, unknown)
        hidden = self.encode(
            input_ids, attention_mask, token_type_ids, position_ids, segment_ids=segment_ids, key=key, gates=gates
        )
        head_key = None if key is None else jax.random.fold_in(key, 1)
        return self.predict(hidden, input_ids, head_key, attention_mask=attention_mask)

    @overload
    def encode(
        self,
        input_ids: Array,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        *,
        segment_ids: Array | None = None,
        key: Array | None = None,
        gates: Gates | None = None,
        return_blocks: Literal[False] = False,
    ) -> Array: ...
    @overload
    def encode(
        self,
        input_ids: Array,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        *,
        segment_ids: Array | None = None,
        key: Array | None = None,
        gates: Gates | None = None,
        return_blocks: Literal[True],
    ) -> tuple[Array, Array]: ...
    def encode(
        self,
        input_ids: Array,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        *,
        segment_ids: Array | None = None,
        key: Array | None = None,
        gates: Gates | None = None,
        return_blocks: bool = False,
    ) -> Array | tuple[Array, Array]:
        """The hidden state of every token, after the final norm.

        Args:
            input_ids: as in the call; the same holds for the next three.
            attention_mask: see there.
            token_type_ids: see there.
            position_ids: see there.
            segment_ids: see there.
            key: see there.
            gates: see there.
            return_blocks: also return the embeddings and every block's output (before GPT-2's final norm).

        Returns:
            (B, L, D), or with ``return_blocks`` a pair of that and (blocks + 1, B, L, D).
        """
        config = self.config
        _check_inputs(config, input_ids, attention_mask, token_type_ids, position_ids, segment_ids)
        if gates is not None:
            check_gates(config, gates)
        # All keys at once: each draw inside the blocks would be compiled for itself.
        sites = 3 * config.num_layers
        keys = None if key is None else jax.random.split(jax.random.fold_in(key, 0), sites + 1)
        x = self.embeddings(input_ids, token_type_ids, position_ids, None if keys is None else keys[-1], segment_ids)
        if in_library(config, key) and config.right_padded and attention_mask is not None and segment_ids is None:
            mask: Array | None = jnp.sum(jnp.not_equal(attention_mask, 0), axis=1, dtype=jnp.int32)
        else:
            mask = attention_pattern(config, input_ids.shape[1], attention_mask, segment_ids)

        graph, stack = nnx.split(self.blocks)
        block_keys = None if keys is None else keys[:sites].reshape(config.num_layers, 3, *keys.shape[1:])
        stacked = nnx.to_pure_dict(stack)
        hidden, outputs = _run_blocks(
            graph, config, return_blocks, shards.parameter_mesh(), stacked, x, mask, block_keys, gates
        )
        if self.final_norm is not None:
            hidden = self.final_norm(hidden)
        return hidden if outputs is None else (hidden, jnp.concatenate([x[None], outputs]))

    def predict(
        self, hidden: Array, input_ids: Array, key: Array | None = None, *, attention_mask: Array | None = None
    ) -> Array:
        """The logits of the model's task from hidden states.

        Args:
            hidden: (B, L, D), as ``encode`` returns it.
            input_ids: int32 (B, L); GPT-2 classifies a sequence at its last token that is not padding.
            key: random key of the head's dropout; None: no dropout.
            attention_mask: int32 or bool (B, L), 0 where a token is padding, whatever token it is; None: padding is
                told by ``pad_token_id`` alone.

        Returns:
            As the call.
        """
        if self.task in LANGUAGE_MODELS:
            return self.predict_tokens(hidden)
        assert isinstance(self.head, heads.LabelHead)
        return heads.label_logits(
            self.config, self.task, self.head, self.pooler, hidden, input_ids, attention_mask, key
        )

    def predict_tokens(self, hidden: Array) -> Array:
        """The language-model head on any hidden states, for example at masked positions only.

        Args:
            hidden: (..., D), as ``encode`` returns it.

        Returns:
            (..., V) logits.

        Raises:
            ArenaError: the task is not a language model.
        """
        return heads.token_logits(self._language_head("predict_tokens"), self.embeddings.token.embedding[...], hidden)

    def vocabulary_projection(self, hidden: Array) -> tuple[Array, Array, Array | None]:
        """The last product of the language-model head, not yet computed: logits = features · tableᵀ + bias.

        Args:
            hidden: (..., D), as ``encode`` returns it.

        Returns:
            Features (..., D) in the computation's type, table (V, D), and bias (V,) or None, as parameters.

        Raises:
            ArenaError: the task is not a language model.
        """
        head = self._language_head("vocabulary_projection")
        return heads.vocabulary_projection(head, self.embeddings.token.embedding[...], hidden)

    def _language_head(self, method: str) -> heads.LanguageHead | None:
        if self.task not in LANGUAGE_MODELS:
            raise ArenaError(f"{method} needs a language model; this model's task is {self.task!r}")
        assert not isinstance(self.head, heads.LabelHead)
        return self.head


_KEEP_DOTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(RESIDUALS),
)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))  # so that calls outside of jit do not compile each time
def _run_blocks(
    graph: nnx.GraphDef[Block],
    config: TransformerConfig,
    return_blocks: bool,
    mesh: Mesh | None,
    stack: Params,
    x: Array,
    mask: Array | None,
    keys: Array | None,
    gates: Gates | None,
) -> tuple[Array, Array | None]:
    """The stacked blocks one after the other; the compiled program holds one block whatever the depth."""

    def run(x: Array, layer: tuple[Params, Array, Array | None, Gates | None]) -> tuple[Array, Array | None]:
        shard, number, layer_keys, layer_gates = layer
        params = shards.whole(mesh, shard, stacked=config.num_layers)
        y = nnx.merge(graph, params)(x, mask, number, layer_keys, layer_gates)
        return y, y if return_blocks else None

    numbers = jnp.arange(config.num_layers, dtype=jnp.int32)
    # "dots": the backward pass recomputes what is cheap from the products with kernels: on a CPU that is faster than
    # storing it per layer, and takes a third of the memory. "block": it recomputes the products too.
    policy = _KEEP_DOTS if config.remat == "dots" else None
    body = run if config.remat == "none" else jax.checkpoint(run, prevent_cse=False, policy=policy)
    return jax.lax.scan(body, x, (stack, numbers, keys, gates))


def attention_pattern(
    config: TransformerConfig, length: int, attention_mask: Array | None, segment_ids: Array | None = None
) -> Array | None:
    """Which token may see which: True = visible.

    Args:
        config: of the model.
        length: L, tokens.
        attention_mask: (B, L), 0 where a token is padding, or None.
        segment_ids: (B, L), which text of the row a token is of, or None.

    Returns:
        bool (B or 1, 1, L or 1, L), or None if every token sees every other.
    """
    visible = None if attention_mask is None else jnp.not_equal(attention_mask, 0)[:, None, None, :]
    if segment_ids is not None:
        together = same_segment(segment_ids)
        visible = together if visible is None else visible & together
    if not config.causal:
        return visible
    earlier = jnp.tril(jnp.ones((length, length), bool))[None, None]
    return earlier if visible is None else visible & earlier


_LABELS = ("labels", "label", "start_positions", "end_positions", "targets")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "segment_ids", "key", "gates")


def _refuse_arguments(task: str, unknown: dict[str, Any]) -> None:
    """Refuse an argument that the call does not have, with what it was probably meant for."""
    for name in unknown:
        if name in _LABELS:
            call = f"'{task}', mask_token_id=…" if task == "masked-lm" else f"'{task}'"
            raise ArenaError(
                f"a model gives logits and takes no {name}: the loss is the objective's, "
                f"arena_jax.training.objectives.objective_for({call})(model, batch, key, training)"
            )
        raise ArenaError(f"a model takes no argument '{name}'; {nearest(name, _INPUTS)}")


def _check_inputs(
    config: TransformerConfig,
    input_ids: Array,
    attention_mask: Array | None,
    token_type_ids: Array | None,
    position_ids: Array | None,
    segment_ids: Array | None,
) -> None:
    shape = jnp.shape(input_ids)
    if len(shape) != 2:
        raise ArenaError(f"input_ids must have shape (batch, length), not {shape}")
    limit = config.max_positions if position_ids is not None else config.max_length
    if not 1 <= shape[1] <= limit:
        raise ArenaError(f"a sequence of {shape[1]} tokens does not fit a model of 1 to {limit}: cut or split it")
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": token_type_ids,
        "position_ids": position_ids,
        "segment_ids": segment_ids,
    }
    for name, value in inputs.items():
        if value is None:
            continue
        allowed = {shape, (1, shape[1])} if name == "position_ids" else {shape}
        if jnp.shape(value) not in allowed:
            raise ArenaError(f"{name} must have the shape of input_ids, {shape}, not {jnp.shape(value)}")
        kind = jnp.result_type(value)
        if not (jnp.issubdtype(kind, jnp.integer) or (name == "attention_mask" and kind == jnp.bool_)):
            raise ArenaError(f"{name} must hold whole numbers (int32), not {kind}")
    if token_type_ids is not None and not config.type_vocab_size:
        raise ArenaError(f"{config.model_type} has no token types: leave token_type_ids out")
    rows = {"input_ids": config.vocab_size, "token_type_ids": config.type_vocab_size}
    if config.family == "gpt2":
        rows["token_type_ids"] = config.vocab_size
    for name, count in rows.items():
        value = inputs[name]
        if value is None or isinstance(value, jax.core.Tracer):
            continue  # inside a compiled program a row that does not exist reads as NaN
        largest = int(np.max(np.asarray(value))) if np.size(value) else 0
        if largest >= count:
            raise ArenaError(
                f"{name} hold {largest}, but the model has the rows 0 to {count - 1}: use the model's own tokenizer"
                + (", or leave token_type_ids out" if name == "token_type_ids" else "")
            )


def split(model: Transformer) -> tuple[nnx.GraphDef[Transformer], Params]:
    """Take a model apart into its structure and its parameters.

    Args:
        model: any model of this package.

    Returns:
        A static, hashable structure, and a nested dictionary of arrays (blocks stacked on a leading axis).

    Example:
        >>> from arena_jax import models
        >>> structure, params = models.split(models.create("gpt2-tiny", task="causal-lm"))
        >>> params["blocks"]["attention"]["query"]["kernel"].shape
        (2, 32, 32)
    """
    structure, state = nnx.split(model)
    return structure, nnx.to_pure_dict(state)


def merge(structure: nnx.GraphDef[Transformer], params: Params) -> Transformer:
    """Put a model together again; cheap, so it belongs inside the jitted loss.

    Args:
        structure: from :func:`split`.
        params: nested dictionary of arrays with the same names.

    Returns:
        The model.

    Example:
        >>> from arena_jax import models
        >>> structure, params = models.split(models.create("gpt2-tiny", task="causal-lm"))
        >>> models.merge(structure, params).task
        'causal-lm'
    """
    return nnx.merge(structure, params)
