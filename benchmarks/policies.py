"""Judge the allocation policies in the simulator: loss relative to ``static`` and regret, at equal device-seconds.

    python benchmarks/policies.py            # about a minute on 2 cores
    python benchmarks/policies.py --quick    # a few seconds per policy, wider intervals

Two questions are asked of each policy, because they pull in opposite directions: how good are the models on average,
and how good is the one that the leaderboard puts first. A ratio below 1 is better than ``static``. Regret is the loss
beyond the best choice that never changes and knows the curves: the best fixed shares for the mean, everything on the
best model for the winner. Brackets are 95 % bootstrap intervals over runs. The last case, "anything", draws its
curves at random and was not used to choose any default.
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

from arena_jax.arena import DEFAULT_POLICY, planted, policy
from arena_jax.arena.policies import policy_for
from arena_jax.arena.simulate import best_fixed, bootstrap, simulate

POLICIES = {
    "static": policy("static"),
    "modelarena": policy("modelarena"),
    "modelarena, published code": policy("modelarena", variant="published-code"),
    "successive-halving": policy("successive-halving"),
    "multi-objective": policy("multi-objective"),
    **{
        name: policy(name)
        for name in (
            "proportional-share-auction",
            "second-price-auction",
            "fisher-market",
            "rising-bandit",
            "hyperband",
        )
    },
    "predictive, equation 10 alone": policy("predictive", patience=0.0, insurance=0.0, ambition=0.0, smoothing=0.7),
    "predictive, for the best": policy_for("predictive", "best"),
    "multi-objective, for the best": policy_for("multi-objective", "best"),
    DEFAULT_POLICY + " (default)": policy(DEFAULT_POLICY),
}
CASES = (*planted.CASES, planted.RANDOM_CURVES)
WORST = 1.05


def measure(spending: str, runs: int, seed: int) -> dict[str, np.ndarray]:
    """Run everything; losses [policies + 1, cases, runs, 2] with the best fixed choice last, mean and picked."""
    losses = {name: np.zeros((len(CASES), runs, 2)) for name in (*POLICIES, "best fixed")}
    for c, case in enumerate(CASES):
        key = jax.random.fold_in(jax.random.key(seed), c)
        curves, noise = planted.curves(case, key, runs)
        for name, tested in POLICIES.items():
            outcome = simulate(
                tested, curves, jax.random.fold_in(key, 1), budget=planted.BUDGET, noise=noise, spending=spending
            )
            losses[name][c] = -np.stack([outcome.final.mean(1), outcome.picked], 1)
        if spending == "seconds":
            losses["best fixed"][c] = -np.stack(best_fixed(curves, budget=planted.BUDGET, parts=20), 1)
    return losses


def interval(values: np.ndarray, form: str = ".3f") -> str:
    mean, low, high = bootstrap(values)
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def with_median(values: np.ndarray) -> str:
    return f"{interval(values)}, {np.median(values):.3f}"


def report(losses: dict[str, np.ndarray], spending: str) -> bool:
    ratios = {name: losses[name] / losses["static"] for name in POLICIES}
    planted_cases = slice(0, len(planted.CASES))
    print(f"\n## A share buys {spending}: loss / loss under static (below 1 is better)\n")
    for which, title in ((0, "mean over the models"), (1, "the model the leaderboard puts first")):
        print(f"| {title} | " + " | ".join(CASES) + " |")
        print("|---" * (len(CASES) + 1) + "|")
        for name, ratio in ratios.items():
            print(f"| {name} | " + " | ".join(interval(case[:, which], ".2f") for case in ratio) + " |")
        print()
    print("\nMeans with their intervals, then medians over runs; worst case: the worst of the planted cases' means.\n")
    print("| policy | planted cases, mean | worst case | planted cases, first | worst case | anything, mean | first |")
    print("|---|---|---|---|---|---|---|")
    holds = False
    for name, ratio in ratios.items():
        per_run = ratio[planted_cases].mean(0)  # a run is one draw of every case
        worst = ratio[planted_cases].mean(1).max(0)
        cells = [with_median(per_run[:, 0]), f"{worst[0]:.3f}", with_median(per_run[:, 1]), f"{worst[1]:.3f}"]
        cells += [with_median(ratio[-1][:, 0]), with_median(ratio[-1][:, 1])]
        print(f"| {name} | " + " | ".join(cells) + " |")
        if name.endswith("(default)"):
            holds = bool(worst.max() <= WORST and all(bootstrap(per_run[:, w])[2] < 1 for w in (0, 1)))
    if spending == "seconds":
        print(
            "\n| regret against the best fixed choice (loss) | mean over the models | the model put first |"
            "\n|---|---|---|"
        )
        for name in POLICIES:
            regret = (losses[name] - losses["best fixed"])[planted_cases].mean(0)
            print(f"| {name} | {with_median(regret[:, 0])} | {with_median(regret[:, 1])} |")
    verdict = "holds" if holds else "DOES NOT HOLD"
    print(
        f"\nThe default is never more than {WORST - 1:.0%} worse than static on a planted case and better on average "
        f"(both columns, upper end of the interval below 1): {verdict}."
    )
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="64 runs per case instead of 512")
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    runs = 64 if arguments.quick else 512
    began = time.perf_counter()
    verdicts = [report(measure(spending, runs, arguments.seed), spending) for spending in ("seconds", "rounds")]
    seconds = time.perf_counter() - began
    total = 2 * runs * len(CASES) * len(POLICIES)
    print(f"\n{total} simulated runs in {seconds:.0f} s, compilation included: {60 * total / seconds:.0f} a minute.")
    raise SystemExit(not all(verdicts))


if __name__ == "__main__":
    main()
