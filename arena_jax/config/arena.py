"""The arena section of a run's configuration: how its models compete."""

from __future__ import annotations

from dataclasses import dataclass

from arena_jax.config.errors import ArenaError
from arena_jax.config.fields import check, error_text, option
from arena_jax.config.objective import OBJECTIVES
from arena_jax.config.predictor import PREDICTOR_NUMBERS, read_predictor
from arena_jax.config.units import parse_memory, parse_spend

# Written out because arena_jax.arena imports jax, which `arena-jax --help` must not wait for; a test compares the two.
POLICIES = (
    "predictive",
    "modelarena",
    "successive-halving",
    "multi-objective",
    "multi-objective-staged",
    "multi-objective-learned",
    "proportional-share-auction",
    "second-price-auction",
    "fisher-market",
    "rising-bandit",
    "hyperband",
    "optuna-median",
    "optuna-halving",
    "static",
)
EVALUATION_SHARE = 0.05
LESSON_STEPS = 4


@dataclass(frozen=True)
class ArenaConfig:
    """A competition for memory, ModelArena: its budget, who hands it out, and what a share buys.

    In a competition a "step" of the training section is a round: its length, and every how many of them something is
    printed, scored and saved. `training.batch_size` is the effective batch that small batches accumulate to (1: none).
    `spend` stands in the place of `training.steps`: rounds cost what the shares make them cost, and policies are
    compared fairly only where all of them have spent the same.
    """

    memory_budget: str = option(
        "50%",
        "memory of one device for everything: 2GB, 512MiB, or a part of the device's own limit, 90%; shares divide what"
        " all models' parameters, gradients and optimizer states leave of it",
    )
    policy: str = option("predictive", "who gets how much", choices=POLICIES)
    predictor: tuple[float, ...] = option(
        (),
        "what recorded runs taught the predictive policy of parameter counts and memory: the file of arena calibrate,"
        " or its five numbers; none: it goes by the curves alone",
        read=read_predictor,
    )
    spend: str | None = option(
        None,
        "length of training by what it costs, all models together, instead of steps: 150s or 10min"
        " (device-seconds; two such runs need not agree) or 20TFLOP (matrix products, counted)",
    )
    objective: str = option(
        "mean",
        "what it is for, by training.score: the models' mean, the best of them, their weighted ensemble (by its loss),"
        " the cost until one reaches the target, or the best score at each size (pareto)",
        choices=OBJECTIVES,
    )
    target: float | None = option(None, "score that objective target ends at", unit="the score's")
    pareto_cost: str = option(
        "parameters",
        "what objective pareto sets scores against: parameters, or measured seconds of scoring an example (latency)",
        choices=("parameters", "latency"),
    )
    evaluation_share: float | None = option(
        None,
        f"part of what is spent that scoring the models may take, {EVALUATION_SHARE} if not given: it says how often"
        " and on how many rows; where training.evaluate_every is given, that says how often, on all rows",
        unit="fraction",
        above=0,
        below=1,
    )
    batch_cap: str = option(
        "none",
        "how far shares raise effective batches: as far as memory goes (none), or to the gradient noise scale, measured"
        " at each reallocation (noise)",
        choices=("none", "noise"),
    )
    grow_above: float | None = option(
        None,
        "learning progress above which a model grows at a reallocation (ModelArena, equation 14; the progress is that"
        " of its equation 1, since the model's last change); none: never",
        unit="per evaluation",
    )
    prune_below: float | None = option(
        None, "learning progress below which a model is pruned at a reallocation; none: never", unit="per evaluation"
    )
    resize_by: str | None = option(
        None,
        "what growing adds and pruning takes: a quarter of the neurons of each block, a head of each, or a layer;"
        " neurons if not given",
        choices=("neurons", "heads", "layers"),
    )
    race_steps: int | None = option(
        None,
        "at a reallocation the model of the least progress proposes two changes of its shape that keep its function,"
        " those that its gradients ask for most; the children race against it, so many of its steps worth of"
        " operations each, and the best goes on (ModelArena, equation 13); none: nobody does",
        unit="steps",
        low=1,
    )
    lesson_steps: int | None = option(
        None,
        f"steps that each model learns from together.distil at a reallocation, {LESSON_STEPS} if not given; best is the"
        " leader by training.score",
        unit="steps",
        low=1,
    )
    crossover: float | None = option(
        None,
        "at a reallocation the two best models of one shape are mixed, units matched, where the loss on the way between"
        " them rises by at most so much; the mixture takes the place of their worst if it is better; none: never",
        unit="nats",
        low=0,
    )
    domains: tuple[tuple[str, str], ...] = option(
        (),
        "further domains of text beside the data's own, NAME=SOURCE,…: models are scored in each, the policy divides"
        " each as a competition of its own, and a model's memory and rows follow its shares of them",
    )
    reallocate_every: int = option(100, "ask the policy every so many rounds (R)", unit="rounds", low=1)
    progress_window: int | None = option(
        None, "score improvements that progress is averaged over; the policy's own if not given", low=1
    )
    smoothing: float | None = option(
        None,
        "part kept of the current share at a reallocation; the policy's own if not given",
        unit="fraction",
        low=0,
        high=1,
    )
    floor: float | None = option(None, "smallest share; the policy's own if not given", unit="fraction", low=0, below=1)
    round_scale: int = option(10, "steps a round for a model that holds everything", unit="steps", low=1)
    batch_sizes: tuple[int, ...] = option(
        (1, 2, 4, 8, 16, 32, 64), "sizes that memory chooses from, per device", unit="examples", low=1
    )
    memory_margin: float = option(0.02, "added to what the compiler says a step needs", unit="fraction", low=0, high=1)
    rate_follows: str = option(
        "none",
        "how a learning rate follows the effective batch, relative to the first",
        choices=("none", "sqrt", "linear"),
    )
    swap_after: int | None = option(
        None,
        "rounds from a reallocation to the new batch sizes; a fifth of reallocate_every, at most 20, if not given",
        unit="rounds",
        low=0,
    )
    late_swaps: str = option(
        "defer",
        "a batch size whose program is not compiled when it is due: defer it by as many rounds again, so that training"
        " goes on; or wait for it, so that runs repeat to the bit however fast programs are compiled",
        choices=("defer", "wait"),
    )
    price: str = option(
        "flops",
        "what policies take for the cost of training: flops (counted, repeatable) or seconds (measured)",
        choices=("flops", "seconds"),
    )

    def __post_init__(self) -> None:
        check(self, "arena.")
        parse_memory(self.memory_budget)
        if self.spend is not None:
            parse_spend(self.spend)
        if self.swap_after is not None and self.swap_after >= self.reallocate_every:
            raise ArenaError(
                f"arena.swap_after is {self.swap_after} and arena.reallocate_every {self.reallocate_every}: batch sizes"
                " would come when their shares are gone; give fewer rounds, or none for a fifth of them"
            )
        if (self.target is not None) != (self.objective == "target"):
            raise ArenaError(
                "arena.objective is target, to which score? give --target"
                if self.target is None
                else f"arena.target belongs to objective target, not {self.objective}; remove it"
            )
        grow, prune = self.grow_above, self.prune_below
        if grow is not None and prune is not None and prune >= grow:
            raise ArenaError(
                f"arena.prune_below is {prune:g} and arena.grow_above {grow:g}: a model would grow and be pruned; give"
                " a lower prune_below"
            )
        if self.predictor and (self.policy != "predictive" or len(self.predictor) != PREDICTOR_NUMBERS):
            raise ArenaError(
                f"arena.predictor belongs to policy predictive, not {self.policy}; remove it"
                if self.policy != "predictive"
                else f"arena.predictor has {len(self.predictor)} numbers: give the {PREDICTOR_NUMBERS} of a predictor"
            )
        if self.resize_by is not None and grow is None and prune is None:
            raise ArenaError("arena.resize_by does nothing by itself; give --grow-above or --prune-below")
        if self.pareto_cost != "parameters" and self.objective != "pareto":
            raise ArenaError(f"arena.pareto_cost belongs to objective pareto, not {self.objective}; remove it")
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ArenaError(f"arena.batch_sizes is {error_text(self.batch_sizes)}: sizes must rise, e.g. 1,2,4,8")

    @property
    def swap_rounds(self) -> int:
        """Rounds from a reallocation to the new batch sizes."""
        return min(20, self.reallocate_every // 5) if self.swap_after is None else self.swap_after
