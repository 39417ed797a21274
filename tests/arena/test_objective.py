"""What a competition is for: one number from scores, which models may compete for it, and runs that go by it."""

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_jax.arena import evaluation_schedule, scoring
from arena_jax.arena import records as records_of_competition
from arena_jax.arena.leaderboard import leaderboard
from arena_jax.arena.state import State
from arena_jax.compare.plan import Outcome
from arena_jax.compare.plan_file import plan_from, read_plan
from arena_jax.config import ArenaConfig, presets
from arena_jax.config.change import change
from arena_jax.config.errors import ArenaError
from arena_jax.config.objective import check_objective, objective_value, pareto_front, scores_of
from arena_jax.runs.log_lines import narrate
from arena_jax.runs.records import read
from arena_jax.training.ensemble import ensemble
from tests.arena.tiny import records, tiny, train

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
numbers = st.dictionaries(st.sampled_from("abcdef"), st.integers(-5, 5), min_size=1)


@given(scores=numbers, costs=st.lists(st.integers(1, 4), min_size=6, max_size=6))
def test_the_front_is_what_a_search_of_all_pairs_finds(scores, costs):
    cost = dict(zip("abcdef", map(float, costs), strict=True))
    front = pareto_front(scores, cost)
    for name in scores:
        beaten = [
            o
            for o in scores
            if (cost[o], -scores[o]) != (cost[name], -scores[name])
            and cost[o] <= cost[name]
            and scores[o] >= scores[name]
        ]
        assert (name in front) == (not beaten)
    value = objective_value("pareto", {n: float(s) for n, s in scores.items()}, cost)
    by_hand = [max(s for o, s in scores.items() if cost[o] <= cost[n]) for n in scores]
    assert value == pytest.approx(sum(by_hand) / len(by_hand))
    assert value <= objective_value("best", {n: float(s) for n, s in scores.items()})


def test_what_is_no_number_never_wins():
    scores = {"a": math.nan, "b": -2.0, "c": -3.0}
    assert objective_value("best", scores) == -2.0
    assert math.isnan(objective_value("mean", scores))
    assert objective_value("pareto", scores, {"a": 1.0, "b": 2.0, "c": 3.0}) == pytest.approx((-3 - 2 - 2) / 3)
    assert math.isnan(objective_value("best", {"a": math.nan}))
    with pytest.raises(ArenaError, match="'ensemble' is no function of scores"):
        objective_value("ensemble", scores)
    assert scores_of({"a": {"perplexity": 8.0}}, "perplexity") == {"a": -8.0}


def test_scores_that_do_not_compare_are_refused_with_the_reason():
    language = {"a": "causal-lm", "b": "causal-lm"}
    check_objective("mean", "loss", {"a": "causal-lm", "b": "masked-lm"}, {})
    check_objective("best", "accuracy", dict.fromkeys("ab", "sequence-classification"), {"a": ("capitals",), "b": ()})
    check_objective("best", "bits_per_byte", language, {"a": (), "b": ()})
    with pytest.raises(ArenaError, match="a masked model sees both sides"):
        check_objective("pareto", "bits_per_byte", {"a": "causal-lm", "b": "masked-lm"}, {})
    with pytest.raises(ArenaError, match="loss of language models depends on their tokenizers; give --score bits_per_"):
        check_objective("target", "loss", language, {})
    with pytest.raises(ArenaError, match=r"a and b leave different things out of a text \(capitals; nothing\)"):
        check_objective("best", "bits_per_byte", language, {"a": ("capitals",), "b": ()})


def test_options_that_do_nothing_are_refused():
    for options, message in (
        ({"objective": "target"}, "to which score"),
        ({"target": 0.5}, "belongs to objective target, not mean"),
        ({"pareto_cost": "latency"}, "belongs to objective pareto"),
    ):
        with pytest.raises(ArenaError, match=message):
            ArenaConfig(**options)
    run = presets.get("arena-sst2")
    for field, value, message in (
        ("arena.objective", "ensemble", "judged by the loss of the mixture"),
        ("arena.target", 1.5, "belongs to objective target"),
    ):
        with pytest.raises(ArenaError, match=message):
            change(run, {field: value})
    with pytest.raises(ArenaError, match="accuracy lies between 0 and 1"):
        change(run, {"arena.objective": "target", "arena.target": 1.5})
    with pytest.raises(ArenaError, match="give one"):
        change(run, {"training.evaluate_every": 10, "arena.evaluation_share": 0.1})
    with pytest.raises(ArenaError, match="objective ensemble mixes what models say of one class each"):
        change(presets.get("arena-gpt2"), {"arena.objective": "ensemble", "training.score": "loss"})


def test_a_plan_without_an_outcome_is_judged_by_its_objective():
    plan = plan_from(
        {
            "name": "p",
            "base": "arena-sst2",
            "seeds": 6,
            "baseline": "static",
            "change": {"arena": {"objective": "target", "target": 0.75}},
            "arms": {"static": {"arena": {"policy": "static"}}, "halving": {"arena": {"policy": "hyperband"}}},
        }
    )
    assert plan.outcome == Outcome("flops", "accuracy", over="best", target=0.75)
    assert Outcome.of(change(plan.base, {"arena.spend": "9s"})).kind == "seconds"
    with pytest.raises(ArenaError, match="outcome is missing"):
        plan_from({"name": "p", "base": "joint-synthetic", "seeds": 2, "baseline": "a", "arms": {"a": {}, "b": {}}})
    with pytest.raises(ArenaError, match="'pareto', and arm 'a' does not compete for that"):
        dataclasses.replace(
            plan,
            arms=(dataclasses.replace(plan.arms[0], name="a"), plan.arms[1]),
            baseline="a",
            outcome=Outcome("score", "accuracy", over="pareto"),
        )


@pytest.fixture(scope="module")
def by_accuracy(tmp_path_factory):
    """A run of the ensemble, scored when it is paid for: a few evaluations of all rows."""
    config = tiny(
        {"objective": "ensemble", "batch_sizes": (4,), "evaluation_share": 0.5, "batch_cap": "noise"},
        steps=6,
        evaluate_every=None,
        score="loss",
    )
    return train(config, tmp_path_factory.mktemp("ensemble") / "run")


def test_the_ensemble_is_judged_by_the_loss_of_the_mixture(by_accuracy):
    evaluations, (board,) = records(by_accuracy, "evaluation"), records(by_accuracy, "leaderboard")
    for record in evaluations:
        judged = record["judgement"]
        mixture = judged["ensemble"]
        assert sum(mixture["weights"].values()) == pytest.approx(1)
        assert judged["value"] == -mixture["loss"] == -record["score"]
        assert all(math.isfinite(error) for error in judged["errors"].values())
    assert (board["objective"], board["value"]) == ("ensemble", evaluations[-1]["judgement"]["value"])
    afterwards = ensemble(by_accuracy)  # of the checkpoint, by the command's own way
    assert board["ensemble"]["loss"] == pytest.approx(afterwards.scores["ensemble"]["loss"][0], rel=1e-5)
    assert board["ensemble"]["weights"] == pytest.approx(afterwards.weights, rel=1e-4)
    assert "objective ensemble: loss" in narrate(read(by_accuracy))


def test_what_scoring_costs_is_counted_and_stays_within_its_share(by_accuracy):
    evaluations = records(by_accuracy, "evaluation")
    assert 2 <= len(evaluations) < 7, "not after every round"
    accounts = evaluations[-1]["accounts"].values()
    scoring = sum(account["evaluation_flops"] for account in accounts)
    assert 0 < scoring <= 0.5 * sum(account["flops"] for account in accounts)
    assert all(0 < account["evaluation_seconds"] < account["seconds"] for account in accounts)


def test_the_gradient_noise_is_in_the_records(by_accuracy):
    allocations = records(by_accuracy, "allocation")
    assert "noise_scale" not in allocations[0]["models"]["bert"]
    assert all(model["noise_scale"] >= 0 for model in allocations[-1]["models"].values())


def test_a_run_ends_at_its_target(tmp_path):
    turns = iter((0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9))

    def evaluate(step, parameters, model, rows, size):
        return {"loss": 1.0, "accuracy": next(turns)}

    config = tiny({"objective": "target", "target": 0.7, "batch_sizes": (4,)}, score="accuracy", evaluate_every=1)
    run = train(config, tmp_path / "run", evaluate=evaluate)
    (board,), (end,) = records(run, "leaderboard"), records(run, "end")
    assert (end["step"], end["reason"]) == (1, "finished")
    assert (board["reached"], board["winner"], board["value"]) == (True, "gpt2", 0.7)
    assert "objective target: 0.7 was reached by gpt2 after" in narrate(read(run))


class Anything:
    def __init__(self, **fields):
        self.__dict__ |= fields


def test_compiling_the_ensembles_programs_is_charged_to_nobody_after_a_resume_either(monkeypatch):
    charged = []
    for name, stand_in in {
        "models": Anything(split=lambda model: (None, None), merge=lambda structure, params: None),
        "predict": lambda *arguments: None,
        "align": lambda predictions: predictions,
        "mixture_loss": lambda predictions: (1.0, 0.1, {"a": 1.0}),
    }.items():
        monkeypatch.setattr(scoring, name, stand_in)
    of_model = {"a": None}
    setup = Anything(
        arena=Anything(objective="ensemble"),
        config=Anything(training=Anything(evaluation_batch_size=8)),
        names=("a",),
        parts=Anything(models=of_model, validation=of_model, tokenizers=of_model, objectives=of_model),
    )
    resumed = Anything(
        mixture_compiled=State.mixture_compiled,
        train=Anything(params=of_model),
        history=Anything(scores=[[0.0], [1.0]]),
        accounts={"a": Anything(count_evaluation=lambda flops, seconds: charged.append(seconds))},
    )
    assert scoring._mixture(setup, resumed)[1] == 0.0
    assert charged == []
    _, seconds = scoring._mixture(setup, resumed)
    assert charged == [seconds]


def test_rows_are_as_many_as_are_paid_for(monkeypatch):
    """A run of 2.2e6 operations, of which a tenth may go to 22 evaluations of 2 models: 1e4 each, batches of 1e3."""

    class Rows(list):
        task = "sequence-classification"

    class Questions(Rows):
        task = "question-answering"

    def setup(spend, share, evaluate=None, kind=Rows):
        return Anything(
            evaluate=evaluate,
            step=Anything(mesh=Anything(size=1)),
            names=("a", "b"),
            config=Anything(training=Anything(evaluate_every=None, evaluation_batch_size=8)),
            arena=Anything(objective="best", evaluation_share=share),
            spend=Anything(of="flops", amount=spend),
            parts=Anything(validation={name: kind([0.0] * 100) for name in "ab"}, domains={}),
        )

    monkeypatch.setattr(evaluation_schedule, "scoring_flops", lambda setup, name, batches: 500.0 * batches)
    assert evaluation_schedule.choose_batches(setup(2.2e6, 0.1), None) == 10
    assert evaluation_schedule.choose_batches(setup(2.2e6, 0.2), None) is None  # all 13
    assert evaluation_schedule.choose_batches(setup(2.2e3, 0.1), None) == 2  # an error needs two
    # All rows are scored, whatever is chosen: so all are charged.
    assert evaluation_schedule.choose_batches(setup(2.2e6, 0.1, evaluate=max), None) is None
    assert evaluation_schedule.choose_batches(setup(2.2e6, 0.1, kind=Questions), None) is None
    scored = [evaluation_schedule.rows_scored(setup(2.2e6, 0.1), "a", batches) for batches in (None, 10, 13)]
    assert scored == [100, 80, 100]
    notes = []
    session = Anything(record=lambda kind, step, text: notes.append(text))
    records_of_competition.record_scored_part(setup(2.2e6, 0.1), Anything(evaluation_batches=None), session)
    assert notes == []
    records_of_competition.record_scored_part(setup(2.2e6, 0.1), Anything(evaluation_batches=10), session)
    assert notes[0].startswith("models are scored on the first 10 of 13 validation batches:")


def test_batches_of_domains_are_paid_for_and_counted_one_by_one(monkeypatch):
    """The same run over two domains of 5 and 1 batches of 8 rows: a batch of each costs 1e3 a model, of all 3e3."""
    domains = {"large": {"validation": [0.0] * 40}, "small": {"validation": [0.0]}}
    setup = Anything(
        evaluate=None,
        step=Anything(mesh=Anything(size=1)),
        names=("a", "b"),
        config=Anything(training=Anything(evaluate_every=None, evaluation_batch_size=8)),
        arena=Anything(objective="best", evaluation_share=0.1),
        spend=Anything(of="flops", amount=22 * 2 * 1e3 * 10),
        parts=Anything(
            models={name: Anything(config=None, task=None) for name in "ab"},
            validation={name: Anything(lengths=[8], task="language-model") for name in "ab"},
            domains={"a": domains, "b": domains},
        ),
    )
    monkeypatch.setattr(evaluation_schedule.models, "row_flops", lambda *_: 62.5)  # 500 a batch
    monkeypatch.setattr(evaluation_schedule, "head_positions", lambda *_: 1)
    assert evaluation_schedule.scoring_flops(setup, "a", 1) == 1e3
    assert evaluation_schedule.choose_batches(setup, None) == 4  # one of each is paid for, and an error needs two
    setup.spend = Anything(of="flops", amount=22 * 2 * 2e3 * 10)
    assert evaluation_schedule.choose_batches(setup, None) == 4
    setup.spend = Anything(of="flops", amount=22 * 2 * 3e3 * 10)
    assert evaluation_schedule.choose_batches(setup, None) is None  # three of each are as many as there are in all
    count = evaluation_schedule.batches_scored, evaluation_schedule.rows_scored
    counts = [tuple(of(setup, "a", batches) for of in count) for batches in (None, 4, 6)]
    assert counts == [(6, 41), (3, 17), (4, 25)]
    notes = []
    session = Anything(record=lambda kind, step, text: notes.append(text))
    records_of_competition.record_scored_part(setup, Anything(evaluation_batches=4), session)
    assert notes[0].startswith("models are scored on the first 3 of 6 validation batches:")


def test_the_leaderboard_has_an_error_where_there_is_one():
    from arena_jax.arena.accounts import Account
    from arena_jax.arena.history import start

    names, accounts = ["a", "b"], {"a": Account(), "b": Account()}
    board = leaderboard(
        names, start([0.5, 0.6]), accounts, {"a": {}, "b": {}}, {"errors": {"a": 0.1}, "score": "accuracy"}
    )
    assert board["models"]["a"]["error"] == 0.1
    assert "error" not in board["models"]["b"]
    assert board["score"] == "accuracy"


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("arena_*.toml")), ids=lambda file: file.stem)
def test_the_plans_of_competitions_ask_what_they_say(file):
    plan = read_plan(file)
    assert len(plan.seeds) >= 8
    assert {"static", "modelarena"} <= {arm.name for arm in plan.arms}, "the paper's policy is in every table"
    assert all(plan.config(arm.name, {}).arena.policy.endswith(arm.name) or arm.name == "halving" for arm in plan.arms)
    objective = plan.base.arena.objective
    assert objective in file.stem
    assert plan.outcome == Outcome.of(plan.base)
    assert not plan.outcome.timed, "a machine that does other work is no clock"
