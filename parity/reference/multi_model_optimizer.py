"""MultiModelOptimizer as a ``torch.optim.Optimizer``: the paper's, and the code that was published with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from parity.reference import algorithms
from parity.reference.parameters import literal_parameters


class MultiModelOptimizer(torch.optim.Optimizer):
    """One step over all models, in the order of section 3.6: share, rate, Adam with decoupled decay, synchronise.

    ``mode="paper"`` is the equations as printed. ``mode="published-code"`` differs in this:

    * the weights are normalised to sum to 1;
    * a group of one parameter shares with nobody;
    * gradients are clipped per model before they are shared (``clip``), as ``torch.nn.utils.clip_grad_norm_`` does;
    * the learning rate is multiplied by 0.5 + 0.5·w_i;
    * warm-up starts at 1/N and not at 0, and the cosine never falls below a tenth;
    * Adam adds ε to √v before the bias correction: √(1−β₂ᵗ)/(1−β₁ᵗ) · m/(√v + ε);
    * parameters are not synchronised unless ``sync_every`` is given.

    ``mode="default"`` is this project's default form, as the docstring of ``multi_model_adamw`` has it: the paper's but
    for a clipping per model before sharing, pools that are averages, groups of one that share with nobody, and
    parameters that correspond by ``key``. Nothing else in the library is of its making.

    Gradients are summed by ``backward`` before the call, so accumulation is the caller's; ``step`` is one update.

    Args:
        models: {name: PyTorch model}.
        mode: "paper", "published-code" or "default".
        lr: the base rate, or {name: rate}.
        weights: {name: w_i}.
        alpha: how much of the shared gradient enters. 0 shares nothing.
        beta: how much of the average enters at synchronisation.
        sync_every: steps between synchronisations; None for never.
        window: losses in Algorithm 3's regression; None leaves f_conv = 1.
        warmup: steps of warm-up.
        total: the step at which the cosine ends (in "published-code": its horizon).
        betas: Adam's.
        eps: Adam's.
        weight_decay: decoupled.
        clip: largest norm of one model's gradient, or None.
        amsgrad: keep the largest second moment, before its bias correction, as ``torch.optim.AdamW`` does.
        share_every: steps between sharings.
        slope: what Algorithm 3 regresses on: "absolute", "signed" or "studentized".
        decay: "cosine", "linear" or "constant".
        key: which parameters correspond: (type, shape) in the paper.
    """

    def __init__(
        self,
        models: Mapping[str, torch.nn.Module],
        *,
        mode: str,
        lr: float | Mapping[str, float],
        weights: Mapping[str, float],
        alpha: float = 0.2,
        beta: float = 0.1,
        sync_every: int | None = 10,
        window: int | None = 100,
        warmup: int = 100,
        total: int = 1000,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip: float | None = None,
        amsgrad: bool = False,
        share_every: int = 1,
        slope: str = "absolute",
        decay: str = "cosine",
        key: algorithms.Key = algorithms.type_and_shape,
        factor: Callable[[str, str], float] = lambda model, name: 1.0,
    ):
        if mode not in ("paper", "published-code", "default"):
            raise ValueError(f"unknown mode {mode!r}")
        self.mode = mode
        self.literal = {name: literal_parameters(model) for name, model in models.items()}
        self.weights = algorithms.normalized(weights) if mode == "published-code" else dict(weights)
        self.alpha, self.beta, self.sync_every = alpha, beta, sync_every
        self.window, self.warmup, self.total = window, warmup, total
        self.clip, self.amsgrad = clip, amsgrad
        self.share_every, self.slope, self.decay, self.key = share_every, slope, decay, key
        self.factor = factor
        self.last_rates: dict[str, float] = {}
        self.losses: dict[str, list[float]] = {name: [] for name in models}
        self.rates = dict.fromkeys(models, 1.0)
        self.steps = 0
        each = lr if isinstance(lr, Mapping) else dict.fromkeys(models, lr)
        groups = [
            {"params": list(model.parameters()), "name": name, "lr": each[name]} for name, model in models.items()
        ]
        super().__init__(groups, {"betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(  # type: ignore[override]
        self,
        closure: Callable[[], Any] | None = None,
        *,
        losses: Mapping[str, float],
        weights: Mapping[str, float] | None = None,
        learning_rates: Mapping[str, float] | None = None,
    ) -> None:
        """Update every model once from the gradients that lie in it.

        Args:
            closure: unused; the base class has it.
            losses: {name: this step's loss}, for Algorithm 3.
            weights: {name: w_i} from this step on.
            learning_rates: {name: rate} of this step, before what convergence makes of them.
        """
        if weights is not None:
            self.weights = algorithms.normalized(weights) if self.mode == "published-code" else dict(weights)
        if self.clip is not None:
            for parameters in self.literal.values():
                norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters if p.grad is not None))
                for p in parameters:
                    if p.grad is not None:
                        # torch.nn.utils.clip_grad_norm_ adds 1e-6
                        p.grad.mul_(min(1.0, self.clip / (norm + (0.0 if self.mode == "default" else 1e-6))))
        if (self.steps + 1) % self.share_every == 0:
            algorithms.share_gradients(
                self.literal,
                self.weights,
                self.alpha,
                skip_single=self.mode != "paper",
                mean=self.mode == "default",
                key=self.key,
            )
        for group in self.param_groups:
            name = group["name"]
            self.losses[name].append(losses[name])
            rate = self.learning_rate(name, group["lr"], None if learning_rates is None else learning_rates[name])
            self.last_rates[name] = rate
            for p in self.literal[name]:
                if p.grad is not None:
                    self.adam(p, rate * self.factor(name, p.name), group)
        self.steps += 1
        if self.sync_every is not None and self.steps % self.sync_every == 0:
            algorithms.synchronize_parameters(self.literal, self.weights, self.beta, key=self.key)

    def learning_rate(self, name: str, base: float, arriving: float | None = None) -> float:
        """Equation 1: lr_i = lr_base × f_warmup(t) × f_decay(t) × f_conv(i)."""
        if self.window is not None:
            self.rates[name] = algorithms.convergence_rate(
                self.rates[name], self.losses[name], self.window, kind=self.slope
            )
        convergence = algorithms.convergence_factor(self.rates[name])
        if self.mode == "published-code":
            weight = 0.5 + 0.5 * self.weights[name]
            if arriving is not None:
                return arriving * convergence * weight
            return base * algorithms.published_factor(self.steps + 1, self.warmup, self.total) * convergence * weight
        if arriving is not None:
            return arriving * convergence
        warmup = algorithms.warmup_factor(self.steps, self.warmup)
        falling = algorithms.decay_factor(self.steps, self.warmup, self.total, self.decay)
        return base * warmup * falling * convergence

    def adam(self, p: Any, rate: float, group: dict[str, Any]) -> None:
        """Adam with decoupled weight decay on one literal parameter."""
        state = self.state.setdefault(p.name + "@" + group["name"], {})
        if not state:
            state["m"], state["v"] = torch.zeros_like(p.data), torch.zeros_like(p.data)
            state["largest"] = torch.zeros_like(p.data)
        beta1, beta2 = group["betas"]
        t = self.steps + 1
        state["m"] = beta1 * state["m"] + (1 - beta1) * p.grad
        state["v"] = beta2 * state["v"] + (1 - beta2) * p.grad**2
        v = state["v"]
        if self.mode == "published-code":
            if self.amsgrad:
                v = state["largest"] = torch.maximum(state["largest"], v)
            direction = math.sqrt(1 - beta2**t) / (1 - beta1**t) * state["m"] / (v.sqrt() + group["eps"])
        else:
            if self.amsgrad:
                v = state["largest"] = torch.maximum(state["largest"], v)
            v = v / (1 - beta2**t)
            direction = state["m"] / (1 - beta1**t) / (v.sqrt() + group["eps"])
        p.data.copy_(p.data - rate * group["weight_decay"] * p.data - rate * direction)
