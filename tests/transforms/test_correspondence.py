"""Who belongs to whom: kinds of other people's names, layers however they are kept, and the table."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from arena_jax import transforms as tx
from arena_jax.config.errors import ArenaError
from arena_jax.transforms.trees import read

KINDS = {
    # this library
    "blocks/attention/query/kernel": "attention",
    "blocks/attention/output/bias": "bias",
    "blocks/attention_norm/scale": "normalisation",
    "blocks/feed_forward/down/kernel": "feed-forward",
    "embeddings/token_type/embedding": "embedding",
    "embeddings/norm/bias": "normalisation",
    "final_norm/scale": "normalisation",
    "head/transform/kernel": "head",
    "head/bias": "head",
    "pooler/kernel": "head",
    # Hugging Face, GPT-2
    "transformer/h/0/attn/c_attn/weight": "attention",
    "transformer/h/0/attn/c_proj/bias": "bias",
    "transformer/h/0/mlp/c_fc/weight": "feed-forward",
    "transformer/h/0/mlp/c_proj/weight": "feed-forward",
    "transformer/h/0/ln_1/weight": "normalisation",
    "transformer/ln_f/bias": "normalisation",
    "transformer/wte/weight": "embedding",
    "lm_head/weight": "head",
    # Hugging Face, BERT
    "bert/embeddings/word_embeddings/weight": "embedding",
    "bert/embeddings/LayerNorm/weight": "normalisation",
    "bert/encoder/layer/0/attention/self/query/weight": "attention",
    "bert/encoder/layer/0/attention/output/dense/weight": "attention",
    "bert/encoder/layer/0/attention/output/LayerNorm/bias": "normalisation",
    "bert/encoder/layer/0/intermediate/dense/weight": "feed-forward",
    "bert/encoder/layer/0/output/dense/weight": "feed-forward",
    "bert/pooler/dense/weight": "head",
    "cls/predictions/transform/LayerNorm/weight": "head",
    "qa_outputs/weight": "head",
    # Llama, T5, torch
    "model/layers/0/self_attn/q_proj/weight": "attention",
    "model/layers/0/mlp/gate_proj/weight": "feed-forward",
    "model/layers/0/input_layernorm/weight": "normalisation",
    "model/embed_tokens/weight": "embedding",
    "encoder/block/0/layer/0/SelfAttention/q/weight": "attention",
    "encoder/block/0/layer/1/DenseReluDense/wi/weight": "feed-forward",
    "layers/0/self_attn/in_proj_weight": "attention",
    "layers/0/linear1/weight": "feed-forward",
    "layers/0/norm1/weight": "normalisation",
    # Flax examples
    "Dense_0/kernel": "feed-forward",
    "LayerNorm_0/scale": "normalisation",
    "MultiHeadDotProductAttention_0/query/kernel": "attention",
    "MlpBlock_0/Dense_1/kernel": "feed-forward",
    "posembed_input/pos_embedding": "embedding",
    "classifier/kernel": "head",
    # nobody's
    "conv/filters": "other: conv/filters",
    "w": "other: w",
}


@pytest.mark.parametrize("name", KINDS)
def test_kind(name):
    assert tx.kind_of(tuple(name.split("/"))) == KINDS[name]


def table(params, correspondence):
    return {(row.key, row.shape): row.members for row in tx.explain_correspondence(params, correspondence)}


def stacked(layers):
    return {"blocks": {"attention": {"query": {"kernel": jnp.ones((layers, 4, 4))}}}}


def listed(layers):
    return {"blocks": [{"attention": {"query": {"kernel": jnp.ones((4, 4))}}} for _ in range(layers)]}


def numbered(layers):
    return {"blocks": {str(i): {"attention": {"query": {"kernel": jnp.ones((4, 4))}}} for i in range(layers)}}


@pytest.mark.parametrize("other", [stacked, listed, numbered])
@pytest.mark.parametrize("correspondence", [tx.by_kind, tx.by_role, tx.by_layer])
def test_layers_count_the_same_however_they_are_kept(other, correspondence):
    want = table({"a": stacked(3), "b": stacked(3)}, correspondence)
    assert table({"a": stacked(3), "b": other(3)}, correspondence) == want


def test_12_layers_meet_every_second_one_of_24():
    members = table({"a": stacked(12), "b": stacked(24)}, tx.by_layer)
    assert len(members) == 24
    assert sum(row == {"a": 1, "b": 1} for row in members.values()) == 12
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 4, 4)), rng.normal(size=(24, 4, 4))
    trees = {"a": stacked(12), "b": stacked(24)}
    trees["a"]["blocks"]["attention"]["query"]["kernel"] = jnp.asarray(a, jnp.float32)
    trees["b"]["blocks"]["attention"]["query"]["kernel"] = jnp.asarray(b, jnp.float32)
    share = tx.share_gradients(alpha=0.5, correspondence=tx.by_layer, reduce="mean")
    got, _ = jax.jit(lambda t: share.update(t, share.init(t)))(trees)
    mixed = b.copy()
    mixed[1::2] = 0.5 * b[1::2] + 0.25 * (a + b[1::2])
    np.testing.assert_allclose(got["b"]["blocks"]["attention"]["query"]["kernel"], mixed, rtol=1e-5, atol=1e-6)
    mixed = 0.5 * a + 0.25 * (a + b[1::2])
    np.testing.assert_allclose(got["a"]["blocks"]["attention"]["query"]["kernel"], mixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("other", [stacked, listed])
def test_a_correspondence_may_split_a_stack_anywhere(other):
    """Layers 0 and 2 belong together, 1 to nobody, 3 is excluded; every tree layout gives the same numbers."""

    def corresponds(path, shape):
        layer = next(name for name in path if isinstance(name, tx.Layer))
        return {0: "even", 1: ("alone", layer.of), 2: "even", 3: None, 4: "late"}[int(layer)]

    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=(4, 4, 4)), "b": rng.normal(size=(5, 4, 4)), "c": rng.normal(size=(5, 4, 4))}
    trees = {"a": stacked(4), "b": stacked(5), "c": other(5)}
    trees = {
        m: jax.tree.map(lambda x, m=m: jnp.asarray(values[m], jnp.float32), tree) if m != "c" or other is stacked
        else {"blocks": [{"attention": {"query": {"kernel": jnp.asarray(v, jnp.float32)}}} for v in values[m]]}
        for m, tree in trees.items()
    }  # fmt: skip
    share = tx.share_gradients({"a": 1.0, "b": 2.0, "c": 0.5}, alpha=0.5, correspondence=corresponds)
    got, _ = share.update(trees, share.init(trees))
    even = sum(w * (values[m][0] + values[m][2]) for m, w in {"a": 1.0, "b": 2.0, "c": 0.5}.items())
    late = 2.0 * values["b"][4] + 0.5 * values["c"][4]
    alone = 2.0 * values["b"][1] + 0.5 * values["c"][1]
    for m, value in values.items():
        want = value.copy()
        want[[0, 2]] = 0.5 * value[[0, 2]] + 0.5 * even
        if m != "a":
            want[1] = 0.5 * value[1] + 0.5 * alone
            want[4] = 0.5 * value[4] + 0.5 * late
        leaves = jax.tree.leaves(got[m])
        found = leaves[0] if len(leaves) == 1 else jnp.stack(leaves)
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_parameters_of_different_shape_never_pool():
    params = {"a": {"up": jnp.ones(2)}, "b": {"up": jnp.ones(3)}}
    share = tx.share_gradients(correspondence=lambda path, shape: "everything")
    got, _ = share.update(params, share.init(params))
    jax.tree.map(np.testing.assert_array_equal, got, params)


def test_integers_pass_through():
    params = {"a": {"up": jnp.ones(2), "step": jnp.array(3)}, "b": {"up": jnp.ones(2), "step": jnp.array(4)}}
    share = tx.share_gradients()
    got, _ = share.update(params, share.init(params))
    assert int(got["a"]["step"]) == 3
    assert float(got["a"]["up"][0]) == pytest.approx(1.2)


def test_paths_of_other_containers():
    """Linen's numbered blocks, NNX's lists, and dataclasses, read by the same rule."""

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(4, name="up")(x)

    class Stack(linen.Module):
        @linen.compact
        def __call__(self, x):
            return Block()(Block()(x))

    class Listed(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Dict(up=nnx.Linear(4, 4, rngs=rngs)) for _ in range(2)])

    flax_linen = Stack().init(jax.random.key(0), jnp.ones((1, 4)))["params"]
    flax_nnx = nnx.state(Listed(nnx.Rngs(0)), nnx.Param)
    depth = lambda path, shape: next(n.depth for n in path if isinstance(n, tx.Layer))  # noqa: E731
    members = table({"linen": flax_linen, "nnx": flax_nnx}, depth)
    assert len(members) == 4
    assert all(row == {"linen": 1, "nnx": 1} for row in members.values())


@jax.tree_util.register_dataclass
@dataclass
class Attention:
    key: jax.Array
    value: jax.Array


def test_a_field_called_value_is_not_taken_for_a_variable():
    tree = {"a": Attention(jnp.ones(2), jnp.ones(2)), "b": Attention(jnp.ones(2), jnp.ones(2))}
    assert [leaf.path for leaf in read(tree)[2]] == [("key",), ("value",)] * 2
    share = tx.share_gradients(correspondence=tx.by_role)
    got, _ = share.update(tree, share.init(tree))
    assert isinstance(got["a"], Attention)


def test_the_table_needs_shapes_only_and_adds_up(capsys):
    shapes = jax.eval_shape(lambda: {"a": stacked(2), "b": {**stacked(3), "odd": {"w": jnp.ones(4)}}})
    rows = tx.explain_correspondence(shapes, tx.by_role)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert rows[0].members == {"a": 2, "b": 3}
    assert rows[0].share == pytest.approx(80 / 84)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + len(rows)
    assert printed[-1].endswith("alone")


@pytest.mark.parametrize("kind", tx.correspondence.KINDS)
def test_a_kind_that_is_not_shared_keeps_its_gradient_and_the_others_are_shared_as_before(kind):
    """Against sharing all, leaf by leaf: a kind's own gradient, to the bit, or what it is with all kinds shared."""
    names = {
        "attention": ("attention", "query", "kernel"), "feed-forward": ("mlp", "up", "kernel"),
        "embedding": ("embeddings", "token", "embedding"), "normalisation": ("norm", "scale"),
        "bias": ("mlp", "up", "bias"), "head": ("classifier", "kernel"),
    }  # fmt: skip

    def tree(value):
        made = {}
        for i, path in enumerate(names.values()):
            place = made
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = jnp.full((2, 2) if path[-1] not in ("scale", "bias") else (2,), value + i)
        return made

    def leaf(tree, path):
        for name in path:
            tree = tree[name]
        return tree

    gradients = {"a": tree(1.0), "b": tree(-7.0)}

    def mixed(**options):
        optimizer = tx.multi_model_adamw(
            optax.constant_schedule(1.0), form="paper", inner=optax.identity(), weight_decay=0.0, beta=0.0, window=0,
            **options,
        )  # fmt: skip
        return optimizer.update(gradients, optimizer.init(gradients), gradients)[0]

    whole, without = mixed(), mixed(unshared=(kind,))
    for model in gradients:
        for other, path in names.items():
            want = -leaf(gradients[model], path) if other == kind else leaf(whole[model], path)
            np.testing.assert_array_equal(leaf(without[model], path), want)
            if other == kind:
                assert np.abs(want - leaf(whole[model], path)).max() > 0.1


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(ArenaError, match="unshared names 'embeddings', which is no kind of parameters"):
        tx.multi_model_adamw(1e-3, unshared=("embeddings",))
    with pytest.raises(ArenaError, match="no gradients are shared"):
        tx.multi_model_adamw(1e-3, alpha=0.0, unshared=("bias",))
