"""The forward pass against transformers' PyTorch classes, every parameter perturbed."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
reference = pytest.importorskip("perturbed", reason="needs torch")

from arena_jax import ArenaError, models  # noqa: E402
from arena_jax.models.huggingface.save import to_tensors  # noqa: E402

PAIRS = sorted(reference.CLASSES)
# In units of the logits' standard deviation; worst measured over this file (AMD EPYC, AVX-512): 3.2e-6, 4.4e-15.
FLOAT32 = 1.2e-5
FLOAT64 = 1e-13


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Make a PyTorch model, save it, load it here; each distinct request once."""
    made = {}

    def get(family, task, dtype="float32", **options):
        key = (family, task, dtype, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("model")
            theirs = reference.make(family, task, dtype=getattr(reference.torch, dtype), **options)
            theirs.save_pretrained(folder)
            ours = models.from_pretrained(folder, param_dtype=dtype)
            assert ours.task == task
            structure, params = models.split(ours)
            forward = jax.jit(lambda p, given: models.merge(structure, p)(**given))
            made[key] = theirs, ours, lambda **given: np.asarray(forward(params, given))
        return made[key]

    return get


def agree(ours, theirs, mask, tolerance):
    if theirs.ndim == 3 and mask is not None:  # what stands at padding is nobody's business
        ours, theirs = ours[mask == 1], theirs[mask == 1]
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05
    assert np.abs(ours - theirs).max() <= tolerance * theirs.std()


@pytest.mark.parametrize(("family", "task"), PAIRS)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_logits_of_every_class(load, family, task, padding):
    theirs, _, forward = load(family, task)
    given = reference.inputs(family, padding=padding)
    agree(forward(**given), reference.logits(theirs, **given), given["attention_mask"], FLOAT32)


@pytest.mark.parametrize(
    ("family", "task"), [("bert", "masked-lm"), ("roberta", "sequence-classification"), ("gpt2", "causal-lm")]
)
def test_float64(load, family, task):
    with jax.enable_x64(True):
        theirs, _, forward = load(family, task, "float64")
        given = reference.inputs(family)
        agree(forward(**given), reference.logits(theirs, **given), given["attention_mask"], FLOAT64)


@pytest.mark.parametrize(("family", "task"), [("bert", "masked-lm"), ("roberta", "masked-lm"), ("gpt2", "causal-lm")])
def test_other_inputs(load, family, task):
    theirs, _, forward = load(family, task)
    given = reference.inputs(family, length=11, padding="left")
    types = np.random.default_rng(1).integers(0, 3, (3, 11)).astype(np.int32)
    positions = np.random.default_rng(2).integers(2, 19, (3, 11)).astype(np.int32)
    full = reference.inputs(family, length=19, padding=None)
    for case in (
        given | {"token_type_ids": types},
        given | {"position_ids": positions},
        {"input_ids": given["input_ids"][:1, -1:]},
        {"input_ids": full["input_ids"]},
    ):
        mask = case.get("attention_mask")
        agree(forward(**case), reference.logits(theirs, **case), mask, FLOAT32)


@pytest.mark.parametrize(("family", "task"), [("bert", "masked-lm"), ("gpt2", "causal-lm")])
def test_embeddings_and_blocks(load, family, task):
    theirs, ours, _ = load(family, task)
    given = reference.inputs(family, padding=None)
    kept = []
    body = theirs.base_model
    stack = body.h if family == "gpt2" else body.encoder.layer
    hooks = [stack[0].register_forward_pre_hook(lambda _, args: kept.append(args[0]))]
    hooks += [block.register_forward_hook(lambda _, __, out: kept.append(out)) for block in stack]
    reference.logits(theirs, **given)
    for hook in hooks:
        hook.remove()
    hidden, blocks = jax.jit(lambda: ours.encode(**given, return_blocks=True))()
    assert blocks.shape == (4, 3, 11, 24)
    for mine, other in zip(blocks, kept, strict=True):
        agree(np.asarray(mine), other.numpy(), None, FLOAT32)
    if family == "bert":
        np.testing.assert_array_equal(hidden, blocks[-1])


@pytest.mark.parametrize(
    ("family", "task", "options"),
    [
        ("bert", "masked-lm", {"hidden_act": "silu", "tie_word_embeddings": False, "layer_norm_eps": 1e-3}),
        ("roberta", "masked-lm", {"hidden_act": "relu", "tie_word_embeddings": False, "pad_token_id": 3}),
        ("bert", "sequence-classification", {"hidden_act": "tanh", "is_decoder": True}),
        ("gpt2", "causal-lm", {"tie_word_embeddings": False, "activation_function": "gelu_pytorch_tanh"}),
        ("gpt2", "causal-lm", {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "n_inner": None}),
        ("gpt2", "token-classification", {"reorder_and_upcast_attn": True, "activation_function": "gelu"}),
    ],
)
def test_options(load, family, task, options):
    theirs, _, forward = load(family, task, **options)
    given = reference.inputs(family, padding=None)
    agree(forward(**given), reference.logits(theirs, **given), given["attention_mask"], FLOAT32)


def test_gpt2_without_padding_token(load):
    theirs, ours, forward = load("gpt2", "sequence-classification", pad_token_id=None)
    given = reference.inputs("gpt2", batch=1)
    agree(forward(**given), reference.logits(theirs, **given), None, FLOAT32)
    with pytest.raises(ArenaError, match="set pad_token_id"):
        ours(np.ones((2, 4), np.int32))


@pytest.mark.parametrize(("family", "task"), [("bert", "masked-lm"), ("roberta", "masked-lm"), ("gpt2", "causal-lm")])
def test_gradients_in_float64(load, family, task):
    """Also of the rows that PyTorch calls padding, which learn nothing from lookups but something as outputs."""
    torch = reference.torch
    with jax.enable_x64(True):
        theirs, ours, _ = load(family, task, "float64")
        given = reference.inputs(family, padding=None)
        given["input_ids"][0, 3] = {"bert": 0, "roberta": 1, "gpt2": 0}[family]  # a padding token that is attended
        weights = np.random.default_rng(5).normal(size=(3, 11, 61))
        theirs.zero_grad()
        out = theirs(**{k: torch.from_numpy(v).long() for k, v in given.items()}).logits
        (out * torch.from_numpy(weights)).sum().backward()
        structure, params = models.split(ours)
        grads = jax.jit(jax.grad(lambda p: (models.merge(structure, p)(**given) * weights).sum()))(params)
        mine = to_tensors(models.merge(structure, grads))
        for name, parameter in theirs.named_parameters():
            other = parameter.grad.numpy()
            scale = np.abs(other).max()
            # A key's bias moves all scores of a row alike, so its gradient is zero but for rounding.
            floor = 1e-4 if "key.bias" in name else 0.0
            assert np.abs(mine[name] - other).max() <= 1e-10 * max(scale, floor), name
