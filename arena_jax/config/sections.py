"""The sections of a run's configuration: data, optimizer, training, arena."""

from __future__ import annotations

import copy
from dataclasses import MISSING, dataclass
from typing import Any

from arena_jax.config.component_rates import read_component_rates, settle_component_rates
from arena_jax.config.errors import ArenaError
from arena_jax.config.fields import check, error_text, option
from arena_jax.config.forms import FORMS, default_beta
from arena_jax.config.scores import SCORES
from arena_jax.config.step_window import parse_steps
from arena_jax.config.tasks import DOCUMENTS, PROBLEM_TYPES
from arena_jax.config.units import parse_duration, parse_memory, parse_spend

# Written out because arena_jax.arena imports jax, which `arena-jax --help` must not wait for; a test compares the two.
POLICIES = (
    "predictive",
    "modelarena",
    "successive-halving",
    "multi-objective",
    "proportional-share-auction",
    "second-price-auction",
    "fisher-market",
    "rising-bandit",
    "static",
)

# Libraries that track runs; TensorBoard's events need none.
TRACKERS = ("trackio", "wandb", "mlflow")

# The fields of the optimizer that are arguments of `transforms.multi_model_adamw`, under the argument's name.
ARGUMENTS = {
    "weight_decay": "weight_decay",
    "max_gradient_norm": "max_norm",
    "warmup_steps": "warmup_steps",
    "decay": "decay",
    "share_alpha": "alpha",
    "share_every": "share_every",
    "share_reduce": "reduce",
    "correspondence": "correspondence",
    "synchronize_beta": "beta",
    "synchronize_every": "sync_every",
    "convergence_window": "window",
    "convergence_slope": "slope",
    "convergence_decay": "convergence_decay",
    "convergence_every": "convergence_every",
    "convergence_low": "low",
    "convergence_high": "high",
}

# What stands in Adam's place, and which fields it has, with its own values where they are left open.
OPTIMIZERS: dict[str, dict[str, float]] = {
    "adamw": {"b1": 0.9, "b2": 0.999, "epsilon": 1e-8},
    "nadamw": {"b1": 0.9, "b2": 0.999, "epsilon": 1e-8},
    "radam": {"b1": 0.9, "b2": 0.999, "epsilon": 1e-8},
    "adabelief": {"b1": 0.9, "b2": 0.999, "epsilon": 1e-16},
    "lion": {"b1": 0.9, "b2": 0.99},
    "muon": {"momentum": 0.95, "b1": 0.9, "b2": 0.999, "epsilon": 1e-8},
    "sgd": {"momentum": 0.9},
}


@dataclass(frozen=True)
class DataConfig:
    """What is learnt from: a data set, its columns, and the lengths its examples are cut and padded to."""

    name: str = option(MISSING, "built-in or known data set, file, folder, hub id, or address to stream", flag="data")
    subset: str | None = option(None, "name of the configuration inside a hub data set")
    columns: tuple[tuple[str, str], ...] = option(
        (), "which column plays which part, e.g. text=sentence,label=label; guessed for known data"
    )
    max_length: int = option(
        128, "longest input; what is cut off is counted and reported", unit="tokens", low=4, high=1_000_000
    )
    lengths: tuple[int, ...] = option(
        (),
        "padded lengths below max-length, e.g. 16,32 (each costs one compilation); none: max-length only",
        unit="tokens",
        low=4,
    )
    documents: str = option(
        "joined",
        "what a row of a language model holds: a part of all texts joined, one text (apart), or several texts that do"
        " not see one another (packed)",
        choices=DOCUMENTS,
    )
    label_names: tuple[str, ...] = option(
        (), "names of class 0, 1, …, where data hold numbers, or their order, where data hold names"
    )
    problem_type: str | None = option(
        None,
        "what labels of sequence classification are; one class each if not given",
        choices=PROBLEM_TYPES,
    )
    new_head: bool = option(False, "draw the heads of checkpoints anew, for classes that are not theirs")
    max_bad_records: float = option(
        0.05,
        "largest part of the records that may be left out because they cannot be used",
        unit="fraction",
        low=0,
        below=1,
    )
    validation_fraction: float = option(
        0.1,
        "part of the training split held out where the data has no validation split",
        unit="fraction",
        above=0,
        below=1,
    )
    train_limit: int | None = option(
        None, "use only this many training examples; all if not given", unit="examples", low=1
    )
    validation_limit: int | None = option(
        None, "score only this many examples; all if not given", unit="examples", low=1
    )

    def __post_init__(self) -> None:
        check(self, "data.")
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ArenaError(f"data.lengths is {error_text(self.lengths)}: lengths must rise, e.g. 16,32,64")
        if self.lengths and self.lengths[-1] > self.max_length:
            raise ArenaError(
                f"data.lengths reaches {self.lengths[-1]}, above data.max_length {self.max_length}; raise max_length"
            )

    @property
    def padded_lengths(self) -> tuple[int, ...]:
        """Every length a batch may have, in tokens; the last is `max_length`."""
        return tuple(sorted({*self.lengths, self.max_length}))


@dataclass(frozen=True)
class OptimizerConfig:
    """The MultiModelOptimizer: AdamW or another optimizer, and what the models do together.

    Fields that are left open (None) take the value of the form, or of the optimizer; `resolved` shows them.

    Example:
        >>> OptimizerConfig(form="paper").resolved().share_reduce
        'sum'
        >>> OptimizerConfig(form="paper", share_reduce="mean").resolved().share_reduce
        'mean'
    """

    form: str = option(
        "default",
        "default: what measurements here support; paper: Algorithms 1 to 3 to the letter;"
        " published: what the authors' code does",
        choices=tuple(FORMS),
    )
    inner: str = option(
        "adamw",
        "what turns a model's gradient into a direction; muon: kernels by Muon, the rest by Adam",
        choices=tuple(OPTIMIZERS),
        flag="optimizer",
    )
    learning_rate: float = option(1e-3, "peak learning rate", unit="per step", above=0)
    b1: float | None = option(None, "decay of the mean of the gradients", unit="per step", low=0, below=1)
    b2: float | None = option(None, "decay of the mean of their squares", unit="per step", low=0, below=1)
    epsilon: float | None = option(None, "added to the root in the denominator", unit="gradient", above=0)
    momentum: float | None = option(None, "of muon and sgd", unit="per step", low=0, below=1)
    amsgrad: bool = option(False, "use the largest mean of squares so far (adamw)")
    weight_decay: float | None = option(None, "decoupled weight decay, times the learning rate", unit="per step", low=0)
    component_rates: tuple[tuple[str, tuple[float, ...]], ...] = option(
        (),
        "what parts of a model multiply its learning rate by, scaled to a geometric mean of 1; parts that are not named"
        " have 1 before: token-embedding=10,query-key=8/4 (a number per layer), a JSON file {part: number}, what"
        " `arena-jax game learn` wrote, or blockwise (Wang et al. 2025)",
        read=read_component_rates,
    )
    max_gradient_norm: float | None = option(
        None, "clip each model's gradient to this norm, before sharing; 0: no clipping", unit="gradient norm", low=0
    )
    warmup_steps: int | None = option(None, "steps over which the learning rate rises from 0", unit="steps", low=0)
    decay: str | None = option(
        None, "how the learning rate falls after warm-up", choices=("cosine", "linear", "constant")
    )
    share_alpha: float | None = option(
        None, "part of each gradient taken from the pool of all models; 0: no sharing", unit="fraction", low=0, high=1
    )
    share_every: int | None = option(None, "share gradients every so many steps", unit="steps", low=1)
    share_reduce: str | None = option(None, "how gradients are pooled", choices=("sum", "mean"))
    correspondence: str | None = option(
        None, "which parameters belong together", choices=("by_kind", "by_role", "by_layer")
    )
    synchronize_beta: float | None = option(
        None,
        "part of each parameter taken from the models' average; 0: no synchronisation",
        unit="fraction",
        low=0,
        high=1,
    )
    synchronize_every: int | None = option(None, "synchronise parameters every so many steps", unit="steps", low=1)
    convergence_window: int | None = option(
        None, "losses a model's trend is fitted to; 0: one learning rate for all", unit="steps", low=0, high=1_000_000
    )
    convergence_slope: str | None = option(
        None,
        "what counts as progress; absolute: any trend; signed: a falling loss; studentized: one that falls beyond its"
        " noise, free of the loss's scale",
        choices=("absolute", "signed", "studentized"),
    )
    convergence_decay: float | None = option(
        None, "smoothing of the convergence rate", unit="per estimate", low=0, below=1
    )
    convergence_every: int | None = option(
        None, "estimate the convergence rate every so many steps", unit="steps", low=1
    )
    convergence_low: float | None = option(None, "smallest factor on a learning rate", unit="factor", above=0)
    convergence_high: float | None = option(None, "largest factor on a learning rate", unit="factor", above=0)
    weights_follow: str = option(
        "none",
        "what the models' weights follow while training; validation: who has come further since the first evaluation"
        " weighs more; none: nothing",
        choices=("none", "validation"),
    )
    freeze: tuple[str, ...] = option(
        (),
        "parts that stay as they are: MODEL/NAME/… by path, or MODEL:KIND with KIND embedding, attention, feed-forward,"
        " normalisation, bias or head; * stands for any, e.g. bert/embeddings,*:head",
    )

    def __post_init__(self) -> None:
        check(self, "optimizer.")
        rates = settle_component_rates(self.component_rates, "optimizer.component_rates")
        object.__setattr__(self, "component_rates", rates)
        fields = OPTIMIZERS[self.inner]
        for name in ("b1", "b2", "epsilon", "momentum"):
            if getattr(self, name) is not None and name not in fields:
                raise ArenaError(
                    f"optimizer.{name} is given, and {self.inner} has none; it has {', '.join(fields)}: remove it"
                )
        if self.amsgrad and self.inner != "adamw":
            raise ArenaError(f"optimizer.amsgrad belongs to adamw, and optimizer.inner is {self.inner}; remove one")
        if self.convergence_window == 1:
            raise ArenaError("optimizer.convergence_window is 1: a trend needs at least 2 losses; 0 turns it off")
        resolved = self.resolved()
        idle = [name for name in _CONVERGENCE if getattr(self, name) is not None]
        if idle and not resolved.convergence_window:
            raise ArenaError(
                f"optimizer.{idle[0]} does nothing while learning rates do not follow convergence; give"
                " convergence_window, e.g. 100"
            )
        low, high = resolved.convergence_low, resolved.convergence_high
        assert low is not None
        assert high is not None
        if low > high:
            raise ArenaError(f"optimizer.convergence_low {low:g} is above convergence_high {high:g}; swap them")
        if resolved.convergence_slope == "studentized" and resolved.convergence_window == 2:
            raise ArenaError("optimizer.convergence_window is 2: a standard error needs at least 3 losses")
        shares = resolved.share_alpha or resolved.synchronize_beta or self.form == "published"
        if self.weights_follow != "none" and not shares:
            raise ArenaError(
                "optimizer.weights_follow does nothing where models share nothing: give share_alpha or synchronize_beta"
            )
        for pattern in self.freeze:
            if not pattern.strip():
                raise ArenaError("optimizer.freeze holds an empty name; write e.g. bert/embeddings or *:head")

    def inner_arguments(self) -> dict[str, float]:
        """The numbers of the inner optimizer: what is given, else its own.

        Example:
            >>> OptimizerConfig(inner="lion", b1=0.95).inner_arguments()
            {'b1': 0.95, 'b2': 0.99}
        """
        fields = OPTIMIZERS[self.inner]
        return {
            name: default if getattr(self, name) is None else getattr(self, name) for name, default in fields.items()
        }

    def resolved(self) -> OptimizerConfig:
        """What is meant, to be shown: every field left open is filled in from the form, or from the optimizer.

        `transforms.multi_model_adamw` fills them in by the same table, `config.forms`.
        """
        form, resolved = FORMS[self.form], copy.copy(self)
        filled: dict[str, Any] = {field: form[argument] for field, argument in ARGUMENTS.items()}
        filled["synchronize_beta"] = default_beta(self.form, self.synchronize_every)
        for name, value in {**filled, **self.inner_arguments()}.items():
            if getattr(self, name) is None:
                object.__setattr__(resolved, name, value)
        return resolved


_CONVERGENCE = (
    "convergence_slope", "convergence_decay", "convergence_every", "convergence_low", "convergence_high"
)  # fmt: skip


@dataclass(frozen=True)
class TrainingConfig:
    """How long, in what pieces, with what precision, and what is written."""

    steps: int | None = option(None, "length of training; give this or epochs", unit="steps", low=1)
    epochs: int | None = option(
        None, "length of training in passes over the data; give this or steps", unit="epochs", low=1
    )
    batch_size: int = option(32, "examples per model and step, over all devices", unit="examples", low=1)
    accumulation: int = option(
        1, "parts a batch is computed in, one after the other, to save memory", unit="microbatches", low=1
    )
    evaluation_batch_size: int = option(64, "examples per model and evaluation step", unit="examples", low=1)
    log_every: int = option(10, "print and record training every so many steps", unit="steps", low=1)
    evaluate_every: int | None = option(
        None, "score the models every so many steps; once an epoch if not given", unit="steps", low=1
    )
    checkpoint_every: int | None = option(
        None, "save the whole state every so many steps; at the end only if not given", unit="steps", low=1
    )
    keep_checkpoints: int = option(
        3, "newest checkpoints that stay on disk, beside the best by score", unit="checkpoints", low=1
    )
    score: str = option(
        "loss",
        "what on the validation data says which checkpoint is best, and whether there is a gain: its mean over the"
        " models",
        choices=tuple(SCORES),
    )
    stop_after_no_gain: int | None = option(
        None,
        "end after so many evaluations in a row without a better score, and save at each better one; none: never",
        unit="evaluations",
        low=1,
    )
    max_nonfinite_steps: int | None = option(
        5,
        "steps in a row, skipped because its loss or gradient was not finite, after which a model has diverged; none:"
        " never",
        unit="steps",
        low=1,
    )
    on_nonfinite: str = option(
        "restore",
        "what a model does that has diverged: goes back to the last checkpoint in which it was finite (frozen if there"
        " is none, or if that does not help), is frozen, or stops the run",
        choices=("restore", "freeze", "stop"),
    )
    seed: int = option(0, "fixes initial weights, data order, masking and dropout", low=0, high=2**32 - 1)
    dtype: str = option(
        "float32",
        "precision of the computation; parameters stay float32; auto: bfloat16 where the device's matrix units have it",
        choices=("float32", "bfloat16", "auto"),
    )
    remat: str = option(
        "dots",
        "what a block keeps for its backward pass: all of it (none), its products with kernels (dots), or its input"
        " alone (block); auto: the first of these whose step fits the device",
        choices=("none", "dots", "block", "auto"),
        older={False: "dots", True: "block"},
    )
    attention: str = option(
        "xla", "who computes it: XLA, or cuDNN (NVIDIA, bfloat16, attention_dropout 0)", choices=("xla", "cudnn")
    )
    devices: int | None = option(None, "how many devices share each batch; all if not given", unit="devices", low=1)
    shard: str = option(
        "none",
        "parameters: they, their gradients and the optimizer's states are dealt out over the devices of each machine;"
        " none: every device holds all of them",
        choices=("none", "parameters"),
    )
    figures: bool = option(True, "write report.html at every evaluation, and draw figures at the end")
    tensorboard: bool = option(True, "write TensorBoard events")
    track: tuple[str, ...] = option(
        (), "trackers that the same numbers are sent to, each through its own library", choices=TRACKERS
    )
    profile: str | None = option(
        None, "trace what each operation takes from one step to another, e.g. 10:20, for Perfetto and XProf"
    )
    output: str | None = option(None, "folder of the run; runs/PRESET-NUMBER if not given")
    stop_after: str | None = option(
        None, "time after which a session saves and stops, to be resumed, for as long again: 90s, 10min or 1.5h"
    )

    def __post_init__(self) -> None:
        check(self, "training.")
        if self.stop_after is not None:
            parse_duration(self.stop_after)
        if self.profile is not None:
            parse_steps(self.profile, "training.profile")
        if self.steps is not None and self.epochs is not None:
            raise ArenaError("training: give either steps or epochs; both are given")
        if self.batch_size % self.accumulation:
            raise ArenaError(
                f"training.batch_size {self.batch_size} does not divide into accumulation {self.accumulation}"
                " equal parts; change one"
            )


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
    spend: str | None = option(
        None,
        "length of training by what it costs, all models together, instead of steps: 150s or 10min"
        " (device-seconds; two such runs need not agree) or 20TFLOP (matrix products, counted)",
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
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ArenaError(f"arena.batch_sizes is {error_text(self.batch_sizes)}: sizes must rise, e.g. 1,2,4,8")

    @property
    def swap_rounds(self) -> int:
        """Rounds from a reallocation to the new batch sizes."""
        return min(20, self.reallocate_every // 5) if self.swap_after is None else self.swap_after
