"""Faults in the statistics of comparisons, and in what counts as an outcome."""

from __future__ import annotations

from parity.mutants.fault import fault

PAIRED, ENGINE = "tests/compare/test_paired.py::", "tests/compare/test_engine.py::"

MUTANTS = (
    fault(
        "Holm's corrected p-values may fall again",
        "compare.paired:holm",
        "np.maximum.accumulate(scaled)",
        "scaled",
        f"{PAIRED}test_holm_is_the_closed_test_of_bonferroni",
    ),
    fault(
        "a pair in which neither run arrives counts as equal in the interval",
        "compare.paired:ratio",
        "np.where(neither, 0.0, ratios), np.where(neither, math.inf, ratios)",
        "ratios, ratios",
        f"{PAIRED}test_runs_that_never_arrive_leave_the_interval_open",
    ),
    fault(
        "equal differences show anything",
        "compare.paired:difference",
        "min(1.0, 2 * 0.5**count)",
        "0.0",
        f"{PAIRED}test_differences_that_are_all_alike_have_the_sign_tests_p",
    ),
    fault(
        "power takes a difference's spread for the baseline's own",
        "compare.power:seeds_for_difference",
        "math.sqrt(2) * float",
        "float",
        f"{PAIRED}test_power_is_the_textbooks",
    ),
    fault(
        "a verdict without Holm's correction",
        "compare.verdict:decide",
        "not p < 1 - CONFIDENCE or not (",
        "not (",
        f"{ENGINE}test_correction_can_take_a_verdict_away",
    ),
    fault(
        "a loss arrives at its target from below",
        "compare.curve:measure",
        "sign * score >= sign * outcome.target",
        "score >= outcome.target",
        f"{ENGINE}test_a_loss_arrives_at_its_target_from_above",
    ),
    fault(
        "what a relay's leader takes alone costs nothing",
        "compare.curve:curve",
        'steps, spent = [0.0], [before["seconds"]]',
        "steps, spent = [0.0], [0.0]",
        "tests/compare/test_curve.py::test_what_a_leader_took_alone_is_counted_in_every_point",
    ),
    fault(
        "tuning chooses the worst trial",
        "compare.tuning:choose",
        "best = min(",
        "best = max(",
        f"{ENGINE}test_tuning_chooses_on_its_own_seeds_the_baseline_too",
    ),
    fault(
        "a run that failed is not tried again",
        "compare.ledger:Ledger.over",
        ' and record["status"] != "failed"',
        "",
        f"{ENGINE}test_a_run_that_fails_is_in_the_table_and_tried_again",
    ),
    fault(
        "a device is given back before the last model has arrived",
        "compare.cost:of_steps",
        "[len(alone) * seconds for seconds in longest]",
        "spent",
        "tests/compare/test_cost.py::test_a_model_that_has_arrived_takes_no_more_steps_by_itself",
    ),
    fault(
        "products in a scan count once",
        "runtime.products:product_flops",
        'times * equation.params.get("length", 1)',
        "times",
        "tests/compare/test_cost.py::test_products_are_counted_where_they_run",
    ),
    fault(
        "what a model did alone is what all did",
        "compare.by_model:by_model",
        "dataclasses.replace(plan.outcome, over=model)",
        "plan.outcome",
        "tests/compare/test_by_model.py::test_each_model_has_its_own_outcome_and_pairs",
    ),
    fault(
        "a run lands in a study that took its folder",
        "compare.engine:run_cells",
        "ledger.freeze(content, hashes)  # refuses",
        "# refuses",
        f"{ENGINE}test_a_run_does_not_land_in_a_study_that_took_the_folder_meanwhile",
    ),
)
