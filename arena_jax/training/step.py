"""One compiled program that trains several different models: gradients of each, one update over all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from arena_jax import models as model_room
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.devices import make_mesh, place_batch, replicate, replicated
from arena_jax.runtime.program import Program, compile_lowered
from arena_jax.training.objectives import Objective, Result, objective_for
from arena_jax.training.state import TrainState, model_key

Batches = Mapping[str, Mapping[str, Any]]
Metrics = dict[str, dict[str, jax.Array]]
Report = Callable[[jax.Array, Any], Mapping[str, Mapping[str, jax.Array]]]
# Evaluation masks tokens too, always the same ones, and never with a key that a training step has used.
_EVALUATION = 0x45564C


class Step:
    """The jitted multi-model step; made by :func:`make_step`.

    Attributes:
        names: the models' names, in order.
        structures: ``{model: structure}``, what :func:`arena_jax.models.merge` needs beside the parameters.
        programs: every program compiled so far, with seconds and bytes.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        optimizer: optax.GradientTransformation,
        objectives: Mapping[str, Objective],
        *,
        accumulation: Mapping[str, int],
        mesh: Mesh,
        seed: int,
        gradient_norms: bool,
        skip_nonfinite: bool,
        report: Report | None,
    ) -> None:
        self.names = tuple(sorted(models))
        self.mesh = mesh
        self.seed = seed
        self.accumulation = dict(accumulation)
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.programs: list[Program] = []
        self._reported = 0
        self._objectives = dict(objectives)
        self._gradient_norms = gradient_norms
        self._skip_nonfinite = skip_nonfinite
        self._report = report
        self._executables: dict[Any, Any] = {}
        split = {name: model_room.split(models[name]) for name in self.names}
        self.structures = {name: structure for name, (structure, _) in split.items()}
        self._initial = {name: params for name, (_, params) in split.items()}

    def init(self, params: Mapping[str, Any] | None = None) -> TrainState:
        """The state before the first step, on every device of the mesh.

        Args:
            params: ``{model: parameter tree}``; the models' own if not given. They are copied: a step donates its
                state, and neither the caller's arrays nor a second model started from them may vanish with it.

        Returns:
            A :class:`TrainState` at step 0.
        """
        source = self._initial if params is None else {name: params[name] for name in self.names}
        copied = replicate(source, self.mesh)
        opt_state = jax.jit(self.optimizer.init, out_shardings=replicated(self.mesh))(copied)
        return TrainState(replicate(jnp.zeros((), jnp.int32), self.mesh), copied, opt_state)

    def abstract_state(self) -> TrainState:
        """The state before the first step with shapes in place of arrays, whole on every device of the mesh."""
        opt_state = jax.eval_shape(self.optimizer.init, self._initial)
        count: Any = jax.ShapeDtypeStruct((), jnp.int32)
        whole = replicated(self.mesh)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
            TrainState(count, self._initial, opt_state),
        )

    def new_programs(self) -> list[Program]:
        """The programs compiled since this was last asked."""
        new = self.programs[self._reported :]
        self._reported = len(self.programs)
        return new

    def gradients(
        self, name: str, params: Any, batch: Mapping[str, jax.Array], step: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """The gradient of one model's mean loss over its whole batch; pure, for use inside ``jit``.

        Args:
            name: which model.
            params: its parameter tree.
            batch: arrays (k, b, …): k microbatches of b examples. Only one microbatch's activations are held at a time.
            step: int32 scalar; dropout and masking are folded from it.

        Returns:
            The gradient (a tree like ``params``) of ``loss_sum / count`` over all k·b examples, and the sums.
        """
        key = model_key(self.seed, name, step)
        structure, objective = self.structures[name], self._objectives[name]

        def loss_sum(p: Any, microbatch: Mapping[str, jax.Array], index: jax.Array) -> tuple[jax.Array, Any]:
            model = model_room.merge(structure, p)
            sums = objective(model, microbatch, jax.random.fold_in(key, index), True).sums
            return sums["loss_sum"], sums

        def mean_loss(p: Any, microbatch: Mapping[str, jax.Array]) -> tuple[jax.Array, Any]:
            total, sums = loss_sum(p, microbatch, jnp.zeros((), jnp.int32))
            return total / jnp.maximum(sums["count"], 1), sums

        count = jax.tree.leaves(batch)[0].shape[0]
        if count == 1:
            (_, sums), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
                params, jax.tree.map(lambda x: x[0], batch)
            )
            return gradient, sums

        def accumulate(carry: Any, item: Any) -> tuple[Any, None]:
            index, microbatch = item
            (_, sums), gradient = jax.value_and_grad(loss_sum, has_aux=True)(params, microbatch, index)
            return jax.tree.map(lambda a, b: a + b.astype(a.dtype), carry, (gradient, sums)), None

        first = jax.tree.map(lambda x: x[0], batch)
        shapes = jax.eval_shape(jax.value_and_grad(loss_sum, has_aux=True), params, first, jnp.zeros((), jnp.int32))
        (_, sums_shape), gradient_shape = shapes
        # Half-precision gradients are summed in float32: a sum of many small terms would otherwise stop growing.
        zeros = (
            jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.promote_types(s.dtype, jnp.float32)), gradient_shape),
            jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), sums_shape),
        )
        (gradient, sums), _ = jax.lax.scan(accumulate, zeros, (jnp.arange(count), batch))
        # The number of targets is a float32 whole number, exact; its reciprocal would not be: in float64 1e-8 off.
        targets = jnp.maximum(sums["count"], 1)
        gradient = jax.tree.map(
            lambda g, s: (g * (1 / targets.astype(g.dtype))).astype(s.dtype), gradient, gradient_shape
        )
        return gradient, sums

    def update(self, state: TrainState, gradients: Any, losses: Mapping[str, jax.Array], **extra: Any) -> TrainState:
        """One update over all models; pure, for use inside ``jit``. Depends on no batch shape.

        Args:
            state: before the step.
            gradients: ``{model: tree}``.
            losses: ``{model: scalar}``, handed to the optimizer as ``value``.
            **extra: handed to the optimizer as they are (``weights``, ``active``).

        Returns:
            The state after the step.
        """
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params, value=losses, **extra)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state)

    def measured_gradients(
        self, name: str, params: Any, batch: Mapping[str, jax.Array], step: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """The first of the step's two pieces: :meth:`gradients`, and the model's loss. Depends on the batch's shape.

        Args:
            name: which model.
            params: its parameter tree.
            batch: arrays (k, b, …).
            step: int32 scalar; dropout and masking are folded from it.

        Returns:
            The gradient, and ``{"loss", "loss_sum", "count", …}`` as scalars.
        """
        gradient, sums = self.gradients(name, params, batch, step)
        return gradient, {"loss": sums["loss_sum"] / jnp.maximum(sums["count"], 1), **sums}

    def finish(
        self, state: TrainState, gradients: dict[str, Any], metrics: Metrics, extra: Mapping[str, Any]
    ) -> tuple[TrainState, Metrics]:
        """The second piece: the update over all models, and what it adds to their metrics. Depends on no batch's shape.

        Args:
            state: before the step.
            gradients: ``{model: tree}``. With ``skip_nonfinite``, that of a model which is not ``active`` changes
                nothing but its own ``gradient_norm``: any tree of its shape will do.
            metrics: ``{model: {"loss", …}}``.
            extra: handed to the optimizer: ``weights``, ``active``, ``learning_rates``.

        Returns:
            The state after the step, and the metrics with ``gradient_norm``, ``skipped`` and what ``report`` says.
        """
        metrics = {name: dict(metrics[name]) for name in self.names}
        losses = {name: metrics[name]["loss"] for name in self.names}
        if self._gradient_norms or self._skip_nonfinite:
            # Here and not with the gradients, which are compiled for every batch size.
            for name in self.names:
                metrics[name]["gradient_norm"] = optax.tree.norm(gradients[name])
        if self._skip_nonfinite:
            gradients, extra = self._leave_out_nonfinite(gradients, metrics, extra)
        after = self.update(state, gradients, losses, **extra)
        if self._report is not None:
            for name, reported in self._report(state.step, after.opt_state).items():
                metrics[name].update(reported)
        return after, metrics

    def whole(self, state: TrainState, batches: Any, extra: Mapping[str, Any]) -> tuple[TrainState, Metrics]:
        """Gradients of every model, then the update; the pure function that is compiled."""
        computed = {
            name: self.measured_gradients(name, state.params[name], batches[name], state.step) for name in self.names
        }
        gradients = {name: gradient for name, (gradient, _) in computed.items()}
        return self.finish(state, gradients, {name: measured for name, (_, measured) in computed.items()}, extra)

    def _leave_out_nonfinite(
        self, gradients: dict[str, Any], metrics: Metrics, extra: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take models with a non-finite loss or gradient out of this update, and say so in their metrics."""
        asked = extra.get("active") or dict.fromkeys(self.names, True)
        active, left = {}, {}
        for name in self.names:
            healthy = jnp.isfinite(metrics[name]["loss"]) & jnp.isfinite(metrics[name]["gradient_norm"])
            metrics[name]["skipped"] = jnp.asarray(~healthy, jnp.float32)
            active[name] = healthy & asked[name]
            # An optimizer that knows nothing of `active` sees a gradient of 0, not a NaN that its moments would keep.
            left[name] = jax.tree.map(lambda g, on=active[name]: jnp.where(on, g, 0).astype(g.dtype), gradients[name])
        return left, {**extra, "active": active}

    def place(self, batches: Batches) -> dict[str, dict[str, jax.Array]]:
        """Move ``{model: batch}`` to the devices as (microbatches, examples, …), spread over the data axis."""
        missing = [name for name in self.names if name not in batches]
        if missing:
            raise ArenaError(
                f"no batch for model '{missing[0]}'; a step takes one batch for each of {', '.join(self.names)}"
            )
        return {name: place_batch(batches[name], self.mesh, self.accumulation[name]) for name in self.names}

    def __call__(self, state: TrainState, batches: Batches, **extra: Any) -> tuple[TrainState, Metrics]:
        """Take one step. The state is donated: go on with the one that is returned.

        Args:
            state: from :meth:`init` or the last step.
            batches: ``{model: {name: array (B, …)}}``; B is each model's own.
            **extra: traced arguments for the optimizer, such as ``weights={model: scalar}``.

        Returns:
            The new state, and ``{model: {"loss", "loss_sum", "count", …}}`` as arrays still being computed.
        """
        return self.run(state, self.place(batches), **extra)

    def run(self, state: TrainState, placed: Any, **extra: Any) -> tuple[TrainState, Metrics]:
        """Like calling the step, for batches that :meth:`place` has placed."""
        return self._executable("step", self.whole, (state, placed, extra), donate=(0,))(state, placed, extra)

    def evaluate(self, name: str, params: Any, batch: Mapping[str, Any], index: int = 0) -> Result:
        """Score one batch of one model, dropout off.

        Args:
            name: which model.
            params: its parameter tree.
            batch: arrays (B, …).
            index: the batch's number: tokens are masked by it, so that every evaluation masks the same ones.

        Returns:
            The objective's :class:`Result`, still being computed.
        """
        executable, arguments = self._evaluation(name, params, batch, index)
        return executable(*arguments)

    def compile_evaluation(self, name: str, params: Any, batch: Mapping[str, Any]) -> Program:
        """Compile what :meth:`evaluate` runs, without running it; returns what was compiled, now or before."""
        self._evaluation(name, params, batch, 0)
        return [program for program in self.programs if program.name == f"evaluate {name}"][-1]

    def _evaluation(self, name: str, params: Any, batch: Mapping[str, Any], index: int) -> tuple[Any, tuple[Any, ...]]:
        key = jax.random.fold_in(model_key(self.seed, name, _EVALUATION), index)
        placed = place_batch(batch, self.mesh)

        def run(p: Any, b: Any, k: jax.Array) -> Result:
            model = model_room.merge(self.structures[name], p)
            return self._objectives[name](model, jax.tree.map(lambda x: x[0], b), k, False)

        arguments = (params, placed, key)
        return self._executable(f"evaluate {name}", run, arguments), arguments

    def _executable(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        donate: tuple[int, ...] = (),
    ) -> Any:
        leaves, treedef = jax.tree.flatten(arguments[1:])
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        cache_key = (name, treedef, shapes)
        if cache_key not in self._executables:
            # A process can read what is whole on its own devices, predictions included.
            out = replicated(self.mesh) if jax.process_count() > 1 else None
            began = time.perf_counter()
            lowered = jax.jit(function, donate_argnums=donate, out_shardings=out).lower(*arguments)
            program = compile_lowered(lowered, began=began)._replace(name=name, shapes=shapes)
            self.programs.append(program)
            self._executables[cache_key] = program.executable
        return self._executables[cache_key]


def make_step(
    models: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    objectives: Mapping[str, Objective] | None = None,
    *,
    accumulation: int | Mapping[str, int] = 1,
    mesh: Mesh | None = None,
    seed: int = 0,
    gradient_norms: bool = False,
    skip_nonfinite: bool = False,
    report: Report | None = None,
) -> Step:
    """Compile the training of several models into one program.

    Args:
        models: ``{name: model}`` from :mod:`arena_jax.models`; they are read, never changed.
        optimizer: an Optax transformation over ``{name: parameter tree}``, such as
            :func:`arena_jax.transforms.multi_model_adamw`. It is given ``value={name: loss}``.
        objectives: ``{name: objective}``; those of the models' tasks if not given (``masked-lm`` needs
            :func:`arena_jax.training.masked_token`, for the tokenizer's mask token).
        accumulation: microbatches per step, for all models or ``{name: count}``. The gradient is that of the whole
            batch; memory is that of one microbatch.
        mesh: from :func:`arena_jax.runtime.make_mesh`; one device if not given.
        seed: dropout and masking are folded from it.
        gradient_norms: also report each model's ``gradient_norm`` (before sharing and clipping).
        skip_nonfinite: a model whose loss or gradient is not finite sits this update out: nothing moves, its optimizer
            state stays, and it is in no pool and no average. Its metrics say ``skipped`` 1. The others' parameters are
            those of a step in which it was not ``active``, to the bit.
        report: ``report(step, opt_state) -> {name: {metric: scalar}}``, computed inside the program from the new state
            of the optimizer and added to the metrics: how effective learning rates get out.

    Returns:
        A :class:`Step`: ``state = step.init()``, then ``state, metrics = step(state, batches)``.

    Raises:
        ArenaError: no model, or names that differ between the arguments.

    Example:
        >>> import numpy as np, optax
        >>> from arena_jax import models, training
        >>> bert = models.create(models.preset("bert-tiny"), task="sequence-classification", seed=0)
        >>> step = training.make_step({"bert": bert}, optax.adamw(1e-3))
        >>> batch = {"input_ids": np.ones((4, 8), np.int32), "labels": np.zeros(4, np.int32)}
        >>> state, metrics = step(step.init(), {"bert": batch})
        >>> int(state.step), int(metrics["bert"]["count"])
        (1, 4)
    """
    if not models:
        raise ArenaError("no model to train; give {name: model}")
    if objectives is None:
        objectives = {name: objective_for(model.task) for name, model in models.items()}
    counts = dict(accumulation) if isinstance(accumulation, Mapping) else dict.fromkeys(models, accumulation)
    for what, given in (("objectives", objectives), ("accumulation", counts)):
        if set(given) != set(models):
            raise ArenaError(
                f"{what} are given for {sorted(given)}, models are {sorted(models)}; the names must be the same"
            )
    bad = [name for name, count in counts.items() if count < 1]
    if bad:
        raise ArenaError(f"accumulation of model '{bad[0]}' is {counts[bad[0]]}; give 1 or more microbatches")
    return Step(
        models,
        optimizer,
        objectives,
        accumulation=counts,
        mesh=make_mesh(1) if mesh is None else mesh,
        seed=seed,
        gradient_norms=gradient_norms,
        skip_nonfinite=skip_nonfinite,
        report=report,
    )
