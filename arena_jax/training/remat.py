"""What blocks keep for the backward pass, chosen by the memory that the step needs: `--remat auto`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.runtime import processes
from arena_jax.runtime.devices import abstract_batch
from arena_jax.runtime.memory import format_bytes, parse_bytes
from arena_jax.runtime.program import Program, is_out_of_memory
from arena_jax.training.state import TrainState
from arena_jax.training.step import Step

BUDGET = "90%"  # of what a device has: its allocator loses some to fragments, and evaluations need a little
# From what computes least again to what keeps least. On a CPU keeping all is slower than computing some of it again
# (benchmarks/results/blocks.md), so that it is never the cheapest there.
_ORDER = {"cpu": ("dots", "block")}
_ELSEWHERE = ("none", "dots", "block")


class RematChoice(NamedTuple):
    """A policy, and how it was chosen.

    Attributes:
        policy: ``"none"``, ``"dots"`` or ``"block"``.
        reason: what the step needs by it, and by those before it; one line.
        rejected: programs that were compiled and do not fit.
    """

    policy: str
    reason: str
    rejected: list[Program]


def policies(platform: str) -> tuple[str, ...]:
    """The policies that may be the cheapest on a platform, the one that computes least again first.

    Example:
        >>> policies("cpu"), policies("gpu")
        (('dots', 'block'), ('none', 'dots', 'block'))
    """
    return _ORDER.get(platform, _ELSEWHERE)


def cheapest_remat(compile_by: Callable[[str], Program], budget: int, platform: str) -> RematChoice:
    """The first policy whose step fits a budget at the batch asked for.

    Args:
        compile_by: ``policy -> program`` of the whole step.
        budget: bytes per device.
        platform: that is compiled for, such as ``"cpu"``.

    Returns:
        The choice.

    Raises:
        ArenaError: no policy fits.
    """
    rejected: list[Program] = []
    needs = []
    for policy in policies(platform):
        try:
            program = compile_by(policy)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            needs.append(f"{policy} more than the compiler could place")
            continue
        needs.append(f"{policy} needs {format_bytes(program.bytes.with_code)}")
        if program.bytes.with_code <= budget:
            return RematChoice(policy, f"{', '.join(needs)} of {format_bytes(budget)}", rejected)
        rejected.append(program._replace(name=f"step (remat {policy}, too large)"))
    raise ArenaError(
        f"--remat auto: no policy fits {format_bytes(budget)}: {', '.join(needs)}; lower --batch-size, raise "
        "--accumulation, or lower --max-length"
    )


def cheapest_step(
    step_of: Callable[[Mapping[str, Any]], Step],
    networks: Mapping[str, models.Transformer],
    state: TrainState,
    examples: Mapping[str, Mapping[str, Any]],
    *,
    batch_sizes: Mapping[str, int],
    extra: Mapping[str, Any],
    budget: int | str = BUDGET,
) -> tuple[Step, RematChoice]:
    """The step by the cheapest policy that fits the devices; it is compiled already.

    Args:
        step_of: ``{name: model} -> step``.
        networks: ``{name: model}``.
        state: of the run.
        examples: ``{name: one example}``, arrays (1, …) of the longest length.
        batch_sizes: ``{model: examples per step}``, over all devices.
        extra: what the step hands to the optimizer.
        budget: of each device, as `arena_jax.runtime.parse_bytes` reads it.

    Raises:
        ArenaError: no policy fits.
    """
    steps: dict[str, Step] = {}

    def compile_by(policy: str) -> Program:
        steps[policy] = step = step_of(with_remat(networks, policy))
        placed = {
            name: abstract_batch(
                example, step.mesh, batch_sizes[name] // step.accumulation[name], step.accumulation[name]
            )
            for name, example in examples.items()
        }
        return step.compile(state, placed, **extra)

    device = jax.tree.leaves(state)[0].sharding.mesh.local_devices[0]
    # Processes compile one program for all, and have to choose alike.
    budget_bytes = min(processes.gather(parse_bytes(budget, device)))
    choice = cheapest_remat(compile_by, budget_bytes, device.platform)
    return steps[processes.agree(choice.policy, "what blocks keep (--remat auto)")], choice


def with_remat(networks: Mapping[str, models.Transformer], policy: str) -> dict[str, models.Transformer]:
    """Models of the same parameters whose blocks keep what a policy says.

    Example:
        >>> with_remat({"gpt2": models.create("gpt2-tiny", task="causal-lm")}, "block")["gpt2"].config.remat
        'block'
    """

    def changed(model: models.Transformer) -> Any:
        structure, _ = models.split(models.abstract(model.config.replace(remat=policy), model.task))
        return models.merge(structure, models.split(model)[1])

    return {name: changed(model) for name, model in networks.items()}
