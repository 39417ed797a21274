"""One compiled program that trains several different models: gradients of each, one update over all."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from arena_jax.config.errors import ArenaError
from arena_jax.models.shards import SHARD, sharding_of, traced_over
from arena_jax.runtime.devices import distribute, make_mesh, place_batch, replicated, shardings
from arena_jax.runtime.program import Program, compile_lowered
from arena_jax.training.gradients import mean_gradient
from arena_jax.training.modules import put_together, take_apart
from arena_jax.training.objective_signature import SIGNATURE, check_objective, check_result
from arena_jax.training.objectives import Objective, Result, objective_for
from arena_jax.training.state import TrainState, model_key, model_key_data, step_key

Batches = Mapping[str, Mapping[str, Any]]
Metrics = dict[str, dict[str, jax.Array]]
Report = Callable[[jax.Array, Any], Mapping[str, Mapping[str, jax.Array]]]
# Evaluation masks tokens too, always the same ones, and never with a key that a training step has used.
_EVALUATION = 0x45564C


class Step:
    """The jitted multi-model step; made by :func:`make_step`.

    Attributes:
        names: the models' names, in order.
        structures: ``{model: structure}``, what :func:`arena_jax.models.merge` needs beside the parameters (of a module
            with other variables: ``nnx.merge``, beside ``params`` and ``variables``).
        keys: ``{model: key data, uint32}``, from which dropout and masking of all steps are folded.
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
        self.keys = {name: model_key_data(seed, name) for name in self.names}
        self.accumulation = dict(accumulation)
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.programs: list[Program] = []
        self._reported = 0
        self._objectives = dict(objectives)
        self._gradient_norms = gradient_norms
        self._skip_nonfinite = skip_nonfinite
        self._report = report
        self._programs: dict[Any, Program] = {}
        parts = {name: take_apart(name, models[name]) for name in self.names}
        self._structures = {name: structure for name, (structure, _, _) in parts.items()}
        self._initial = {name: params for name, (_, params, _) in parts.items()}
        self._initial_variables = {name: variables for name, (_, _, variables) in parts.items()}
        self.structures = {name: structure.graph for name, structure in self._structures.items()}

    def init(self, params: Mapping[str, Any] | None = None) -> TrainState:
        """The state before the first step, where the mesh has its parameters.

        Args:
            params: ``{model: parameter tree}``; the models' own if not given. They are copied: a step donates its
                state, and neither the caller's arrays nor a second model started from them may vanish with it.

        Returns:
            A :class:`TrainState` at step 0.
        """
        source = self._initial if params is None else {name: params[name] for name in self.names}
        copied = distribute(source, self.mesh)
        out = shardings(jax.eval_shape(self.optimizer.init, copied), self.mesh)
        opt_state = jax.jit(self.optimizer.init, out_shardings=out)(copied)
        variables = distribute(self._initial_variables, self.mesh)
        return TrainState(distribute(jnp.zeros((), jnp.int32), self.mesh), copied, opt_state, variables)

    def abstract_state(self) -> TrainState:
        """The state before the first step with shapes in place of arrays, where :meth:`init` would have them."""
        opt_state = jax.eval_shape(self.optimizer.init, self._initial)
        count: Any = jax.ShapeDtypeStruct((), jnp.int32)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding_of(self.mesh, leaf.shape)),
            TrainState(count, self._initial, opt_state),
        )

    def out_shardings(self, state: TrainState) -> Any:
        """Where a state lies that a program returns, and all that it returns beside it: whole on every device."""
        return shardings(state, self.mesh), replicated(self.mesh)

    def new_programs(self) -> list[Program]:
        """The programs compiled since this was last asked."""
        new = self.programs[self._reported :]
        self._reported = len(self.programs)
        return new

    def gradients(
        self, name: str, params: Any, batch: Mapping[str, jax.Array], key: Any, step: jax.Array, variables: Any = None
    ) -> tuple[Any, dict[str, jax.Array], Any]:
        """The first of the step's two pieces, which depends on the batch's shape; pure, for use inside ``jit``.

        Args:
            name: which model.
            params: its parameter tree.
            batch: arrays (k, b, …): k microbatches of b examples. Only one microbatch's activations are held at a time.
            key: the model's, of ``keys``; as an argument of the program, which then serves every seed.
            step: int32 scalar; dropout and masking are folded from both.
            variables: of the model's module, where it has any.

        Returns:
            The gradient (a tree like ``params``) of ``loss_sum / count`` over all k·b examples; ``{"loss", "loss_sum",
            "count", …}`` as scalars; and the variables afterwards.
        """
        before = self._variables(name, variables)
        with traced_over(self.mesh):
            gradient, sums, after = mean_gradient(
                self._structures[name], self._objectives[name], params, before, batch, step_key(key, step)
            )
        return gradient, {"loss": sums["loss_sum"] / jnp.maximum(sums["count"], 1), **sums}, after

    def measured_gradients(
        self, name: str, params: Any, batch: Mapping[str, jax.Array], key: Any, step: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """:meth:`gradients` of a model whose module has no variables."""
        gradient, measured, _ = self.gradients(name, params, batch, key, step)
        return gradient, measured

    def _variables(self, name: str, variables: Any) -> Any:
        if variables is None and self._initial_variables[name]:
            raise ArenaError(
                f"model '{name}' has variables beside its parameters, such as batch statistics: give those of the "
                f"train state, variables=state.variables['{name}']"
            )
        return {} if variables is None else variables

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
        return TrainState(state.step + 1, params, opt_state, state.variables)

    def finish(
        self,
        state: TrainState,
        gradients: dict[str, Any],
        metrics: Metrics,
        extra: Mapping[str, Any],
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[TrainState, Metrics]:
        """The second piece: the update over all models, and what it adds to their metrics. Depends on no batch's shape.

        Args:
            state: before the step.
            gradients: ``{model: tree}``. With ``skip_nonfinite``, that of a model which is not ``active`` changes
                nothing but its own ``gradient_norm``: any tree of its shape will do.
            metrics: ``{model: {"loss", …}}``.
            extra: handed to the optimizer: ``weights``, ``active``, ``learning_rates``.
            variables: ``{model: variables after its gradient}``; those of a model that sits out stay as they were.

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
        if variables:
            active = extra.get("active") or dict.fromkeys(self.names, True)
            updated = {
                name: jax.tree.map(
                    lambda new, old, on=active[name]: jnp.where(on, new, old), new, state.variables[name]
                )
                for name, new in variables.items()
            }
            after = after._replace(variables=updated)
        if self._report is not None:
            for name, reported in self._report(state.step, after.opt_state).items():
                metrics[name].update(reported)
        return after, metrics

    def whole(
        self, state: TrainState, batches: Any, keys: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> tuple[TrainState, Metrics]:
        """Gradients of every model, then the update; the pure function that is compiled.

        Seeds are in ``keys``, and learning rates may be in ``extra``: another seed or rate is the same program.
        """
        gradients: dict[str, Any] = {}
        metrics: Metrics = {}
        variables: dict[str, Any] = {}
        for name in self.names:
            gradients[name], metrics[name], after = self.gradients(
                name, state.params[name], batches[name], keys[name], state.step, state.variables.get(name, {})
            )
            if name in state.variables:
                variables[name] = after
        return self.finish(state, gradients, metrics, extra, variables)

    def _leave_out_nonfinite(
        self, gradients: dict[str, Any], metrics: Metrics, extra: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take models with a non-finite loss or gradient out of this update, and say so in their metrics."""
        taking_part = extra.get("active") or dict.fromkeys(self.names, True)
        active, selected = {}, {}
        for name in self.names:
            finite = jnp.isfinite(metrics[name]["loss"]) & jnp.isfinite(metrics[name]["gradient_norm"])
            metrics[name]["skipped"] = jnp.asarray(~finite, jnp.float32)
            active[name] = finite & taking_part[name]
            # An optimizer that knows nothing of `active` sees a gradient of 0, not a NaN that its moments would keep.
            selected[name] = jax.tree.map(
                lambda g, on=active[name]: jnp.where(on, g, 0).astype(g.dtype), gradients[name]
            )
        return selected, {**extra, "active": active}

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
        return self.compile(state, placed, **extra).executable(state, placed, self._placed_keys, extra)

    def compile(self, state: TrainState, placed: Any, **extra: Any) -> Program:
        """Compile what :meth:`run` runs for arguments of these shapes; returns what was compiled, now or before."""
        out = self.out_shardings(state) if SHARD in self.mesh.shape else None
        arguments = (state, placed, self._placed_keys, extra)
        return self._program("step", self.whole, arguments, donate=(0,), out_shardings=out)

    @functools.cached_property
    def _placed_keys(self) -> dict[str, jax.Array]:
        keys: dict[str, jax.Array] = distribute(self.keys, self.mesh)
        return keys

    def evaluate(
        self, name: str, params: Any, batch: Mapping[str, Any], index: int = 0, variables: Any = None
    ) -> Result:
        """Score one batch of one model, dropout off.

        Args:
            name: which model.
            params: its parameter tree.
            batch: arrays (B, …).
            index: the batch's number: tokens are masked by it, so that every evaluation masks the same ones.
            variables: of the model's module, where it has any; they are read and do not change.

        Returns:
            The objective's :class:`Result`, still being computed.
        """
        program, arguments = self._evaluation(name, params, batch, index, variables)
        return program.executable(*arguments)

    def compile_evaluation(self, name: str, params: Any, batch: Mapping[str, Any]) -> Program:
        """Compile what :meth:`evaluate` runs, without running it; returns what was compiled, now or before."""
        return self._evaluation(name, params, batch, 0, None)[0]

    def _evaluation(
        self, name: str, params: Any, batch: Mapping[str, Any], index: int, variables: Any
    ) -> tuple[Program, tuple[Any, ...]]:
        key = jax.random.fold_in(model_key(self.seed, name, _EVALUATION), index)
        placed = place_batch(batch, self.mesh)

        def run(p: Any, v: Any, b: Any, k: jax.Array) -> Result:
            with traced_over(self.mesh):
                model, objective = put_together(self._structures[name], p, v, training=False), self._objectives[name]
                return check_result(objective(model, jax.tree.map(lambda x: x[0], b), k, False), objective)

        arguments = (params, self._variables(name, variables), placed, key)
        return self._program(f"evaluate {name}", run, arguments), arguments

    def _program(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        donate: tuple[int, ...] = (),
        out_shardings: Any = None,
    ) -> Program:
        leaves, treedef = jax.tree.flatten(arguments[1:])
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        cache_key = (name, treedef, shapes)
        if cache_key not in self._programs:
            # A process can read what is whole on its own devices, predictions included.
            if out_shardings is None and jax.process_count() > 1:
                out_shardings = replicated(self.mesh)
            began = time.perf_counter()
            lowered = jax.jit(function, donate_argnums=donate, out_shardings=out_shardings).lower(*arguments)
            program = compile_lowered(lowered, began=began)._replace(name=name, shapes=shapes)
            self.programs.append(program)
            self._programs[cache_key] = program
        return self._programs[cache_key]


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
        models: ``{name: model}`` from :mod:`arena_jax.models`, or any ``nnx.Module`` of your own; they are read, never
            changed. What is no ``nnx.Param`` of a module (dropout's random streams, batch statistics) is in the state's
            ``variables``; ``model.train()`` and ``model.eval()`` are called.
        optimizer: an Optax transformation over ``{name: parameter tree}``, such as
            :func:`arena_jax.transforms.multi_model_adamw`. It is given ``value={name: loss}``.
        objectives: ``{name: objective}``; those of the models' tasks if not given (``masked-lm`` needs
            :func:`arena_jax.training.masked_token`, for the tokenizer's mask token). One of your own is a function
            ``objective(model, batch, key, training) -> Result``: ``batch`` is ``{name: array (B, …)}``, ``key`` the
            microbatch's, ``training`` a bool; ``Result.sums`` holds scalars summed over the examples, ``loss_sum`` and
            ``count`` at least, so that a loss over microbatches of different fill is exact.
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
        foreign = [name for name, model in models.items() if not hasattr(model, "task")]
        if foreign:
            raise ArenaError(
                f"model '{foreign[0]}' is a {type(models[foreign[0]]).__name__}, which has no task: give objectives="
                f"{{'{foreign[0]}': objective, …}}; write {SIGNATURE}"
            )
        objectives = {name: objective_for(model.task) for name, model in models.items()}
    counts = dict(accumulation) if isinstance(accumulation, Mapping) else dict.fromkeys(models, accumulation)
    for what, by_name in (("objectives", objectives), ("accumulation", counts)):
        if set(by_name) != set(models):
            raise ArenaError(
                f"{what} are given for {sorted(by_name)}, models are {sorted(models)}; the names must be the same"
            )
    for name, objective in objectives.items():
        check_objective(name, objective)
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
