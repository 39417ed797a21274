"""One compiled program that trains several different models: gradients of each, one update over all."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from arena_jax.config.errors import ArenaError
from arena_jax.models.shards import SHARD, sharding_of, traced_over
from arena_jax.runtime.devices import distribute, place_batch, replicated, shardings
from arena_jax.runtime.program import Program, compile_lowered, devices_of
from arena_jax.training.averages import first_average, next_averages
from arena_jax.training.distillation import Distillation, Lesson, Teaching, without_dropout
from arena_jax.training.gradients import mean_gradient
from arena_jax.training.histograms import histograms_at
from arena_jax.training.modules import Structure, put_together, take_apart, variables_or_none
from arena_jax.training.nonfinite import leave_out_nonfinite
from arena_jax.training.objective_signature import check_result
from arena_jax.training.objectives import Objective, Result
from arena_jax.training.state import TrainState, model_key, model_key_data, step_key

Batches = Mapping[str, Mapping[str, Any]]
Metrics = dict[str, dict[str, Any]]
Report = Callable[[jax.Array, Any], Mapping[str, Mapping[str, jax.Array]]]
# Evaluation masks tokens too, always the same ones, and never with a key that a training step has used.
_EVALUATION = 0x45564C


class Step:
    """The jitted multi-model step; made by :func:`arena_jax.training.make_step`.

    Attributes:
        names: the models' names, in order.
        structures: ``{model: structure}``, what :func:`arena_jax.models.merge` needs beside the parameters (of a module
            with other variables: ``nnx.merge``, beside ``params`` and ``variables``).
        keys: ``{model: key data, uint32}``, from which dropout and masking of all steps are folded.
        programs: every program compiled so far, with seconds and bytes.
        teachers: in distillation, who teaches from the next step on. The others learn from them; of several teachers
            each learns from all. A program is compiled for each choice. Empty: nobody.
        resting: models that take no step and need no batch, unless they teach; they are in the state, the optimizer
            holds them for inactive, and no gradient of theirs is computed.
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
        distillation: Distillation | None = None,
        teachers: Sequence[str] = (),
        ema: float | None = None,
        histograms_every: int | None = None,
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
        self.teachers = tuple(teachers)
        self._ema = ema
        self._histograms_every = histograms_every
        self.resting: tuple[str, ...] = ()
        self._teaching = None if distillation is None else Teaching(models, objectives, distillation)
        common = None if self._teaching is None else self._teaching.key_name
        self.keys = {name: model_key_data(seed, common or name) for name in self.names}
        self._programs: dict[Any, Program] = {}
        self._structures: dict[str, Structure] = {}
        empty: list[dict[str, Any]] = [{}, {}, {}]
        self.structures, self._initial, self._initial_variables = empty
        for name in self.names:
            self.replace(name, models[name])

    def replace(self, name: str, model: Any) -> None:
        """Put another model in the place of one; the others' programs stay, its own and the joint step's are new."""
        self._structures[name], self._initial[name], self._initial_variables[name] = take_apart(name, model)
        self.structures[name] = self._structures[name].graph
        if self._teaching is not None:
            self._teaching.networks[name] = without_dropout(name, model)
        outdated = ("step", f"evaluate {name}")
        self._programs = {key: program for key, program in self._programs.items() if key[0] not in outdated}

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
        count = distribute(jnp.zeros((), jnp.int32), self.mesh)
        averages = {name: distribute(first_average(source[name]), self.mesh) for name in self._averages_of}
        return TrainState(count, copied, opt_state, variables, averages)

    @property
    def batch_names(self) -> tuple[str, ...]:
        """The models that a step needs a batch of."""
        return tuple(name for name in self.names if name not in self.resting or name in self.teachers)

    @property
    def _averages_of(self) -> tuple[str, ...]:
        return () if self._ema is None else self.names

    def abstract_state(self) -> TrainState:
        """The state before the first step with shapes in place of arrays, where :meth:`init` would have them."""
        opt_state = jax.eval_shape(self.optimizer.init, self._initial)
        count: Any = jax.ShapeDtypeStruct((), jnp.int32)
        averages = {name: jax.eval_shape(first_average, self._initial[name]) for name in self._averages_of}
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding_of(self.mesh, leaf.shape)),
            TrainState(count, self._initial, opt_state, self._initial_variables, averages),
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
        self,
        name: str,
        params: Any,
        batch: Mapping[str, jax.Array],
        key: Any,
        step: jax.Array,
        variables: Any = None,
        lesson: Lesson | None = None,
    ) -> tuple[Any, dict[str, jax.Array], Any]:
        """The first of the step's two pieces, which depends on the batch's shape; pure, for use inside ``jit``.

        Args:
            name: which model.
            params: its parameter tree.
            batch: arrays (k, b, …): k microbatches of b examples. Only one microbatch's activations are held at a time.
            key: the model's, of ``keys``; as an argument of the program, which then serves every seed.
            step: int32 scalar; dropout and masking are folded from both.
            variables: of the model's module, where it has any.
            lesson: what teachers say of the batch; None: the model learns from its labels alone.

        Returns:
            The gradient (a tree like ``params``) of ``loss_sum / count`` over all k·b examples; ``{"loss", "loss_sum",
            "count", …}`` as scalars; and the variables afterwards.
        """
        before = variables_or_none(name, variables, self._initial_variables[name])
        objective = self._objectives[name]
        if lesson is not None:
            assert self._teaching is not None
            objective, batch = self._teaching.objective(name, lesson), self._teaching.batch(batch, lesson)
        with traced_over(self.mesh):
            gradient, sums, after = mean_gradient(
                self._structures[name], objective, params, before, batch, step_key(key, step)
            )
        # What is reported is the task's own loss, whatever was minimised.
        sums["loss_sum"] = sums.pop("task_loss_sum", sums["loss_sum"])
        return gradient, {"loss": sums["loss_sum"] / jnp.maximum(sums["count"], 1), **sums}, after

    def lesson(self, teachers: Sequence[str], params: Any, batches: Any, keys: Mapping[str, Any]) -> Lesson:
        """What models say of a step's batches, `Teaching.lesson`; pure, for use inside ``jit``."""
        assert self._teaching is not None
        with traced_over(self.mesh):
            return self._teaching.lesson(teachers, params, batches, keys)

    def measured_gradients(
        self, name: str, params: Any, batch: Mapping[str, jax.Array], key: Any, step: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """:meth:`gradients` of a model whose module has no variables."""
        gradient, measured, _ = self.gradients(name, params, batch, key, step)
        return gradient, measured

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
        return state._replace(step=state.step + 1, params=params, opt_state=opt_state)

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
        every, step = self._histograms_every, state.step + 1
        histograms = {n: {"gradients": histograms_at(step, every, gradients[n])} for n in self.names} if every else {}
        if self._skip_nonfinite:
            gradients, extra = leave_out_nonfinite(gradients, metrics, extra)
        after = self.update(state, gradients, losses, **extra)
        active = extra.get("active") or dict.fromkeys(self.names, True)
        if variables:
            updated = {
                name: jax.tree.map(
                    lambda new, old, on=active[name]: jnp.where(on, new, old), new, state.variables[name]
                )
                for name, new in variables.items()
            }
            after = after._replace(variables={**state.variables, **updated})
        if self._ema is not None:
            after = after._replace(averages=next_averages(state.averages, after.params, self._ema, active))
        if every:
            for name in self.names:
                of_weights = histograms_at(step, every, after.params[name])
                metrics[name]["histograms"] = histograms[name] | {"weights": of_weights}
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
        lesson = None
        if self._teaching is not None and self.teachers:
            step_keys = {name: step_key(keys[name], state.step) for name in self.teachers}
            lesson = self.lesson(self.teachers, state.params, batches, step_keys)
        for name in self.resting:
            gradients[name] = jax.tree.map(jnp.zeros_like, state.params[name])
            metrics[name] = {"loss": jnp.zeros((), jnp.float32)}
        if self.resting:
            taking_part = extra.get("active") or dict.fromkeys(self.names, True)
            extra = {**extra, "active": {n: taking_part[n] & (n not in self.resting) for n in self.names}}
        for name in (name for name in self.names if name not in self.resting):
            taught = {} if lesson is None or self.teachers == (name,) else {"lesson": lesson}
            gradients[name], metrics[name], after = self.gradients(
                name,
                state.params[name],
                batches[name],
                keys[name],
                state.step,
                state.variables.get(name, {}),
                **taught,
            )
            if name in state.variables:
                variables[name] = after
        after, metrics = self.finish(state, gradients, metrics, extra, variables)
        return after, {name: measured for name, measured in metrics.items() if name not in self.resting}

    def place(self, batches: Batches) -> dict[str, dict[str, jax.Array]]:
        """Move ``{model: batch}`` to the devices as (microbatches, examples, …), spread over the data axis."""
        missing = [name for name in self.batch_names if name not in batches]
        if missing:
            raise ArenaError(
                f"no batch for model '{missing[0]}'; a step takes one batch for each of {', '.join(self.names)}"
            )
        return {name: place_batch(batches[name], self.mesh, self.accumulation[name]) for name in self.batch_names}

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

        arguments = (params, variables_or_none(name, variables, self._initial_variables[name]), placed, key)
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
        choices = (self.teachers, self.resting) if name == "step" else ()
        cache_key = (name, choices, treedef, shapes)
        if cache_key not in self._programs:
            # A process can read what is whole on its own devices, predictions included.
            if out_shardings is None and jax.process_count() > 1:
                out_shardings = replicated(self.mesh)
            began = time.perf_counter()
            lowered = jax.jit(function, donate_argnums=donate, out_shardings=out_shardings).lower(*arguments)
            program = compile_lowered(lowered, began=began, devices=devices_of(arguments))
            program = program._replace(name=name, shapes=shapes)
            self.programs.append(program)
            self._programs[cache_key] = program
        return self._programs[cache_key]
