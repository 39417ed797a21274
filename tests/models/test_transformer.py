"""What holds for the models by themselves: options that agree, dropout, masks, split and merge, errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arena_jax import ArenaError, models

FAMILIES = ("bert-tiny", "roberta-tiny", "gpt2-tiny")


def language(name: str) -> str:
    return "causal-lm" if name.startswith("gpt2") else "masked-lm"


def perturb(params, seed=0):
    """Noise on every leaf, so that no fault hides behind a zero bias."""
    leaves, tree = jax.tree.flatten(params)
    random = np.random.default_rng(seed)
    return jax.tree.unflatten(
        tree, [jnp.asarray(np.asarray(x) + 0.1 * random.normal(size=x.shape).astype(x.dtype)) for x in leaves]
    )


@pytest.fixture(scope="module")
def built():
    """(configuration, parameters, tokens, mask) per family."""
    ids = np.random.default_rng(0).integers(3, 256, (3, 9)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, 6:] = 0
    made = {}
    for name in FAMILIES:
        config = models.preset(name)
        made[name] = config, perturb(models.split(models.create(config, language(name), seed=2))[1]), ids, mask
    return made


@functools.cache
def structure_of(config, task):
    return models.split(models.create(config, task))[0]


@functools.cache
def forward(config, task):
    """Compiled once per configuration: (parameters, inputs, key) -> logits."""
    structure = structure_of(config, task)
    return jax.jit(lambda params, given, key=None: models.merge(structure, params)(**given, key=key))


def loss_and_gradient(config, task, params, ids, mask, key=None):
    structure = structure_of(config, task)
    weights = np.random.default_rng(1).normal(size=(*ids.shape, config.vocab_size)).astype(np.float32)

    @jax.jit
    def run(params, key):
        def loss(p):
            out = models.merge(structure, p)(ids, mask, key=key).astype(jnp.float32)
            return jnp.mean(jnp.where(mask[..., None] == 1, out, 0.0) * weights)

        return jax.value_and_grad(loss)(params)

    return run(params, key)


def close(a, b, tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        assert np.abs(x - y).max() <= tolerance * max(np.abs(y).max(), 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-tiny", "gpt2-tiny"])  # RoBERTa's blocks are BERT's
def test_options_of_the_computation_agree(built, name):
    config, params, ids, mask = built[name]
    task = language(name)
    plain = loss_and_gradient(config, task, params, ids, mask)
    close(loss_and_gradient(config.replace(remat="none"), task, params, ids, mask), plain, 1e-5)
    close(loss_and_gradient(config.replace(remat="block"), task, params, ids, mask), plain, 1e-5)
    close(loss_and_gradient(config.replace(attention="dot_product"), task, params, ids, mask), plain, 1e-5)


@pytest.mark.parametrize("remat", ["none", "block"])
def test_remat_draws_the_same_dropout(built, remat):
    config, params, ids, mask = built["gpt2-tiny"]
    key = jax.random.key(3)
    plain = loss_and_gradient(config, "causal-lm", params, ids, mask, key)
    close(loss_and_gradient(config.replace(remat=remat), "causal-lm", params, ids, mask, key), plain, 1e-5)


def test_cudnn_says_what_it_needs():
    with pytest.raises(ArenaError, match="dtype='bfloat16'"):
        models.preset("gpt2-tiny", attention="cudnn")
    if jax.default_backend() != "gpu":
        with pytest.raises(ArenaError, match="NVIDIA GPU"):
            models.create(models.preset("gpt2-tiny", attention="cudnn", dtype="bfloat16"), "causal-lm")(
                jnp.ones((2, 3), jnp.int32)
            )


def test_bfloat16_computation(built):
    config, params, ids, mask = built["bert-tiny"]
    given = {"input_ids": ids, "attention_mask": mask}
    half = forward(config.replace(dtype="bfloat16"), "masked-lm")(params, given)
    full = forward(config, "masked-lm")(params, given)
    assert half.dtype == jnp.bfloat16
    real = mask == 1
    error = np.abs(np.asarray(half, np.float32) - np.asarray(full))[real].max() / np.asarray(full)[real].std()
    assert 1e-4 < error < 0.1  # measured 0.032; the rounding of bfloat16 is 0.004


def test_float64_is_refused_where_jax_would_drop_it():
    config = models.preset("bert-tiny", param_dtype="float64")
    with pytest.raises(ArenaError, match="jax_enable_x64"):
        models.create(config, "masked-lm")


@pytest.mark.parametrize("name", FAMILIES)
def test_call_is_head_of_encode(built, name):
    config, params, ids, mask = built[name]
    model = models.merge(structure_of(config, language(name)), params)
    for key in (None, jax.random.key(1)):
        whole = model(ids, mask, key=key)
        np.testing.assert_array_equal(whole, model.predict_tokens(model.encode(ids, mask, key=key)))
    hidden = model.encode(ids, mask)
    some = model.predict_tokens(hidden[1, 2:4])
    np.testing.assert_allclose(some, model(ids, mask)[1, 2:4], rtol=1e-4, atol=1e-5)


def test_split_and_merge(built):
    config, params, ids, mask = built["bert-tiny"]
    model = models.merge(structure_of(config, "masked-lm"), params)
    structure, again = models.split(model)
    assert hash(structure) == hash(models.split(model)[0])
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(again))
    assert type(again["blocks"]["attention"]) is dict
    # The way that flax documents gives the same.
    graph, state = nnx.split(model, nnx.Param)
    np.testing.assert_array_equal(nnx.merge(graph, state)(ids, mask), model(ids, mask))
    traces = []

    @jax.jit
    def run(p):
        traces.append(1)
        return models.merge(structure, p)(ids, mask)

    run(params)
    run(jax.tree.map(lambda x: x + 1, params))
    assert len(traces) == 1


def test_parameter_names():
    """The names that the transformations and the other packages rely on."""
    names = {}
    for name, task in (
        ("bert-tiny", "sequence-classification"),
        ("roberta-tiny", "masked-lm"),
        ("gpt2-tiny", "causal-lm"),
    ):
        params = models.split(models.create(name, task))[1]
        names[name] = {"/".join(k.key for k in path): x.shape for path, x in jax.tree.leaves_with_path(params)}
    block = {f"blocks/attention/{p}/kernel": (2, 32, 32) for p in ("query", "key", "value", "output")}
    block |= {f"blocks/attention/{p}/bias": (2, 32) for p in ("query", "key", "value", "output")}
    block |= {f"blocks/{n}/{v}": (2, 32) for n in ("attention_norm", "feed_forward_norm") for v in ("scale", "bias")}
    block |= {"blocks/feed_forward/up/kernel": (2, 32, 64), "blocks/feed_forward/up/bias": (2, 64)}
    block |= {"blocks/feed_forward/down/kernel": (2, 64, 32), "blocks/feed_forward/down/bias": (2, 32)}
    encoder = {"embeddings/norm/scale": (32,), "embeddings/norm/bias": (32,), "embeddings/token/embedding": (256, 32)}
    assert names["bert-tiny"] == block | encoder | {
        "embeddings/position/embedding": (128, 32),
        "embeddings/token_type/embedding": (2, 32),
        "pooler/kernel": (32, 32),
        "pooler/bias": (32,),
        "head/output/kernel": (32, 2),
        "head/output/bias": (2,),
    }
    assert names["roberta-tiny"] == block | encoder | {
        "embeddings/position/embedding": (130, 32),
        "embeddings/token_type/embedding": (1, 32),
        "head/transform/kernel": (32, 32),
        "head/transform/bias": (32,),
        "head/norm/scale": (32,),
        "head/norm/bias": (32,),
        "head/bias": (256,),
    }
    assert names["gpt2-tiny"] == block | {
        "embeddings/token/embedding": (256, 32),
        "embeddings/position/embedding": (128, 32),
        "final_norm/scale": (32,),
        "final_norm/bias": (32,),
    }


def test_create_is_decided_by_the_seed():
    first, second, other = (models.split(models.create("roberta-tiny", "masked-lm", seed=s))[1] for s in (4, 4, 5))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    kernel = first["blocks"]["attention"]["query"]["kernel"]
    assert not np.array_equal(kernel, other["blocks"]["attention"]["query"]["kernel"])
    assert not np.array_equal(kernel[0], kernel[1])
    assert not np.array_equal(kernel, first["blocks"]["attention"]["key"]["kernel"])
    assert not np.any(first["embeddings"]["token"]["embedding"][1])
    assert not np.any(first["embeddings"]["position"]["embedding"][1])


def test_dropout_is_decided_by_the_key(built):
    config, params, ids, mask = built["bert-tiny"]
    compiled = forward(config, "masked-lm")
    run = lambda key: compiled(params, {"input_ids": ids, "attention_mask": mask}, key)  # noqa: E731
    first, again, other = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, run(None))


def test_no_dropout_probability_means_no_dropout(built):
    _, params, ids, mask = built["gpt2-tiny"]
    config = models.preset("gpt2-tiny", hidden_dropout=0.0, attention_dropout=0.0)
    model = models.merge(structure_of(config, "causal-lm"), params)
    np.testing.assert_array_equal(model(ids, mask, key=jax.random.key(0)), model(ids, mask))


def test_every_dropout_site_draws_its_own(built):
    """With one probability at a time, each site changes the output, differently in each layer and example."""
    from arena_jax.models.layers import dropout

    x = jnp.ones((400, 500))
    y = dropout(x, 0.1, jax.random.key(0))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.9)}
    kept = np.stack(
        [np.asarray(dropout(x, 0.1, key) != 0, np.float64) for key in jax.random.split(jax.random.key(1), 20)]
    )
    assert abs(kept.mean() - 0.9) < 6e-4  # four standard errors of 4 million draws
    for a, b in ((kept[:, 1:], kept[:, :-1]), (kept[..., 1:], kept[..., :-1]), (kept[1:], kept[:-1])):
        assert abs(((a - 0.9) * (b - 0.9)).mean()) / 0.09 < 2e-3  # neighbours, rows and keys: four standard errors
    none = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0}
    _, params, ids, _ = built["gpt2-tiny"]
    same = np.repeat(ids[:1], 2, axis=0)
    seen = []
    for site in none:
        config = models.preset("gpt2-tiny", **none | {site: 0.5})
        out = forward(config, "causal-lm")(params, {"input_ids": same}, jax.random.key(0))
        assert not np.allclose(out[0], out[1])
        seen.append(out)
    assert not np.allclose(seen[0], seen[1])


@pytest.mark.parametrize("name", ["bert-tiny", "roberta-tiny"])
def test_a_decoder_sees_only_earlier_tokens(built, name):
    _, params, ids, _ = built[name]
    run = forward(models.preset(name, is_decoder=True), "causal-lm")
    changed = ids.copy()
    changed[:, 5] = 200
    before, after = (run(params, {"input_ids": x}) for x in (ids, changed))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert not np.allclose(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("attention", ["xla", "dot_product"])
def test_padding_content_changes_nothing(built, name, attention):
    config, params, ids, mask = built[name]
    run = forward(config.replace(attention=attention), language(name))
    positions = np.broadcast_to(np.arange(2, 11, dtype=np.int32), ids.shape)  # RoBERTa would count changed padding
    for side in (mask, mask[:, ::-1]):
        changed = np.where(side == 1, ids, 77).astype(np.int32)
        given = {"attention_mask": side, "position_ids": positions}
        before, after = (run(params, {"input_ids": x, **given}) for x in (ids, changed))
        np.testing.assert_array_equal(before[side == 1], after[side == 1])
    empty = {"attention_mask": np.zeros_like(mask), "position_ids": positions}
    assert np.isfinite(run(params, {"input_ids": ids, **empty})).all()


def test_a_token_outside_the_vocabulary_is_not_silent():
    model = models.create("bert-tiny", "masked-lm")
    ids = np.full((1, 3), 256, np.int32)
    with pytest.raises(ArenaError, match="the model has the rows 0 to 255"):
        model(ids)
    assert np.isnan(jax.jit(model)(ids)).all()  # a compiled program cannot look


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"input_ids": np.ones(4, np.int32)}, "(batch, length)"),
        ({"input_ids": np.ones((1, 129), np.int32)}, "129 tokens does not fit"),
        ({"input_ids": np.ones((1, 0), np.int32)}, "0 tokens"),
        ({"input_ids": np.ones((1, 4), np.float32)}, "whole numbers"),
        ({"input_ids": np.ones((2, 4), np.int32), "attention_mask": np.ones((2, 5), np.int32)}, "attention_mask"),
        ({"input_ids": np.ones((2, 4), np.int32), "token_type_ids": np.ones((1, 4), np.int32)}, "token_type_ids"),
        ({"input_ids": np.ones((2, 4), np.int32), "attention_mask": np.ones((2, 4), np.float32)}, "whole numbers"),
    ],
)
def test_wrong_inputs(given, said):
    model = models.create("bert-tiny", "masked-lm")
    with pytest.raises(ArenaError) as error:
        model(**given)
    assert said in str(error.value)


def test_roberta_positions_end_earlier():
    model = models.create("roberta-tiny", "masked-lm")
    assert model(np.full((1, 128), 5, np.int32)).shape == (1, 128, 256)
    with pytest.raises(ArenaError, match="129 tokens"):
        model(np.full((1, 129), 5, np.int32))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: models.preset("gpt3"), "unknown model preset"),
        (lambda: models.preset("gpt2", layers=3), "unknown configuration field 'layers'"),
        (lambda: models.preset("gpt2", num_heads=7), "must divide"),
        (lambda: models.preset("gpt2", hidden_dropout=1.0), "hidden_dropout"),
        (lambda: models.preset("gpt2", hidden_dropout="x"), "hidden_dropout"),
        (lambda: models.preset("gpt2", num_layers=0), "num_layers"),
        (lambda: models.preset("gpt2", num_layers=True), "num_layers"),
        (lambda: models.preset("gpt2", activation="gelo"), "did you mean 'gelu'"),
        (lambda: models.preset("bert-tiny", scale_attn_weights=False), "gpt2 alone"),
        (lambda: models.preset("bert-tiny", embedding_dropout=0.3), "embedding_dropout"),
        (lambda: models.preset("bert-tiny", label_names=("a",), num_labels=3), "label_names"),
        (lambda: models.preset("roberta-tiny", pad_token_id=None), "pad_token_id"),
        (lambda: models.preset("bert-tiny").replace(colour=1), "unknown configuration field"),
        (lambda: models.create("gpt2-tiny", "masked-lm"), "no masked-lm"),
        (lambda: models.create("bert-tiny", "causal-lm"), "is_decoder=True"),
        (lambda: models.create("bert-tiny", "tagging"), "unknown task"),
        (lambda: models.create(models.preset("bert-tiny", num_labels=3), "question-answering"), "num_labels=2"),
        (lambda: models.create("bert-tiny", "masked-lm", seed="x"), "seed"),
        (lambda: models.create(3, "masked-lm"), "configuration"),
        (lambda: models.create("bert-tiny", "sequence-classification").predict_tokens(jnp.ones((1, 32))), "language"),
    ],
)
def test_mistakes_are_told(make, said):
    with pytest.raises(ArenaError) as error:
        make()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("bert-base", 109.5),
        ("bert-large", 335.1),
        ("roberta-base", 124.6),
        ("roberta-large", 355.4),
        ("gpt2", 124.4),
        ("gpt2-medium", 354.8),
        ("gpt2-large", 774.0),
        ("gpt2-xl", 1557.6),
    ],
)
def test_public_sizes(name, millions):
    """Parameters of the base model in millions, as `transformers` counts BertModel, RobertaModel and GPT2Model."""
    from arena_jax.models.huggingface.load import shapes_of

    task = "causal-lm" if name.startswith("gpt2") else "question-answering"
    shapes = shapes_of(models.preset(name), task)
    count = sum(int(np.prod(shape)) for path, shape in shapes.items() if path[0] != "head")
    if not name.startswith("gpt2"):
        count += models.preset(name).hidden_size ** 2 + models.preset(name).hidden_size  # their pooler
    assert round(count / 1e6, 1) == millions


def test_configurations_are_values():
    config = models.preset("bert-tiny", label_names=("a", "b", "c"))
    assert config.num_labels == 3
    assert hash(config) == hash(dataclasses.replace(config))
    assert config.replace(num_labels=4).label_names is None
    assert models.preset("gpt2-tiny", hidden_dropout=0.0).embedding_dropout is None
