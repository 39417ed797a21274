"""Models from Hugging Face folders: names matched by the table, everything wrong told at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arena_jax.config.agreement import ModelFacts, check, unnamed
from arena_jax.config.errors import ArenaError, few, few_sentences
from arena_jax.config.tasks import CLASSIFIERS, LANGUAGE_MODELS
from arena_jax.models.config import TransformerConfig, check_task
from arena_jax.models.huggingface import flax_files, rules
from arena_jax.models.huggingface.config import config_from_hf, family_from, ignored_options
from arena_jax.models.huggingface.files import CONFIG, FLOATS, INDEX, WEIGHTS, Tensors, find_folder, read_json
from arena_jax.models.huggingface.flax_files import FlaxTensors
from arena_jax.models.huggingface.rules import SPLIT, TRANSPOSE, Rule
from arena_jax.models.huggingface.rules import Path as ParameterPath
from arena_jax.models.huggingface.tokenizer_files import tokenizer_facts
from arena_jax.models.initialize import abstract, check_precision, initialize
from arena_jax.models.model_types import MODEL_TYPES
from arena_jax.models.transformer import Params, Transformer, merge, split

log = logging.getLogger(__name__)

_TASK_OF = {name: task for kind in MODEL_TYPES.values() for name, task in kind.tasks.items()}


def from_pretrained(
    path_or_hub_id: str | Path,
    task: str | None = None,
    *,
    seed: int = 0,
    revision: str | None = None,
    new_head: bool = False,
    **overrides: Any,
) -> Transformer:
    """A model with the weights of a Hugging Face folder or Hub id.

    Reads config.json, safetensors (or flax_model.msgpack) and, to check that they belong to the model, the tokenizer's
    files; runs nothing that it finds there. A head is taken over only by the task it was trained for and with the
    classes it has: from a folder of another task, with another ``num_labels``, or where ``new_head`` asks for it, the
    head is drawn from ``seed``. The log (``arena_jax.models``) says that, and everything else that was not taken as it
    stands, a line each.

    Args:
        path_or_hub_id: a folder with config.json and model.safetensors (or an index and shards), or a Hub id.
        task: what the model shall predict; None: what ``architectures`` in config.json says.
        seed: for a head that the folder does not have.
        revision: branch, tag or commit on the Hub.
        new_head: draw the head anew even where the folder has one for this task.
        overrides: fields of :class:`TransformerConfig` to change, for example ``num_labels`` or ``param_dtype``.

    Returns:
        The model, parameters in ``param_dtype`` (float32 unless changed).

    Raises:
        ArenaError: one line with what is wrong with the folder.
    """
    folder = find_folder(path_or_hub_id, revision)
    options = _options(folder)
    config = config_from_hf(options, where=str(folder / CONFIG))
    ignored = ignored_options(options, config.model_type)
    if ignored:
        log.warning("%s: options of other frameworks, without effect: %s", folder / CONFIG, few(ignored))
    architecture = _architecture(options)
    if task is None:
        task = _task(config.model_type, architecture, folder)
    reason = _head_reason(config, architecture, task, new_head, overrides)
    names = overrides.get("label_names")
    has_classes = not reason and task not in LANGUAGE_MODELS and not unnamed(config.label_names)
    if has_classes and names and tuple(names) != config.label_names:
        raise ArenaError(
            f"{folder}: its head knows the classes {few(config.labels())}, in this order, and label_names are "
            f"{few(names)}: leave label_names out, or draw a new head (new_head=True)"
        )
    if reason:
        # Names and kind of the classes belong to the head.
        overrides = {"label_names": None, "problem_type": None} | overrides
        if task == "question-answering":
            overrides = {"num_labels": 2} | overrides
    try:
        config = config.replace(**overrides)
        check_task(config, task)
    except ArenaError as error:
        raise ArenaError(f"{folder}: {error}") from None
    check_precision(config)
    tokenizer = tokenizer_facts(folder)
    if tokenizer is not None:
        for note in check(facts(config, task, str(folder)), tokenizer).notes:
            log.warning("%s: %s", folder, note)
    whole = not reason and architecture is not None and _TASK_OF.get(architecture) == task
    params, new = _read(folder, config, task, head_required=whole, take_head=not reason)
    if new:
        _fill(params, split(initialize(config, task, seed))[1], new)
        parts = " and ".join(sorted({".".join(path[:1]) for path in new}))
        because = reason or f"it has none for {task}"
        log.warning("%s: the %s for %s is drawn anew from seed %d, as %s", folder, parts, task, seed, because)
    elif architecture is None and task not in LANGUAGE_MODELS:
        log.warning("%s: config.json does not say what its head was trained for; it is taken for %s", folder, task)
    structure = nnx.split(abstract(config, task))[0]
    # Copied, because JAX may otherwise share NumPy's memory, which it then cannot donate.
    return merge(structure, jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params))


def read_config(path_or_hub_id: str | Path, revision: str | None = None) -> TransformerConfig:
    """The configuration of a Hugging Face folder or Hub id; no weights are read, or fetched if it has a model_type.

    Args:
        path_or_hub_id: a folder with config.json, or a Hub id.
        revision: branch, tag or commit on the Hub.

    Returns:
        The configuration.

    Raises:
        ArenaError: there is none, or it asks for what is not implemented.
    """
    folder = find_folder(path_or_hub_id, revision, weights=False)
    if read_json(folder / CONFIG).get("model_type") is None:  # then the names of the weights say it
        folder = find_folder(path_or_hub_id, revision)
    return config_from_hf(_options(folder), where=str(folder / CONFIG))


def has_head(path_or_hub_id: str | Path, task: str, revision: str | None = None) -> bool:
    """Whether a folder has a head that was trained for a task.

    Args:
        path_or_hub_id: a folder with config.json, or a Hub id.
        task: one of the five.
        revision: branch, tag or commit on the Hub.
    """
    options = read_json(find_folder(path_or_hub_id, revision, weights=False) / CONFIG)
    return _same_head(_TASK_OF.get(_architecture(options) or ""), task)


def facts(config: TransformerConfig, task: str, name: str) -> ModelFacts:
    """What a model can take, for :func:`arena_jax.config.agreement.check`.

    Args:
        config: of the model.
        task: of the model.
        name: for messages.
    """
    ends = {"bos": config.bos_token_id, "eos": config.eos_token_id}
    return ModelFacts(
        name=name,
        family=config.family,
        task=task,
        vocab_size=config.vocab_size,
        max_length=config.max_length,
        token_types=0 if config.family == "gpt2" else config.type_vocab_size,
        pad_id=config.pad_token_id,
        ends={
            role: ids if isinstance(ids, tuple) else (ids,)
            for role, ids in ends.items()
            if ids is not None and config.family != "bert"  # BERT's texts begin and end with [CLS] and [SEP]
        },
        num_labels=config.num_labels,
        label_names=config.label_names,
        problem_type=config.problem_type,
    )


def read_architecture(folder: Path) -> str | None:
    """The class of transformers that a folder says it holds; None where it says none."""
    return _architecture(_options(folder))


def _options(folder: Path) -> dict[str, Any]:
    """The contents of config.json, with the family inferred where it is from before model_type."""
    options = read_json(folder / CONFIG)
    if options.get("model_type") is None:
        files = [path.name for path in folder.iterdir()]
        weights: list[str] = []
        if WEIGHTS in files or INDEX in files:
            weights = [rules.unwrapped(name) for name in Tensors(folder).shapes]
        family = family_from(options, weights, files)
        if family is not None:
            log.warning('%s has no model_type: taken for "%s"; add it where that is wrong', folder / CONFIG, family)
            options["model_type"] = family
    return options


def _same_head(trained: str | None, task: str) -> bool:
    return trained == task or (trained in LANGUAGE_MODELS and task in LANGUAGE_MODELS)


def _head_reason(
    config: TransformerConfig, architecture: str | None, task: str, new_head: bool, overrides: dict[str, Any]
) -> str:
    """Why a folder's head is not taken over; empty where it is."""
    if new_head and task not in LANGUAGE_MODELS:
        return "asked for"
    if architecture is not None and not _same_head(_TASK_OF.get(architecture), task):
        return f"the folder holds a {architecture}"
    names = overrides.get("label_names")
    count = overrides.get("num_labels", len(names) if names else config.num_labels)
    if task in CLASSIFIERS and count != config.num_labels:
        return f"its {config.num_labels} outputs are not the {count} asked for"
    return ""


def _architecture(options: dict[str, Any]) -> str | None:
    names = options.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None


def _task(model_type: str, architecture: str | None, folder: Path) -> str:
    task = MODEL_TYPES[model_type].tasks.get(architecture or "")
    if task is None:
        raise ArenaError(f"{folder / CONFIG}: architectures says {architecture!r}, which names no task: give task=…")
    return task


def flatten(tree: Params, path: ParameterPath = ()) -> Iterator[tuple[ParameterPath, Any]]:
    """Every leaf of a nested dictionary with its path."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, (*path, name))
        else:
            yield (*path, name), value


def shapes_of(config: TransformerConfig, task: str) -> dict[ParameterPath, tuple[int, ...]]:
    """The shape of every parameter, without making one."""
    state = nnx.to_pure_dict(nnx.split(abstract(config, task))[1])
    return {path: tuple(leaf.shape) for path, leaf in flatten(state)}


def disk_shape(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape on disk of the tensor that fills parameters of this shape."""
    one_layer = shape[1:] if rule.stacked else shape
    if rule.operation == TRANSPOSE:
        return one_layer[::-1]
    return (*one_layer[:-1], 3 * one_layer[-1]) if rule.operation == SPLIT else one_layer


def open_tensors(folder: Path, config: TransformerConfig, task: str) -> Tensors | FlaxTensors:
    """A folder's tensors: of its safetensors files, and where there are none, of those that Flax models wrote."""
    if any((folder / name).exists() for name in (WEIGHTS, INDEX)):
        return Tensors(folder)
    if not any((folder / name).exists() for name in (flax_files.WEIGHTS, flax_files.INDEX)):
        return Tensors(folder)  # which says what is there instead
    # Each parameter and the head of another task, 8 bytes a number at most, and the names.
    numbers = sum(math.prod(shape) for shape in shapes_of(config, task).values())
    return FlaxTensors(folder, limit=16 * numbers + 2**20)


class _Matcher:
    """Matches every tensor of a folder to exactly one rule and keeps what is wrong."""

    def __init__(self, config: TransformerConfig, task: str, take_head: bool) -> None:
        self.config, self.rules = config, rules.rules_for(config, task)
        self.take_head = take_head
        self.shapes = shapes_of(config, task)
        self.twins = rules.twins(config, task)
        self.spare = rules.spare_biases(config, task)
        self.problems: list[str] = []
        self.sources: dict[tuple[Rule, int | None], str] = {}
        self.doubles: list[tuple[str, str]] = []  # names whose tensors must be equal
        self.left_out: list[str] = []
        self._plain = {rule.source: rule for rule in self.rules if not rule.stacked}
        self._stacked = [rule for rule in self.rules if rule.stacked]

    def match(self, tensors: Tensors | FlaxTensors) -> None:
        kind = self.config.model_type
        by_plain: dict[str, str] = {}
        self.wrapped = [name for name in tensors.shapes if rules.unwrapped(name) != name]
        for name in sorted(tensors.shapes):
            plain = rules.plain_name(kind, name)
            if plain in by_plain:
                self.problems.append(f"{name} and {by_plain[plain]} are the same weight")
            by_plain[plain] = name
        for plain, name in by_plain.items():
            if plain in self.twins:
                first = self.twins[plain]
                if first in by_plain:
                    self.doubles.append((by_plain[first], name))
                    continue
                rule: Rule | None = self._plain[first]
                layer = None
            else:
                rule, layer = self._rule(plain)
            if rule is not None and (self.take_head or rule.target[0] != "head"):
                self._take(rule, layer, name, tensors)
            elif rule is not None or plain in self.spare or rules.OTHER_HEADS[kind].fullmatch(plain):
                self.left_out.append(name)
            elif not rules.BUFFERS[self.config.family].fullmatch(plain):
                self.problems.append(f"{name} is not a weight of {kind}")

    def _rule(self, plain: str) -> tuple[Rule | None, int | None]:
        if plain in self._plain:
            return self._plain[plain], None
        for rule in self._stacked:
            if match := rule.pattern.fullmatch(plain):
                return rule, int(match[1])
        return None, None

    def _take(self, rule: Rule, layer: int | None, name: str, tensors: Tensors | FlaxTensors) -> None:
        if layer is not None and layer >= self.config.num_layers:
            self.problems.append(f"{name} is beyond the {self.config.num_layers} blocks of the configuration")
            return
        expected = disk_shape(rule, self.shapes[rule.targets()[0]])
        if tensors.types[name] not in FLOATS:
            self.problems.append(f"{name} has type {tensors.types[name]}, not a floating-point type")
        if tensors.shapes[name] != expected:
            self.problems.append(f"{name} has shape {tensors.shapes[name]}, not {expected}")
        self.sources[rule, layer] = name

    def missing(self, head_required: bool) -> set[ParameterPath]:
        """Targets that a new head fills; whatever else is missing becomes a problem."""
        new: set[ParameterPath] = set()
        for group in (("head",), ("pooler",), None):
            rules = [r for r in self.rules if (r.target[:1] == group if group else r.base and r.target[0] != "pooler")]
            absent = [entry for rule in rules for entry in self._absent(rule)]
            if group and absent and len(absent) == len(rules) and not head_required:
                new |= {target for rule in rules for target in rule.targets()}
            else:
                self.problems += [f"{name} is missing" for name in absent]
        return new

    def _absent(self, rule: Rule) -> list[str]:
        prefix = MODEL_TYPES[self.config.model_type].prefix if rule.base else ""
        if not rule.stacked:
            return [] if (rule, None) in self.sources else [prefix + rule.source]
        present = {layer for filled_rule, layer in self.sources if filled_rule is rule}
        if not present:  # one entry, however many blocks a damaged configuration asks for
            return [prefix + rule.source.replace("{layer}", "*")]
        layers = (layer for layer in range(self.config.num_layers) if layer not in present)
        return [prefix + rule.source.replace("{layer}", str(layer)) for layer in layers]


def _read(
    folder: Path, config: TransformerConfig, task: str, *, head_required: bool, take_head: bool
) -> tuple[Params, set[ParameterPath]]:
    """Parameters as NumPy arrays, and the paths that are not in the folder and must be drawn."""
    tensors = open_tensors(folder, config, task)
    matcher = _Matcher(config, task, take_head)
    matcher.match(tensors)
    new = matcher.missing(head_required)
    if matcher.problems:
        raise ArenaError(f"{folder} does not fit {config.model_type} for {task}: " + few_sentences(matcher.problems, 5))
    if matcher.wrapped:
        example = f"{matcher.wrapped[0]} is read as {rules.unwrapped(matcher.wrapped[0])}"
        log.warning("%s: %d names are of a wrapped model: %s", folder, len(matcher.wrapped), example)
    filled: dict[ParameterPath, np.ndarray] = {
        path: np.empty(shape, jnp.dtype(config.param_dtype))
        for path, shape in matcher.shapes.items()
        if path not in new
    }
    problems = []
    for (rule, layer), name in matcher.sources.items():
        value = tensors.read(name)
        if not np.isfinite(value.astype(np.float32) if value.dtype.itemsize < 4 else value).all():
            problems.append(f"{name} holds NaN or infinite numbers")
        value = value.T if rule.operation == TRANSPOSE else value
        targets = rule.targets()
        for target, part in zip(targets, np.split(value, len(targets), axis=-1), strict=True):
            filled[target][... if layer is None else layer] = part
    for first, second in matcher.doubles:
        if not np.array_equal(tensors.read(first), tensors.read(second)):
            problems.append(f"{second} differs from {first}, to which it is tied: pass tie_word_embeddings=False")
    if problems:
        raise ArenaError(f"{folder} cannot be used: " + few_sentences(problems, 5))
    if matcher.left_out:
        log.info("%s: left out, as %s has no use for them: %s", folder, task, few(matcher.left_out))
    params: Params = {}
    for path, array in filled.items():
        _set(params, path, array)
    return params, new


def _set(params: Params, path: ParameterPath, value: Any) -> None:
    for name in path[:-1]:
        params = params.setdefault(name, {})
    params[path[-1]] = value


def _fill(params: Params, source: Params, paths: set[ParameterPath]) -> None:
    for path, value in flatten(source):
        if path in paths:
            _set(params, path, value)
