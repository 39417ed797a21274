"""The optimizer section of a run's configuration, and which of its fields are arguments of the optimizer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from arena_jax.config.component_rates import read_component_rates, settle_component_rates
from arena_jax.config.errors import ArenaError
from arena_jax.config.fields import check, option
from arena_jax.config.forms import FORMS, KINDS, default_beta

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
    unshared: tuple[str, ...] = option(
        (), "kinds of parameters that keep their own gradients where others are shared", choices=KINDS
    )
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
        idle = [name for name in CONVERGENCE if getattr(self, name) is not None]
        if idle and not resolved.convergence_window:
            raise ArenaError(
                f"optimizer.{idle[0]} does nothing while learning rates do not follow convergence; give"
                " convergence_window, e.g. 100"
            )
        if self.unshared and not resolved.share_alpha:
            raise ArenaError(
                "optimizer.unshared does nothing where no gradients are shared; give share_alpha, e.g. 0.2"
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


CONVERGENCE = (
    "convergence_slope", "convergence_decay", "convergence_every", "convergence_low", "convergence_high"
)  # fmt: skip
