"""Joint training: several models, one batch each per step, one update over all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax import data
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.session import Session
from arena_jax.runtime.devices import distribute, make_mesh, shard_facts
from arena_jax.runtime.peak import peak_flops
from arena_jax.runtime.precision import computation_dtype
from arena_jax.runtime.program import Program
from arena_jax.training.attention_choice import attention_facts
from arena_jax.training.build import Parts, build_parts, process
from arena_jax.training.build_optimizer import component_notes, schedules, warmup_steps
from arena_jax.training.build_step import build_step
from arena_jax.training.describe_models import describe_models
from arena_jax.training.evaluation import score
from arena_jax.training.metric_window import MetricWindow
from arena_jax.training.microbatches import run_step
from arena_jax.training.model_weights import ModelWeights
from arena_jax.training.relay import run_relay
from arena_jax.training.remat import cheapest_step, with_remat
from arena_jax.training.resize import due, resize_due
from arena_jax.training.shapes import check_resizes, shapes_of, take_shapes
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step
from arena_jax.training.teachers import check_rows, teachers_at_rest, teachers_now
from arena_jax.training.teachers import record as teachers_record
from arena_jax.training.warm_start import begin_warm
from arena_jax.training.work import Work


def train(config: RunConfig, output: Path | None = None, *, resume: bool = False) -> Path:
    """Train a run's models together.

    Args:
        config: of the run.
        output: its folder; ``runs/PRESET-NUMBER`` if not given.
        resume: go on from the newest checkpoint in ``output``, to the bit as if the run had never stopped.

    Returns:
        The run's folder: ``config.json``, ``records.jsonl``, ``report.html``, ``checkpoints/``, ``tokenizers/`` and
        ``tensorboard/``;
        :func:`arena_jax.reports.draw` draws its figures.

    Raises:
        ArenaError: something in the configuration, the data or the folder does not work; the message says what to do.
        Stopped: Ctrl-C or SIGTERM came, and everything is saved.
    """
    if config.arena:
        raise ArenaError("this configuration is a competition: give it to arena_jax.arena.competition.train")
    mesh = make_mesh(config.training.devices, shard=config.training.shard == "parameters")
    with Session(config, output, resume=resume) as session:
        config, training = session.config, session.config.training

        # ---- data and models ----
        parts = build_parts(config, session.folder)
        padding = data.common_padding(parts.train)
        check_rows(config, parts, padding)
        streams = {
            name: data.training_batches(rows, seed=training.seed, padding=padding, **process())
            for name, rows in parts.train.items()
        }
        batch_sizes = {name: config.batch_size(name) for name in streams}
        # An epoch is over when every model has seen all its rows.
        steps_per_epoch = max(stream.steps_per_epoch(batch_sizes[name]) for name, stream in streams.items())
        total_steps = training.steps or int((training.epochs or 1) * steps_per_epoch)
        check_resizes(config, parts.models, total_steps)
        evaluate_every = training.evaluate_every or steps_per_epoch

        # ---- the leader of a relay ----
        relay = run_relay(session, parts, total_steps, train)
        parts, total_steps = relay.parts, total_steps - relay.steps

        # ---- optimizer and step ----
        def step_of(networks: Mapping[str, Any]) -> Step:
            return build_step(
                config,
                networks,
                parts.objectives,
                mesh=mesh,
                accumulation={model.name: config.accumulation(model.name) for model in config.models},
            )

        step = step_of(parts.models)
        rates = distribute(schedules(config, total_steps=total_steps), mesh)

        # ---- where to begin ----
        def state_at(metadata: Mapping[str, Any]) -> TrainState:
            take_shapes(step, parts.models, metadata.get("position", {}).get("shapes", {}))
            return step.abstract_state() if metadata else step.init()

        state, position = session.begin(state_at, step.names)
        if session.ended:
            return session.folder
        state, starts = begin_warm(session, relay.config, step, parts, state)
        window = MetricWindow(position.get("window"))
        model_weights = ModelWeights(config, position.get("model_weights"))

        def for_optimizer() -> dict[str, Any]:
            return {"active": session.divergence.active, "learning_rates": rates, **model_weights.arguments()}

        derived = _derived(config, parts, mesh, steps_per_epoch, total_steps, evaluate_every)
        derived += relay.derived
        derived += attention_facts(config, parts.models)
        derived += shard_facts((state.params, state.opt_state), mesh)
        remat, rejected = position.get("remat", training.remat), []
        if remat == "auto":
            longest = {n: padding.lengths[-1] if padding else rows.lengths[-1] for n, rows in parts.train.items()}
            step, choice = cheapest_step(
                step_of,
                parts.models,
                state,
                {name: rows.batch(np.zeros(1, np.int64), longest[name]) for name, rows in parts.train.items()},
                batch_sizes=batch_sizes,
                extra=for_optimizer(),
            )
            remat, rejected = choice.policy, choice.rejected
            derived.append(("remat", remat, choice.reason))
        elif training.remat == "auto":  # as it was chosen when the run began
            step = step_of(with_remat(parts.models, remat))
        losses = {name: metrics["loss"] for name, metrics in session.evaluations.last.items()}
        step.teachers, step.resting = teachers_now(config, losses), relay.resting or teachers_at_rest(config)
        step.accumulation = position.get("accumulation", step.accumulation)
        for name, stream in streams.items():
            if position:
                stream.restore(position["streams"][name])
        session.record_start(
            steps=total_steps,
            models=describe_models(parts, starts.records),
            derived=derived,
            notes=[*parts.notes, *starts.notes, *component_notes(config, state.params)],
            relay=relay.spent,
        )
        for program in rejected:
            session.record_program(0, program.name, program.seconds, program.bytes.total, program.cached)

        def record_programs() -> list[Program]:
            programs = step.new_programs()
            for program in programs:
                name = _program_name(program)
                session.record_program(step_count, name, program.seconds, program.bytes.total, program.cached)
            return programs

        def evaluate() -> None:
            start = time.perf_counter()
            scores = {
                name: score(step, state.params[name], name, rows, training.evaluation_batch_size)
                for name, rows in sorted(parts.validation.items())
            }
            averages = {
                name: score(step, average.params, name, parts.validation[name], training.evaluation_batch_size)
                for name, average in sorted(state.averages.items())
            }
            seconds = time.perf_counter() - start - sum(program.seconds for program in record_programs())
            losses = {name: metrics["loss"] for name, metrics in scores.items()}
            model_weights.follow(losses)
            step.teachers = teachers_now(config, losses)
            details: dict[str, Any] = {"split": "validation", "seconds": seconds, **model_weights.record()}
            details |= {"averages": averages} if averages else {}
            details |= teachers_record(config, step.teachers)
            session.record_evaluation(step_count, scores, epoch=step_count / steps_per_epoch, **details)

        def is_over() -> bool:
            return step_count == total_steps or session.evaluations.over

        def save(*, regular: bool = True) -> None:
            window.flush()
            session.divergence.count(window.skipped())
            reached = {
                "streams": {name: stream.state() for name, stream in streams.items()},
                "window": window.state(),
                "model_weights": model_weights.state(),
                "accumulation": step.accumulation,
                "remat": remat,
                "shapes": shapes_of(parts.models),
            }
            session.save(step_count, state, reached, over=is_over(), regular=regular)

        # ---- the loop ----
        step_count = session.first_step
        work = Work(parts.models, peak_flops(mesh, computation_dtype(training.dtype)))
        window.resume()
        while not is_over() and not session.stop_requested(step_count):
            session.divergence.count(window.skipped())
            state = session.handle_divergence(step_count, state, before=step_count)
            if session.divergence.hopeless:
                break
            if due(config, step_count):
                window.pause()
                state = resize_due(session, step, state, parts, step_count)
                work.follow(parts.models)
                window.resume()
            # Drawn while the last step is still being computed.
            drawn = {name: streams[name] for name in step.batch_names}
            batches = data.next_batches(drawn, batch_sizes, step.accumulation, together=padding is not None)
            extra = for_optimizer()
            state, metrics = run_step(
                step, state, batches, extra, batch_sizes=batch_sizes, steps_taken=step_count, session=session
            )
            window.add(metrics, rows=batch_sizes, compiled=record_programs())
            work.add({name: batches[name] for name in batches if name not in step.resting})
            step_count += 1
            session.advance(step_count)
            if step_count % training.log_every == 0 or step_count == total_steps:
                summary = window.summary()
                details = {**summary, **work.summary(summary["seconds"])}
                session.record("train", step_count, epoch=step_count / steps_per_epoch, **details)
            if step_count % evaluate_every == 0 or step_count == total_steps:
                window.pause()
                evaluate()
                window.resume()
            if session.checkpoint_due(step_count, over=is_over()):
                save()
        if session.saved != step_count:  # asked to stop, or a model diverged
            save(regular=False)
        session.finish(step_count, total_steps, over=is_over())
        session.record_end(step_count, early=step_count < total_steps, epoch=step_count / steps_per_epoch)
    return session.folder


def _program_name(program: Program) -> str:
    """A program with the lengths that it was compiled for: there is one for each."""
    lengths = sorted({shape[-1] for shape, dtype in program.shapes if len(shape) == 3 and dtype == "int32"})
    return f"{program.name}, length {', '.join(map(str, lengths))}" if lengths else program.name


def _derived(
    config: RunConfig, parts: Parts, mesh: Any, steps_per_epoch: float, total_steps: int, evaluate_every: float
) -> list[tuple[str, str, str]]:
    """Every value that was not simply given, with its reason."""
    training = config.training
    devices, kind = mesh.size, mesh.devices.flat[0].device_kind
    rows = {name: len(train) for name, train in parts.train.items()}
    batch_sizes = {name: config.batch_size(name) for name in rows}
    slowest = max(rows, key=lambda name: rows[name] / batch_sizes[name])
    warmup = warmup_steps(config.optimizer, total_steps)
    together, distillation = config.together, []
    if together.teaches:
        how = f"{1 - together.alpha:g} of a student's loss, temperature {together.temperature:g}"
        distillation.append(("teacher", together.distil or ", ".join(teachers_at_rest(config)), how))
    return [
        ("devices", f"{devices} × {kind}", "all there are" if training.devices is None else "given"),
        *_derived_batches(config, devices),
        (
            "steps",
            str(total_steps),
            "given"
            if training.steps
            else f"{training.epochs} epochs × {steps_per_epoch} ({rows[slowest]:,} rows / {batch_sizes[slowest]})",
        ),
        (
            "evaluation",
            f"every {min(evaluate_every, total_steps)} steps",
            "given" if training.evaluate_every else "once an epoch and at the end",
        ),
        (
            "learning rate",
            f"{config.optimizer.learning_rate:g}",
            f"{config.optimizer.form} form: {warmup} steps of warm-up, then {config.optimizer.resolved().decay}",
        ),
        *distillation,
        (
            "precision",
            computation_dtype(training.dtype),
            f"computation{', as the device has it' if training.dtype == 'auto' else ''}; parameters and optimizer state"
            " are float32",
        ),
    ]


def _derived_batches(config: RunConfig, devices: int) -> list[tuple[str, str, str]]:
    """The models' batches and the parts that they are computed in: one line, or one for each where they differ."""

    def words(name: str) -> str:
        parts = config.accumulation(name)
        per_device = config.batch_size(name) // devices // parts
        return f"{parts} microbatch{'es' if parts > 1 else ''} of {per_device} per device"

    batches = {model.name: (config.batch_size(model.name), words(model.name)) for model in config.models}
    if len(set(batches.values())) == 1:
        size, how = next(iter(batches.values()))
        return [("batch", f"{size} per model", how)]
    return [(f"batch of {name}", str(size), how) for name, (size, how) in batches.items()]
