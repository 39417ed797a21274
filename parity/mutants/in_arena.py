"""Faults in ModelArena's equations."""

from __future__ import annotations

from parity.mutants.fault import fault

PROGRESS, ALLOCATION = "transforms.learning_progress", "arena.allocation"
EFFICIENCY = "arena.progress:resource_utilization_efficiency"
LIMIT, LIMITS = "arena.limit", "tests/arena/test_limit.py::test_it_is_where_the_rule_ends_from_anywhere"
MARKETS, NODE = "equilibria.markets", "tests/equilibria/test_markets.py::"
BIDS, UNITS = (
    f"{NODE}test_nobody_gains_by_another_bid",
    f"{NODE}test_units_go_where_they_are_worth_most_and_lies_do_not_pay",
)
PROGRAM = f"{NODE}test_the_market_is_the_optimum_of_the_convex_program"
RATE, SHARES = "learning progress/all/paper/float64", "memory shares/all/paper/float64"
PUBLISHED, STEPS = "memory shares/all/published-code/float64", "steps per round/all/paper/float64"
RAISED = "jnp.maximum(smoothing * shares + (1 - smoothing) * weights, floor)"

BANDIT, HAND = (
    "arena.policies.rising_bandit",
    "tests/arena/test_policies.py::test_rising_bandit_drops_who_cannot_become_the_best",
)

POLICIES_TEST, NOISE_TEST = "tests/arena/test_policies.py::", "tests/arena/test_noise.py::"
HYPERBAND, PUBLISHED_SCHEDULE = (
    "arena.policies.hyperband",
    f"{POLICIES_TEST}test_hyperband_follows_the_published_schedule",
)
PREDICTIVE, LIKELY = "arena.policies.predictive", f"{POLICIES_TEST}test_the_parts_of_likely_winners_are_as_written"
NOISE, GAUSSIAN = (
    "arena.noise",
    f"{NOISE_TEST}test_signal_and_variance_of_gaussian_gradients_are_what_they_were_drawn_with",
)
OBJECTIVE_TEST = "tests/arena/test_objective.py::"
CONCAVE, GOOD = "equilibria.concave", "tests/equilibria/test_concave.py::"
GAME = "tests/arena/test_allocation_game.py::"

PLACEMENT, PLACED = "arena.placement", "tests/arena/test_placement.py::test_the_integer_program_finds_the_best_of_all"
LEARNED, WEIGHTS = "arena.policies.objective_weights", "tests/arena/test_objective_weights.py::"

DOMAINS, SPECIAL = "data.domains", "tests/arena/test_specialization.py::"
LINEAGE = "tests/arena/test_lineage.py::"
REHEARSAL = "tests/arena/test_rehearsal.py::test_what_must_hold_holds_whatever_happens"

MUTANTS = (
    fault(
        "brackets rounded down",
        f"{HYPERBAND}:schedule",
        "math.ceil((largest",
        "math.floor((largest",
        PUBLISHED_SCHEDULE,
    ),
    fault(
        "a bracket begins with those who are left",
        f"{HYPERBAND}:Hyperband.__call__",
        "candidates, bracket = everybody, rung.bracket",
        "candidates, bracket = alive, rung.bracket",
        f"{POLICIES_TEST}test_hyperband_lets_the_dropped_come_back",
    ),
    fault(
        "rivals are those that cost more",
        f"{PREDICTIVE}:winning",
        "size[None, :] <= size[:, None]",
        "size[None, :] >= size[:, None]",
        LIKELY,
    ),
    fault(
        "the soonest counts like the others", f"{PREDICTIVE}:soonest", "_parts(speed**2)", "_parts(speed**0)", LIKELY
    ),
    fault(
        "signal and noise of the small batch alone",
        f"{NOISE}:signal_and_variance",
        "(large * large_square - small * small_square)",
        "(large * small_square - small * small_square)",
        GAUSSIAN,
    ),
    fault(
        "noise by the difference of the sizes",
        f"{NOISE}:signal_and_variance",
        "(1 / small - 1 / large)",
        "(large - small)",
        GAUSSIAN,
    ),
    fault(
        "batches raised past the noise scale",
        "arena.state:largest_size",
        "step_rows(setup, state, name, size) <= cap",
        "size <= 2 * cap",
        f"{NOISE_TEST}test_batches_are_raised_no_further_than_they_help",
    ),
    fault(
        "a size's best among those that cost more",
        "config.objective:objective_value",
        "if costs[other] <= costs[name]",
        "if costs[other] >= costs[name]",
        f"{OBJECTIVE_TEST}test_the_front_is_what_a_search_of_all_pairs_finds",
    ),
    fault(
        "no room for the last evaluation",
        "arena.evaluation_schedule:choose_batches",
        "(ENOUGH + 2)",
        "(ENOUGH - 2)",
        f"{OBJECTIVE_TEST}test_rows_are_as_many_as_are_paid_for",
    ),
    fault(
        "a resumed run has equal shares again",
        "arena.state:from_position",
        'np.array(position["shares"])',
        "state.shares",
        REHEARSAL,
    ),
    fault(
        "rows do not follow the domains' shares",
        "arena.state:set_division",
        "data_parts(division)",
        "data_parts(0 * division + 1)",
        f"{SPECIAL}test_rows_follow_the_division_of_the_domains",
    ),
    fault(
        "models are not exchanged within domains",
        "arena.specialization:specialization",
        "np.take_along_axis(parts[1:], order, 1)",
        "parts[1:]",
        f"{SPECIAL}test_domains_with_models_of_their_own_are_as_rare_as_different_winners_drawn_at_random[3]",
    ),
    fault(
        "a domain is not charged for its row",
        f"{DOMAINS}:DomainBatches.draw",
        "self._due[domain] -= 1",
        "self._due[domain] -= 2",
        f"{SPECIAL}test_a_stream_of_domains_has_each_ones_part_and_goes_on_to_the_row",
    ),
    fault(
        "a teacher looks at other rows",
        "arena.lessons:_compute_gradient",
        "_batch(setup, name, rows)",
        "_batch(setup, name, rows[::-1])",
        f"{LINEAGE}test_a_students_gradient_is_that_of_the_equation_written_out",
    ),
    fault(
        "teaching is free",
        "arena.lessons:_compute_gradient",
        "len(rows) * _forward_flops",
        "0 * _forward_flops",
        f"{LINEAGE}test_a_students_gradient_is_that_of_the_equation_written_out",
    ),
    fault(
        "a worse mixture takes the place",
        "arena.crossing:cross",
        "middle < rival",
        "middle > rival",
        f"{LINEAGE}test_who_is_better_or_behind_a_barrier_stays[worse]",
    ),
    fault(
        "rows of a step that ran out of memory are lost",
        "arena.rounds:compute_gradient",
        "stream.restore(position)",
        "pass",
        REHEARSAL,
    ),
    fault(
        "searches under way forgotten by a resumed run",
        "arena.batch_sizes:resume_searches",
        "in pending.items()",
        "in {}.items()",
        REHEARSAL,
    ),
    fault(
        "a device given twice",
        f"{PLACEMENT}:_milp",
        "LinearConstraint(devices, 0, [kind.number for kind in pool])",
        "LinearConstraint(devices, 0, [2 * kind.number for kind in pool])",
        PLACED,
    ),
    fault("a model placed where it does not fit", f"{PLACEMENT}:options", "or need.bytes > kind.memory", "", PLACED),
    fault(
        "exchange of gradients forgotten",
        f"{PLACEMENT}:options",
        "2 * (devices - 1) / devices * need.parameters",
        "0 * need.parameters",
        PLACED,
    ),
    fault(
        "objectives credited with the gain before they spoke",
        f"{LEARNED}:LearnedObjectives.__call__",
        "parts[:-1] * _gain_per_second",
        "parts[1:] * _gain_per_second",
        f"{WEIGHTS}test_the_learned_weights_are_those_of_a_loop",
    ),
    fault(
        "weights fall with the gain",
        f"{LEARNED}:exponentiated_gradient",
        "softmax(rate *",
        "softmax(-rate *",
        f"{WEIGHTS}test_the_regret_keeps_its_bound",
    ),
    fault(
        "claims beyond the budget are not cut",
        "arena.allocation_game:claims_game",
        "profiles / np.maximum(1, profiles.sum(axis=-1, keepdims=True))",
        "profiles",
        f"{GAME}test_a_game_is_its_equation_written_out",
    ),
    fault(
        "a bidder who does not see that its bid moves the price",
        f"{CONCAVE}:_demand",
        "1 - price / slopes[last]",
        "1.0",
        f"{GOOD}test_nobody_gains_by_another_bid_and_three_quarters_of_the_welfare_are_sure",
    ),
    fault(
        "the price of the last piece sold, not of the next",
        f"{CONCAVE}:price_of_division",
        'side="right"',
        'side="left"',
        f"{GOOD}test_the_price_is_what_a_piece_more_would_bring",
    ),
    fault(
        "an equilibrium though one player gains",
        "equilibria.nash:pure_equilibria",
        "stable &= table",
        "stable |= table",
        f"{GOOD}test_pure_equilibria_are_those_of_brute_force",
    ),
    fault(
        "what is left counted from the start",
        f"{BANDIT}:RisingBandit.__call__",
        "spent * (1 - fraction) /",
        "spent /",
        HAND,
    ),
    fault("the margin taken off the bound", f"{BANDIT}:RisingBandit.__call__", "+ self.margin", "- self.margin", HAND),
    fault(
        "share raised to the floor before smoothing",
        f"{ALLOCATION}:blend",
        RAISED,
        "smoothing * shares + (1 - smoothing) * jnp.maximum(weights, floor)",
        SHARES,
    ),
    fault(
        "α of the smoothing and 1 − α exchanged",
        f"{ALLOCATION}:blend",
        RAISED,
        "jnp.maximum((1 - smoothing) * shares + smoothing * weights, floor)",
        SHARES,
    ),
    fault(
        "shares not normalised at the end",
        f"{ALLOCATION}:blend",
        "return raised / jnp.sum(raised, axis=-1, keepdims=True)",
        "return raised",
        SHARES,
    ),
    fault(
        "negative progress not raised to ε",
        f"{ALLOCATION}:allocate",
        "blend(jnp.maximum(progress, epsilon), shares",
        "blend(jnp.abs(progress) + epsilon, shares",
        SHARES,
    ),
    fault("published: raised to the smallest progress", f"{ALLOCATION}:allocate", "0.1 * jnp", "1.0 * jnp", PUBLISHED),
    fault(
        "published: equal shares are smoothed",
        f"{ALLOCATION}:allocate",
        "jnp.where(none, equal, blend(",
        "jnp.where(none, 0.3 * equal + 0.7 * shares, blend(",
        PUBLISHED,
    ),
    fault("window of progress off by one", f"{PROGRESS}:learning_progress", "-(window + 1)", "-(window + 2)", RATE),
    fault(
        "progress relative to the first score of the window",
        f"{PROGRESS}:learning_progress",
        "jnp.abs(recent[-1:])",
        "jnp.abs(recent[:1])",
        RATE,
    ),
    fault(
        "progress divided by the window, not by what is there",
        f"{PROGRESS}:learning_progress",
        "jnp.maximum(usable.sum(0), 1)",
        "window",
        RATE,
    ),
    fault(
        "a diverged model keeps its progress",
        f"{PROGRESS}:learning_progress",
        "there[-1] & jnp.isfinite(progress)",
        "jnp.isfinite(progress)",
        RATE,
    ),
    fault("steps rounded", f"{ALLOCATION}:steps_per_round", "jnp.floor(product)", "jnp.round(product)", STEPS),
    fault("a model without a step", f"{ALLOCATION}:steps_per_round", "jnp.maximum(1, ", "jnp.maximum(0, ", STEPS),
    fault(
        "a step lost to rounding",
        f"{ALLOCATION}:steps_per_round",
        "scale * share * (1 + 8 * jnp.finfo(share.dtype).eps)",
        "scale * share * (1 - 8 * jnp.finfo(share.dtype).eps)",
        STEPS,
    ),
    fault(
        "efficiency without bars",
        EFFICIENCY,
        "gain if signed else jnp.abs(gain)",
        "gain",
        "memory efficiency/all/paper/float64",
    ),
    fault(
        "batch may exceed the budget",
        "runtime.size_interval:SizeInterval.__init__",
        "allowance * (1 + _ROUNDING)",
        "allowance * 1.05",
        "batch sizes/all/paper/float64",
    ),
    fault(
        "the fastest learner is the first at the floor",
        f"{LIMIT}:limit_of_shares",
        'np.argsort(weights, kind="stable")',
        'np.argsort(-weights, kind="stable")',
        LIMITS,
    ),
    fault("the smaller root", f"{LIMIT}:_total", "half + np.sqrt", "half - np.sqrt", LIMITS),
    fault(
        "bidders without foresight",
        f"{MARKETS}:proportional_share",
        "jnp.minimum(value / (value + price)",
        "jnp.minimum(value / price",
        BIDS,
    ),
    fault(
        "budgets forgotten",
        f"{MARKETS}:proportional_share",
        "jnp.minimum(value / (value + price), budget / price)",
        "value / (value + price)",
        BIDS,
    ),
    fault(
        "winners pay their own bid",
        f"{MARKETS}:second_price",
        "== bidder, 0, values)",
        "== bidder, values, values)",
        UNITS,
    ),
    fault(
        "goods at one price",
        f"{MARKETS}:fisher_market",
        "utility * bids / jnp.maximum",
        "utility * bids * jnp.maximum",
        PROGRAM,
    ),
)
