"""Domains in a competition: who learns what best gets the memory and the rows; the index against closed forms."""

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from arena_jax import data, training
from arena_jax.arena import policy
from arena_jax.arena.history import extend, start
from arena_jax.arena.specialization import Domains, data_parts, divide, specialization, spent_by_domain
from arena_jax.arena.state import set_division
from arena_jax.config import ModelConfig, presets
from arena_jax.config.errors import ArenaError
from arena_jax.data.domains import DomainBatches, join_rows
from arena_jax.runs import run_page, signals
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from tests.arena.test_competition import stop_at
from tests.arena.tiny import SIZES, assert_same_arrays, final_state, records, tiny, train, without_times


def entropy(*parts):
    return -sum(p * math.log(p) for p in parts if p)


@pytest.mark.parametrize("a", [0.0, 0.1, 0.35, 0.5, 0.8, 1.0])
def test_two_models_that_divide_two_domains_have_the_index_of_a_binary_channel(a):
    """1 − h(a) bits; exchanging the models of one domain turns a into 1 − a, in half of all cases: the same index or
    none, so that p is 1 unless all is the same."""
    result = specialization([[a, 1 - a], [1 - a, a]])
    assert result.value == pytest.approx(1 - entropy(a, 1 - a) / math.log(2), abs=1e-12)
    assert (result.exchanges, result.exact) == (2, True)
    assert result.p == (1.0 if a == 0.5 else 0.5)
    assert result.mean == pytest.approx(result.value / 2)


@pytest.mark.parametrize("count", [2, 3])
def test_domains_with_models_of_their_own_are_as_rare_as_different_winners_drawn_at_random(count):
    result = specialization(np.eye(count))
    assert result.value == 1.0
    assert result.p == pytest.approx(math.factorial(count) / count**count)


def test_no_model_or_one_model_everywhere_is_no_division_of_labour():
    for parts in (np.ones((3, 4)), np.tile([0.7, 0.2, 0.1], (2, 1)), np.array([[1.0, 0.0], [1.0, 0.0]])):
        result = specialization(parts)
        assert (result.value, result.p) == (0.0, 1.0)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=2, max_size=2))
def test_the_index_is_the_mutual_information_of_counts(counts):
    """Against scikit-learn's, of the counts as single observations; and it does not hang on order or scale."""
    counts = np.array(counts) + np.eye(2, 3, dtype=int)
    rows, columns = zip(
        *((d, m) for d, m in itertools.product(*map(range, counts.shape)) for _ in range(counts[d, m])), strict=True
    )
    result = specialization(counts)
    assert result.value == pytest.approx(mutual_info_score(rows, columns) / math.log(2), abs=1e-9)
    assert specialization(3.5 * counts[::-1, [2, 0, 1]]).value == pytest.approx(result.value, abs=1e-12)


def test_drawn_exchanges_agree_with_all_of_them():
    rng = np.random.default_rng(3)
    parts = rng.dirichlet(np.ones(4), 3)
    exact, drawn = specialization(parts), specialization(parts, exchanges=500, seed=1)
    assert (exact.exact, drawn.exact, exact.exchanges, drawn.exchanges) == (True, False, 576, 500)
    assert drawn.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p * (1 - exact.p) / 500) + 1 / 500)


def test_parts_that_are_none_are_refused():
    with pytest.raises(ArenaError, match=r"two models and two domains at least, not \(1, 3\)"):
        specialization(np.ones((1, 3)))
    with pytest.raises(ArenaError, match="read off parts from 0 up"):
        specialization([[1.0, -1.0], [0.0, 1.0]])


def test_a_model_that_is_out_of_all_domains_has_equal_parts_of_them():
    shares = np.array([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(data_parts(shares), 0.5)
    history = extend(start([0.0, 0.0]), scores=[1, 1], shares=[1.0, 0.0], seconds=[4, 2], steps=[4, 2], fraction=1)
    spent = spent_by_domain(history, Domains(np.stack([shares] * 2), np.stack([shares] * 2)))
    np.testing.assert_array_equal(spent[-1], [[2, 1], [2, 1]])
    assert specialization(spent[-1]).value == 0.0


def planted(rates, rounds=30, rule="modelarena"):
    """A model improves in a domain by its rate, each time by as much as it was given there."""
    rates = np.asarray(rates, float)  # [domains, models]
    scores, shares = np.zeros(rates.shape), np.full(rates.shape, 1 / rates.shape[1])
    history, domains = start(np.zeros(rates.shape[1])), Domains(scores[None], shares[None])
    for number in range(1, rounds + 1):
        scores = scores + rates * shares
        spent = history.seconds[-1] + shares.mean(0)
        row = {"shares": shares.mean(0), "seconds": spent, "steps": spent, "fraction": number / rounds}
        history = extend(history, scores=scores.mean(0), **row)
        domains = Domains(
            np.concatenate([domains.scores, scores[None]]), np.concatenate([domains.shares, shares[None]])
        )
        shares = divide(policy(rule), history, domains)
    return shares, specialization(spent_by_domain(history, domains)[-1])


def test_memory_and_rows_flow_to_who_learns_what_best():
    """Two specialists and a third who learns nothing: each has its own domain but for the floor, by closed form."""
    shares, result = planted([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], rounds=60)
    # A domain's fixed point: the others at the floor δ = 0.05 before it is made to sum to 1.
    best = (1.0 * 0.3 + 0.7 * shares[0, 0]) / (1.0 * 0.3 + 0.7 * shares[0, 0] + 0.1)
    other = (1 - best) / 2
    np.testing.assert_allclose(shares, [[best, other, other], [other, best, other]], atol=1e-4)
    np.testing.assert_allclose(data_parts(shares).sum(0), 1)
    assert data_parts(shares)[0, 0] == pytest.approx(best / (best + other), abs=1e-4)
    assert result.value > 0.3
    one_for_all, none = planted([[1.0, 0.1, 0.1], [1.0, 0.1, 0.1]]), planted([[1.0, 0.0], [0.0, 1.0]], rule="static")
    assert (one_for_all[1].value, none[1].value) == (0.0, 0.0), "a generalist, and equal shares, divide nothing"
    np.testing.assert_allclose(one_for_all[0][0], one_for_all[0][1])


def test_rows_follow_the_division_of_the_domains(domains):
    streams = {name: DomainBatches(*domains) for name in ("m", "n")}
    state = SimpleNamespace(streams=streams, division=None, shares=None)
    set_division(SimpleNamespace(names=("m", "n")), state, np.array([[0.8, 0.2], [0.4, 0.6]]))
    np.testing.assert_allclose(state.shares, [0.6, 0.4])
    np.testing.assert_allclose([stream.parts for stream in streams.values()], [[2 / 3, 1 / 3], [0.25, 0.75]])


def test_what_is_spent_goes_by_the_rows_of_its_time():
    history = extend(start([0.0, 0.0]), scores=[1, 1], shares=[0.5, 0.5], seconds=[4, 8], steps=[1, 1], fraction=1)
    shares = np.array([[[0.5, 0.5], [0.5, 0.5]], [[0.75, 0.25], [0.25, 0.75]]])
    np.testing.assert_allclose(spent_by_domain(history, Domains(shares, shares))[-1], [[3, 2], [1, 6]])


def rows(count, seed):
    words = ["a", "few", "words", "of", "text", "in", "rows"]
    texts = [" ".join(np.random.default_rng((seed, i)).choice(words, 12)) for i in range(count)]
    return data.Dataset(f"d{seed}", "language-model", "train", {"text": texts})


@pytest.fixture(scope="module")
def domains():
    texts = {"a": rows(30, 0), "b": rows(50, 1)}
    tokenizer = data.train_tokenizer(texts["a"], "gpt2")
    return join_rows({name: data.encode(of, tokenizer, max_length=12) for name, of in texts.items()})


def test_rows_of_domains_stay_what_they_are(domains):
    whole, parts = domains
    assert len(whole) == len(parts["a"]) + len(parts["b"])
    for first, part in zip((0, len(parts["a"])), parts.values(), strict=True):
        some = np.array([0, 3, len(part) - 1])
        for name, column in part.batch(some).items():
            np.testing.assert_array_equal(whole.batch(first + some)[name], column)
    assert whole.counts["bytes"] == sum(part.counts["bytes"] for part in parts.values())


def test_a_stream_of_domains_has_each_ones_part_and_goes_on_to_the_row(domains):
    whole, parts = domains
    stream, first = DomainBatches(whole, parts, seed=5), len(parts["a"])
    stream.parts = np.array([0.3, 0.7])
    drawn = np.concatenate([stream.draw(size)[0] for size in (1, 7, 12, 20)])
    counts = np.cumsum(drawn < first)
    assert np.abs(counts - 0.3 * np.arange(1, 41)).max() <= 1
    alone = data.Batches(parts["b"], seed=5)
    np.testing.assert_array_equal(drawn[drawn >= first] - first, alone.draw(int((drawn >= first).sum()))[0])
    state = stream.state()
    later = [stream.draw(9)[0] for _ in range(3)]
    again = DomainBatches(whole, parts, seed=5)
    again.restore(state)
    for numbers in later:
        np.testing.assert_array_equal(again.draw(9)[0], numbers)
    assert again.examples_seen == 40 + 27
    with pytest.raises(ArenaError, match="of the domains a, b, these are a, c"):
        DomainBatches(whole, {"a": parts["a"], "c": parts["b"]}, seed=5).restore(state)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for name, seed in (("one.txt", 2), ("two.txt", 3)):
        (folder / name).write_text("\n\n".join(rows(60, seed).columns["text"]), encoding="utf-8")
    return folder


def competition(sources, **arena):
    pair = tuple(ModelConfig(name, preset="gpt2-tiny", **SIZES) for name in ("a", "b"))
    base = tiny()
    source = dataclasses.replace(presets.get("arena-small").data, name=str(sources / "one.txt"), max_length=8)
    run = dataclasses.replace(base, task="language-model", models=pair, data=source)
    return dataclasses.replace(
        run, arena=dataclasses.replace(base.arena, domains=(("two", str(sources / "two.txt")),), **arena)
    )


@pytest.mark.slow
def test_a_competition_over_two_domains_divides_each_and_goes_on_to_the_bit(sources, tmp_path):
    config = competition(sources, policy="modelarena")
    run = train(config, tmp_path / "whole")
    for record in records(run, "allocation"):
        assert set(record["domains"]) == {"one.txt", "two"}
        for shares in record["domains"].values():
            assert sum(shares.values()) == pytest.approx(1)
        for name, model in record["models"].items():
            assert model["share"] == pytest.approx(np.mean([shares[name] for shares in record["domains"].values()]))
    for record in records(run, "evaluation"):
        for name, model in record["models"].items():
            each = [of_domain[name]["loss"] for of_domain in record["domains"].values()]
            assert model["loss"] == pytest.approx(np.mean(each))
    last, evaluated = records(run, "evaluation")[-1], training.evaluate(run)
    for name, metrics in last["models"].items():
        assert evaluated[name]["loss"] == pytest.approx(metrics["loss"], rel=1e-6)
        for domain, of_domain in last["domains"].items():
            assert evaluated[f"{name} {domain}"]["loss"] == pytest.approx(of_domain[name]["loss"], rel=1e-6)
    (board,) = records(run, "leaderboard")
    assert 0 <= board["specialization"]["value"] <= 1
    text = narrate(read(run))
    assert "share of a domain" in text
    assert "specialization: " in text
    assert "Domains" in run_page.render([run_page.read_facts(run)])
    with pytest.raises(signals.Stopped):
        train(config, tmp_path / "run", observe=stop_at(3))
    again = train(config, tmp_path / "run", resume=True)
    assert_same_arrays(final_state(run), final_state(again))
    assert without_times(again) == without_times(run)


def test_what_cannot_be_is_refused(sources, tmp_path):
    with pytest.raises(ArenaError, match=r"arena\.domains are of texts, and the task is sequence-classification"):
        tiny({"domains": (("two", "x.txt"),)})
    with pytest.raises(ArenaError, match="divided among models, and this run has one"):
        dataclasses.replace(competition(sources), models=competition(sources).models[:1])
    twice = competition(sources)
    twice = dataclasses.replace(twice, arena=dataclasses.replace(twice.arena, domains=(("one.txt", "two.txt"),)))
    with pytest.raises(ArenaError, match="two domains have one name"):
        train(twice, tmp_path / "a")
    stream = dataclasses.replace(
        twice, arena=dataclasses.replace(twice.arena, domains=(("web", "https://x.org/t.txt"),))
    )
    with pytest.raises(ArenaError, match="domain 'web' is read as it is trained on"):
        train(stream, tmp_path / "b")
    with pytest.raises(ArenaError, match=r"one length per model: remove data\.lengths"):
        dataclasses.replace(twice, data=dataclasses.replace(twice.data, lengths=(4,)))
