"""The ablation game of a model, against single evaluations, closed forms and PyTorch."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import ArenaError, game, models
from arena_jax.game.prefixes import Encoded
from arena_jax.models import Gated
from arena_jax.training import vocabulary_loss
from arena_jax.training.objectives import objective_for

N = 12  # 2 blocks × (4 heads + 2 groups)


def noisy(name, task, seed=0):
    structure, params = models.split(models.create(name, task, seed=2))
    random = np.random.default_rng(seed)
    return models.merge(
        structure,
        jax.tree.map(lambda x: jnp.asarray(np.asarray(x) + 0.1 * random.normal(size=x.shape).astype(x.dtype)), params),
    )


@pytest.fixture(scope="module")
def probe():
    random = np.random.default_rng(5)
    batches = []
    for _ in range(2):
        ids = random.integers(3, 256, (3, 10)).astype(np.int32)
        mask = np.ones_like(ids)
        mask[1, 7:] = 0
        batches.append({"input_ids": ids, "attention_mask": mask, "valid": np.array([True, True, True])})
    batches[1]["valid"] = np.array([True, True, False])
    return batches


@pytest.fixture(scope="module")
def gpt2():
    return noisy("gpt2-tiny", "causal-lm")


@pytest.fixture(scope="module")
def played(gpt2, probe):
    return game.AblationGame(gpt2, probe, table=game.fine_players(gpt2.config, groups=2))


@pytest.fixture(scope="module")
def zeroed(gpt2, probe):
    return game.AblationGame(gpt2, probe, table=game.fine_players(gpt2.config, groups=2), ablation="zero")


@pytest.fixture(scope="module")
def measured(played):
    """Measures with at most 60 evaluations, each computed once: those by gradients compile a program each time."""
    return functools.cache(lambda method: game.measure(played, method, evaluations=60))


def test_values_equal_single_evaluations(played, gpt2, probe):
    members = np.random.default_rng(1).random((5, N)) < 0.6
    members[0] = True
    objective = objective_for("causal-lm")

    @jax.jit
    def evaluate(row, batch):
        return objective(Gated(gpt2, played.table.gates(row, played.means)), batch, jax.random.key(0), False).sums

    for row, value in zip(members, played(members), strict=True):
        sums = [evaluate(row, batch) for batch in probe]
        loss = sum(float(s["loss_sum"]) for s in sums) / sum(float(s["count"]) for s in sums)
        assert value == pytest.approx(-loss, rel=2e-6)


def test_one_program_whatever_the_number_of_coalitions(played):
    before = played._run._cache_size()
    for m in (1, 3, 40):
        assert played(np.random.default_rng(m).random((m, N)) < 0.9).shape == (m,)
    assert before <= played._run._cache_size() == 1


def test_means_are_over_the_real_tokens(played, gpt2, probe):
    assert played.observed.tokens == 10 + 7 + 10 + 10 + 7
    lone = {"input_ids": probe[0]["input_ids"][1:2, :7]}
    alone, padded = (
        game.observe(gpt2, [batch]) for batch in (lone, {k: v[1:2] for k, v in probe[0].items() if k != "valid"})
    )
    for one, other in zip(alone[:3], padded[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_gradient_of_a_closed_gate_is_the_product_with_the_output_map(zeroed):
    """dL/dg = <W_O,i, dL/dW_O,i> for zero ablation: the identity that makes one backward pass enough."""
    slopes = jax.jit(jax.grad(zeroed.loss))(jnp.ones(N))

    def loss(params):
        total, count = zeroed._sums(params, None, jnp.ones(N), zeroed.probe, zeroed.keys)
        return total.sum() / count.sum()

    gradient = jax.jit(jax.grad(loss))(zeroed.params)
    for i in range(N):
        rows, slope = zeroed.table.pieces(i, zeroed.params)[-1], zeroed.table.pieces(i, gradient)[-1]
        assert float(jnp.vdot(rows, slope)) == pytest.approx(float(slopes[i]), rel=2e-4, abs=2e-6)


@pytest.mark.parametrize("method", [m for m in game.METHODS if m != "entropy"])
def test_utilities_have_one_signature(played, measured, method):
    found = measured(method)
    assert found.values.shape == found.standard_errors.shape == (N,)
    assert np.isfinite(found.values).all()
    assert found.names == played.table.names
    assert found.evaluations <= 60
    assert found.flops == played.flops * (found.evaluations + 3 * found.gradients)
    assert "flops" in found.to_dict()


def test_utilities_agree_where_theory_says_so(played, measured):
    whole, none = played(np.array([[True] * N, [False] * N]))
    assert measured("aumann-shapley").values.sum() == pytest.approx(whole - none, abs=2e-3)
    shapley = game.measure(played, "shapley", evaluations=200)
    assert shapley.values.sum() == pytest.approx(whole - none, abs=1e-6)
    left = measured("leave-one-out").values
    assert np.corrcoef(left, measured("second-order").values)[0, 1] > 0.8
    assert np.corrcoef(left, game.measure(played).values)[0, 1] > 0.8
    assert measured("sensitivity").samples == 5  # of six rows one only fills the batch


def test_sensitivity_equals_row_by_row_gradients(played, gpt2, probe):
    ids, mask = probe[0]["input_ids"][1:2], probe[0]["attention_mask"][1:2]

    def loss(gates):
        seen = Gated(gpt2, played.table.gates(gates, played.means))
        sums = objective_for("causal-lm")(seen, {"input_ids": ids, "attention_mask": mask}, None, False).sums
        return sums["loss_sum"] / sums["count"]

    np.testing.assert_allclose(
        played.example_gradients()[1], jax.jit(jax.grad(loss))(jnp.ones(N)), rtol=2e-4, atol=1e-6
    )


def test_masked_models_hide_the_same_tokens_in_every_coalition(probe):
    model = noisy("bert-tiny", "masked-lm")
    played = game.AblationGame(
        model, probe[:1], objective_for("masked-lm", mask_token_id=4), table=game.fine_players(model.config, groups=2)
    )
    first = played.evaluate(np.ones((1, N)))
    assert played.evaluate(np.ones((3, N))).tolist() == [first[0]] * 3
    assert played.example_gradients().shape == (3, N)


def test_what_is_observed_equals_pytorchs(tmp_path):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
    model = noisy("gpt2-tiny", "causal-lm")
    ids = np.random.default_rng(3).integers(3, 256, (2, 9)).astype(np.int32)
    models.save_pretrained(model, tmp_path)
    reference = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    inner = []
    for block in reference.transformer.h:
        for part in (block.attn.c_proj, block.mlp.c_proj):
            part.register_forward_pre_hook(lambda _, given: inner.append(given[0].mean((0, 1)).numpy()))
    with torch.no_grad():
        seen = reference(torch.tensor(ids, dtype=torch.long), output_attentions=True).attentions
    ours = game.observe(model, [{"input_ids": ids}])
    for layer, attention in enumerate(seen):
        for mean, wanted in zip(ours.means, inner[2 * layer : 2 * layer + 2], strict=True):
            np.testing.assert_allclose(mean[layer], wanted, atol=1e-5)
        np.testing.assert_allclose(ours.entropy[layer], game.attention_entropy(attention.numpy()), atol=1e-5)


def test_bad_input_gets_one_line(gpt2, played, probe):
    types = game.type_players(gpt2.config, models.split(gpt2)[1])
    uneven = [probe[0], {"input_ids": np.ones((1, 4), np.int32)}]
    for call, told in (
        (lambda: game.AblationGame(gpt2, uneven), "batches of 2 shapes"),
        (lambda: game.AblationGame(gpt2, []), "batches of 0 shapes"),
        (lambda: game.AblationGame(gpt2, probe, ablation="noise"), "'mean' or 'zero'"),
        (lambda: game.observe(gpt2, []), "nothing to observe"),
        (lambda: game.AblationGame(gpt2, probe, table=types), "players by type have no gates"),
        (lambda: played.evaluate(np.ones(N)), r"gates have shape \(12,\); give \(m, 12\) numbers"),
        (lambda: played(np.ones((2, 3), bool)), r"coalitions have shape \(2, 3\)"),
        (lambda: game.measure(played, "leave-two-out"), "did you mean 'leave-one-out'"),
        (lambda: game.measure(played, evaluations=3), "3 evaluations are too few"),
    ):
        with pytest.raises(ArenaError, match=told):
            call()


def test_a_game_never_holds_all_logits_of_a_language_model(monkeypatch):
    model = models.create(models.preset("gpt2-tiny", vocab_size=50, hidden_size=16, num_heads=2), task="causal-lm")
    batch, key = {"input_ids": jnp.arange(18).reshape(2, 9)}, jax.random.key(0)
    objective = objective_for("causal-lm")
    whole = objective(model, batch, key, False).sums["loss_sum"]
    monkeypatch.setattr(vocabulary_loss, "CHUNK_BYTES", 4 * 2 * 2 * 50)
    monkeypatch.setattr(models.Transformer, "predict_tokens", None)  # what would give them all
    encoded = Encoded(model, model.encode(batch["input_ids"]))
    np.testing.assert_allclose(objective(encoded, batch, key, False).sums["loss_sum"], whole, rtol=1e-6)
