"""Faults in models that change their shape, and in what recorded runs teach of shapes."""

from __future__ import annotations

from parity.mutants.fault import fault

RESIZE, SEARCH, PREDICTOR = "arena.resize", "arena.search", "arena.predictor"
THRESHOLDS = "tests/arena/test_resize.py::test_who_is_above_grows_and_who_is_below_is_pruned"
SINCE = "tests/arena/test_resize.py::test_progress_counts_from_the_last_change_on_and_takes_two_scores"
CARRIED = "tests/training/test_resize.py::test_what_is_carried_over"
PLANTED = "tests/arena/test_predictor.py::test_a_planted_truth_is_found_and_its_band_holds"
BY_HAND = "tests/arena/test_predictor.py::test_a_correction_is_in_units_of_the_uncertainty"

MUTANTS = (
    fault(
        "who is below the threshold grows",
        f"{RESIZE}:threshold_changes",
        "progress > arena.grow_above",
        "progress < arena.grow_above",
        THRESHOLDS,
    ),
    fault(
        "progress from the first score on, whatever changed since",
        f"{RESIZE}:progress_since",
        "[evaluations:, model : model + 1]",
        "[:, model : model + 1]",
        SINCE,
    ),
    fault(
        "the neurons stay that the loss needs least",
        "models.resize:_largest",
        "np.argsort(-values",
        "np.argsort(values",
        "tests/training/test_resize.py::test_those_stay_that_the_loss_needs_most",
    ),
    fault(
        "copied blocks in the order of a sort",
        "models.growth:stack_blocks",
        "np.arange(layers) % before",
        "np.sort(np.arange(layers) % before)",
        "tests/training/test_resize.py::test_plain_stacking_copies_the_blocks",
    ),
    fault(
        "the average begins anew with a change of shape",
        "training.resize:replaced",
        "replace_model(state, name, model, optimizer_state, average)",
        "replace_model(state, name, model, optimizer_state, None)",
        CARRIED,
    ),
    fault(
        "what the gradients want least is proposed",
        f"{SEARCH}:proposals",
        "-norms[what]",
        "norms[what]",
        "tests/arena/test_search.py::test_what_gradients_ask_for_by_numpy",
    ),
    fault(
        "children race for nothing",
        f"{SEARCH}:_charge",
        "account.flops += contender.account.flops - parent.account.flops",
        "account.flops += 0",
        "tests/arena/test_search.py::test_the_winner_pays_for_all",
    ),
    fault(
        "a correction in the score's own unit",
        f"{PREDICTOR}:predict",
        "mean + uncertainty * correction",
        "mean + correction",
        BY_HAND,
    ),
    fault(
        "a quantile in the order of the runs",
        f"{PREDICTOR}:_quantile",
        "np.cumsum(counts[order])",
        "np.cumsum(counts)",
        "tests/arena/test_predictor.py::test_the_quantile_is_numpys",
    ),
    fault(
        "a band as wide as a normal distribution's",
        f"{PREDICTOR}:fit_predictor",
        "Predictor((first, size, memory, ahead), width)",
        "Predictor((first, size, memory, ahead))",
        PLANTED,
    ),
)
