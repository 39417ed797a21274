"""ModelArena's competition: models train in rounds, and who learns faster is given more memory and more steps.

Two programs make a step (see `arena_jax.training.step`): the gradients of one model, compiled per batch size, and one
update over all models, compiled once, whose mask says who stepped. Gradients of models that step in the same turn are
shared and their parameters drawn together, where the run's optimizer has it so.

What a share is. Shares divide the budget less what is resident: parameters, gradients and optimizer states of all
models, and the programs' code. The paper's shares divide the whole budget, each model's parameters included; here a
model's parameters stay where they are, whatever its share.

What repeats to the bit. Batch sizes are read off the compiler, policies are asked about counted arithmetic, and a
model's data, dropout and learning rate go by its own steps. A new batch size takes over ``swap_after`` rounds after
its reallocation, however long its program has been ready. Training does not wait for the compiler: a size whose program
is not ready then is deferred by as many rounds again, and given up for the next reallocation's; the run's records say
so. With ``late_swaps="wait"`` it is waited for. (Several processes wait at the next reallocation at the latest.)

What does not. A run with deferred batch sizes; with ``price="seconds"`` policies see the clock; with ``spend="150s"``
the clock decides how long the run is and how its learning rates fall (``spend="20TFLOP"`` is counted). Such runs are
saved and resumed whole, but two of them need not agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from arena_jax.arena import policies
from arena_jax.arena.admission import admit_evaluations, compile_evaluations, compile_update
from arena_jax.arena.batch_sizes import find_first_sizes, resume_searches, swap_sizes
from arena_jax.arena.crossing import admit_crossover, check_crossover, cross
from arena_jax.arena.evaluation_schedule import choose_batches, is_due
from arena_jax.arena.leaderboard import leaderboard
from arena_jax.arena.lessons import admit_lessons, check_lessons, compile_lessons, teach
from arena_jax.arena.reallocation import reallocate
from arena_jax.arena.records import (
    derived_values,
    record_allocation,
    record_deferred,
    record_programs,
    record_scored_part,
    specialization_of,
    with_accounts,
)
from arena_jax.arena.resize import take_up_shapes
from arena_jax.arena.rounds import play_round
from arena_jax.arena.scoring import score_models, target_reached
from arena_jax.arena.setup import Evaluate, Observe, Setup, build_setup, check_repeatable, ignore
from arena_jax.arena.state import State, epoch, first_state, fraction, from_position, is_over, to_position
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.session import Session
from arena_jax.runtime import memory, program
from arena_jax.runtime.batch_search import Compile
from arena_jax.runtime.devices import zeros_like
from arena_jax.runtime.executables import Calibrate
from arena_jax.training.build_optimizer import component_notes
from arena_jax.training.describe_models import describe_models
from arena_jax.training.state import TrainState
from arena_jax.training.warm_start import begin_warm


def train(
    config: RunConfig,
    output: Path | None = None,
    *,
    resume: bool = False,
    policy: policies.Policy | None = None,
    evaluate: Evaluate | None = None,
    observe: Observe = ignore,
    compile_program: Compile = program.compile_program,
    calibrate: Calibrate = memory.calibrate,
    executor: Executor | None = None,
) -> Path:
    """Let a run's models compete: Algorithm 1.

    After a baseline evaluation, each round gives model i ``max(1, ⌊10·share_i⌋)`` steps of the largest batch that its
    share of the memory holds; every E rounds the models are scored, S by ``training.score`` on the validation set;
    every R rounds the policy returns new shares. The run ends after ``training.steps`` rounds, or when ``arena.spend``
    is spent. Where the
    paper lets one model after the other take its steps, here each takes its first, then each its second, …: without
    sharing that is the same, with it the pools hold all who still step. And where the paper's shares divide the whole
    budget, parameters included, these divide what is left beside the parameters, gradients and optimizer states.

    Args:
        config: of the run, with an ``arena`` section.
        output: its folder; ``runs/PRESET-NUMBER`` if not given.
        resume: go on from the newest checkpoint in ``output``.
        policy: a function of your own from a `History` to shares; the configuration's policy if not given. A resumed
            run must be given it again. Its first answer is checked before the first round.
        evaluate: ``(step, parameters, model, rows, batch size) -> {metric: value}`` on the validation rows, ``loss``
            and the run's score among them; what the task is judged by, with its standard error, if not given.
        observe: ``(moment, rounds taken, setup, state) -> None``, called before each ``"round"``, after each
            ``"step"``, ``"before swap"``, ``"after swap"``, ``"before reallocation"`` and ``"after reallocation"``;
            `arena_jax.arena.setup.Setup` and `arena_jax.arena.state.State` are the run's own, to be looked at.
        compile_program: ``(function, *arguments) -> Program``, for the gradients and the update.
        calibrate: ``(program, run, devices) -> (result, excess)`` of a program's first run.
        executor: compiles beside training, and is shut down at the end; a thread of its own if not given.

    Returns:
        The run's folder, as `arena_jax.training.train` writes it; its records also hold ``allocation``, ``swap`` and
        ``leaderboard``.

    Raises:
        ArenaError: something in the configuration, the data or the folder does not work, the budget is too small for
            some model, or what the policy returned are no shares.
        Stopped: Ctrl-C or SIGTERM came, and everything is saved.

    Source: ModelArena, Algorithm 1.
    """
    if config.arena is None:
        raise ArenaError("this configuration is no competition: it has no arena section; give --memory-budget")
    check_repeatable(config.arena)
    with Session(config, output, resume=resume) as session:
        # ---- models, data, memory ----
        setup, initial = build_setup(
            session.config,
            session.folder,
            policy=policy,
            evaluate=evaluate,
            observe=observe,
            compile_program=compile_program,
            calibrate=calibrate,
            executor=executor,
        )
        state = first_state(setup, initial)
        check_lessons(setup)
        check_crossover(setup)
        training, arena = setup.config.training, setup.arena

        # ---- where to begin ----
        def state_at(metadata: Mapping[str, Any]) -> TrainState:
            take_up_shapes(setup, metadata.get("position", {}).get("shapes", {}))
            return setup.step.abstract_state() if metadata else initial

        state.train, position = session.begin(state_at, setup.names)
        if session.ended:
            return session.folder
        state.train, starts = begin_warm(session, setup.config, setup.step, setup.parts, state.train)
        with setup.executables:
            session.record_start(
                steps=setup.rounds,
                models=describe_models(setup.parts, starts.records),
                derived=derived_values(setup, state),
                notes=[*setup.parts.notes, *starts.notes, *component_notes(config, state.train.params)],
            )

            # ---- programs and first batch sizes: lines 2 to 9 ----
            rounds = session.first_step
            state.gradients = zeros_like(state.train.params, setup.mesh)
            update = compile_update(setup, state.train, state.gradients)
            record_programs(session, rounds, [update])
            if position:
                _resume(setup, state, session, position)
                lessons = compile_lessons(setup, state)
                record_programs(session, rounds, lessons.programs, again=True)
            else:
                evaluations = compile_evaluations(setup, state.train.params)  # first: batch sizes leave their code out
                record_programs(session, rounds, setup.step.new_programs())
                lessons = compile_lessons(setup, state)
                record_programs(session, rounds, lessons.programs)
                find_first_sizes(setup, state, session)
                admit_evaluations(setup, evaluations, state.train.params)
                admit_lessons(setup, state, lessons)
                admit_crossover(setup, evaluations, state.train)
                state.evaluation_batches = choose_batches(setup, state)
                record_scored_part(setup, state, session)
                state.window.resume()
                score_models(setup, state, session, rounds)
                record_allocation(setup, state, session, rounds)
            # Its first answer is checked here, and its program compiled, so that no reallocation waits for it.
            policies.decide(setup.policy, state.history)

            def save(*, regular: bool = True) -> None:
                session.save(rounds, state.train, to_position(setup, state), over=over, regular=regular)

            # ---- rounds: lines 10 to 36 ----
            state.window.resume()
            over = _has_ended(setup, state, session, rounds)
            stopping = session.stop_requested(rounds)
            while not over and not stopping:
                # A frozen model takes no more steps, and keeps its share of the memory.
                state.train = session.handle_divergence(rounds, state.train)
                if session.divergence.hopeless:
                    break
                swap_sizes(setup, state, session, rounds)
                play_round(setup, state, update.executable, session, rounds)
                rounds += 1
                state.window.flush()
                session.divergence.count(state.window.skipped())
                over, used = is_over(setup, state, rounds), fraction(setup, state, rounds)
                session.advance(rounds, bar_position=None if setup.rounds else round(100 * used))
                if rounds % training.log_every == 0 or over:
                    summary = with_accounts(setup, state, state.window.summary())
                    session.record("train", rounds, epoch=epoch(state), fraction=used, **summary)
                if is_due(setup, state, rounds) or over:
                    score_models(setup, state, session, rounds)
                    over = over or _has_ended(setup, state, session, rounds)  # scoring is paid for, too
                if rounds % arena.reallocate_every == 0 and not over:
                    update = reallocate(setup, state, session, update, rounds)
                    teach(setup, state, lessons, update.executable, session, rounds)
                    cross(setup, state, session, rounds)
                    over = is_over(setup, state, rounds)  # races, lessons and mixtures are paid for, too
                    if over:
                        score_models(setup, state, session, rounds)
                stopping = session.stop_requested(rounds)
                if session.checkpoint_due(rounds, over=over):
                    save()

            # ---- the end ----
            if session.saved != rounds:  # Ctrl-C or SIGTERM, or a model diverged
                save(regular=False)
            session.finish(rounds, setup.rounds, over=over)
            deferred = state.deferred + sum(pending.late > 0 for pending in state.pending.values())
            record_deferred(session, rounds, deferred)
            board = leaderboard(setup.names, state.history, state.accounts, state.metrics, state.judgement)
            reached = target_reached(setup, state)
            board |= specialization_of(state)
            session.record("leaderboard", rounds, **board, target=setup.arena.target, reached=reached)
            early = not (reached or is_over(setup, state, rounds))
            session.record_end(rounds, early=early, epoch=epoch(state), deferred=deferred)
    return session.folder


def _has_ended(setup: Setup, state: State, session: Session, rounds: int) -> bool:
    """Whether all is spent, the target is reached, or nothing is gained any more."""
    return is_over(setup, state, rounds) or target_reached(setup, state) or session.evaluations.over


def _resume(setup: Setup, state: State, session: Session, position: Mapping[str, Any]) -> None:
    """Go on where a run was interrupted: compile the sizes in force, and look for those on their way."""
    if position["policy"] != setup.policy_name:
        raise ArenaError(
            f"'{session.folder}' was begun with the policy '{position['policy']}', not '{setup.policy_name}': go on "
            "from Python with competition.train(config, folder, resume=True, policy=…)"
        )
    from_position(state, position)
    programs = setup.executables.restore(position["executables"], state.sizes)
    record_programs(session, session.first_step, programs, again=True)
    resume_searches(setup, state, position["pending"])
