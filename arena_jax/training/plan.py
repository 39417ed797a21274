"""What a run would need on GPUs that are not here: its own step, compiled for them with abstract models and batches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models
from arena_jax.config import ModelConfig, RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.tasks import LANGUAGE_MODELS
from arena_jax.models import TransformerConfig
from arena_jax.models.shards import SHARD
from arena_jax.runtime.batch_search import largest_batch
from arena_jax.runtime.memory import device_bytes
from arena_jax.runtime.program import Program
from arena_jax.runtime.target import Target
from arena_jax.training.build import computation_options, model_task, preset_options, problem_type, shape_before
from arena_jax.training.build_optimizer import schedules
from arena_jax.training.build_step import build_step
from arena_jax.training.objectives import head_positions, objective_for
from arena_jax.training.remat import cheapest_remat, with_remat
from arena_jax.training.step import Step

# Bytes do not depend on which token hides the others.
_MASK_TOKEN = 4
_STEPS = 10_000  # an argument of the program


class Need(NamedTuple):
    """The largest batch of one or several models in one step, and what it needs; bytes are per GPU.

    Attributes:
        batch_sizes: ``{model: examples per GPU}``; as far apart as the run's own.
        parameters: bytes.
        optimizer: bytes of the optimizer's state.
        temporaries: bytes of gradients, activations and whatever else lives within the step.
        total: bytes of all.
        bound: what ends the batch, in words.
        flops: operations of the matrix products in a step, per GPU, as `arena_jax.models.training_flops` counts them
            (a test counts those of the lowered program).
        moved: bytes that a step reads and writes at least: every argument and result of its program once.
        product_seconds: of the matrix products at this GPU's peak.
        moving_seconds: of what is moved, at its bandwidth.
        compilations: that the search paid for.
        compile_seconds: of these.
    """

    batch_sizes: Mapping[str, int]
    parameters: int
    optimizer: int
    temporaries: int
    total: int
    bound: str
    flops: float
    moved: int
    product_seconds: float
    moving_seconds: float
    compilations: int
    compile_seconds: float

    @property
    def models(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.batch_sizes)

    @property
    def batch_size(self) -> int:
        """Examples per GPU of the model that has the fewest."""
        return min(self.batch_sizes.values())

    @property
    def least_seconds(self) -> float:
        """No step can be faster on this GPU, the roofline: the longer of the two. A lower bound, no prediction."""
        return max(self.product_seconds, self.moving_seconds)


def abstract_models(config: RunConfig, target: Target | None = None) -> dict[str, models.Transformer]:
    """A run's models with shapes in place of weights; nothing is read and nothing drawn.

    Args:
        config: of the run. A tokenizer that would be trained is taken to have as many tokens as it may; a checkpoint is
            a folder, whose configuration is read, or a hub id of a public size.
        target: whose devices choose where the run leaves it to them; the one that is here if not given.

    Raises:
        ArenaError: a checkpoint whose size nobody here knows.
    """
    device = None if target is None else target.mesh.devices.flat[0]
    return {model.name: models.abstract(_shape(model, config, device), _task(model, config)) for model in config.models}


def for_target(config: RunConfig, target: Target) -> RunConfig:
    """A run in the precision that ``--dtype auto`` chooses on a target."""
    if config.training.dtype != "auto":
        return config
    dtype = "bfloat16" if "bfloat16" in target.gpu.half else "float32"
    return dataclasses.replace(config, training=dataclasses.replace(config.training, dtype=dtype))


def plan(
    config: RunConfig,
    target: Target,
    names: Sequence[tuple[str, ...]] | None = None,
    *,
    limit: int = 4096,
    progress: Callable[[str], None] = lambda line: None,
) -> Iterator[Need]:
    """The largest batches of a run's models on a target: of each alone, then of all in one step.

    Args:
        config: of the run; its optimizer, its length and its precision are what is compiled.
        target: GPUs to compile for. Batches are dealt out over them, parameters lie whole on each.
        names: the models of each step that is planned; :func:`groups` if not given.
        limit: the largest batch per GPU to consider.
        progress: is told what is about to be compiled.

    Yields:
        A `Need` for each model, and one for all together where there are several.

    Raises:
        ArenaError: even one example does not fit.
    """
    config = for_target(config, target)
    networks = abstract_models(config, target)
    start = None
    for group in groups(config) if names is None else names:
        progress(f"compiling {' + '.join(group)} for {target.gpu.title}")
        need = largest_need({name: networks[name] for name in group}, config, target, limit=limit, start=start)
        start = need.batch_size
        yield need


def groups(config: RunConfig) -> list[tuple[str, ...]]:
    """What is planned of a run: each model alone, and all together where there are several.

    Example:
        >>> from arena_jax.config import presets
        >>> groups(presets.joint_synthetic())
        [('bert',), ('gpt2',), ('roberta',), ('bert', 'gpt2', 'roberta')]
    """
    names = sorted(model.name for model in config.models)
    return [*((name,) for name in names), *([tuple(names)] if len(names) > 1 else [])]


def with_cheapest_remat(
    config: RunConfig, target: Target, *, progress: Callable[[str], None] = lambda line: None
) -> RunConfig:
    """A run whose ``remat`` is "auto" with the policy that it would choose on a target; any other as it is.

    Args:
        config: of the run; its batch, dealt out over the target, is what has to fit.
        target: GPUs to compile for.
        progress: is told what was chosen, and why.

    Raises:
        ArenaError: no policy fits.
    """
    config = for_target(config, target)
    if config.training.remat != "auto":
        return config
    networks = abstract_models(config, target)
    devices = target.mesh.size
    sizes = {n: max(1, config.batch_size(n) // config.accumulation(n) // devices) for n in networks}

    def compile_by(policy: str) -> Program:
        step, arguments_of = step_and_arguments(with_remat(networks, policy), config, target)
        return target.compile_program(step, *arguments_of(sizes))

    choice = cheapest_remat(compile_by, target.budget, "gpu")
    progress(f"remat auto, {', '.join(sorted({str(n) for n in sizes.values()}))} examples per GPU: {choice.reason}")
    return dataclasses.replace(config, training=dataclasses.replace(config.training, remat=choice.policy))


def largest_need(
    networks: Mapping[str, models.Transformer],
    config: RunConfig,
    target: Target,
    *,
    limit: int = 4096,
    start: int | None = None,
) -> Need:
    """The largest batch of some models trained in one step.

    Args:
        networks: ``{name: abstract model}``.
        config: of the run; other models of it are left out.
        target: GPUs to compile for.
        limit: the largest batch per GPU to consider.
        start: the size to compile first.

    Models whose batches differ in the run grow in proportion.

    Raises:
        ArenaError: even one example does not fit.
    """
    model_configs = tuple(model for model in config.models if model.name in networks)
    config = dataclasses.replace(config, models=model_configs)
    names = tuple(sorted(networks))
    step, arguments_of = step_and_arguments(networks, config, target)
    divisor = math.gcd(*(config.batch_size(name) for name in names))

    def sizes_at(size: int) -> dict[str, int]:
        return {name: size * (config.batch_size(name) // divisor) for name in names}

    state = arguments_of(sizes_at(1))[0]
    choice = largest_batch(
        step,
        lambda size: arguments_of(sizes_at(size)),
        target.budget,
        target=target,
        name=" + ".join(names),
        limit=limit,
        start=start,
    )
    program, length = choice.program.bytes, config.data.max_length
    sizes = sizes_at(choice.batch_size)
    flops = {
        name: sizes[name] * models.training_flops(model.config, model.task, length, head_positions(model.task, length))
        for name, model in networks.items()
    }
    peaks = {name: target.gpu.peak(model.config.compute_dtype) for name, model in networks.items()}
    moved = program.arguments + program.outputs
    return Need(
        batch_sizes=sizes,
        parameters=device_bytes(state.params),
        optimizer=device_bytes(state.opt_state),
        temporaries=program.temporaries,
        total=program.with_code,
        bound=choice.reason.split("; ")[1],
        flops=sum(flops.values()),
        moved=moved,
        product_seconds=sum(flops[name] / peaks[name] for name in names),
        moving_seconds=moved / target.gpu.bandwidth,
        compilations=choice.compilations,
        compile_seconds=sum(program.seconds for program in choice.programs.values()),
    )


def step_and_arguments(
    networks: Mapping[str, models.Transformer], config: RunConfig, target: Target
) -> tuple[Any, Callable[[Mapping[str, int]], tuple[Any, ...]]]:
    """The jitted step over some models, and its abstract arguments by ``{model: examples per GPU}``."""
    step = abstract_step(networks, config, target)
    state = step.abstract_state()
    active = {name: jax.ShapeDtypeStruct((), jnp.bool_) for name in step.names}
    extra = {"active": active, "learning_rates": schedules(config, _STEPS)}
    packed = config.data.documents == "packed"

    def arguments_of(sizes: Mapping[str, int]) -> tuple[Any, ...]:
        batches = {
            name: abstract_batch(networks[name], sizes[name], config.data.max_length, target, packed=packed)
            for name in step.names
        }
        return state, batches, step.keys, extra

    out = step.out_shardings(state) if SHARD in target.mesh.shape else None
    return jax.jit(step.whole, donate_argnums=(0,), out_shardings=out), arguments_of


def abstract_step(networks: Mapping[str, models.Transformer], config: RunConfig, target: Target) -> Step:
    """The step that a run compiles, over abstract models and the target's mesh."""
    objectives = {
        name: objective_for(model.task, mask_token_id=_MASK_TOKEN, problem_type=model.config.labels_are)
        for name, model in networks.items()
    }
    return build_step(config, networks, objectives, mesh=target.mesh)


def abstract_batch(
    model: models.Transformer, size: int, length: int, target: Target, *, packed: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
    """What the step reads of a run's batch: one microbatch of ``size`` rows per GPU, padded to one length.

    Args:
        model: says which columns its task has.
        size: examples per GPU.
        length: tokens per row.
        target: whose mesh the rows are dealt over.
        packed: whether texts share rows.
    """
    rows = size * target.mesh.size

    def column(*inner: int, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
        return target.rows(1, rows, *inner, dtype=dtype, axis=1)

    batch = {"input_ids": column(length), "attention_mask": column(length), "valid": column(dtype=np.bool_)}
    if model.config.family == "bert" and model.config.type_vocab_size:
        batch["token_type_ids"] = column(length)
    if packed and model.task in LANGUAGE_MODELS:
        batch["segment_ids"] = column(length)
    match model.task:
        case "causal-lm":
            batch["bytes"] = column(dtype=np.float32)
        case "masked-lm":
            batch |= {"bytes": column(dtype=np.float32), "special_tokens_mask": column(length)}
        case "sequence-classification":
            inner = (model.config.num_labels,) if model.config.labels_are == "multi_label_classification" else ()
            measured = model.config.labels_are in ("regression", "multi_label_classification")
            batch["labels"] = column(*inner, dtype=np.float32 if measured else np.int32)
        case "token-classification":
            batch["labels"] = column(length)
        case "question-answering":
            batch |= {"start_positions": column(), "end_positions": column()}
    return batch


def _task(model: ModelConfig, config: RunConfig) -> str:
    return model_task(config.task, _preset(model).family)


def _preset(model: ModelConfig) -> TransformerConfig:
    """The model's size before the run changes it; public ones are known without their folder."""
    size = models.HUB_SIZES.get(model.checkpoint or "")
    return models.preset(size) if size else shape_before(model)


def _labels(config: RunConfig) -> dict[str, Any]:
    """What a run says of its classes; how many there are only the data know, unless their names are given."""
    if config.task != "sequence-classification":
        return {}
    # A checkpoint of a public size has no classifier's head, and is not here to be asked.
    here = tuple(model for model in config.models if model.checkpoint not in models.HUB_SIZES)
    kind = problem_type(dataclasses.replace(config, models=here)) if here else config.data.problem_type
    count = 1 if kind == "regression" else len(config.data.label_names)
    return ({"problem_type": kind} if kind else {}) | ({"num_labels": count} if count else {})


def _shape(model: ModelConfig, config: RunConfig, device: Any) -> TransformerConfig:
    shape = _preset(model)
    changes = computation_options(model, config, shape, device) | preset_options(model, shape.pad_token_id)
    if model.preset is not None:
        changes["vocab_size"] = model.vocab_size
    changes |= _labels(config)
    shape = shape.replace(**changes)
    if shape.max_length < config.data.max_length:
        raise ArenaError(
            f"model '{model.name}' takes {shape.max_length} tokens, the plan is for {config.data.max_length}: give a"
            " shorter length"
        )
    return shape
