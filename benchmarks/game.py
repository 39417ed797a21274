"""The game room's solvers against other libraries, and what its intervals are worth.

    python benchmarks/game.py            # about a minute on 2 cores

The last column says what was asked for, where something was. Contestants that are not installed are left out.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from scipy import integrate, optimize, special

from arena_jax import equilibria, game, models
from arena_jax.game import scaling
from arena_jax.training.objectives import objective_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import interleaved, machine, ratio, table, verdict


def optional(name: str) -> Any:
    """The module, or None where it is not installed."""
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None


def one_thread() -> contextlib.AbstractContextManager[Any]:
    """One BLAS thread: with several, tiny products wait for each other and scipy's times say nothing."""
    threads = optional("threadpoolctl")
    return threads.threadpool_limits(1) if threads else contextlib.nullcontext()


def zero_sum(rng: np.random.Generator) -> tuple[str, dict[str, Callable[[], Any]]]:
    payoff = rng.normal(size=(64, 64))
    runs: dict[str, Callable[[], Any]] = {"arena_jax": lambda: equilibria.zero_sum(payoff)}
    if nashpy := optional("nashpy"):
        runs["nashpy"] = lambda: nashpy.Game(payoff).linear_program()
    return "zero-sum game, 64 × 64", runs


def alpha_rank(rng: np.random.Generator) -> tuple[str, dict[str, Callable[[], Any]]]:
    tables = [rng.normal(size=(3,) * 6) for _ in range(6)]
    runs: dict[str, Callable[[], Any]] = {"arena_jax": lambda: equilibria.alpha_rank(tables)}
    if spiel := optional("open_spiel.python.egt.alpharank"):
        runs["open_spiel"] = lambda: spiel.compute(tables, m=50, alpha=0.1)
    return "α-rank, 6 players × 3 actions (729 profiles)", runs


def replicator(rng: np.random.Generator) -> tuple[str, dict[str, Callable[[], Any]]]:
    payoff = rng.normal(size=(10, 10))
    starts = rng.dirichlet(np.ones(10), size=64)

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        fitness = payoff @ x
        return x * (fitness - x @ fitness)

    def reference() -> None:
        for start in starts:
            integrate.solve_ivp(slope, (0, 50), start, method="DOP853", rtol=1e-9, atol=1e-12)

    ours = lambda: equilibria.replicator(payoff, starts, [0.0, 50.0])  # noqa: E731
    return "replicator, 10 strategies, 64 starts, T = 50", {"arena_jax": ours, "scipy DOP853": reference}


def law(rng: np.random.Generator) -> tuple[str, dict[str, Callable[[], Any]]]:
    n, d = np.meshgrid(np.logspace(7.6, 10.2, 9), np.logspace(9.5, 11.8, 9))
    losses = (1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658) * np.exp(rng.normal(0, 0.005, n.shape))

    def published(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * np.log(n), b - beta * np.log(d), np.full(n.shape, e)])
        residual = special.logsumexp(terms, axis=0) - np.log(losses)
        share = special.softmax(terms, axis=0) * np.clip(residual, -1e-3, 1e-3)
        slopes = [share[0], share[1], share[2], -share[0] * np.log(n), -share[1] * np.log(d)]
        return 1e6 * special.huber(1e-3, residual).sum(), 1e6 * np.array([slope.sum() for slope in slopes])

    def reference() -> None:
        for start in rng.uniform([0, 0, -1, 0, 0], [25, 25, 1, 2, 2], size=(120, 5)):
            optimize.minimize(published, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "maxiter": 2000})

    ours = lambda: scaling.fit(n, d, losses, resamples=0)  # noqa: E731
    return "scaling law, 81 cells, 120 starts", {"arena_jax": ours, "scipy L-BFGS-B": reference}


def speed() -> None:
    rng = np.random.default_rng(0)
    asked = {"zero-sum game, 64 × 64": 2.0}
    rows = []
    for build in (zero_sum, alpha_rank, replicator, law):
        name, contestants = build(rng)
        with one_thread():
            seconds = {key: float(np.median(runs)) for key, runs in interleaved(contestants, repeats=3).items()}
        ours = seconds.pop("arena_jax")
        others = ", ".join(f"{key} {value:.3g} s ({value / ours:.2g}×)" for key, value in seconds.items())
        rows.append(
            [name, f"{ours:.3g} s", others, verdict(ours, asked[name], at_least=False) if name in asked else ""]
        )
    print(table(["problem", "arena_jax", "others (× our time)", "asked, in seconds"], rows), "\n")


def estimators() -> None:
    """Error of the sampled values on one game with pairwise and higher interactions, by budget."""
    n = 12
    rng = np.random.default_rng(1)
    alone, pairs = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1) / 3

    def value(s: np.ndarray) -> np.ndarray:
        linear = s @ alone + ((s @ pairs) * s).sum(axis=1)
        return linear + np.tanh(linear)

    rows = []
    for budget in (130, 520, 2080):
        row: list[Any] = [budget]
        for method in (game.shapley, game.banzhaf):
            exact = method(value, n, exact=True).values
            runs = [method(value, n, evaluations=budget, seed=seed) for seed in range(50)]
            error = np.sqrt(np.mean([(run.values - exact) ** 2 for run in runs]))
            covered = np.mean([np.abs(run.values - exact) <= 1.96 * run.standard_errors for run in runs])
            row += [f"{error:.4f}", f"{covered:.0%}"]
        rows.append(row)
    print(
        "Sampled values of a 12-player game over 50 seeds: root mean square error, and how often 95 % intervals hold\n"
    )
    print(table(["evaluations", "Shapley", "held", "Banzhaf (keep 0.9)", "held"], rows), "\n")


def gain() -> None:
    """Coverage of the compute-equivalent gain's 95 % interval on planted curves with 0.4 % noise, 6 sizes."""
    compute = np.logspace(13, 16, 6)
    rows = []
    for seeds in (2, 3, 5, 8):
        covered, errors, stated = [], [], []
        for trial in range(200):
            rng = np.random.default_rng(trial)
            arms = [(1.5 + 60 * (k * compute) ** -0.15)[:, None] for k in (1.0, 1.1)]
            base, treated = (arm * np.exp(rng.normal(0, 0.004, (6, seeds))) for arm in arms)
            found = scaling.compute_equivalent_gain(compute, base, treated, resamples=100, seed=trial)
            covered.append(found.interval[0] < 1.1 < found.interval[1])
            errors.append(np.log(found.gain / 1.1))
            stated.append(found.log_standard_error)
        rows.append([seeds, f"{np.mean(covered):.1%}", f"{np.std(errors):.4f}", f"{np.mean(stated):.4f}"])
    print("Compute-equivalent gain, 200 planted experiments: does the 95 % interval hold?\n")
    print(table(["seeds", "held", "sd of ln k", "stated standard error"], rows))


def coalitions() -> None:
    """Coalitions per second of one compiled call, against a Python loop over a compiled single evaluation."""
    config = models.preset(
        "gpt2-tiny", vocab_size=256, hidden_size=64, num_layers=4, num_heads=4, intermediate_size=256, max_positions=128
    )
    model = models.create(config, "causal-lm")
    structure, params = models.split(model)
    objective, count, rows = objective_for("causal-lm"), 256, []
    train = training_step(structure, params)
    for tokens in (256, 1024):
        rng = np.random.default_rng(0)
        probe = {"input_ids": rng.integers(0, 256, (tokens // 64, 64)).astype(np.int32)}
        played = game.AblationGame(model, [probe])
        members = (rng.random((count, len(played.table))) < 0.9).astype(np.float32)

        @jax.jit
        def single(params: Any, gates: Any, probe: Any = probe, played: Any = played) -> Any:
            seen = models.Gated(models.merge(structure, params), played.table.gates(gates, played.means))
            sums = objective(seen, probe, None, False).sums
            return -sums["loss_sum"] / sums["count"]

        contestants: dict[str, Callable[[], Any]] = {
            "together": lambda played=played, members=members: played.evaluate(members),
            "loop": lambda single=single, members=members: [float(single(params, row)) for row in members],
        }
        seconds = interleaved(contestants, repeats=7)
        middle, low, high = ratio(seconds["loop"], seconds["together"])
        speeds = [f"{count / np.median(seconds[name]):.0f}" for name in contestants]
        rows.append([tokens, *speeds, f"{middle:.2f}× ({low:.2f}–{high:.2f})", verdict(middle, 2.0, at_least=True)])
        if tokens == 1024:
            step = float(np.median(interleaved({"step": lambda probe=probe: train(probe)}, repeats=20)["step"]))
            each = float(np.median(seconds["together"])) / count
    print(f"{len(played.table)} players of a model with {sum(x.size for x in jax.tree.leaves(params)):,} parameters\n")
    print(table(["probe, tokens", "coalitions/s", "Python loop", "ratio", "asked"], rows), "\n")
    players = len(played.table)
    rows = []
    for name, evaluations in (("leave-one-out", players + 1), ("banzhaf, 40 samples", 40 * (players + 1))):
        share = each * evaluations / (1000 * step + each * evaluations)
        rows.append([name, evaluations, f"{each * evaluations:.2f} s", f"{share:.1%}"])
    print(f"One measurement per 1000 training steps of 1024 tokens ({step * 1e3:.1f} ms each):\n")
    print(table(["utility", "coalitions", "time", "share of the run"], rows), "\n")


def training_step(structure: Any, params: Any) -> Callable[[Any], None]:
    """A compiled step of AdamW that keeps its own state."""
    optimizer = optax.adamw(1e-3)
    held = [params, optimizer.init(params)]

    @jax.jit
    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        def loss(p: Any) -> Any:
            sums = objective_for("causal-lm")(models.merge(structure, p), batch, jax.random.key(0), True).sums
            return sums["loss_sum"] / sums["count"]

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    def run(batch: Any) -> None:
        held[:] = jax.block_until_ready(step(*held, batch))

    return run


if __name__ == "__main__":
    began = time.perf_counter()
    print(machine(), "\n")
    speed()
    coalitions()
    estimators()
    gain()
    print(f"\n{time.perf_counter() - began:.0f} s")
