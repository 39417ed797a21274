"""A policy of your own for models that compete for memory, judged on made-up learning curves: nothing is trained.

    python examples/own_policy.py
    python examples/own_policy.py --case crossing

Takes about 10 seconds on 2 cores. For each policy prints the score of the model that it names the best (higher is
better), over 256 competitions of 4 models, and the difference from equal shares with its 95 % interval.
"""

import argparse

import jax
import jax.numpy as jnp

from arena_jax import arena, compare
from arena_jax.arena import planted
from arena_jax.arena.simulate import simulate

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--case", default="crossing", choices=planted.CASES, help="the kind of curves (default crossing)")
options.add_argument("--runs", type=int, default=256, help="competitions (default 256)")
chosen = options.parse_args()


# ---- a policy: from a history of scores [evaluations, models] to one share for each model ----
def halves(history):
    """Half of the memory to the better half of the models so far, three times as much as the others get each."""
    scores = history.scores[-1]
    better = scores >= jnp.median(scores)
    weights = jnp.where(better, 3.0, 1.0)
    return weights / weights.sum()


# ---- the same curves and the same noise for every policy ----
curves, noise = planted.curves(chosen.case, jax.random.key(0), chosen.runs)

policies = {"static": arena.policy("static"), "predictive": arena.policy("predictive"), "halves": halves}
picked = {
    name: simulate(policy, curves, jax.random.key(1), budget=planted.BUDGET, noise=noise).picked
    for name, policy in policies.items()
}
for name, scores in picked.items():
    line = f"{name:12} {float(scores.mean()):+.4f}"
    if name != "static":
        pair = compare.difference(scores.tolist(), picked["static"].tolist())
        line += f"   {pair.estimate:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}] against equal shares"
    print(line)
