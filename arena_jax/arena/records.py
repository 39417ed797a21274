"""What a competition records: its derived values, who holds what, accounts, and the programs it compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arena_jax.arena import history as histories
from arena_jax.arena.allocation import steps_per_round
from arena_jax.arena.evaluation_schedule import batches_scored
from arena_jax.arena.setup import Setup
from arena_jax.arena.specialization import specialization, spent_by_domain
from arena_jax.arena.state import State, fraction, step_microbatches
from arena_jax.config.arena import EVALUATION_SHARE
from arena_jax.config.scores import SCORES
from arena_jax.runs.checkpoints import COPIES
from arena_jax.runs.session import Session
from arena_jax.runtime.devices import shard_facts
from arena_jax.runtime.memory import device_limit, format_bytes, tree_bytes
from arena_jax.runtime.program import Program
from arena_jax.training.attention_choice import attention_facts
from arena_jax.transforms.learning_progress import learning_progress


def record_programs(session: Session, rounds: int, programs: Sequence[Program], *, again: bool = False) -> None:
    """Record what was compiled; ``again``: the records of an earlier session hold it already."""
    for program in programs:
        session.record_program(rounds, program.name, program.seconds, program.bytes.total, program.cached, again=again)


def record_allocation(setup: Setup, state: State, session: Session, rounds: int) -> None:
    """Record who has what from now on."""
    window = setup.arena.progress_window or 5
    # As many rows as count, always: each length of the record would be compiled anew, while training waits.
    recent = histories.pad(state.history, window + 1).scores[-(window + 1) :]
    progress = learning_progress(recent, window).tolist()
    steps = steps_per_round(state.shares, setup.arena.round_scale).tolist()
    pool = setup.executables.pool
    models = {
        name: {
            "share": share,
            "progress": model_progress,
            "steps": count,
            "allowed": share * pool,
            **model_fields(setup, state, name),
        }
        for name, share, model_progress, count in zip(setup.names, state.shares.tolist(), progress, steps, strict=True)
    }
    session.record(
        "allocation",
        rounds,
        fraction=fraction(setup, state, rounds),
        budget=setup.budget,
        resident=setup.resident,
        code=setup.executables.code,
        models=models,
        **domain_shares(setup, state),
    )


def domain_shares(setup: Setup, state: State) -> dict[str, Any]:
    """The shares of each domain in force, as a record holds them; nothing where there is one alone."""
    if state.division is None:
        return {}
    domains = next(iter(setup.parts.domains.values()))
    rows = (dict(zip(setup.names, row, strict=True)) for row in state.division.tolist())
    return {"domains": dict(zip(domains, rows, strict=True))}


def specialization_of(state: State) -> dict[str, Any]:
    """How far the models divided the domains among themselves, for the leaderboard."""
    if state.domains is None or len(state.domains.scores) < 2:
        return {}
    spent = spent_by_domain(state.history, state.domains)[-1]
    return {"specialization": specialization(spent)._asdict()}


def record_deferred(session: Session, rounds: int, deferred: int) -> None:
    """Record whether the run hung on how fast programs were compiled."""
    if deferred:
        sizes = "1 batch size" if deferred == 1 else f"{deferred} batch sizes"
        text = f"{sizes} came later than planned, or not at all, as programs were still compiled: another run may "
        session.record("note", rounds, text=text + "differ; with --late-swaps wait training waits for them")


def record_scored_part(setup: Setup, state: State, session: Session) -> None:
    """Record that evaluations score a part of the validation rows, where they do."""
    if state.evaluation_batches is not None:
        scored, whole = (
            max(batches_scored(setup, name, batches) for name in setup.names)
            for batches in (state.evaluation_batches, None)
        )
        text = f"models are scored on the first {scored} of {whole} validation batches: a larger "
        session.record("note", 0, text=text + "--evaluation-share scores more of them, --evaluate-every all")


def model_fields(setup: Setup, state: State, name: str) -> dict[str, Any]:
    """A model's batch size in force, and its programs."""
    size = state.sizes[name]
    return {
        "batch_size": size,
        "accumulation": step_microbatches(setup, state, name),
        "memory": setup.executables.step_bytes(name, size),
        "executables": len(setup.executables.alive(name)),
        "evicted": setup.executables.evicted[name],
        **({"noise_scale": state.noise[name].scale} if name in state.noise else {}),
    }


def with_accounts(setup: Setup, state: State, summary: dict[str, Any]) -> dict[str, Any]:
    """A summary of steps, with shares and accounts added."""
    models = dict(summary["models"])
    for name, share in zip(setup.names, state.shares.tolist(), strict=True):
        account = {"share": share, "batch_size": state.sizes[name], **state.accounts[name].to_json()}
        models[name] = {**models.get(name, {}), **account}
    return {**summary, "models": models}


def derived_values(setup: Setup, state: State) -> list[tuple[str, str, str]]:
    """Every value that was not simply given: its name, itself, and the reason."""
    arena, device = setup.arena, setup.mesh.local_devices[0]
    swap = arena.swap_rounds
    late = "waited for" if arena.late_swaps == "wait" else f"or {max(1, swap)} more until they are compiled"
    limit = format_bytes(device_limit(device))
    return [
        ("devices", f"{setup.mesh.shape['data']} × {device.device_kind}", "each holds the budget"),
        ("budget", format_bytes(setup.budget), f"{arena.memory_budget} of {limit}; per device"),
        ("resident", format_bytes(setup.resident), "parameters, gradients and optimizer states of all models"),
        ("to divide", format_bytes(setup.budget - setup.resident), "by shares, for steps beside that, and for code"),
        ("checkpoints", *_checkpoint_memory(setup, state)),
        (
            "policy",
            setup.policy_name,
            f"asked every {arena.reallocate_every} rounds; new batch sizes {swap} rounds later, {late}",
        ),
        (
            "length",
            f"{setup.rounds} rounds" if setup.rounds else str(arena.spend),
            "given" if setup.rounds else "to be spent on all models together; learning rates fall with it",
        ),
        ("objective", *_objective(setup)),
        ("scores", *_scoring(setup)),
        *attention_facts(setup.config, setup.parts.models),
        *shard_facts((state.train.params, state.train.opt_state), setup.mesh),
    ]


def _objective(setup: Setup) -> tuple[str, str]:
    """What the competition is for, and by which score."""
    arena, score = setup.arena, setup.config.training.score
    kind = f"{arena.objective} {arena.target:g}" if arena.target is not None else arena.objective
    return kind, f"by {SCORES[score].title}; policies and the leaderboard go by it"


def _scoring(setup: Setup) -> tuple[str, str]:
    """How often models are scored."""
    every = setup.config.training.evaluate_every
    if every:
        return f"every {every} rounds", "given"
    share = EVALUATION_SHARE if setup.arena.evaluation_share is None else setup.arena.evaluation_share
    return "as often as they are paid for", f"at most {share:.0%} of what is spent, the last one included"


def _checkpoint_memory(setup: Setup, state: State) -> tuple[str, str]:
    """How much memory a checkpoint needs and where, and whether a CPU machine has it beside the budget."""
    device = setup.mesh.local_devices[0]
    needs, limit = COPIES * tree_bytes(state.train), device_limit(device)
    reason = "of the host's memory while one is written, beside the budget"
    if device.platform == "cpu" and setup.budget + needs > limit:
        reason += f": more than this machine's {format_bytes(limit)} in all, lower --memory-budget"
    return format_bytes(needs), reason
