"""The game of allocation on recorded competitions, for people: who ends up with what, and what selfishness costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from arena_jax.arena.allocation_game import Analysis, analyze, price_of_anarchy, progress_of_shares
from arena_jax.arena.simulate import Curves
from arena_jax.compare.confidence import ConfidenceInterval, confidence_interval
from arena_jax.runs.document import Block, Items, Paragraph, Table

_DIVISIONS = ("best division", "equal shares")


class AnalysisOfRuns(NamedTuple):
    """The games of several runs.

    Attributes:
        mean: of the progress averaged over the runs.
        each: of every run alone.
    """

    mean: Analysis
    each: tuple[Analysis, ...]

    def anarchy(self, rule: int) -> ConfidenceInterval:
        """The price of anarchy under a rule, over those runs that have an equilibrium whose welfare is above 0.

        An auction in which somebody gains by another bid is in none.
        """
        prices = [price_of_anarchy(analysis, analysis.equilibria[rule]) for analysis in self.each]
        finite = [price for price in prices if math.isfinite(price)]
        return confidence_interval(finite) if finite else ConfidenceInterval(math.nan, math.nan, math.nan, 0)


def analyze_runs(curves: Curves, budget: float) -> AnalysisOfRuns:
    """Solve the game of the mean progress, and that of each run.

    Args:
        curves: scores [runs, models, points].
        budget: device-seconds of a run.
    """
    progress = [progress_of_shares(Curves(curves.seconds, scores), budget) for scores in curves.scores]
    return AnalysisOfRuns(analyze(np.mean(progress, axis=0)), tuple(map(analyze, progress)))


def blocks(table: AnalysisOfRuns, names: Sequence[str], budget: float, notes: Sequence[str]) -> Sequence[Block]:
    """Write the analysis for people.

    Args:
        table: of :func:`analyze_runs`.
        names: of the models.
        budget: device-seconds of a run.
        notes: what a person should know of the curves.
    """
    mean, count = table.mean, len(table.each)
    runs = "1 run" if count == 1 else f"{count} runs"
    of_seeds = f"price of anarchy of {runs}"
    equal = np.full(len(names), 1 / len(names))
    rows = [
        (title, *_percent(shares), f"{welfare:.4f}", "", "")
        for title, shares, welfare in zip(_DIVISIONS, (mean.optimum, equal), (mean.welfare, mean.equal), strict=True)
    ]
    for rule, equilibrium in enumerate(mean.equilibria):
        anarchy = table.anarchy(rule)
        price = anarchy.text(".4f") + ("" if anarchy.seeds == count else f", {anarchy.seeds} of them")
        rows.append(
            (
                equilibrium.rule + (" (mixed)" if equilibrium.mixed else ""),
                *_percent(equilibrium.shares),
                f"{equilibrium.welfare:.4f}" if math.isfinite(equilibrium.welfare) else "none",
                f"{equilibrium.price:.4f}",
                price if anarchy.seeds else "none",
            )
        )
    sentence = (
        f"Utility = learning progress − cost; {budget:,.4g} device-seconds, {runs}, shares and welfare of their mean "
        "progress. Welfare: progress of all models together. Price of anarchy: the best welfare over that of the worst "
        "equilibrium."
    )
    remarks = [*notes]
    gaps = [e for e in mean.equilibria if not e.number and math.isfinite(e.gap)]
    remarks += [
        f"{e.rule}: some curve rises faster later; the shares are those of the curves' concave hulls, no equilibrium: "
        f"somebody could gain {e.gap:.2g} by another bid"
        for e in gaps
    ]
    remarks += [f"{e.rule}: no equilibrium among the claims" for e in mean.equilibria if math.isnan(e.gap)]
    header = ("rule", *names, "welfare", "cost of all", of_seeds)
    return [Paragraph(sentence), Table(header, rows), *([Items(remarks)] if remarks else [])]


def as_json(table: AnalysisOfRuns, names: Sequence[str], budget: float) -> dict[str, Any]:
    """The analysis by names, as a file holds it; what there is none of is NaN."""
    mean = table.mean
    return {
        "budget": budget,
        "runs": len(table.each),
        "progress": dict(zip(names, mean.progress.tolist(), strict=True)),
        "best division": {"shares": dict(zip(names, mean.optimum.tolist(), strict=True)), "welfare": mean.welfare},
        "equal shares": {"welfare": mean.equal},
        "equilibria": {
            e.rule: {
                "shares": dict(zip(names, e.shares.tolist(), strict=True)),
                "welfare": [e.welfare, e.best_welfare],
                "price": e.price,
                "equilibria": e.number,
                "mixed": e.mixed,
                "gap": e.gap,
                "price of anarchy": list(table.anarchy(rule)[:3]),
            }
            for rule, e in enumerate(mean.equilibria)
        },
    }


def _percent(shares: np.ndarray) -> list[str]:
    return [f"{100 * share:.1f} %" if math.isfinite(share) else "–" for share in shares]
