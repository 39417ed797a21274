"""The plans of the papers' studies: they can be run, and their arms differ in what their names say."""

import pytest

from arena_jax import ArenaError
from arena_jax.cli.main import main
from arena_jax.compare.paired import fewest_pairs
from arena_jax.compare.studies import FOLDER, PAPERS, plans
from arena_jax.config import differences
from arena_jax.config.change import resolved


def test_every_plan_that_lies_there_belongs_to_a_paper():
    names = {study.plan for studies in PAPERS.values() for study in studies}
    assert {file.stem for file in FOLDER.glob("*.toml")} == names


@pytest.mark.parametrize("paper", PAPERS)
def test_the_short_form_is_the_beginning_of_the_whole_one(paper):
    by_name = {plan.name: plan for plan in plans(paper)}
    for quick in plans(paper, quick=True):
        whole = by_name[quick.name.removesuffix("-quick")]
        assert len(whole.seeds) >= 10
        assert quick.seeds == whole.seeds[: len(quick.seeds)]
        assert quick.tuning.seeds == whole.tuning.seeds[:1]
        assert quick.name != whole.name  # a folder of its own
        assert quick.arms == whole.arms
        assert whole.outcome.kind == "score" or len(quick.seeds) >= fewest_pairs(len(quick.arms) - 1)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_primary_outcome_has_ten_seeds_and_a_table_five(paper):
    for plan in plans(paper):
        assert len(plan.seeds) >= (10 if plan.outcome.kind == "steps" else 5)
        assert plan.tuning is not None


def test_arms_of_table_1_differ_from_the_full_form_in_one_thing():
    table = next(plan for plan in plans("mmo") if plan.name == "mmo-table1")
    full = resolved(table.config("full", {}))
    changed = {
        arm.name: sorted(line.partition(":")[0] for line in differences(full, resolved(table.config(arm.name, {}))))
        for arm in table.arms
    }
    assert changed == {
        "alone": ["optimizer.convergence_window", "optimizer.share_alpha", "optimizer.synchronize_beta"],
        "full": [],
        "without-sharing": ["optimizer.share_alpha"],
        "without-synchronisation": ["optimizer.synchronize_beta"],
        "without-adaptive-rates": ["optimizer.convergence_window"],
    }


def test_the_command_says_what_it_would_run(capsys, tmp_path):
    assert main(["reproduce", "mmo", "--quick", "--dry-run", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"in {tmp_path / 'mmo-target-quick'}" in printed
    assert f"in {tmp_path / 'mmo-table1-quick'}" in printed
    assert not list(tmp_path.iterdir())


def test_a_paper_that_has_no_study_is_refused():
    with pytest.raises(ArenaError, match="there is no study of 'mmmo'; did you mean 'mmo'"):
        plans("mmmo")
