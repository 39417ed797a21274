"""Related runs in a ledger: a run takes a minute to measure, and one that was measured is not measured again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arena_jax.compare.identity import identity_of
from arena_jax.compare.ledger import Ledger
from arena_jax.compare.relations import Related, Run, pairs_of, relate, rows_of
from arena_jax.training.influence import Influence


class RelatedRun(NamedTuple):
    """One run of a side, as a ledger knows it.

    Attributes:
        side: "joint" or "alone".
        seed: of the run.
    """

    side: str
    seed: int

    @property
    def name(self) -> str:
        """Its file in the ledger."""
        return f"{self.side}.{self.seed}"


def related_pairs(
    joint: Sequence[Run],
    lone: Sequence[Run],
    split: str,
    folder: Path,
    show: Callable[[str], Any] = lambda line: None,
) -> list[tuple[Related, Related]]:
    """Measure joint and lone runs, pair by pair.

    Args:
        joint: folders and configurations of joint runs.
        lone: of lone runs with the same seeds.
        split: that answers are scored on.
        folder: of the ledger; measuring that was stopped goes on.
        show: is given a line per run.

    Returns:
        (joint, lone), by seed.

    Raises:
        ArenaError: runs that do not belong together; a folder in which others were measured.
    """
    folders = pairs_of(joint, lone)
    configs = {**dict(joint), **dict(lone)}
    ledger, rows = Ledger(folder), None
    content = {"split": split, "runs": [[_identity(run) for run in pair] for pair in folders]}
    hashes = identity_of(content, {})
    ledger.freeze(content, hashes)
    pairs: list[tuple[Related, Related]] = []
    for pair in folders:
        measured: list[Related] = []
        for side, run in zip(("joint", "alone"), pair, strict=True):
            key = RelatedRun(side, configs[run].training.seed)
            record = ledger.read(key)
            if record is None:
                show(f"{2 * len(pairs) + len(measured) + 1} of {2 * len(folders)}: {run}")
                with ledger.working(key):
                    rows = rows or rows_of(configs[run], split)
                    record = {"status": "finished", **to_record(relate(run, rows))}
                    ledger.freeze(content, hashes)  # refuses where others have taken the folder meanwhile
                    ledger.write(key, record)
            measured.append(from_record(run, configs[run], record))
        pairs.append((measured[0], measured[1]))
    ledger.tidy()
    return pairs


def _identity(run: Path) -> list[str]:
    """A run's folder, its configuration and how far it is."""
    steps = sorted((entry.name for entry in (run / "checkpoints").glob("[0-9]*")), key=int)
    return [str(run.resolve()), hashlib.sha256((run / "config.json").read_bytes()).hexdigest(), *steps[-1:]]


def to_record(run: Related) -> dict[str, Any]:
    """A measured run as JSON holds it, but for its folder and configuration."""
    return {
        "sharing": [[*pair, kinds] for pair, kinds in run.sharing.items()],
        "influence": {
            kind: {taker: {giver: list(effect) for giver, effect in givers.items()} for taker, givers in takers.items()}
            for kind, takers in run.influence.items()
        },
        "correlation": [[*pair, r] for pair, r in run.correlation.items()],
        "attention": {name: [matrix.tolist() for matrix in matrices] for name, matrices in run.attention.items()},
        "hidden": {name: states.tolist() for name, states in run.hidden.items()},
        "scores": run.scores,
        "accuracies": run.accuracies,
    }


def from_record(folder: Path, config: Any, record: dict[str, Any]) -> Related:
    """What `to_record` was given."""
    return Related(
        folder,
        config,
        {(taker, giver): kinds for taker, giver, kinds in record["sharing"]},
        {
            kind: {
                taker: {giver: Influence(*effect) for giver, effect in givers.items()}
                for taker, givers in takers.items()
            }
            for kind, takers in record["influence"].items()
        },
        {(taker, giver): r for taker, giver, r in record["correlation"]},
        {name: tuple(np.asarray(matrix) for matrix in matrices) for name, matrices in record["attention"].items()},
        {name: np.asarray(states) for name, states in record["hidden"].items()},
        record["scores"],
        record["accuracies"],
    )
