"""A report says what its runs' records say: hand-written runs, answers worked out on paper."""

import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pytest
import scipy.stats

from arena_jax import config
from arena_jax.cli.main import main
from arena_jax.compare.confidence import confidence_interval
from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.reports import arena_figures, report
from arena_jax.reports.arena_tables import device_seconds_table, spent_table, table1, table2
from arena_jax.reports.arms import gather
from arena_jax.reports.claims import CLAIMS, NotJudged, judge, masked_lose_nothing

MODELS = {
    "bert": {"task": "masked-lm", "parameters": 100},
    "gpt2": {"task": "causal-lm", "parameters": 50},
    "gpt2-wide": {"task": "causal-lm", "parameters": 200},
    "roberta": {"task": "masked-lm", "parameters": 100},
}
STRAIGHT = [0.0, 0.5, 1.0]


def write_run(
    folder, policy, seed, losses, shares, *, fractions=STRAIGHT, dealt=None, seconds=100.0, late=0, **changes
):
    """Write a finished run of arena-small.

    losses: {model: one per evaluation}; shares: {model: one per allocation}, dealt at the evaluations but the last.
    """
    run = presets.get("arena-small")
    run = dataclasses.replace(
        run,
        models=tuple(dataclasses.replace(run.models[0], name=name) for name in losses),
        training=dataclasses.replace(run.training, seed=seed, **changes.pop("training", {})),
        arena=dataclasses.replace(run.arena, policy=policy, **changes.pop("arena", {})),
        **changes.pop("run", {}),
    )
    folder.mkdir(parents=True)
    config.save(run, folder / "config.json")
    dealt = fractions[:-1] if dealt is None else dealt
    records = [
        {
            "kind": "start",
            "models": {name: MODELS[name] for name in losses},
            "derived": [{"name": "policy", "value": policy, "reason": ""}],
        },
        {"kind": "compile", "seconds": 2.0},
    ]
    for k, fraction in enumerate(fractions):
        accounts = {
            name: {"seconds": fraction * seconds / len(losses), "flops": 1e12 * fraction, "examples": 10 * k}
            for name in losses
        }
        scored = {name: {"loss": values[k], "bits_per_byte": values[k] / 2} for name, values in losses.items()}
        records.append(
            {"kind": "evaluation", "fraction": fraction, "models": scored, "accounts": accounts, "seconds": 1.0}
        )
        if fraction in dealt:
            row = {name: {"share": values[dealt.index(fraction)], "batch_size": 8} for name, values in shares.items()}
            records.append({"kind": "allocation", "fraction": fraction, "models": row})
    records.append({"kind": "swap", "model": next(iter(losses)), "batch_size": 4 + seed})
    records += [
        {"kind": "leaderboard"},
        {"kind": "end", "seconds": 200.0, "compiling": 2.0, "deferred": late, "reason": "finished"},
    ]
    lines = [json.dumps({"step": 10, "time": 0.0, **record}) for record in records]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def experiment(folder, gained=(0.2, 0.3), **changes):
    """Two seeds of static and of modelarena, two models.

    Under static, bert goes 3 → 2 → 2 and gpt2 4 → 3 → 2, at half each. Under modelarena gpt2 has 3/4 from the middle on
    and ends at 2 less what it gained with that seed; bert ends at 2.
    """
    folders = []
    for seed, gain in enumerate(gained):
        losses = {"bert": [3.0, 2.0, 2.0], "gpt2": [4.0, 3.0, 2.0]}
        folders.append(
            write_run(
                folder / f"static-{seed}", "static", seed, losses, {"bert": [0.5, 0.5], "gpt2": [0.5, 0.5]}, **changes
            )
        )
        losses = {"bert": [3.0, 2.0, 2.0], "gpt2": [4.0, 3.0, 2.0 - gain]}
        folders.append(
            write_run(folder / f"arena-{seed}", "modelarena", seed, losses, {"bert": [0.5, 0.25], "gpt2": [0.5, 0.75]})
        )
    return folders


EQUAL = {name: [0.25, 0.25] for name in MODELS}


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    return gather(experiment(tmp_path_factory.mktemp("runs")))


def test_intervals_are_those_of_scipy():
    values = [0.3, 0.1, 0.45, 0.2]
    low, high = scipy.stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert confidence_interval(values) == pytest.approx((np.mean(values), low, high, 4))
    assert confidence_interval([2.0, 2.0]) == (2.0, 2.0, 2.0, 2)
    assert not confidence_interval([1.0, math.nan]).finite
    assert confidence_interval(values, bounds=(0, 0.4)) == pytest.approx((np.mean(values), max(0, low), 0.4, 4)), (
        "cut where they end"
    )
    assert math.isnan(confidence_interval([]).mean)


def test_arms_are_the_policies_with_the_control_last(arms):
    assert [(policy, [run.seed for run in runs]) for policy, runs in arms.items()] == [
        ("modelarena", [0, 1]),
        ("static", [0, 1]),
    ]


def test_table_1_is_what_the_records_end_with(arms):
    _, numbers = table1(arms)
    gpt2 = numbers["gpt2"]["modelarena"]
    assert gpt2["score"].mean == pytest.approx(-1.75)
    assert gpt2["score_minus_static"][:3] == pytest.approx((0.25, 0.25 - 12.706 * 0.05, 0.25 + 12.706 * 0.05), abs=1e-3)
    assert gpt2["share"] == (0.75, 0.75, 0.75, 2)
    assert gpt2["mean_share"].mean == pytest.approx(0.625)
    # Equation 1: two improvements, of 1 and 1.2 (or 1.3), relative to 1 + |S|.
    assert gpt2["progress"].mean == pytest.approx(((1 + 1.2) / 2 / 2.8 + (1 + 1.3) / 2 / 2.7) / 2)
    assert gpt2["bits_per_byte"].mean == pytest.approx(0.875)
    table, _ = table1(arms)
    assert [(row[0], row[1], row[7]) for row in table.rows] == [
        ("bert", "modelarena", "4–5"),
        ("", "static", "4–5"),
        ("gpt2", "modelarena", "8"),
        ("", "static", "8"),
    ]


def test_bits_per_byte_say_what_they_are_not(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "bert", {**MODELS["bert"], "left_out": ["capitals", "accents"]})
    folders = experiment(tmp_path)
    table, _ = table1(gather(folders))
    assert [row[8] for row in table.rows] == ["pseudo 1.000 ± 0.000"] * 2 + ["0.875 ± 0.318", "1.000 ± 0.000"]
    text = " ".join(report(folders, tmp_path / "report").split())
    assert (
        "pseudo: of hidden tokens given all others, no code length; of bert: of the text as the tokenizer keeps it, "
        "without capitals, accents." in text
    )


def test_table_2_is_equation_8_by_hand(arms):
    _, numbers = table2(arms)
    # Overall, static: gains 1 and 2 over shares of a half.
    assert numbers["overall"]["static"]["efficiency"].mean == pytest.approx((1 / 0.5 + 2 / 0.5) / 2)
    # modelarena: bert held 0.5 then 0.25, gpt2 0.5 then 0.75, half of the run each.
    own = [(1 / 0.375 + (2 + gain) / 0.625) / 2 for gain in (0.2, 0.3)]
    overall = numbers["overall"]["modelarena"]
    assert overall["efficiency"].mean == pytest.approx(np.mean(own))
    assert overall["relative_to_static"].mean == pytest.approx(np.mean(own) / 3)
    assert overall["by_uneven_shares_alone"].mean == pytest.approx((1 / 0.375 + 2 / 0.625) / 2 / 3)
    # Late, from 0.7 on: bert gains nothing, gpt2 0.6 of what it gains in the second half.
    late = [(0.6 * (1 + gain) / 0.75) / 2 for gain in (0.2, 0.3)]
    assert numbers["late"]["modelarena"]["efficiency"].mean == pytest.approx(np.mean(late))
    assert numbers["late"]["static"]["efficiency"].mean == pytest.approx(0.6 / 0.5 / 2)
    # Middle: 0.2 before the shares change and 0.2 after; early: nothing has changed yet.
    middle = numbers["middle"]["modelarena"]["efficiency"].mean
    assert middle == pytest.approx(np.mean([(0.4 / 0.375 + (0.4 + 0.4 * (1 + g)) / 0.625) / 2 for g in (0.2, 0.3)]))
    assert numbers["early"]["modelarena"]["relative_to_static"][:3] == pytest.approx((1, 1, 1))


def test_what_was_spent_is_told_and_unequal_costs_are_called_so(arms, tmp_path):
    _, numbers, notes = spent_table(arms)
    assert numbers["static"]["device_seconds"].mean == pytest.approx(100)
    assert (numbers["static"]["compiling"].mean, numbers["static"]["evaluating"].mean) == (2, 3)
    assert notes == []
    assert spent_table(arms)[0].rows[1] == ("static", "0, 1", "100.0", "2", "40", "10", "200", "2", "3", "0")
    assert device_seconds_table(arms).rows == [("0", "100.0", "100.0"), ("1", "100.0", "100.0")]
    assert spent_table(gather(experiment(tmp_path / "near", seconds=101.9)))[2] == []
    folders = experiment(tmp_path / "far", seconds=120.0)
    note, advice = spent_table(gather(folders))[2]
    assert note.startswith(
        "NOT AT EQUAL DEVICE-SECONDS: modelarena took 100.0 device-seconds and static 120.0 with seed 0, -16.7 %; "
        "2 of 2 pairs are more than 2 % apart."
    )
    assert advice.endswith("to equalise it, train all runs, static ones too, with --spend 120s.")
    opening = report(folders, tmp_path / "report").split("What was spent")[0]
    assert "NOT AT EQUAL DEVICE-SECONDS" in opening
    told = json.loads((tmp_path / "report" / "report.json").read_text())["device_seconds"]
    assert told["static"] == pytest.approx({"0": 120.0, "1": 120.0})


@pytest.mark.parametrize("lacks", ["deferred", "accounts"])
def test_a_run_of_an_older_version_is_refused_in_a_line(lacks, tmp_path):
    folders = experiment(tmp_path)
    path = folders[0] / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps({k: v for k, v in line.items() if k != lacks}) for line in lines) + "\n")
    with pytest.raises(ArenaError, match="was written by an older version"):
        gather(folders)


def test_runs_that_hang_on_how_fast_programs_were_compiled_are_called_so(arms, tmp_path):
    assert "later than planned" not in report([run.folder for runs in arms.values() for run in runs], tmp_path / "a")
    text = report(experiment(tmp_path, late=3), tmp_path / "b")
    opening, rest = " ".join(text.split()).split("What was spent")
    assert "In 2 of 4 runs batch sizes came later than planned" in opening
    assert "sizes late" in rest


def test_the_opening_counts_seeds_and_shares_end_where_shares_do(tmp_path):
    folders = experiment(tmp_path)
    assert "(Student's t), n = 2; those of shares end at 0 and 100 %" in " ".join(
        report(folders, tmp_path / "a").split()
    )
    assert "brackets" not in report([folders[0], folders[1]], tmp_path / "one"), "one seed has no intervals"
    uneven = " ".join(report(folders[:3], tmp_path / "b").split())
    assert "n = 1 of modelarena, 2 of static, and in differences from static n = 1 of modelarena;" in uneven
    losses = {"bert": [3.0, 2.0, 2.0], "gpt2": [4.0, 3.0, 2.0]}
    wide = [
        write_run(tmp_path / f"wide-{s}", "modelarena", s, losses, {"bert": [0.5, 1 - last], "gpt2": [0.5, last]})
        for s, last in enumerate((0.6, 0.9))
    ]
    arms = gather([*folders[::2], *wide])
    table, numbers = table1(arms)
    assert numbers["gpt2"]["modelarena"]["share"] == pytest.approx((0.75, 0.0, 1.0, 2))
    assert table.rows[2][5] == "75.0 [0.0, 100.0]"
    found = {one.claim: one.value for one in judge(arms)}
    assert by_start(found, "5.1 No winner takes all")[1:3] == (0.0, 1.0)
    assert by_start(found, "5.2 The best model")[1:3] == (-1.0, 1.0)


def verdicts(folders, policy="modelarena"):
    return {one.claim: one for one in judge(gather(folders)) if one.policy == policy}


def by_start(found, start):
    (one,) = [finding for claim, finding in found.items() if claim.startswith(start)]
    return one


def four(folder, policy, seed, final, shares=EQUAL, early=None):
    """Four models from 4, through ``early`` at the middle, to their final losses."""
    losses = {name: [4.0, (early or final)[name], final[name]] for name in MODELS}
    return write_run(folder / f"{policy}-{seed}", policy, seed, losses, shares)


def test_claims_that_hold_and_ones_that_do_not(tmp_path):
    """Three seeds that differ a little; the arm's small causal model is given more and ends lower."""
    folders = []
    for seed in range(3):
        wobble = 0.001 * seed
        static = {"bert": 2.9, "gpt2": 2.0 + wobble, "gpt2-wide": 2.4, "roberta": 3.0}
        early = {"bert": 3.0, "gpt2": 2.9, "gpt2-wide": 3.3, "roberta": 3.1}
        folders.append(four(tmp_path, "static", seed, static, early=early))
        arm = {"bert": 2.9 + wobble, "gpt2": 1.8, "gpt2-wide": 2.5, "roberta": 3.0}
        last = {"bert": 0.15, "gpt2": 0.45 + wobble, "gpt2-wide": 0.25, "roberta": 0.15 - wobble}
        shares = {name: [0.25, share] for name, share in last.items()}
        folders.append(four(tmp_path, "modelarena", seed, arm, shares, early))
    found = verdicts(folders)
    held = {
        "5.1 Shares move apart": "points (above 5: apart)",
        "5.1 No winner takes all": "largest share at the end: 45.1 [",
        "5.2 The smaller autoregressive": "gpt2 has the highest progress at 100 [100, 100] %",
        "5.2 Masked models reach": "masked less causal +",
        "5.3 A masked model that is given less": "final validation loss of bert and roberta, given less",
        "8 Models with more potential": "wins under static (gpt2)",
        "8 The most promising": "+0.2010 [",
        "8 The models together": "+0.0",
    }
    for start, told in held.items():
        one = by_start(found, start)
        assert (one.claim, one.verdict) == (one.claim, "holds")
        assert told in one.evidence
    best = by_start(found, "5.2 The best model")
    assert best.verdict == "does not hold"
    assert "share of the best model (gpt2) less the smallest other share: +30" in best.evidence
    more = by_start(found, "5.3 A masked model that is given more")
    assert (more.verdict, more.evidence) == ("not judged", "no masked model was given more than an equal share")
    assert (
        by_start(found, "5.1 Shares settle").evidence == "a half of the run has no reallocation: reallocate more often"
    )
    sooner = by_start(found, "5.3 Autoregressive")
    # gpt2 reaches static's 2.0 in the last half at (2.9 − 2.0) / (2.9 − 1.8); wide reaches 2.5 at 0.8 / 0.9 of it
    # under static and at its end in the arm.
    assert sooner.value.mean == pytest.approx((0.5 * (0.9 / 1.1 - 1) + 0.5 * (1 - 0.8 / 0.9)) / 2, abs=1e-3)


def test_a_ratio_of_scores_of_which_more_is_better_judges_nothing(tmp_path):
    arms = gather(experiment(tmp_path))
    (run, *_), (control, *_) = arms["modelarena"], arms["static"]
    accuracy = dataclasses.replace(run.config, training=dataclasses.replace(run.config.training, score="accuracy"))
    with pytest.raises(NotJudged, match="less is better"):
        masked_lose_nothing([(dataclasses.replace(run, config=accuracy), control)])


def test_a_difference_that_may_be_chance_is_not_shown(tmp_path):
    one = by_start(verdicts(experiment(tmp_path, gained=(0.3, -0.2))), "8 The most promising")
    assert one.verdict == "not shown"
    assert re.fullmatch(r"best final score against static's best: \+0\.\d+ \[-.*, \+.*\]", one.evidence)


def test_one_seed_has_no_interval_and_judges_nothing(tmp_path, capsys):
    folders = experiment(tmp_path / "runs", gained=(0.2,))
    text = report(folders, tmp_path / "report")
    assert "An arm has one seed only: it has no intervals" in text
    assert "±" not in text.split("Table 1")[1].split("Table 2")[0]
    found = verdicts(folders)
    assert set(found) == set(CLAIMS)
    assert {one.verdict for one in found.values()} == {"not judged"}
    assert "one seed has no interval: train more seeds" in by_start(found, "5.4 The advantage").evidence


def test_a_model_that_diverged_is_told_not_averaged_away(tmp_path):
    folders = experiment(tmp_path, gained=(0.2, math.nan))
    assert by_start(verdicts(folders), "8 The models together").evidence.endswith("not finite: a model diverged")
    assert "nan" in report(folders, tmp_path / "report")


def test_the_report_is_a_page_a_text_and_numbers(tmp_path, capsys):
    folders = experiment(tmp_path)
    assert main(["report", *map(str, folders)]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "report"
    assert sorted(path.name for path in out.iterdir()) == [
        "convergence.png", "progress.png", "report.html", "report.json", "report.md", "shares.png",
    ]  # fmt: skip
    assert "arena-small: modelarena against static" in printed
    assert f"all of it is in {out}" in printed
    numbers = json.loads((out / "report.json").read_text())
    assert numbers["table1"]["gpt2"]["modelarena"]["score"]["mean"] == pytest.approx(-1.75)
    assert len(numbers["claims"]) == len(CLAIMS)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert 'src="http' not in page
    markdown = (out / "report.md").read_text()
    for name in ("shares.png", "progress.png", "convergence.png"):
        assert f"]({name})" in markdown
    for claim in CLAIMS:
        assert claim in printed
        assert claim in markdown


def test_figures_draw_the_records(arms):
    axes = arena_figures.shares(arms).axes[0]
    bert, gpt2 = axes.get_lines()[:2]
    assert gpt2.get_ydata()[[0, 100, 199, 201, 400]] == pytest.approx([50, 50, 50, 75, 75])
    assert bert.get_ydata()[-1] == pytest.approx(25)
    panels = arena_figures.convergence(arms).axes
    assert [axes.get_title() for axes in panels] == ["bert", "gpt2"]
    solid, dashed = panels[1].get_lines()
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert (solid.get_ydata()[-1], dashed.get_ydata()[-1]) == pytest.approx((1.75, 2.0))
    low, high = panels[1].get_ylim()
    assert 0 < low < 1.75 < 2.0 < high
    above, below = arena_figures.progress(arms).axes[::2]
    assert above.get_lines()[1].get_ydata()[200] == pytest.approx(1 / 4)
    assert below.get_lines()[1].get_ydata()[100] == pytest.approx(-3.5)


def test_the_figure_of_a_metric_of_which_more_is_better_holds_its_lines(arms):
    def by_accuracy(run):
        training = dataclasses.replace(run.config.training, score="accuracy")
        scores = 1 + run.scores / 10  # 0.6 to 0.825
        return dataclasses.replace(run, config=dataclasses.replace(run.config, training=training), scores=scores)

    turned = {policy: [by_accuracy(run) for run in runs] for policy, runs in arms.items()}
    for axes in arena_figures.convergence(turned).axes:
        low, high = axes.get_ylim()
        assert all(low < line.get_ydata()[-1] < high for line in axes.get_lines())


def test_refusals(tmp_path):
    static, arena, static1, _ = map(str, experiment(tmp_path / "good"))

    def refused(*folders):
        with pytest.raises(ArenaError) as error:
            gather(folders)
        return str(error.value)

    other = {"run": {"preset": "arena-other"}}, {"training": {"batch_size": 9}}, {"arena": {"spend": "9TFLOP"}}
    losses, shares = {"bert": [3.0, 2.0, 2.0], "gpt2": [4.0, 3.0, 2.0]}, {"bert": [0.5] * 2, "gpt2": [0.5] * 2}
    told = [
        refused(static, str(write_run(tmp_path / f"other{i}", "predictive", 0, losses, shares, **changes)))
        for i, changes in enumerate(other)
    ]
    assert [re.search(r"'.*': (.*);", one).group(1) for one in told] == [
        "preset: 'arena-small' → 'arena-other'", "training.batch_size: 8 → 9", "arena.spend: '91TFLOP' → '9TFLOP'",
    ]  # fmt: skip
    assert refused(arena).startswith("no run of the policy 'static' among them, the control")
    assert refused(static, static1).startswith("all runs are of the policy 'static'")
    assert "has the seed of a run of 'static'" in refused(arena, static1)
    assert "are both of static, seed 0: name one" in refused(static, arena, str(_copy(static, tmp_path / "again")))
    changed = write_run(tmp_path / "floor", "modelarena", 5, losses, shares, arena={"floor": 0.1})
    assert "different options: arena.floor" in refused(static, arena, str(changed))
    assert refused(static, str(tmp_path)) == f"'{tmp_path}' is not a run's folder: it has no config.json"
    half = _copy(arena, tmp_path / "half")
    lines = (half / "records.jsonl").read_text().splitlines(keepends=True)
    (half / "records.jsonl").write_text("".join(lines[:-2]))
    assert refused(static, str(half)) == f"'{half}' is not finished (round 10): arena-jax resume {half}"
    joint = _copy(arena, tmp_path / "joint")
    values = json.loads((joint / "config.json").read_text())
    (joint / "config.json").write_text(json.dumps({**values, "arena": None, "training": {"steps": 1}}))
    assert refused(str(joint)).endswith("is no competition: a report compares runs that competed for memory")
    assert refused() == "nothing to report: name the folders of finished competitions"


def _copy(run, to):
    return shutil.copytree(run, to)
