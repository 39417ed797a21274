"""What a run would need on GPUs that are not here: its own step, compiled for them with abstract models and batches."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import models
from arena_jax.config import ModelConfig, RunConfig
from arena_jax.config.errors import ArenaError, first_line
from arena_jax.models import TransformerConfig
from arena_jax.models.config import REMATS
from arena_jax.runtime.batch_search import largest_batch
from arena_jax.runtime.memory import tree_bytes
from arena_jax.runtime.program import Program
from arena_jax.runtime.target import Target
from arena_jax.training.build import computation_options, model_task, problem_type, size_options
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
        models: their names.
        batch_size: examples per GPU, of each model.
        parameters: bytes.
        optimizer: bytes of the optimizer's state.
        temporaries: bytes of gradients, activations and whatever else lives within the step.
        total: bytes of all.
        bound: what ends the batch, in words.
        flops: operations of the matrix products in a step, per GPU.
        least_seconds: no step can be faster on this GPU: matrix products at its peak, or every parameter and moment
            read and written once, whichever takes longer. A bound, no prediction.
        compilations: that the search paid for.
        compile_seconds: of these.
    """

    models: tuple[str, ...]
    batch_size: int
    parameters: int
    optimizer: int
    temporaries: int
    total: int
    bound: str
    flops: float
    least_seconds: float
    compilations: int
    compile_seconds: float


class Variant(NamedTuple):
    """One way to compute a model, and the batch that it allows.

    Attributes:
        model: whose.
        attention: ``"xla"`` or ``"cudnn"``.
        remat: what blocks keep for the backward pass: ``"none"``, ``"dots"`` or ``"block"``.
        attention_dropout: probability.
        need: its largest batch; None where the compiler or the GPU cannot do it.
        reason: why not.
    """

    model: str
    attention: str
    remat: str
    attention_dropout: float
    need: Need | None
    reason: str = ""

    @property
    def options(self) -> str:
        """What to add to the command line."""
        words = [f"--attention {self.attention}"] if self.attention != "xla" else []
        words += [f"--remat {self.remat}"] if self.remat != "dots" else []
        words += [f"--model {self.model}.attention_dropout=0"] if self.attention == "cudnn" else []
        return " ".join(words)


def abstract_models(config: RunConfig) -> dict[str, models.Transformer]:
    """A run's models with shapes in place of weights; nothing is read and nothing drawn.

    Args:
        config: of the run. A tokenizer that would be trained is taken to have as many tokens as it may; a checkpoint is
            a folder, whose configuration is read, or a hub id of a public size.

    Raises:
        ArenaError: a checkpoint whose size nobody here knows.
    """
    return {model.name: models.abstract(_shape(model, config), _task(model, config)) for model in config.models}


def plan(
    config: RunConfig, target: Target, *, limit: int = 4096, progress: Callable[[str], None] = lambda line: None
) -> Iterator[Need]:
    """The largest batches of a run's models on a target: of each alone, then of all in one step.

    Args:
        config: of the run; its optimizer, its length and its precision are what is compiled.
        target: GPUs to compile for. Batches are dealt out over them, parameters lie whole on each.
        limit: the largest batch per GPU to consider.
        progress: is told what is about to be compiled.

    Yields:
        A `Need` for each model, and one for all together where there are several.

    Raises:
        ArenaError: even one example does not fit.
    """
    networks = abstract_models(config)
    groups: list[tuple[str, ...]] = [(name,) for name in sorted(networks)]
    if len(groups) > 1:
        groups.append(tuple(sorted(networks)))
    start = None
    for names in groups:
        progress(f"compiling {' + '.join(names)} for {target.gpu.title}")
        need = largest_need({name: networks[name] for name in names}, config, target, limit=limit, start=start)
        start = need.batch_size
        yield need


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
    if config.training.remat != "auto":
        return config
    networks = abstract_models(config)
    size = max(1, config.training.batch_size // config.training.accumulation // target.mesh.shape["data"])

    def compile_by(policy: str) -> Program:
        step, arguments_at = step_and_arguments(with_remat(networks, policy), config, target)
        return target.compile_program(step, *arguments_at(size))

    choice = cheapest_remat(compile_by, target.budget, "gpu")
    progress(f"remat auto, {size} examples per GPU: {choice.reason}")
    return dataclasses.replace(config, training=dataclasses.replace(config.training, remat=choice.policy))


def variants(
    config: RunConfig,
    model: str,
    target: Target,
    *,
    attentions: Sequence[str] = ("xla", "cudnn"),
    limit: int = 4096,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Variant]:
    """Ways to compute one model alone, the one that allows the largest batch first.

    Args:
        config: of the run.
        model: its name.
        target: GPUs to compile for.
        attentions: which to try. cuDNN's needs half precision and drops no attention weights.
        limit: the largest batch per GPU to consider.
        progress: is told what is about to be compiled.

    Returns:
        Variants, those that cannot be last.
    """
    base = abstract_models(config)[model]
    tried = []
    for attention, remat in itertools.product(attentions, REMATS):
        dropout = 0.0 if attention == "cudnn" else base.config.attention_dropout
        variant = Variant(model, attention, remat, dropout, None)
        progress(f"compiling {model} with attention {attention}, remat {remat}")
        if attention == "cudnn" and base.config.compute_dtype not in ("bfloat16", "float16"):
            tried.append(variant._replace(reason="cuDNN's attention needs bfloat16"))
            continue
        shape = base.config.replace(
            attention=attention, remat=remat, attention_dropout=dropout, right_padded=attention == "cudnn"
        )
        try:
            need = largest_need({model: models.abstract(shape, base.task)}, config, target, limit=limit)
        except (ArenaError, NotImplementedError, RuntimeError) as error:
            tried.append(variant._replace(reason=first_line(error, type(error).__name__)[:160]))
            continue
        tried.append(variant._replace(need=need))
    return sorted(tried, key=lambda variant: -variant.need.batch_size if variant.need else 1)


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

    Raises:
        ArenaError: even one example does not fit.
    """
    model_configs = tuple(model for model in config.models if model.name in networks)
    config = dataclasses.replace(config, models=model_configs)
    step, arguments_at = step_and_arguments(networks, config, target)
    names, state = tuple(sorted(networks)), arguments_at(1)[0]
    choice = largest_batch(
        step,
        arguments_at,
        target.budget,
        target=target,
        name=" + ".join(names),
        limit=limit,
        start=start,
    )
    program, length = choice.program.bytes, config.data.max_length
    flops = {
        name: choice.batch_size
        * models.training_flops(model.config, model.task, length, head_positions(model.task, length))
        for name, model in networks.items()
    }
    multiplying = sum(flops[name] / target.gpu.peak(model.config.compute_dtype) for name, model in networks.items())
    moving = (program.arguments + program.outputs) / target.gpu.bandwidth
    return Need(
        models=names,
        batch_size=choice.batch_size,
        parameters=tree_bytes(state.params),
        optimizer=tree_bytes(state.opt_state),
        temporaries=program.temporaries,
        total=program.with_code,
        bound=choice.reason.split("; ")[1],
        flops=sum(flops.values()),
        least_seconds=max(multiplying, moving),
        compilations=choice.compilations,
        compile_seconds=sum(program.seconds for program in choice.programs.values()),
    )


def step_and_arguments(
    networks: Mapping[str, models.Transformer], config: RunConfig, target: Target
) -> tuple[Any, Callable[[int], tuple[Any, ...]]]:
    """The jitted step over some models, and its abstract arguments by the examples per GPU."""
    step = abstract_step(networks, config, target)
    state = step.abstract_state()
    active = {name: jax.ShapeDtypeStruct((), jnp.bool_) for name in step.names}
    extra = {"active": active, "learning_rates": schedules(config, _STEPS)}

    def arguments_at(size: int) -> tuple[Any, ...]:
        batches = {name: abstract_batch(networks[name], size, config.data.max_length, target) for name in step.names}
        return state, batches, step.keys, extra

    return jax.jit(step.whole, donate_argnums=(0,)), arguments_at


def abstract_step(networks: Mapping[str, models.Transformer], config: RunConfig, target: Target) -> Step:
    """The step that a run compiles, over abstract models and the target's mesh."""
    objectives = {
        name: objective_for(model.task, mask_token_id=_MASK_TOKEN, problem_type=model.config.labels_are)
        for name, model in networks.items()
    }
    return build_step(config, networks, objectives, mesh=target.mesh)


def abstract_batch(
    model: models.Transformer, size: int, length: int, target: Target
) -> dict[str, jax.ShapeDtypeStruct]:
    """What the step reads of a run's batch: one microbatch of ``size`` rows per GPU, padded to one length.

    Args:
        model: says which columns its task has.
        size: examples per GPU.
        length: tokens per row.
        target: whose mesh the rows are dealt over.
    """
    rows = size * target.mesh.shape["data"]

    def column(*inner: int, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
        return target.rows(1, rows, *inner, dtype=dtype, axis=1)

    batch = {"input_ids": column(length), "attention_mask": column(length), "valid": column(dtype=np.bool_)}
    if model.config.family == "bert":
        batch["token_type_ids"] = column(length)
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
    """The model's size before the run changes it."""
    if model.preset is not None:
        return models.preset(model.preset)
    assert model.checkpoint is not None
    size = models.HUB_SIZES.get(model.checkpoint)
    return models.preset(size) if size else models.read_config(model.checkpoint)


def _labels(config: RunConfig) -> dict[str, Any]:
    """What a run says of its classes; how many there are only the data know, unless their names are given."""
    if config.task != "sequence-classification":
        return {}
    # A checkpoint of a public size has no classifier's head, and is not here to be asked.
    here = tuple(model for model in config.models if model.checkpoint not in models.HUB_SIZES)
    kind = problem_type(dataclasses.replace(config, models=here)) if here else config.data.problem_type
    count = 1 if kind == "regression" else len(config.data.label_names)
    return ({"problem_type": kind} if kind else {}) | ({"num_labels": count} if count else {})


def _shape(model: ModelConfig, config: RunConfig) -> TransformerConfig:
    shape = _preset(model)
    changes = computation_options(model, config, shape.family) | size_options(model, shape.pad_token_id)
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
