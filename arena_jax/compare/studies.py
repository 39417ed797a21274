"""The studies of the papers: plans that lie in ``studies``, and the shorter form of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from arena_jax.compare.plan import Plan
from arena_jax.compare.plan_file import read_plan
from arena_jax.config.errors import ArenaError, nearest

FOLDER = Path(__file__).with_name("studies")


class Study(NamedTuple):
    """A plan of a paper.

    Attributes:
        plan: its file's name, without ending.
        quick: the seeds of its shorter form, at least as many as can show anything; None: it has none.
    """

    plan: str
    quick: int | None = None


PAPERS: dict[str, tuple[Study, ...]] = {
    "mmo": (
        Study("mmo-target", 6),
        Study("mmo-table1", 3),
        Study("mmo-table1-published"),
        Study("mmo-table1-default"),
        Study("mmo-sharing-by-kind"),
        Study("mmo-baselines"),
        Study("mmo-sst2-target"),
        Study("mmo-table2-ner"),
        Study("mmo-table2-qa"),
    )
}


def plans(paper: str, *, quick: bool = False) -> list[Plan]:
    """The plans of a paper's study.

    Args:
        paper: of `PAPERS`.
        quick: the first seeds alone, and tuning on one, of the plans that have a shorter form: a study of its own,
            which says less.

    Raises:
        ArenaError: there is no study of that paper.

    Example:
        >>> [(plan.name, len(plan.seeds)) for plan in plans("mmo", quick=True)]
        [('mmo-target-quick', 6), ('mmo-table1-quick', 3)]
    """
    if paper not in PAPERS:
        raise ArenaError(f"there is no study of '{paper}'; {nearest(paper, PAPERS)}")
    if not quick:
        return [read_plan(FOLDER / f"{study.plan}.toml") for study in PAPERS[paper]]
    return [
        _quick(read_plan(FOLDER / f"{study.plan}.toml"), study.quick)
        for study in PAPERS[paper]
        if study.quick is not None
    ]


def _quick(plan: Plan, seeds: int) -> Plan:
    tuning = plan.tuning and dataclasses.replace(plan.tuning, seeds=plan.tuning.seeds[:1])
    return dataclasses.replace(plan, name=f"{plan.name}-quick", seeds=plan.seeds[:seeds], tuning=tuning)
