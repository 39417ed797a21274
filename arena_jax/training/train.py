"""Joint training from start to end: what `arena-jax train`, `resume`, `evaluate` and `export` do."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax

from arena_jax import data, models
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.models.huggingface.save import check_folder
from arena_jax.runs import signals
from arena_jax.runs.checkpoints import Checkpoints
from arena_jax.runs.console import Display
from arena_jax.runs.divergence import Health
from arena_jax.runs.environment import surroundings
from arena_jax.runs.folder import load_run, open_folder
from arena_jax.runs.lock import Lock
from arena_jax.runs.records import open_records, read
from arena_jax.runs.session import Saving, begin, has_ended
from arena_jax.runtime import processes
from arena_jax.runtime.devices import make_mesh
from arena_jax.runtime.out_of_memory import ran_out
from arena_jax.training.build import Parts, build, build_parts, described, encode, load_split, process
from arena_jax.training.build_optimizer import build_optimizer, learning_rate_metrics, warmup_steps
from arena_jax.training.evaluation import mean_loss, score
from arena_jax.training.memory_faults import step_down
from arena_jax.training.metric_window import Interval
from arena_jax.training.state import TrainState
from arena_jax.training.step import Compilation, Step, make_step


def train(config: RunConfig, output: Path | None = None, *, resume: bool = False) -> Path:
    """Train a run's models together.

    Args:
        config: of the run.
        output: its folder; ``runs/PRESET-NUMBER`` if not given.
        resume: go on from the newest checkpoint in ``output``, to the bit as if the run had never stopped.

    Returns:
        The run's folder: ``config.json``, ``records.jsonl``, ``checkpoints/``, ``tokenizers/``, ``figures/`` and
        ``tensorboard/``.

    Raises:
        ArenaError: something in the configuration, the data or the folder does not work; the message says what to do.
    """
    if config.arena:
        raise ArenaError("this configuration is a competition: give it to arena_jax.arena.competition.train")
    began = time.perf_counter()
    wanted = config.training
    mesh = make_mesh(wanted.devices)
    folder = open_folder(config, output, resume=resume)

    # ---- data and models ----
    parts = build_parts(config, folder)
    padding = data.common_padding(parts.train)
    streams = {
        name: data.Batches(rows, seed=wanted.seed, padding=padding, **process()) for name, rows in parts.train.items()
    }
    steps_per_epoch = max(stream.steps_per_epoch(wanted.batch_size) for stream in streams.values())
    total_steps = wanted.steps or (wanted.epochs or 1) * steps_per_epoch
    evaluate_every = wanted.evaluate_every or steps_per_epoch

    # ---- optimizer, step ----
    optimizer = build_optimizer(config, total_steps)
    step = make_step(
        parts.models,
        optimizer,
        parts.objectives,
        accumulation={model.name: model.accumulation or wanted.accumulation for model in config.models},
        mesh=mesh,
        seed=wanted.seed,
        gradient_norms=True,
        skip_nonfinite=True,
        report=learning_rate_metrics,
    )

    # ---- where to begin ----
    with (
        processes.watched(folder),
        Lock(folder),
        Checkpoints(folder / "checkpoints", keep=wanted.keep_checkpoints, writing=True) as checkpoints,
        signals.Stop() as stop,
    ):
        state, position = begin(checkpoints, step.init(), config, resume=resume)
        if position:
            step.accumulation = position["accumulation"]
            for name, stream in streams.items():
                stream.restore(position["streams"][name])
        first_step = int(state.step)
        if position and first_step >= total_steps and has_ended(folder):
            with Display(earlier=read(folder), silent=not processes.first()) as screen:
                screen.show({"kind": "resume", "step": first_step, "time": time.time()})
            return folder
        interval = Interval(position.get("interval"))
        speaks = processes.first()
        last_losses: dict[str, float] = position.get("losses", {})
        health = Health(step.names, wanted.sick_after, wanted.sick_model, position.get("health"))
        checkpoints.protected = set(health.good.values())
        kept = position.get("records", 0) if resume else None
        with (
            open_records(folder, kept, tensorboard=wanted.tensorboard) as records,
            Display(earlier=read(folder) if resume and speaks else (), silent=not speaks) as screen,
        ):
            saving = Saving(
                folder,
                checkpoints,
                records,
                screen,
                config=config,
                resume=resume,
                position=position,
                at=first_step,
                began=began,
            )
            emit = saving.emit
            compiled = 0
            if resume:
                # Shown, not recorded: the records are those of a run that was never stopped.
                path = str(folder / "checkpoints" / str(first_step)) if position else "its beginning: nothing was saved"
                screen.show({"kind": "resume", "step": first_step, "time": time.time(), "checkpoint": path})
            if not position:
                emit(
                    "start",
                    0,
                    preset=config.preset,
                    task=config.task,
                    run=str(folder),
                    steps=total_steps,
                    models=described(parts),
                    derived=_derived(config, parts, mesh, steps_per_epoch, total_steps, evaluate_every),
                    **surroundings(),
                )
                for note in parts.notes:
                    emit("note", 0, text=note)

            def emit_compilations(at: int) -> None:
                nonlocal compiled
                for one in step.compilations[compiled:]:
                    saving.compiled(at, _named(one), one.seconds, one.bytes, one.cached)
                compiled = len(step.compilations)

            def evaluate_all(at: int) -> dict[str, float]:
                start = time.perf_counter()
                scores = {
                    name: score(step, state.params[name], name, rows, wanted.evaluation_batch_size)
                    for name, rows in sorted(parts.validation.items())
                }
                seconds = time.perf_counter() - start - sum(one.seconds for one in step.compilations[compiled:])
                emit_compilations(at)
                emit("evaluation", at, epoch=at / steps_per_epoch, split="validation", seconds=seconds, models=scores)
                return {name: one["loss"] for name, one in scores.items()}

            def save(at: int, *, regular: bool = True) -> None:
                interval.flush()
                health.saw(interval.skipped())
                if regular:
                    health.note_good(at, last_losses)
                    checkpoints.protected = set(health.good.values())
                reached = {
                    "streams": {name: stream.state() for name, stream in streams.items()},
                    "interval": interval.state(),
                    "losses": last_losses,
                    "health": health.state(),
                    "accumulation": step.accumulation,
                }
                saving.save(at, state, reached, mean_loss(last_losses))

            # ---- the loop ----
            at = first_step
            interval.go_on()
            while at < total_steps and not processes.stopping(bool(stop), at):
                health.saw(interval.skipped())
                for name in health.due(at):
                    state = health.act(name, at, state, checkpoints, saving)
                if health.hopeless:
                    save(at, regular=False)
                    saving.finish(at)
                    raise ArenaError(health.hopeless)
                # Drawn and placed while the last step is still being computed.
                drawn = {
                    name: stream.next(wanted.batch_size, step.accumulation[name]) for name, stream in streams.items()
                }
                known = len(step.compilations)
                while True:
                    try:
                        state, metrics = step.run(state, step.place(drawn), active=health.active)
                        break
                    except jax.errors.JaxRuntimeError as error:
                        if not ran_out(error) or jax.process_count() > 1:  # the others would wait for this one
                            raise
                    step_down(step, state, wanted.batch_size, at, saving)
                interval.add(metrics, rows=wanted.batch_size, compiled=step.compilations[known:])
                emit_compilations(at)
                at += 1
                screen.advance(at)
                saving.look(at)
                if at % wanted.log_every == 0 or at == total_steps:
                    emit("train", at, epoch=at / steps_per_epoch, **interval.summary())
                if at % evaluate_every == 0 or at == total_steps:
                    interval.pause()
                    last_losses = evaluate_all(at)
                    interval.go_on()
                if (wanted.checkpoint_every and at % wanted.checkpoint_every == 0) or at == total_steps:
                    save(at)
            if saving.saved != at:  # asked to stop
                save(at, regular=False)
            with processes.together():
                saving.finish(at)
            if at < total_steps:
                raise signals.Stopped(folder, at, total_steps)
            emit("end", at, epoch=at / steps_per_epoch, **saving.clock(), reason="finished")
    if wanted.figures and processes.first():
        from arena_jax import reports

        reports.draw(folder)
    return folder


def _named(one: Compilation) -> str:
    """A program with the lengths that it was compiled for: there is one for each."""
    lengths = sorted({shape[-1] for shape, dtype in one.shapes if len(shape) == 3 and dtype == "int32"})
    return f"{one.program}, length {', '.join(map(str, lengths))}" if lengths else one.program


def evaluate(
    run: Path, dataset: str | None = None, split: str = "validation", checkpoint: str = "newest"
) -> dict[str, dict[str, float]]:
    """Score a run's checkpoint.

    Args:
        run: the run's folder.
        dataset: another data set than the run's (name, file, folder or id); the run's own if not given.
        split: which split of it.
        checkpoint: ``"newest"``, ``"best"`` (lowest mean validation loss over the models) or a step.

    Returns:
        ``{model: {metric: value}}``, the metrics of :func:`arena_jax.training.evaluation.score`.

    Raises:
        ArenaError: no such run or split, or data that the models cannot take.
    """
    config = load_run(run)
    parts, step, state = restore(run, config, checkpoint)
    wanted = config.data if dataset is None else dataclasses.replace(config.data, name=dataset)
    source = load_split(wanted, config.task, split, wanted.validation_limit)
    scores = {}
    for name, model in parts.models.items():
        rows = encode(model, name, config, source, parts.tokenizers[name])
        scores[name] = score(step, state.params[name], name, rows, config.training.evaluation_batch_size)
    return scores


def export(run: Path, model: str, directory: Path, checkpoint: str = "newest") -> None:
    """Write one model of a run's checkpoint as a Hugging Face folder, tokenizer included.

    Args:
        run: the run's folder.
        model: the model's name in the run.
        directory: made if it is not there.
        checkpoint: ``"newest"``, ``"best"`` (lowest mean validation loss over the models) or a step.

    Raises:
        ArenaError: no such run or model, or a folder that cannot be written or must not be: it holds a run, or is the
            one that the model came from.
    """
    config = load_run(run)
    came_from = config.model(model).checkpoint
    check_folder(directory, run, *([came_from] if came_from else []))
    parts, step, state = restore(run, config, checkpoint)
    trained = models.merge(step.structures[model], state.params[model])
    tokenizer = parts.tokenizers[model]
    models.save_pretrained(
        trained, directory, also=lambda folder: tokenizer.save(folder, max_length=trained.config.max_length)
    )


def restore(run: Path, config: RunConfig, checkpoint: str = "newest") -> tuple[Parts, Step, TrainState]:
    """The parts of a run, its step, and the state of a checkpoint: the newest that is whole, the best, or a step's."""
    parts = build(config, run / "tokenizers")
    optimizer = build_optimizer(config, None if config.arena else 1)
    step = make_step(parts.models, optimizer, parts.objectives, mesh=make_mesh(1), seed=config.training.seed)
    checkpoints = Checkpoints(run / "checkpoints")
    state, _ = checkpoints.load(step.init(), checkpoints.find(checkpoint))
    for one in checkpoints.damaged:
        print(f"the checkpoint '{one.path}' cannot be used: {one.reason}; an older one is taken", file=sys.stderr)
    return parts, step, state


def _derived(
    config: RunConfig, parts: Parts, mesh: Any, steps_per_epoch: int, total_steps: int, evaluate_every: int
) -> list[dict[str, Any]]:
    """Every value that was not simply given, with its reason."""
    wanted = config.training
    devices, kind = mesh.shape["data"], mesh.devices.flat[0].device_kind
    rows = max(len(train) for train in parts.train.values())
    per_device = wanted.batch_size // devices // wanted.accumulation
    warmup = warmup_steps(config.optimizer, total_steps)
    said: list[tuple[str, str, str]] = [
        ("devices", f"{devices} × {kind}", "all there are" if wanted.devices is None else "given"),
        (
            "batch",
            f"{wanted.batch_size} per model",
            f"{wanted.accumulation} microbatch{'es' if wanted.accumulation > 1 else ''} of {per_device} per device",
        ),
        (
            "steps",
            str(total_steps),
            "given"
            if wanted.steps
            else f"{wanted.epochs} epochs × {steps_per_epoch} ({rows:,} rows / {wanted.batch_size})",
        ),
        (
            "evaluation",
            f"every {min(evaluate_every, total_steps)} steps",
            "given" if wanted.evaluate_every else "once an epoch and at the end",
        ),
        (
            "learning rate",
            f"{config.optimizer.learning_rate:g}",
            f"{config.optimizer.form} form: {warmup} steps of warm-up, then {config.optimizer.resolved().decay}",
        ),
        ("precision", wanted.dtype, "computation; parameters and optimizer state are float32"),
    ]
    return [{"name": name, "value": value, "reason": reason} for name, value, reason in said]
