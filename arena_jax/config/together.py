"""What the models of a run learn from one another beside gradients and weights, and averages of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.fields import check, option

BEST, ENSEMBLE = "best", "ensemble"  # as the teacher
RACE = "race"  # as the leader of a relay
ALPHA, TEMPERATURE, PART, RACE_PART = 0.5, 2.0, 0.5, 0.02


@dataclass(frozen=True)
class TogetherConfig:
    """Teachers among the models, and averages of them.

    Example:
        >>> TogetherConfig(distil="best").alpha
        0.5
    """

    distil: str | None = option(
        None,
        "who teaches the others: a model of the run, best (the lowest validation loss at the last evaluation) or"
        " ensemble (all, by the mean of what they say); none: nobody",
    )
    distil_into: str | None = option(
        None, "the one model that learns; all others teach it, by the mean of what they say, and stay as they are"
    )
    distil_alpha: float | None = option(
        None, f"part of a student's loss that is the task's own; {ALPHA} if not given", unit="fraction", low=0, high=1
    )
    distil_temperature: float | None = option(
        None, f"what logits are divided by before they are compared; {TEMPERATURE} if not given", unit="logits", above=0
    )

    relay: str | None = option(
        None,
        "the model that trains first, alone; all others then start from it, and train together; race: the one that"
        " makes the most progress per device-second in a short race; none: all at once",
    )
    relay_race: float | None = option(
        None,
        f"part of the steps that each model takes in that race; {RACE_PART} if not given",
        unit="fraction",
        above=0,
        below=1,
    )
    relay_part: float | None = option(
        None,
        f"part of the steps, less those of a race, that it trains for; {PART} if not given",
        unit="fraction",
        above=0,
        below=1,
    )
    relay_warm: bool = option(
        True,
        "whether the others of a relay start from its leader's weights; if not, it teaches them, with distil naming it:"
        " sequential distillation",
    )
    ema: float | None = option(
        None,
        "decay of a running average of each model's parameters, e.g. 0.999; it is scored beside the model, and taken"
        " out with --checkpoint ema; none: no average",
        unit="per step",
        low=0,
        below=1,
    )

    def __post_init__(self) -> None:
        check(self, "together.")
        for name in ("distil_alpha", "distil_temperature"):
            if getattr(self, name) is not None and not self.teaches:
                raise ArenaError(f"together.{name} does nothing without a teacher; give distil, e.g. best")
        if self.distil_into is not None and (self.distil is not None or self.relay is not None):
            other = "distil" if self.distil is not None else "relay"
            raise ArenaError(
                f"together.distil_into says who learns, all others teaching and at rest, and so does {other}: give one"
            )
        if self.relay_part is not None and self.relay is None:
            raise ArenaError("together.relay_part does nothing without a leader; give relay, e.g. gpt2")
        if self.relay_race is not None and self.relay != RACE:
            raise ArenaError("together.relay_race does nothing where no race says who leads; give relay race")
        if not self.relay_warm and (self.relay is None or self.distil != self.relay):
            raise ArenaError(
                "together.relay_warm is off: then the others learn from the leader by its lessons alone; give relay and"
                " distil, both naming it"
            )

    @property
    def teaches(self) -> bool:
        """Whether models learn from others."""
        return self.distil is not None or self.distil_into is not None

    @property
    def part(self) -> float:
        """The part of the steps that the leader trains for."""
        return PART if self.relay_part is None else self.relay_part

    @property
    def race_part(self) -> float:
        """The part of the steps that each model takes in the race for the lead."""
        return RACE_PART if self.relay_race is None else self.relay_race

    @property
    def alpha(self) -> float:
        """The part of a student's loss that is the task's own."""
        return ALPHA if self.distil_alpha is None else self.distil_alpha

    @property
    def temperature(self) -> float:
        """What logits are divided by before they are compared."""
        return TEMPERATURE if self.distil_temperature is None else self.distil_temperature

    def check_models(
        self, names: Sequence[str], batches: Sequence[tuple[int, int]], *, competition: bool, sharded: bool
    ) -> None:
        """Refuse what does not fit a run's models.

        Args:
            names: of the models.
            batches: batch size and microbatches of each.
            competition: whether they compete.
            sharded: whether parameters are dealt out over devices.

        Raises:
            ArenaError: with the reason.
        """
        if self.relay is not None:
            if self.relay not in (RACE, *names):
                choice = nearest(self.relay, [RACE, *names])
                raise ArenaError(f"together.relay names '{self.relay}', which is no model of this run; {choice}")
            if self.relay == RACE and RACE in names:
                raise ArenaError("together.relay is race, and a model is called so, too: call the model something else")
            if competition:
                raise ArenaError(
                    "a competition has no relay: all its models train in every round; train the leader first, and give"
                    " its exported folder as the others' start"
                )
            if len(names) < 2:
                raise ArenaError("together.relay needs two models at least: one that leads, and one that follows")
        if not self.teaches:
            return
        field = "distil" if self.distil_into is None else "distil_into"
        name, choices = (
            (self.distil, [BEST, ENSEMBLE, *names]) if self.distil_into is None else (self.distil_into, names)
        )
        if name not in choices:
            raise ArenaError(
                f"together.{field} names '{name}', which is no model of this run; {nearest(name or '', choices)}"
            )
        if competition and self.distil is None:
            raise ArenaError(
                "a competition's models all train: none is at rest, to teach as it is; give distil in the place of"
                " distil_into"
            )
        if len(names) < 2:
            raise ArenaError(f"together.{field} needs two models at least: one that teaches, and one that learns")
        if len(set(batches)) > 1 and not competition:  # there teachers look at each student's own rows
            raise ArenaError(
                f"together.{field} needs the same batch_size and accumulation for all models: they see the same rows"
            )
        if sharded:
            raise ArenaError(f"together.{field} has not been tried with parameters in shards: remove one of the two")
