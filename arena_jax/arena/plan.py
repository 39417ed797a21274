"""What shares of a memory budget are worth to each model of a competition, on GPUs that are not here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from arena_jax.arena import policies
from arena_jax.arena.setup import microbatches, policy_options
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.runtime.batch_search import NothingFitsError
from arena_jax.runtime.executables import Executables
from arena_jax.runtime.memory import device_bytes, format_bytes
from arena_jax.runtime.target import Target
from arena_jax.training.plan import abstract_batch, abstract_models, abstract_step


class ShareNeed(NamedTuple):
    """The batch that a share of the memory allows a model; bytes are per GPU.

    Attributes:
        model: whose.
        kind: ``"equal"`` (the start), ``"least"`` and ``"most"`` of a policy with a floor, or ``"stated"``.
        share: the part of what steps divide.
        resident: bytes that are there whoever trains: parameters, gradients and optimizer states of all models.
        allowed: bytes of the share, for the step's working memory.
        batch_size: the largest of the run's batch sizes that fits, examples per GPU; 0: not even the smallest does.
        microbatches: such batches that make a step, to reach the model's effective batch.
        working: bytes that this batch's step takes beside what is resident.
        compilations: that this row paid for.
        compile_seconds: of these.
    """

    model: str
    kind: str
    share: float
    resident: int
    allowed: int
    batch_size: int
    microbatches: int
    working: int
    compilations: int
    compile_seconds: float


def shares_of(config: RunConfig, stated: Mapping[str, float] | None = None) -> dict[str, dict[str, float]]:
    """The shares that are planned for, ``{kind: {model: share}}``.

    With a floor δ and n models, none has less than δ / (1 + (n − 1)δ), as when all but one are at the floor, and that
    one has 1 / (1 + (n − 1)δ): equation 4 of ModelArena, and its normalisation.

    Args:
        config: of a competition.
        stated: ``{model: share}`` to plan for, too.

    Raises:
        ArenaError: a share of a model that is not there, or that is no part of 1.

    Example:
        >>> from arena_jax.config import presets
        >>> shares = shares_of(presets.arena_wikitext2())
        >>> {kind: round(of_model["bert"], 4) for kind, of_model in shares.items()}
        {'equal': 0.25, 'least': 0.0435, 'most': 0.8696}
    """
    arena = config.arena
    assert arena is not None
    names = sorted(model.name for model in config.models)
    shares = {"equal": dict.fromkeys(names, 1 / len(names))}
    floor = getattr(policies.policy(arena.policy, **policy_options(arena)), "floor", None)
    if floor:
        whole = 1 + (len(names) - 1) * floor
        shares |= {"least": dict.fromkeys(names, floor / whole), "most": dict.fromkeys(names, 1 / whole)}
    if stated:
        for name, share in stated.items():
            if name not in names:
                raise ArenaError(f"a share is given for '{name}', which does not compete; {nearest(name, names)}")
            if not 0 < share <= 1:
                raise ArenaError(f"the share of '{name}' is {share:g}: it must be above 0 and at most 1")
        shares["stated"] = dict(stated)
    return shares


def plan_shares(
    config: RunConfig,
    target: Target,
    *,
    stated: Mapping[str, float] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Iterator[ShareNeed]:
    """The batches that shares allow each model of a competition, by the search that a competition makes.

    What is divided is the budget less parameters, gradients and optimizer states of all models, as in a run. The code
    of programs is not taken from it, as a run does: some megabytes of a GPU's gigabytes.

    Args:
        config: of a competition.
        target: GPUs to compile for, and their budget.
        stated: ``{model: share}`` to plan for beside those of :func:`shares_of`.
        progress: is told what is about to be compiled.

    Yields:
        A `ShareNeed` for each model and share.

    Raises:
        ArenaError: the budget does not hold what is always there.
    """
    arena, length = config.arena, config.data.max_length
    assert arena is not None
    networks = abstract_models(config)
    step = abstract_step(networks, config, target)
    state = step.abstract_state()
    resident = device_bytes(state, state.params)  # with a gradient of each
    if resident >= target.budget:
        raise ArenaError(
            f"a budget of {format_bytes(target.budget)} does not hold parameters, gradients and optimizer states of"
            f" {len(networks)} models, {format_bytes(resident)}; give more --memory-budget, or fewer models"
        )
    examples = {
        name: {
            key: np.zeros((1, *column.shape[2:]), column.dtype)
            for key, column in abstract_batch(
                model, 1, length, target, packed=config.data.documents == "packed"
            ).items()
        }
        for name, model in networks.items()
    }
    devices = target.mesh.size
    with Executables(
        {name: functools.partial(step.measured_gradients, name) for name in step.names},
        step.keys,
        target.mesh,
        state.params,
        examples,
        sizes=arena.batch_sizes,
        microbatches=functools.partial(microbatches, config, devices),
        budget=target.budget,
        resident=resident,
        margin=arena.memory_margin,
        compile_program=target.compile_program,
    ) as executables:
        pool, start = target.budget - resident, None
        for kind, shares in shares_of(config, stated).items():
            for name, share in shares.items():
                progress(f"compiling {name} for {share:.1%} of {format_bytes(pool)}")
                allowed = int(share * pool)
                try:
                    choice = executables.search(name, allowed, refuse=True, start=start).result()
                except NothingFitsError as error:
                    seconds = sum(program.seconds for program in error.programs.values())
                    count = len(error.programs) + len(error.refused)
                    yield ShareNeed(name, kind, share, resident, allowed, 0, 0, 0, count, seconds)
                    continue
                compiled = executables.adopt(name, choice)
                start = choice.batch_size
                yield ShareNeed(
                    model=name,
                    kind=kind,
                    share=share,
                    resident=resident,
                    allowed=allowed,
                    batch_size=choice.batch_size,
                    microbatches=microbatches(config, devices, name, choice.batch_size),
                    working=executables.step_bytes(name, choice.batch_size),
                    compilations=choice.compilations,
                    compile_seconds=sum(program.seconds for program in compiled),
                )
