"""Lessons at a reallocation: who is ahead teaches the others, the paper's equation 11 in a competition.

Models of a competition see rows of their own, each at its own place in the data. In a lesson the teachers look at the
student's rows, in their own tokens, so that both speak of the same examples. A lesson is so many optimizer steps of the
student, at the run's own batch, whatever its share: its rows, its learning rate and its dropout go on by its own count
of steps, and all of it is charged to it, the teachers' forward passes included.

Memory. All programs of lessons are compiled before the first round and held to the budget there: models take turns on
a device, so that each may take all that shares divide.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from arena_jax import data, models
from arena_jax.arena.rounds import Update, charge_update
from arena_jax.arena.setup import Setup, microbatches
from arena_jax.arena.state import State, learning_rate, row_flops
from arena_jax.config.arena import LESSON_STEPS
from arena_jax.config.errors import ArenaError
from arena_jax.config.objective import scores_of
from arena_jax.config.together import BEST
from arena_jax.runs.session import Session
from arena_jax.runtime import processes
from arena_jax.runtime.devices import abstract_batch, place_batch
from arena_jax.runtime.memory import device_bytes, format_bytes
from arena_jax.runtime.program import Program, is_out_of_memory
from arena_jax.training.objectives import head_positions
from arena_jax.training.state import step_key
from arena_jax.training.teachers import check_rows, teachers_now

Pair = tuple[tuple[str, ...], str]  # teachers, student


class Lessons(NamedTuple):
    """The programs of a competition's lessons.

    Attributes:
        looks: what teachers say of a student's rows.
        gradients: a student's, of its labels and of what was said.
    """

    looks: dict[Pair, Program]
    gradients: dict[Pair, Program]

    @property
    def programs(self) -> list[Program]:
        """Each once."""
        return list({id(p.executable): p for p in (*self.looks.values(), *self.gradients.values())}.values())


def check_lessons(setup: Setup) -> None:
    """Refuse to teach where models cannot see the same examples.

    Raises:
        ArenaError: with the reason.
    """
    if not setup.config.together.teaches:
        return
    if processes.several():
        raise ArenaError("lessons in a competition have not been tried with several processes: remove distil")
    check_rows(setup.config, setup.parts, data.common_padding(setup.parts.train))


def compile_lessons(setup: Setup, state: State) -> Lessons:
    """Compile every lesson that may come, in the largest batches that fit.

    Args:
        setup: of the competition; its executables learn of the programs' code.
        state: its ``lesson_sizes`` are taken where a resumed run has them, and otherwise set.

    Returns:
        The programs; none where nobody teaches.

    Raises:
        ArenaError: the budget, or the device, does not hold the smallest; nothing has been run.
    """
    lessons, compiled = Lessons({}, {}), dict[Any, Program]()
    if not setup.config.together.teaches:
        return lessons
    resumed, others = bool(state.lesson_sizes), dict(setup.executables.other_code)
    pairs = {name: [(teachers, name) for teachers in _choices(setup) if teachers != (name,)] for name in setup.names}
    students = [name for name in setup.names if pairs[name]]
    sizes = {n: [state.lesson_sizes[n]] if n in state.lesson_sizes else _sizes(setup, n) for n in students}
    too_large = students
    while too_large:
        for student in too_large:
            _compile_largest(setup, state, lessons, pairs[student], sizes[student], compiled)
        # Their own code is there whoever listens, so that one student's may be what another one's lacks.
        setup.executables.other_code = others | {program.name: program.bytes.code for program in lessons.programs}
        too_large = [n for n in students if sizes[n] and _missing(setup, state, lessons, pairs[n]) > 0]
    if not resumed:  # it was admitted when it began; the programs in force since then are others
        admit_lessons(setup, state, lessons)
    return lessons


def admit_lessons(setup: Setup, state: State, lessons: Lessons) -> None:
    """Refuse lessons that the budget does not hold beside all programs.

    Raises:
        ArenaError: it lacks memory for one of them.
    """
    for pair in lessons.gradients:
        short, student = _missing(setup, state, lessons, [pair]), pair[1]
        if short > 0:
            raise ArenaError(
                f"a lesson of '{student}' by {', '.join(pair[0])}, in batches of {state.lesson_sizes[student]}, takes "
                f"{format_bytes(short)} more than the budget of {format_bytes(setup.budget)} leaves; raise "
                "--memory-budget or remove distil"
            )


def teach(setup: Setup, state: State, lessons: Lessons, update: Update, session: Session, rounds: int) -> None:
    """Give every model but the teacher its lesson, and record who learnt from whom.

    Args:
        setup: of the competition; nothing is done where nobody teaches.
        state: parameters, optimizer states, streams and accounts of the students move on.
        lessons: the programs.
        update: the compiled update of all models.
        session: records the lineage; knows which models are frozen, and neither teach nor learn.
        rounds: taken.
    """
    if not setup.config.together.teaches:
        return
    frozen, scores = session.divergence.frozen, scores_of(state.metrics, setup.config.training.score)
    # By the competition's own score, of which more is better; a loss is what is least.
    teachers = teachers_now(setup.config, {name: -score for name, score in scores.items() if name not in frozen})
    students = [name for name in setup.names if name not in frozen and teachers != (name,)]
    if not teachers or not students or state.lessons_over:
        return
    lost = [name for name in teachers if name in frozen]
    if lost:
        state.lessons_over = True
        text = f"{', '.join(lost)} diverged, and teaches no more: there are no further lessons in this run"
        session.record("note", rounds, text=text)
        return
    sums = {name: np.zeros(3) for name in students}
    for _ in range(setup.arena.lesson_steps or LESSON_STEPS):
        metrics, rates, rows = {}, dict.fromkeys(setup.names, np.float32(0)), {}
        for name in students:
            rows[name] = _rows(setup, name, state.lesson_sizes[name])
            rates[name] = np.float32(learning_rate(setup, state, name, rounds, rows[name]))
            metrics[name] = _compute_gradient(setup, state, lessons, (teachers, name))
            sums[name] += [float(metrics[name][key]) for key in ("loss_sum", "divergence_sum", "count")]
        losses = {n: {"loss": metrics[n]["loss"] if n in metrics else np.float32(0)} for n in setup.names}
        active = {n: np.bool_(n in metrics) for n in setup.names}
        start = time.perf_counter()
        state.train, measured = update(
            state.train, state.gradients, losses, {"active": active, "learning_rates": rates}
        )
        jax.block_until_ready(state.train.params)
        charge_update(setup.parameters, state, students, time.perf_counter() - start)
        state.window.add({name: {**metrics[name], **measured[name]} for name in students}, rows=rows)
    session.record(
        "lineage",
        rounds,
        how="distillation",
        parents=list(teachers),
        models={
            name: {
                "steps": setup.arena.lesson_steps or LESSON_STEPS,
                "loss": loss / max(count, 1),
                "divergence": divergence / max(count, 1),
            }
            for name, (loss, divergence, count) in sums.items()
        },
    )


def _compute_gradient(setup: Setup, state: State, lessons: Lessons, pair: Pair) -> dict[str, jax.Array]:
    """A student's gradient at its next rows; it is charged with what it took."""
    teachers, student = pair
    stream, account, mesh = state.streams[student], state.accounts[student], setup.mesh
    count = _rows(setup, student, state.lesson_sizes[student])
    k = count // (state.lesson_sizes[student] * mesh.size)
    rows, length = stream.draw(count)
    batch = stream.rows.batch(rows, length)
    # The same examples as their own tokenizers cut them.
    views = {name: _batch(setup, name, rows) for name in teachers}
    placed = {name: place_batch(view, mesh, k) for name, view in views.items()}
    state.gradients[student] = None  # the last one goes before the next one comes
    key, step = setup.step.keys[student], np.int32(account.steps)
    start = time.perf_counter()
    try:
        targets = lessons.looks[pair].executable({t: state.train.params[t] for t in teachers}, placed, key, step)
        state.gradients[student], metrics = lessons.gradients[pair].executable(
            state.train.params[student], place_batch(batch, mesh, k), targets, key, step
        )
        jax.block_until_ready(state.gradients[student])
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ArenaError(
            f"{student} ran out of memory in a lesson in batches of {state.lesson_sizes[student]}; start a new run with"
            " a lower --memory-budget, or without distil"
        ) from error
    account.seconds += time.perf_counter() - start
    account.count_step(batch, row_flops(setup, student, batch["attention_mask"].shape[1]))
    account.flops += sum(len(rows) * _forward_flops(setup, name) for name in teachers)
    return dict(metrics)


def _compile_largest(
    setup: Setup,
    state: State,
    lessons: Lessons,
    pairs: Sequence[Pair],
    sizes: list[int],
    compiled: dict[Any, Program],
) -> None:
    """Compile a student's lessons in the first of some sizes that the compiler has the memory for.

    Args:
        setup: of the competition.
        state: its ``lesson_sizes`` gain the student's.
        lessons: gain the programs.
        pairs: of the student, at least one.
        sizes: the largest first; those that were tried are taken out.
        compiled: programs so far, by what they are.

    Raises:
        ArenaError: it has it for none.
    """
    student = pairs[0][1]
    while True:
        size = sizes.pop(0)
        try:
            for pair in pairs:
                lessons.looks[pair], lessons.gradients[pair] = _compile(setup, state, pair, size, compiled)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if not sizes:
                raise ArenaError(
                    f"a lesson of '{student}', in batches of {size}, does not compile within the device's memory; "
                    "remove distil"
                ) from error
        else:
            state.lesson_sizes[student] = size
            return


def _compile(
    setup: Setup, state: State, pair: Pair, size: int, compiled: dict[Any, Program]
) -> tuple[Program, Program]:
    """The two programs of a lesson; models that ask for the same have one."""
    teachers, student = pair
    step, mesh = setup.step, setup.mesh
    k = microbatches(setup.config, mesh.size, student, size)

    def look(params: Any, batches: Any, key: Any, count: Any) -> Any:
        return step.lesson(teachers, params, batches, dict.fromkeys(teachers, step_key(key, count)))

    def gradient(params: Any, batch: Any, lesson: Any, key: Any, count: Any) -> Any:
        return step.gradients(student, params, batch, key, count, lesson=lesson)[:2]

    def shapes(name: str) -> Any:
        return abstract_batch(_batch(setup, name, np.zeros(1, np.int64)), mesh, size * mesh.size, k)

    def program(key: Any, name: str, function: Any, *arguments: Any) -> Program:
        if key not in compiled:
            compiled[key] = setup.compile_program(jax.jit(function), *arguments)._replace(name=name)
        return compiled[key]

    key_and_step = step.keys[student], jax.ShapeDtypeStruct((), np.int32)
    params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding), state.train.params)
    arguments = {t: params[t] for t in teachers}, {t: shapes(t) for t in teachers}, *key_and_step
    # A teacher's tokens depend on its own tokenizer, not on who listens.
    name = f"a look at lessons of {', '.join(teachers)} in {k} × {size} rows"
    targets = program(("look", teachers, size, k), name, look, *arguments)
    lesson = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        jax.eval_shape(look, *arguments),
        targets.executable.output_shardings,
    )
    kind = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(lesson))
    # Of several teachers whose lessons are of one shape the first is in the name, and the program serves all.
    name = f"gradients of {student} in lessons by {', '.join(teachers)} in batches of {size}"
    return targets, program(
        (student, size, kind), name, gradient, params[student], shapes(student), lesson, *key_and_step
    )


def _missing(setup: Setup, state: State, lessons: Lessons, pairs: Sequence[Pair]) -> float:
    """The bytes per device by which some lessons exceed what the budget leaves; negative where there is room."""
    params, whole = state.train.params, 1 + setup.arena.memory_margin
    # What is resident already: the teachers' parameters, and of a student its gradient, too.
    needs = [whole * lessons.looks[p].bytes.with_code - device_bytes([params[t] for t in p[0]]) for p in pairs]
    needs += [whole * lessons.gradients[p].bytes.with_code - 2 * device_bytes(params[p[1]]) for p in pairs]
    return max(needs) - setup.executables.pool


def _choices(setup: Setup) -> list[tuple[str, ...]]:
    """Who may be the teachers of a lesson."""
    if setup.config.together.distil == BEST:
        return [(name,) for name in setup.names]
    return [teachers_now(setup.config, {})]


def _sizes(setup: Setup, name: str) -> list[int]:
    """The batch sizes that a lesson may have, the largest first: no more than the run's own batch."""
    most = setup.config.batch_size(name) / setup.mesh.size
    smallest, *others = setup.arena.batch_sizes
    return [*(size for size in reversed(others) if size <= most), smallest]


def _rows(setup: Setup, name: str, size: int) -> int:
    """The examples of a lesson's step, over all devices."""
    return size * setup.mesh.size * microbatches(setup.config, setup.mesh.size, name, size)


def _batch(setup: Setup, name: str, rows: np.ndarray) -> Any:
    encoded = setup.parts.train[name]
    return encoded.batch(rows, encoded.lengths[-1])


def _forward_flops(setup: Setup, name: str) -> float:
    model, length = setup.parts.models[name], setup.parts.train[name].lengths[-1]
    return models.row_flops(model.config, model.task, length, head_positions(model.task, length))
