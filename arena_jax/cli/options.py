"""The command line's options, one per field of the configuration, and how they change a configuration."""

from __future__ import annotations

import argparse
import dataclasses
import math
import textwrap
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arena_jax.config import ModelConfig, OptimizerConfig, RunConfig
from arena_jax.config.change import EVERY, SECTIONS, replace_fields, replace_length
from arena_jax.config.component_rates import Rates
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.fields import hints, optional
from arena_jax.config.forms import FORMS
from arena_jax.config.model import MODEL_PRESETS
from arena_jax.config.optimizer import ARGUMENTS, OPTIMIZERS

_TITLES = {
    "data": "what is learnt from",
    "optimizer": "how the models are updated, alone and together",
    "training": "how long, in what pieces, and what is written",
    "together": "what the models learn from one another",
    "arena": "models compete for memory; any of these makes a run a competition",
}


# Names that transformers' TrainingArguments and example scripts have for the same thing.
ALIASES = {
    "--epochs": ("--num-train-epochs",),
    "--steps": ("--max-steps",),
    "--log-every": ("--logging-steps",),
    "--evaluate-every": ("--eval-steps",),
    "--checkpoint-every": ("--save-steps",),
    "--keep-checkpoints": ("--save-total-limit",),
    "--max-gradient-norm": ("--max-grad-norm",),
    "--b1": ("--adam-beta1",),
    "--b2": ("--adam-beta2",),
    "--epsilon": ("--adam-epsilon",),
    "--output": ("--output-dir",),
    "--max-length": ("--max-seq-length",),
    "--data": ("--dataset-name",),
    "--train-limit": ("--max-train-samples",),
    "--validation-limit": ("--max-eval-samples",),
    "--score": ("--metric-for-best-model",),
    "--stop-after-no-gain": ("--early-stopping-patience",),
}
_WHOLE = (
    "here --batch-size is over all devices, and --accumulation divides it: give per device × devices × accumulation"
)
_SCORED = (
    "here --evaluate-every counts steps; without it models are scored once an epoch, and those of a competition as"
    " often as --evaluation-share pays for"
)
# Those that mean something else here: what to give instead.
OTHERWISE = {
    "--per-device-train-batch-size": _WHOLE,
    "--per-device-batch-size": _WHOLE,
    "--per-device-eval-batch-size": "here --evaluation-batch-size is over all devices: give per device × devices",
    "--gradient-accumulation-steps": "here --accumulation divides --batch-size, and does not multiply it: give both",
    "--gradient-checkpointing": "here --remat block does that",
    "--bf16": "here --dtype bfloat16 does that",
    "--fp16": "float16 is not offered: --dtype bfloat16 needs no scaling of the loss",
    "--lr-scheduler-type": "here --decay says how the learning rate falls",
    "--warmup-ratio": "here --warmup-steps counts steps",
    "--report-to": "here --track names trackers, and TensorBoard events are written unless --no-tensorboard is given",
    "--model-name-or-path": "here --models NAME=SOURCE,… names all models of a run",
    "--resume-from-checkpoint": "here `arena-jax resume RUN` goes on",
    "--optim": "here --optimizer names what updates the models",
    "--eval-strategy": _SCORED,
    "--evaluation-strategy": _SCORED,
    "--save-strategy": "here --checkpoint-every counts steps; the end is always saved",
    "--load-best-model-at-end": "here the best checkpoint is kept: evaluate and export take --checkpoint best",
    "--overwrite-output-dir": "a folder that holds a run is not written over: give another --output",
    "--do-train": "train always trains and scores; `arena-jax evaluate` and `arena-jax predict` do the rest",
    "--do-eval": "train always trains and scores; `arena-jax evaluate` and `arena-jax predict` do the rest",
    "--run-name": "here --output names the run's folder",
    "--train-file": "here --data takes a file, a folder with one for each split, or a pattern",
    "--validation-file": "here --data takes a folder with a file for each split, or holds out --validation-fraction",
    "--tokenizer-name": "here a model's folder brings its tokenizer: --models NAME=FOLDER",
    "--group-by-length": "here --lengths pads short batches less",
    "--auto-find-batch-size": "here `arena-jax plan` says which batch fits a device",
    "--push-to-hub": "here `arena-jax export RUN MODEL FOLDER --push OWNER/NAME` does that",
    "--fsdp": "here --shard parameters deals parameters out over the devices",
    "--use-cpu": "here the environment says so: JAX_PLATFORMS=cpu",
}


def flags() -> dict[str, tuple[str, dataclasses.Field[Any]]]:
    """Every field that has an option of its own.

    Returns:
        ``{flag: (section, field)}``; a name that two sections use carries its section's in the later one.
    """
    fields: dict[str, tuple[str, dataclasses.Field[Any]]] = {}
    for section, kind in SECTIONS.items():
        for field in dataclasses.fields(kind):
            flag = "--" + (field.metadata["flag"] or field.name.replace("_", "-"))
            if flag in fields:
                flag = f"--{section}-{flag[2:]}"
            fields[flag] = (section, field)
    return fields


def add_options(parser: argparse.ArgumentParser, run: RunConfig | None) -> None:
    """Add an option per field.

    Args:
        parser: of the train command.
        run: the configuration whose values the help shows; None shows what a field is when nothing is given.
    """
    models = parser.add_argument_group("models")
    models.add_argument(
        "--models",
        metavar="NAME=SOURCE,…",
        help="which models train together: NAME of the preset's, or NAME=SOURCE with a size"
        f" ({', '.join(MODEL_PRESETS)}) or a Hugging Face folder or id" + _current(run, _models_text),
    )
    models.add_argument(
        "--model",
        metavar="NAME.FIELD=VALUE",
        action="append",
        help="change one model, e.g. bert.weight=1.2, or each, *.start=corpus; can be repeated; the fields stand at"
        " the end of this page",
    )
    task = next(field for field in dataclasses.fields(RunConfig) if field.name == "task")
    models.add_argument(
        "--task",
        choices=task.metadata["choices"],
        metavar="TASK",
        help=f"{', '.join(task.metadata['choices'])}" + _current(run, lambda run: run.task),
    )
    groups = {section: parser.add_argument_group(f"{section}: {title}") for section, title in _TITLES.items()}
    for flag, (section, field) in flags().items():
        _add(groups[section], flag, section, field, run)


def _add(group: Any, flag: str, section: str, field: dataclasses.Field[Any], run: RunConfig | None) -> None:
    hint, _ = optional(hints(SECTIONS[section])[field.name])
    dest = f"{section}.{field.name}"
    values = SECTIONS[section] if run is None else getattr(run, section) or SECTIONS[section]
    if isinstance(values, OptimizerConfig):
        values = values.resolved()
    default = getattr(values, field.name, "must be given" if field.name == "name" else None)
    default_text = _text(default)
    if section == "optimizer" and field.name in ARGUMENTS and run is None:
        default_text = _by_form(ARGUMENTS[field.name])  # left open it is what the form says
    elif section == "optimizer" and default is None:  # the same for what the optimizer says
        default_text = _by_optimizer(field.name) if run is None else f"{run.optimizer.inner} has none"
    help = f"{_about(field)} [{default_text}]".replace("%", "%%")
    if hint is bool:
        group.add_argument(flag, dest=dest, default=None, action=argparse.BooleanOptionalAction, help=help)
        return
    choices = field.metadata["choices"]
    metavar = "{" + ",".join(choices) + "}" if choices else _METAVARS.get(hint, "N,…")
    group.add_argument(flag, *ALIASES.get(flag, ()), dest=dest, default=None, metavar=metavar, help=help)


_METAVARS = {
    int: "N",
    float: "X",
    str: "TEXT",
    tuple[str, ...]: "PATTERN,…",
    tuple[float, ...]: "FILE|X,…",
    tuple[tuple[str, str], ...]: "NAME=VALUE,…",
    Rates: "FILE|PART=X,…",
}


def _by_form(argument: str) -> str:
    """What an argument of the optimizer that is left open is in each form."""
    values = {form: _text(arguments[argument]) for form, arguments in FORMS.items()}
    if len(set(values.values())) == 1:
        return values["default"]
    return "depends on the form: " + ", ".join(f"{form} {value}" for form, value in values.items())


def _by_optimizer(name: str) -> str:
    """What a field that is left open is in each optimizer that has it."""
    values = {inner: _text(fields[name]) for inner, fields in OPTIMIZERS.items() if name in fields}
    return "depends on the optimizer: " + ", ".join(f"{inner} {value}" for inner, value in values.items())


def _about(field: dataclasses.Field[Any]) -> str:
    unit = field.metadata["unit"]
    return field.metadata["help"] + (f" ({unit})" if unit else "")


def model_fields() -> str:
    """The page's end: every field of a model, a line or two each."""
    lines = ["fields of a model, for --model NAME.FIELD=VALUE:"]
    for field in dataclasses.fields(ModelConfig)[1:]:
        about = _about(field) + ("" if field.default is None else f" [{_text(field.default)}]")
        lines += textwrap.wrap(
            about, 92, initial_indent=f"  {field.name:20}  ", subsequent_indent=" " * 24, break_on_hyphens=False
        )
    return "\n".join(lines)


def _current(run: RunConfig | None, text: typing.Callable[[RunConfig], str]) -> str:
    return "" if run is None else f" [{text(run)}]"


def _models_text(run: RunConfig) -> str:
    return ",".join(f"{model.name}={model.preset or model.checkpoint}" for model in run.models)


def _text(value: Any) -> str:
    """Write a value as it would be given."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(_pair_text(*member) if isinstance(member, tuple) else str(member) for member in value)
    return str(value)


def _pair_text(name: str, value: Any) -> str:
    return f"{name}={'/'.join(map(_text, value)) if isinstance(value, tuple) else value}"


def parse(text: str, hint: Any, where: str) -> Any:
    """Read a value of a field's type from the command line.

    Args:
        text: as it was given; "none" leaves a field open that may be left open.
        hint: the field's type.
        where: the option, for an error.

    Returns:
        The value, still to be checked by the configuration.

    Raises:
        ArenaError: text of another form.

    Example:
        >>> parse("1e-3", float, "--learning-rate"), parse("none", int | None, "--steps")
        (0.001, None)
        >>> parse("text=sentence", tuple[tuple[str, str], ...], "--columns")
        (('text', 'sentence'),)
    """
    inner, may_be_none = optional(hint)
    if may_be_none and text == "none":
        return None
    if inner is str:
        return text
    if inner is bool:
        if text not in ("yes", "no", "true", "false"):
            raise ArenaError(f"{where} is '{text}': it must be yes or no")
        return text in ("yes", "true")
    if typing.get_origin(inner) is tuple:
        member = inner.__args__[0]
        parts = [] if text in ("", "none") else [part.strip() for part in text.split(",")]
        if typing.get_origin(member) is tuple:
            return tuple(_pair(part, where) for part in parts)
        return tuple(parse(part, member, where) for part in parts)
    try:
        value = inner(text)
    except ValueError:
        raise ArenaError(f"{where} is '{text}': it must be {_WORDS[inner]}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ArenaError(f"{where} is '{text}': it must be a finite number")
    return value


def _parse_field(field: dataclasses.Field[Any], text: str, hint: Any, where: str) -> Any:
    read = field.metadata["read"]
    return parse(text, hint, where) if read is None else read(text, where)


_WORDS = {int: "a whole number", float: "a number"}


def _pair(text: str, where: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArenaError(f"{where} holds '{text}': write NAME=VALUE, several with commas between")
    return name.strip(), value.strip()


def apply(run: RunConfig, words: Mapping[str, Any]) -> RunConfig:
    """Change a configuration by the options of a command line.

    Args:
        run: from a preset or a file.
        words: the parsed options by destination; None for those that were not given.

    Returns:
        The changed configuration, checked.

    Raises:
        ArenaError: naming the option that does not fit.
    """
    changes: dict[str, dict[str, Any]] = {}
    for flag, (section, field) in flags().items():
        text = words.get(f"{section}.{field.name}")
        if text is not None:
            hint = hints(SECTIONS[section])[field.name]
            value = text if isinstance(text, bool) else _parse_field(field, text, hint, flag)
            changes.setdefault(section, {})[field.name] = value
    changes = replace_length(changes, competes=run.arena is not None)
    sections = {
        section: dataclasses.replace(getattr(run, section) or SECTIONS[section](), **values)
        for section, values in changes.items()
    }
    if words.get("task"):
        sections["task"] = words["task"]
    models = _choose(run.models, words["models"]) if words.get("models") is not None else run.models
    return dataclasses.replace(run, models=_change(models, words.get("model") or ()), **sections)


def _choose(models: Sequence[ModelConfig], text: str) -> tuple[ModelConfig, ...]:
    """The models of `--models`; one that is there already keeps what is known of it."""
    by_name = {model.name: model for model in models}
    selection = []
    for part in (part.strip() for part in text.split(",")):
        name, equals, source = (piece.strip() for piece in part.partition("="))
        if not equals:
            if name not in by_name:
                raise ArenaError(f"--models names '{name}', which the preset does not have; {nearest(name, by_name)}")
            selection.append(by_name[name])
            continue
        if name in by_name and source in (by_name[name].preset, by_name[name].checkpoint):
            selection.append(by_name[name])
        elif source in MODEL_PRESETS:
            selection.append(ModelConfig(name, preset=source))
        elif "/" in source or Path(source).is_dir():
            selection.append(ModelConfig(name, checkpoint=source))
        else:
            raise ArenaError(
                f"--models: '{source}' is neither a size nor a folder nor an id like owner/name;"
                f" {nearest(source, MODEL_PRESETS)}"
            )
    return tuple(selection)


def _change(models: Sequence[ModelConfig], changes: Sequence[str]) -> tuple[ModelConfig, ...]:
    values: dict[str, dict[str, Any]] = {name: {} for name in (EVERY, *(model.name for model in models))}
    kinds, fields = hints(ModelConfig), {field.name: field for field in dataclasses.fields(ModelConfig)}
    for text in changes:
        where, equals, value = text.partition("=")
        name, dot, field = where.partition(".")
        if not equals or not dot:
            raise ArenaError(f"--model is '{text}': write NAME.FIELD=VALUE, e.g. bert.weight=1.2")
        if name != EVERY and name not in values:
            raise ArenaError(f"--model {where}: this run has no model '{name}'; {nearest(name, values)}")
        if field not in kinds:
            raise ArenaError(f"--model {where}: a model has no field '{field}'; {nearest(field, kinds)}")
        values[name][field] = _parse_field(fields[field], value, kinds[field], f"--model {where}")
    return tuple(replace_fields(model, values[EVERY] | values[model.name]) for model in models)
