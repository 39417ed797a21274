"""One model on both sides: the PyTorch reference, and ours loaded from the folder that the reference wrote."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import transformers

from arena_jax import models
from arena_jax.config.agreement import check
from arena_jax.models.huggingface.tokenizer_files import tokenizer_facts
from parity.inputs import Sizes
from parity.reference import losses
from parity.reference import models as reference_models
from parity.reference.parameters import Parameter, literal_parameters

transformers.utils.logging.disable_progress_bar()
# The models are so small that threads only wait for one another.
torch.set_num_threads(1)
DTYPES = ("float64", "float32", "bfloat16")
# Which task shows the encoder of a family; the others then need only show their head.
LABELS = ("labels", "start_positions", "end_positions")
MAIN_TASK = {"bert": "masked-lm", "roberta": "masked-lm", "gpt2": "causal-lm"}


def reported(family: str, task: str) -> tuple[str, ...]:
    """The types a model is checked in: bfloat16 for a language model and a classifier of each family."""
    return DTYPES if task in (MAIN_TASK[family], "sequence-classification") else DTYPES[:2]


@dataclasses.dataclass(frozen=True)
class Case:
    """A reference model and its folder; ``ours`` reads the folder afresh at each call: a fault can come between.

    Attributes:
        family: "bert", "roberta" or "gpt2".
        task: one of the five.
        reference: the PyTorch model in float64, in evaluation mode.
        folder: where it was saved.
    """

    family: str
    task: str
    reference: Any
    folder: Path

    @property
    def sizes(self) -> Sizes:
        """What batches must fit."""
        return Sizes.of(self.reference.config)

    @property
    def classes(self) -> int:
        """Labels of a classifier."""
        return self.reference.config.num_labels

    @property
    def literals(self) -> list[Parameter]:
        """The reference's parameters, as the papers see them."""
        return literal_parameters(self.reference)

    def ours(self, dtype: str, **overrides: Any) -> models.Transformer:
        """Our model, computing in ``dtype``; parameters are float32 where that is bfloat16."""
        wide = "float64" if dtype == "float64" else "float32"
        return models.from_pretrained(self.folder, self.task, param_dtype=wide, dtype=dtype, **overrides)

    def torch_outputs(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """What the reference says of a batch, hidden states included."""
        return self.reference(**tensors(inputs), output_hidden_states=True)

    def torch_loss(self, labelled: Mapping[str, np.ndarray]) -> torch.Tensor:
        """The reference's mean loss of a batch that holds its labels too."""
        given = tensors(labelled)
        labels = {name: given.pop(name) for name in LABELS if name in given}
        return losses.loss(self.task, self.reference(**given), labels)


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Whole numbers as PyTorch wants them."""
    return {name: torch.tensor(np.asarray(value), dtype=torch.long) for name, value in arrays.items()}


@functools.cache
def scratch() -> Path:
    """A folder for the whole process; it goes away with it."""
    folder = tempfile.mkdtemp(prefix="parity-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def random_case(family: str, task: str, seed: int = 0, options: tuple[tuple[str, Any], ...] = ()) -> Case:
    """A small perturbed model. ``options`` are fields of the Hugging Face configuration."""
    reference = reference_models.create(family, task, seed=seed, **dict(options))
    name = "-".join([family, task, str(seed), *(f"{k}={v}" for k, v in options)])
    folder = scratch() / name
    reference.save_pretrained(folder)
    return Case(family, task, reference, folder)


def given_case(folder: Path, task: str | None = None) -> Case:
    """A user's checkpoint: any local Hugging Face folder of the three families.

    Raises:
        ValueError: another family, or a folder whose task has to be named.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no Hugging Face folder: there is no config.json in it")
    config = transformers.AutoConfig.from_pretrained(folder)
    if config.model_type not in reference_models.FAMILIES:
        known = ", ".join(reference_models.FAMILIES)
        raise ValueError(f"{folder} holds a {config.model_type} model; parity knows {known}")
    if task is None:
        names = {kind.__name__: t for (f, t), kind in reference_models.CLASSES.items() if f == config.model_type}
        architecture = (config.architectures or ["none"])[0]
        if architecture not in names:
            raise ValueError(f"{folder} holds a {architecture}: say with --task what it is to be read as")
        task = names[architecture]
    tokenizer = tokenizer_facts(folder)
    if tokenizer is not None:
        check(models.facts(models.read_config(folder), task, str(folder)), tokenizer)
    kind = reference_models.CLASSES[config.model_type, task]
    reference = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64)
    return Case(config.model_type, task, reference.eval(), folder)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """64-bit numbers in JAX where the check asks for them, and full matrix products everywhere."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        yield
