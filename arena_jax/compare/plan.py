"""What a comparison is, written down before it runs: arms, seeds, the outcome, the baseline, tuning and success."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

from arena_jax.compare import functions
from arena_jax.compare.paired import INTERVALS, fewest_pairs
from arena_jax.config import RunConfig, to_dict
from arena_jax.config.change import change, collides, flat, resolved
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.fields import check, error_text, option
from arena_jax.config.scores import SCORES
from arena_jax.config.units import parse_spend

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LARGEST_SEED = 2**32 - 1
# Objectives of competitions whose value is no function of the models' scores alone: runs record it.
OBJECTIVES_ALONE = ("ensemble", "pareto")
# What belongs to the plan or to the engine, and is no arm's business.
_ENGINE = (
    "training.seed",
    "training.output",
    "training.figures",
    "training.tensorboard",
    "training.track",
    "training.keep_checkpoints",
    "training.mirror",
)


@dataclass(frozen=True)
class Outcome:
    """What arms are judged by: one number per run."""

    kind: str = option(
        MISSING,
        "score: how good a run is; steps, seconds, flops: what it needs to a target (flops: counted operations, of"
        " competitions)",
        choices=("score", "steps", "seconds", "flops"),
    )
    metric: str = option(MISSING, "the score, on validation data", choices=tuple(SCORES))
    over: str = option(
        "mean",
        "of the models of a run: their mean, the worst, the best, a model by name, or what a"
        " competition is for (ensemble, pareto)",
    )
    target: float | None = option(None, "score to be reached, of steps and seconds", unit="the metric's")
    at_step: int | None = option(
        None, "a score after so many steps; at the run's end if not given", unit="steps", low=1
    )
    at_seconds: float | None = option(None, "a score after so many device-seconds", unit="device-seconds", above=0)
    compiling: bool = option(False, "whether seconds count compiling, too; then every run compiles for itself")
    interval: str = option("t", "interval of a mean difference", choices=INTERVALS)

    def __post_init__(self) -> None:
        check(self, "outcome.")
        score = SCORES[self.metric]
        if (self.target is not None) != (self.kind != "score"):
            raise ArenaError(
                "outcome.target belongs to steps and seconds, and outcome.kind is score; remove it"
                if self.kind == "score"
                else f"outcome.kind is {self.kind}, to which target? give outcome.target"
            )
        if self.target is not None and not score.low <= self.target <= score.high:
            raise ArenaError(
                f"outcome.target is {self.target:g}: {self.metric} lies between {score.low:g} and {score.high:g}"
            )
        if self.kind != "score" and (self.at_step is not None or self.at_seconds is not None):
            raise ArenaError(f"outcome.at_step and at_seconds belong to kind score, not {self.kind}; remove them")
        if self.at_step is not None and self.at_seconds is not None:
            raise ArenaError("outcome: give either at_step or at_seconds; both are given")
        if self.compiling and not self.timed:
            raise ArenaError("outcome.compiling says which seconds count, and the outcome counts none; remove it")
        if self.interval != "t" and self.kind != "score":
            raise ArenaError("outcome.interval is of mean differences; a ratio's interval is rank-based: remove it")

    @classmethod
    def of(cls, config: RunConfig) -> Outcome:
        """What a competition is judged by where the plan does not say: its objective, by its score.

        Raises:
            ArenaError: it is no competition.

        Example:
            >>> from arena_jax.config import presets
            >>> outcome = Outcome.of(presets.get("arena-sst2"))
            >>> outcome.kind, outcome.metric, outcome.over
            ('score', 'accuracy', 'best')
        """
        arena, metric = config.arena, config.training.score
        if arena is None:
            raise ArenaError("outcome is missing: `arena-jax compare --example` shows a plan that has everything")
        if arena.objective == "target":
            seconds = arena.spend is not None and parse_spend(arena.spend).of == "seconds"
            return cls("seconds" if seconds else "flops", metric, over="best", target=arena.target)
        return cls("score", metric, over=arena.objective)

    @property
    def timed(self) -> bool:
        """Whether it is measured in seconds, which no two runs share to the bit."""
        return self.kind == "seconds" or self.at_seconds is not None


@dataclass(frozen=True)
class Success:
    """What counts as success, beside a difference that is shown."""

    effect: float | None = option(
        None,
        "least effect worth having: a difference of scores (above 0), or a ratio of steps or seconds (below 1); also"
        " what --power asks the seeds for",
        above=0,
    )
    power: float = option(0.8, "probability of showing that effect, for --power", above=0, below=1)

    def __post_init__(self) -> None:
        check(self, "success.")


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        name: in the report and the ledger.
        changes: to the base configuration, ``{section.field: value}``.
        configure: where a function of the configuration stands that returns the arm's, ``FILE.py:NAME``.
        train: where a function ``(configuration, folder)`` stands that trains in place of ``arena_jax.training.train``
            and returns the folder of a run's records.
        against: the arm it is compared with; the plan's baseline if None.
        grid: ``{section.field: values}`` that are tuned in this arm alone.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    configure: str | None = None
    train: str | None = None
    against: str | None = None
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuning:
    """Fields that are chosen for each arm, with as many trials for one as for any other.

    Attributes:
        grid: ``{section.field: values}`` of every arm.
        seeds: of the trials; no final run has them.
        trials: points tried of an arm's grid, in an order that is the same for all; all of them if None.
    """

    grid: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    trials: int | None = None


@dataclass(frozen=True)
class Plan:
    """A comparison. `arena_jax.compare.read_plan` makes one of a file, `plan_from` of dictionaries.

    Attributes:
        name: of the study.
        base: the configuration that arms change.
        seeds: of the final runs, of every arm.
        arms: two or more.
        baseline: the arm that others are compared with.
        outcome: what they are judged by.
        tuning: what is chosen before; None: nothing.
        success: what counts.

    Raises:
        ArenaError: on construction, for whatever would make a comparison that is none.
    """

    name: str
    base: RunConfig
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    baseline: str
    outcome: Outcome
    tuning: Tuning | None = None
    success: Success = field(default_factory=Success)

    def __post_init__(self) -> None:
        _check_name(self.name, "name")
        _check_seeds(self.seeds, "seeds", least=2)
        names = [arm.name for arm in self.arms]
        for i, name in enumerate(names):
            _check_name(name, f"arms.{name}")
            if name.lower() in [other.lower() for other in names[:i]]:  # some file systems do not tell A from a
                raise ArenaError(f"two arms are called '{name}': give each a name of its own")
        if len(names) < 2:
            raise ArenaError(f"a comparison needs two arms or more, and has {len(names)}; add [arms.NAME]")
        if self.baseline not in names:
            raise ArenaError(f"baseline is '{self.baseline}', which is no arm; {nearest(self.baseline, names)}")
        for arm in self.arms:
            self._check_arm(arm, names)
        if self.tuning is not None:
            self._check_tuning(self.tuning)
        self._check_success()
        self._check_configurations()

    def _check_arm(self, arm: Arm, names: list[str]) -> None:
        if arm.against is not None and arm.against not in names:
            raise ArenaError(f"arms.{arm.name}.against: no arm '{arm.against}'; {nearest(arm.against, names)}")
        if arm.against == arm.name or (arm.name == self.baseline and arm.against is not None):
            raise ArenaError(f"arms.{arm.name}.against is '{arm.against}': the baseline is compared with nothing")
        if arm.train and self.base.arena:
            raise ArenaError(f"arms.{arm.name}.train: a competition has its own loop; remove it")
        for name in (*arm.changes, *arm.grid):
            if name in _ENGINE:
                raise ArenaError(f"arms.{arm.name} sets {name}, which is the plan's to say; remove it")

    def _check_tuning(self, tuning: Tuning) -> None:
        _check_seeds(tuning.seeds, "tuning.seeds", least=1)
        both = sorted(set(tuning.seeds) & set(self.seeds))
        if both:
            raise ArenaError(f"tuning.seeds holds {both[0]}, which final runs use: tune on seeds of their own")
        if tuning.trials is not None and tuning.trials < 2:
            raise ArenaError(f"tuning.trials is {tuning.trials}: a choice needs at least 2 trials")
        counts = {}
        for arm in self.arms:
            grid = self.grid(arm)
            for name, values in grid.items():
                if len(values) < 1 or len(set(map(repr, values))) < len(values):
                    raise ArenaError(f"tuning.grid.{name} is {error_text(values)}: give each value once")
                if collides(name, arm.changes):
                    raise ArenaError(f"arms.{arm.name} sets {name}, which is tuned; keep one of the two")
                if name in _ENGINE:
                    raise ArenaError(f"tuning.grid has {name}, which is the plan's to say; remove it")
            counts[arm.name] = len(list(itertools.product(*grid.values()))) if grid else 0
            if counts[arm.name] < (tuning.trials or 2):
                raise ArenaError(
                    f"arm '{arm.name}' has a grid of {counts[arm.name]} points for {tuning.trials or 'at least 2'} "
                    "trials: every arm is tuned with as many, the baseline too"
                )
        if tuning.trials is None and len(set(counts.values())) > 1:
            text = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ArenaError(f"arms have grids of different sizes ({text}): give tuning.trials, the same for all")

    def _check_success(self) -> None:
        ratio, effect = self.outcome.kind != "score", self.success.effect
        if ratio and effect is not None and effect >= 1:
            raise ArenaError(f"success.effect is {effect:g}: as a ratio of {self.outcome.kind} it must be below 1")
        fewest = fewest_pairs(len(self.arms) - 1)
        if ratio and len(self.seeds) < fewest:
            raise ArenaError(
                f"{len(self.seeds)} seeds can show nothing about {self.outcome.kind} to a target, whose interval is "
                f"rank-based: with {len(self.arms)} arms give at least {fewest}"
            )

    def _check_configurations(self) -> None:
        outcome, names_of = self.outcome, dict[str, str]()
        for arm in self.arms:
            # Every trial is built, so that a wrong value of a grid is known before anything runs.
            configs = [self.config(arm.name, trial) for trial in self.trials(arm.name) or [{}]]
            for config in configs:
                task, names = config.task, [model.name for model in config.models]
                if task not in SCORES[outcome.metric].tasks:
                    metrics = [name for name, score in SCORES.items() if task in score.tasks]
                    raise ArenaError(f"outcome.metric: {task} has no {outcome.metric}; it has {', '.join(metrics)}")
                objective = config.arena.objective if config.arena else None
                if outcome.over in OBJECTIVES_ALONE and outcome.over != objective:
                    raise ArenaError(
                        f"outcome.over is '{outcome.over}', and arm '{arm.name}' does not compete for that; give "
                        f"arena.objective {outcome.over}"
                    )
                if outcome.kind == "flops" and objective is None:
                    raise ArenaError(
                        f"outcome.kind is flops, which competitions count, and arm '{arm.name}' is none; give steps"
                    )
                if outcome.over not in ("mean", "worst", "best", *OBJECTIVES_ALONE, *names):
                    raise ArenaError(
                        f"outcome.over is '{outcome.over}', and arm '{arm.name}' has no such model; give mean, worst, "
                        f"best or one of {', '.join(names)}"
                    )
                _check_step(config, outcome, arm.name)
            untuned = self.config(arm.name, {})
            key = repr(to_dict(resolved(untuned))) + repr((arm.train, sorted(arm.grid.items())))
            if key in names_of:
                raise ArenaError(
                    f"arms '{names_of[key]}' and '{arm.name}' are the same; remove one (--null compares the baseline "
                    "with itself)"
                )
            names_of[key] = arm.name

    # ---- what the plan says ----

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ArenaError(f"the plan has no arm '{name}'; {nearest(name, [arm.name for arm in self.arms])}")

    def against(self, arm: Arm) -> str:
        """The arm that another is compared with."""
        return arm.against or self.baseline

    def grid(self, arm: Arm) -> dict[str, tuple[Any, ...]]:
        """All values that are tried in an arm, ``{section.field: values}``."""
        return {**(self.tuning.grid if self.tuning else {}), **arm.grid}

    def trials(self, name: str) -> list[dict[str, Any]]:
        """The settings tried in an arm, ``{section.field: value}`` each; none without tuning.

        Where fewer are tried than the grid has, they are spread over it by the golden ratio: for two arms of one grid
        they are the same.
        """
        if self.tuning is None:
            return []
        grid = self.grid(self.arm(name))
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        count = self.tuning.trials or len(points)
        if count == len(points):
            return points
        order = sorted(range(len(points)), key=lambda i: (i + 1) * 0.6180339887498949 % 1)
        return [points[i] for i in sorted(order[:count])]

    def config(self, name: str, settings: Mapping[str, Any], seed: int | None = None) -> RunConfig:
        """The configuration of one run.

        Args:
            name: of the arm.
            settings: those of a trial, or those that tuning chose.
            seed: of the run; the base's if None.

        Raises:
            ArenaError: naming the arm whose configuration is none.
        """
        arm = self.arm(name)
        try:
            config = change(change(self.base, arm.changes), settings)
            if arm.configure:
                config = functions.load(arm.configure)(config)
                if not isinstance(config, RunConfig):
                    raise ArenaError(f"'{arm.configure}' returned {error_text(config)}, and no RunConfig")
            if bool(config.arena) != bool(self.base.arena):
                raise ArenaError("some arms compete for memory and some do not: start from a base that does, or not")
            engine: dict[str, Any] = {
                "training.figures": False,
                "training.tensorboard": False,
                "training.track": (),
                "training.output": None,
                "training.mirror": None,
            }
            every = config.training.evaluate_every
            if every and every % config.training.log_every:
                engine["training.log_every"] = every  # seconds are known where a line is: at every evaluation, too
            if seed is not None:
                engine["training.seed"] = seed
            return change(config, engine)
        except ArenaError as error:
            raise ArenaError(f"arm '{name}': {error}") from None


def _check_step(config: RunConfig, outcome: Outcome, arm: str) -> None:
    if outcome.at_step is None:
        return
    every, steps = config.training.evaluate_every, config.training.steps
    if every is None or (outcome.at_step % every and outcome.at_step != steps):
        raise ArenaError(
            f"outcome.at_step is {outcome.at_step}, and arm '{arm}' is not scored there; give training.evaluate_every, "
            "of which it is a multiple"
        )
    if steps is not None and outcome.at_step > steps:
        raise ArenaError(f"outcome.at_step is {outcome.at_step}, and arm '{arm}' has only {steps} steps")


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArenaError(f"{where} is {error_text(name)}: use letters, digits, - and _, at most 64")


def _check_seeds(seeds: tuple[int, ...], where: str, *, least: int) -> None:
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= _LARGEST_SEED:
            raise ArenaError(f"{where} holds {error_text(seed)}: a seed is a whole number from 0 to {_LARGEST_SEED}")
    if len(set(seeds)) < len(seeds):
        raise ArenaError(f"{where} is {error_text(list(seeds))}: a seed stands twice; keep one")
    if len(seeds) < least:
        wanting = "one seed has no spread: give at least 2" if least == 2 else "give at least 1"
        raise ArenaError(f"{where} is {error_text(list(seeds))}: {wanting}")


def fields_of(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes by names with dots, in alphabetical order: one form for one meaning."""
    return dict(sorted(flat(changes).items()))
