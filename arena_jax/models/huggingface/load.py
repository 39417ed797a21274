"""Models from Hugging Face folders: names matched by the table, everything wrong told at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arena_jax.config.errors import ArenaError
from arena_jax.models.config import TransformerConfig, check_task
from arena_jax.models.huggingface import rules
from arena_jax.models.huggingface.config import config_from_hf
from arena_jax.models.huggingface.files import CONFIG, FLOATS, Tensors, find_folder, read_json
from arena_jax.models.huggingface.rules import SPLIT, TRANSPOSE, Rule
from arena_jax.models.huggingface.rules import Path as ParameterPath
from arena_jax.models.initialize import abstract, check_precision, initialize
from arena_jax.models.transformer import Params, Transformer, merge, split

log = logging.getLogger(__name__)

_TASK_OF = {name: task for (_, task), name in rules.ARCHITECTURES.items()} | {
    "BertForPreTraining": "masked-lm",  # its second head predicts whether two sentences follow each other
    "GPT2DoubleHeadsModel": "causal-lm",  # its second head chooses among answers
}


def from_pretrained(
    path_or_hub_id: str | Path,
    task: str | None = None,
    *,
    seed: int = 0,
    revision: str | None = None,
    **overrides: Any,
) -> Transformer:
    """A model with the weights of a Hugging Face folder or Hub id.

    Reads config.json and safetensors only; runs nothing that it finds there. A folder of another task gives all but
    its head: the new head is drawn from ``seed``, and the log (``arena_jax.models``) says so in one line.

    Args:
        path_or_hub_id: a folder with config.json and model.safetensors (or an index and shards), or a Hub id.
        task: what the model shall predict; None: what ``architectures`` in config.json says.
        seed: for a head that the folder does not have.
        revision: branch, tag or commit on the Hub.
        overrides: fields of :class:`TransformerConfig` to change, for example ``num_labels`` or ``param_dtype``.

    Returns:
        The model, parameters in ``param_dtype`` (float32 unless changed).

    Raises:
        ArenaError: one line with everything that is wrong with the folder.
    """
    folder = find_folder(path_or_hub_id, revision)
    options = read_json(folder / CONFIG)
    config = config_from_hf(options, where=str(folder / CONFIG))
    architecture = _architecture(options)
    if task is None:
        task = _task(config.family, architecture, folder)
    try:
        config = config.replace(**overrides)
        check_task(config, task)
    except ArenaError as error:
        raise ArenaError(f"{folder}: {error}") from None
    check_precision(config)
    whole = architecture is not None and _TASK_OF.get(architecture) == task
    params, new = _read(folder, config, task, head_required=whole)
    if new:
        _fill(params, split(initialize(config, task, seed))[1], new)
        names = sorted({".".join(path[:1]) for path in new})
        log.warning("%s has no %s for %s: drawn anew from seed %d", folder, " and ".join(names), task, seed)
    structure = nnx.split(abstract(config, task))[0]
    # Copied, because JAX may otherwise share NumPy's memory, which it then cannot donate.
    return merge(structure, jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params))


def read_config(path_or_hub_id: str | Path, revision: str | None = None) -> TransformerConfig:
    """The configuration of a Hugging Face folder or Hub id; no weights are read.

    Args:
        path_or_hub_id: a folder with config.json, or a Hub id.
        revision: branch, tag or commit on the Hub.

    Returns:
        The configuration.

    Raises:
        ArenaError: there is none, or it asks for what is not implemented.
    """
    folder = find_folder(path_or_hub_id, revision)
    return config_from_hf(read_json(folder / CONFIG), where=str(folder / CONFIG))


def _architecture(options: dict[str, Any]) -> str | None:
    names = options.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None


def _task(family: str, architecture: str | None, folder: Path) -> str:
    task = _TASK_OF.get(architecture or "")
    if task is None or (architecture or "").lower().startswith(family) is False:
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
    own = shape[1:] if rule.stacked else shape
    if rule.operation == TRANSPOSE:
        return own[::-1]
    return (*own[:-1], 3 * own[-1]) if rule.operation == SPLIT else own


class _Matcher:
    """Matches every tensor of a folder to exactly one rule and keeps what is wrong."""

    def __init__(self, config: TransformerConfig, task: str) -> None:
        self.config, self.rules = config, rules.rules_for(config, task)
        self.shapes = shapes_of(config, task)
        self.twins = rules.twins(config, task)
        self.spare = rules.spare_biases(config, task)
        self.problems: list[str] = []
        self.found: dict[tuple[Rule, int | None], str] = {}
        self.doubles: list[tuple[str, str]] = []  # names whose tensors must be equal
        self.left_out: list[str] = []
        self._plain = {rule.source: rule for rule in self.rules if not rule.stacked}
        self._stacked = [rule for rule in self.rules if rule.stacked]

    def match(self, tensors: Tensors) -> None:
        family = self.config.family
        by_plain: dict[str, str] = {}
        for name in sorted(tensors.shapes):
            plain = rules.plain_name(family, name)
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
            if rule is not None:
                self._take(rule, layer, name, tensors)
            elif plain in self.spare or rules.OTHER_HEADS[family].fullmatch(plain):
                self.left_out.append(name)
            elif not rules.BUFFERS[family].fullmatch(plain):
                self.problems.append(f"{name} is not a weight of {family}")

    def _rule(self, plain: str) -> tuple[Rule | None, int | None]:
        if plain in self._plain:
            return self._plain[plain], None
        for rule in self._stacked:
            if found := rule.pattern.fullmatch(plain):
                return rule, int(found[1])
        return None, None

    def _take(self, rule: Rule, layer: int | None, name: str, tensors: Tensors) -> None:
        if layer is not None and layer >= self.config.num_layers:
            self.problems.append(f"{name} is beyond the {self.config.num_layers} blocks of the configuration")
            return
        expected = disk_shape(rule, self.shapes[rule.targets()[0]])
        if tensors.types[name] not in FLOATS:
            self.problems.append(f"{name} has type {tensors.types[name]}, not a floating-point type")
        if tensors.shapes[name] != expected:
            self.problems.append(f"{name} has shape {tensors.shapes[name]}, not {expected}")
        self.found[rule, layer] = name

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
        prefix = rules.PREFIX[self.config.family] if rule.base else ""
        if not rule.stacked:
            return [] if (rule, None) in self.found else [prefix + rule.source]
        present = {layer for found, layer in self.found if found is rule}
        if not present:  # one entry, however many blocks a damaged configuration asks for
            return [prefix + rule.source.replace("{layer}", "*")]
        layers = (layer for layer in range(self.config.num_layers) if layer not in present)
        return [prefix + rule.source.replace("{layer}", str(layer)) for layer in layers]


def _read(
    folder: Path, config: TransformerConfig, task: str, *, head_required: bool
) -> tuple[Params, set[ParameterPath]]:
    """Parameters as NumPy arrays, and the paths that are not in the folder and must be drawn."""
    tensors = Tensors(folder)
    matcher = _Matcher(config, task)
    matcher.match(tensors)
    new = matcher.missing(head_required)
    if matcher.problems:
        raise ArenaError(f"{folder} does not fit {config.family} for {task}: " + "; ".join(matcher.problems))
    filled: dict[ParameterPath, np.ndarray] = {
        path: np.empty(shape, jnp.dtype(config.param_dtype))
        for path, shape in matcher.shapes.items()
        if path not in new
    }
    problems = []
    for (rule, layer), name in matcher.found.items():
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
        raise ArenaError(f"{folder} cannot be used: " + "; ".join(problems))
    if matcher.left_out:
        log.info("%s: left out, as %s has no use for them: %s", folder, task, ", ".join(matcher.left_out))
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
