"""The runs of an experiment, read from their folders: checked to be comparable, sorted into arms, one per policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.objective import scores_of
from arena_jax.config.scores import SCORES
from arena_jax.runs.records import read

CONTROL = "static"
# What may differ between the runs of a report: these between policies only, those below between any two.
_POLICY_OPTIONS = ("arena.progress_window", "arena.smoothing", "arena.floor")
_ANY_RUN = (
    "arena.policy",
    "training.seed",
    "training.output",
    "training.figures",
    "training.tensorboard",
    "training.track",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.mirror",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a report needs of one finished competition; rows are evaluations or reallocations, columns are models.

    Attributes:
        folder: of the run.
        config: its configuration.
        policy: the arm.
        seed: what it is paired by.
        models: ``{name: what the start record says}``, in the order of the columns.
        fraction: [evaluations] of the run that was over.
        scores: [evaluations, models], S: the run's score, more being better; the baseline first.
        objective: [evaluations], the value of what the competition is for; NaN where an earlier version did not say.
        seconds: [evaluations, models], device-seconds since the start.
        flops: [models], counted operations.
        examples: [models].
        bits: [models], last bits per byte of text; NaN where the data do not tell.
        dealt: [allocations], the fraction from which the shares hold.
        shares: [allocations, models].
        batch: [models], last batch size in force.
        rounds: how many.
        wall: seconds on the clock, of which ``compiling`` and ``evaluating`` by name.
        compiling: seconds, most of them beside training.
        evaluating: seconds.
        deferred: batch sizes that came later than planned, or not at all, as programs were still compiled.
    """

    folder: Path
    config: RunConfig
    policy: str
    seed: int
    models: dict[str, dict[str, Any]]
    fraction: np.ndarray
    scores: np.ndarray
    objective: np.ndarray
    seconds: np.ndarray
    flops: np.ndarray
    examples: np.ndarray
    bits: np.ndarray
    dealt: np.ndarray
    shares: np.ndarray
    batch: np.ndarray
    rounds: int
    wall: float
    compiling: float
    evaluating: float
    deferred: int

    @property
    def score_title(self) -> str:
        """What the scores are, in words.

        They rise where the run gets better: of a metric of which less is better, they are the negative.
        """
        score = SCORES[self.config.training.score]
        return score.title if score.sign > 0 else f"− {score.title.removesuffix(' (nats)')}"

    @property
    def device_seconds(self) -> float:
        """Of all models together: what the run cost."""
        return float(self.seconds[-1].sum())

    def score_at(self, fraction: float) -> np.ndarray:
        """The scores [models] when a part of the run was over, on straight lines between evaluations."""
        return np.array([np.interp(fraction, self.fraction, column) for column in self.scores.T])

    def share_between(self, first: float, last: float) -> np.ndarray:
        """The mean shares [models] between two fractions of the run; each holds until the next reallocation."""
        edges = np.clip(np.append(self.dealt, 1.0), first, last)
        durations = np.diff(edges)
        return durations @ self.shares / durations.sum()


Arms = dict[str, list[Run]]


def gather(folders: Sequence[str | Path]) -> Arms:
    """Read the runs of an experiment.

    Args:
        folders: of the runs.

    Returns:
        ``{policy: its runs by seed}``, the control last.

    Raises:
        ArenaError: a folder is no run, no competition or not finished; two are of one policy and seed; they differ in
            more than policy and seed; there is no control, or an arm shares no seed with it.
    """
    runs = [read_run(Path(folder)) for folder in folders]
    if not runs:
        raise ArenaError("nothing to report: name the folders of finished competitions")
    by_key: dict[tuple[str, int], Run] = {}
    for run in runs:
        other = by_key.setdefault((run.policy, run.seed), run)
        if other is not run:
            raise ArenaError(f"'{other.folder}' and '{run.folder}' are both of {run.policy}, seed {run.seed}: name one")
        _check_alike(runs[0], run)
    arms: Arms = {}
    for policy, seed in sorted(by_key, key=lambda key: (key[0] == CONTROL, *key)):
        arms.setdefault(policy, []).append(by_key[policy, seed])
        _check_options(arms[policy][0], by_key[policy, seed])
    if CONTROL not in arms:
        raise ArenaError(f"no run of the policy '{CONTROL}' among them, the control: train one with --policy {CONTROL}")
    if len(arms) == 1:
        raise ArenaError(f"all runs are of the policy '{CONTROL}': name runs of another policy to compare with it")
    for policy, of_arm in arms.items():
        if not pairs(arms, policy):
            seeds = ", ".join(str(run.seed) for run in of_arm)
            raise ArenaError(
                f"no run of '{policy}' (seeds {seeds}) has the seed of a run of '{CONTROL}': runs are compared in pairs"
            )
    return arms


def pairs(arms: Arms, policy: str) -> list[tuple[Run, Run]]:
    """The runs of a policy with the control's of the same seed."""
    control = {run.seed: run for run in arms[CONTROL]}
    return [(run, control[run.seed]) for run in arms[policy] if run.seed in control]


def read_run(folder: Path) -> Run:
    """Read one run.

    Raises:
        ArenaError: it is no run, no competition, or not finished.
    """
    if not (folder / "config.json").is_file():
        raise ArenaError(f"'{folder}' is not a run's folder: it has no config.json")
    config = configuration.load(folder / "config.json")
    if config.arena is None:
        raise ArenaError(f"'{folder}' is no competition: a report compares runs that competed for memory")
    records = read(folder)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        kinds.setdefault(record["kind"], []).append(record)
    if "end" not in kinds or "leaderboard" not in kinds:
        at = records[-1]["step"] if records else 0
        raise ArenaError(f"'{folder}' is not finished (round {at}): arena-jax resume {folder}")
    start, end, evaluations = kinds["start"][0], kinds["end"][-1], kinds["evaluation"]
    if "deferred" not in end or any("accounts" not in record for record in evaluations):
        raise ArenaError(f"'{folder}' was written by an older version, whose records tell less: run it again")
    models, allocations = start["models"], kinds["allocation"]
    names = list(models)
    accounts = [record["accounts"] for record in evaluations]
    policy = next((d["value"] for d in start["derived"] if d["name"] == "policy"), config.arena.policy)
    batch = {name: allocations[0]["models"][name]["batch_size"] for name in names}
    batch.update({record["model"]: record["batch_size"] for record in kinds.get("swap", [])})

    scored = [scores_of(record["models"], config.training.score) for record in evaluations]

    def last(metric: str, of: dict[str, Any]) -> np.ndarray:
        return np.array([of[name].get(metric, np.nan) for name in names], float)

    return Run(
        folder=folder,
        config=config,
        policy=policy,
        seed=config.training.seed,
        models=models,
        fraction=np.array([record["fraction"] for record in evaluations]),
        scores=np.array([[scores[name] for name in names] for scores in scored]),
        objective=np.array([record.get("judgement", {}).get("value", np.nan) for record in evaluations]),
        seconds=np.array([[account[name]["seconds"] for name in names] for account in accounts]),
        flops=last("flops", accounts[-1]),
        examples=last("examples", accounts[-1]),
        bits=last("bits_per_byte", evaluations[-1]["models"]),
        dealt=np.array([record["fraction"] for record in allocations]),
        shares=np.array([[record["models"][name]["share"] for name in names] for record in allocations]),
        batch=np.array([batch[name] for name in names], float),
        rounds=end["step"],
        wall=end["seconds"],
        compiling=end["compiling"],
        evaluating=sum(record["seconds"] for record in evaluations),
        deferred=end["deferred"],
    )


def _check_alike(first: Run, run: Run) -> None:
    differences = [
        difference
        for difference in configuration.differences(first.config, run.config)
        if difference.split(":")[0] not in (*_ANY_RUN, *_POLICY_OPTIONS)
    ]
    if differences:
        raise ArenaError(
            f"'{run.folder}' is not comparable with '{first.folder}': {differences[0]}; "
            "policy and seed alone may differ"
        )
    sizes = [{name: about["parameters"] for name, about in arm_run.models.items()} for arm_run in (first, run)]
    if sizes[0] != sizes[1]:
        raise ArenaError(f"'{run.folder}' is not comparable with '{first.folder}': its models have other sizes")


def _check_options(first: Run, run: Run) -> None:
    differences = [
        difference
        for difference in configuration.differences(first.config, run.config)
        if difference.split(":")[0] in _POLICY_OPTIONS
    ]
    if differences:
        raise ArenaError(
            f"'{run.folder}' and '{first.folder}' are both of {run.policy}, with different options: {differences[0]}"
        )
