"""One model of a run: a size by name or a checkpoint, and what is changed about it."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass

from arena_jax.config.component_rates import read_component_rates, settle_component_rates
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.fields import check, error_text, option

# Written out because arena_jax.models imports jax, which `arena-jax --help` must not wait for; a test compares the two.
MODEL_PRESETS = (
    "bert-tiny",
    "bert-base",
    "bert-large",
    "roberta-tiny",
    "roberta-base",
    "roberta-large",
    "gpt2-tiny",
    "gpt2",
    "gpt2-medium",
    "gpt2-large",
    "gpt2-xl",
)
CORPUS = "corpus"  # as the start of a model
START_PARTS = ("embeddings", "positions", "norms", "blocks")
# What a run may change about the size of a preset; a checkpoint's weights fix them.
SIZES = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions")
OF_PRESETS = (*SIZES, "initializer_range")  # and about its first values, which a checkpoint has already


@dataclass(frozen=True)
class ModelConfig:
    """One model of a run: a size by name or a checkpoint, and what is changed about it.

    Example:
        >>> ModelConfig("bert", preset="bert-tiny", weight=1.2).family
        'bert'
    """

    name: str = option(MISSING, "what the run calls this model (letters, digits, - and _)")
    preset: str | None = option(None, "size by name, started from random weights", choices=MODEL_PRESETS)
    checkpoint: str | None = option(None, "Hugging Face folder or hub id to start from, instead of a preset")
    hidden_size: int | None = option(
        None, "width of the hidden vectors; the preset's if not given", unit="features", low=1
    )
    num_layers: int | None = option(None, "number of blocks; the preset's if not given", unit="layers", low=1)
    num_heads: int | None = option(None, "attention heads per block; the preset's if not given", unit="heads", low=1)
    intermediate_size: int | None = option(
        None, "width inside the feed-forward part; the preset's if not given", unit="features", low=1
    )
    max_positions: int | None = option(
        None, "longest input the model can take; the preset's if not given", unit="tokens", low=4
    )
    initializer_range: float | None = option(
        None,
        "standard deviation of new kernels and embeddings; the preset's, 0.02, if not given",
        unit="standard deviation",
        above=0,
    )
    dropout: float | None = option(
        None,
        "probability of dropping a value in training; the preset's if not given",
        unit="probability",
        low=0,
        below=1,
    )
    attention_dropout: float | None = option(
        None,
        "probability of dropping an attention weight in training; dropout's or the preset's if not given",
        unit="probability",
        low=0,
        below=1,
    )
    batch_size: int | None = option(
        None,
        "examples of this model per step, over all devices, in a competition at least; the run's if not given",
        unit="examples",
        low=1,
    )
    accumulation: int | None = option(
        None,
        "parts this model's batch is computed in, in a competition at least; the run's if not given",
        unit="microbatches",
        low=1,
    )
    weight: float = option(
        1.0, "weight of this model in sharing and synchronisation, relative to the others", unit="relative", above=0
    )
    learning_rate: float | None = option(
        None, "peak learning rate of this model; the run's if not given", unit="per step", above=0
    )
    component_rates: tuple[tuple[str, tuple[float, ...]], ...] = option(
        (),
        "what parts of this model multiply its learning rate by, as in optimizer.component_rates; the run's if not"
        " given",
        read=read_component_rates,
    )
    tokenizer: str | None = option(
        None, "Hugging Face tokenizer (folder or hub id); one is trained on the data if not given"
    )
    pad_token: str | None = option(
        None, "token that fills rows up; the tokenizer's own if not given, and its end of text where it has none"
    )
    vocab_size: int = option(
        4096, "largest vocabulary of a tokenizer trained on the data", unit="tokens", low=300, high=1_000_000
    )

    start: str | None = option(
        None,
        "what a preset's model begins with instead of random tables: corpus (a table of the training texts), another"
        " model of the run that has one, or a Hugging Face folder or hub id, tokens matched by their text",
    )
    start_parts: tuple[str, ...] = option(
        (), "what start hands down, of embeddings, positions, norms, blocks; the tables it has if not given"
    )

    def __post_init__(self) -> None:
        where = f"model {error_text(self.name)}: "
        check(self, where)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", self.name):
            raise ArenaError(f"{where}a name has 1 to 40 letters, digits, - or _, e.g. 'bert-small'")
        if (self.preset is None) == (self.checkpoint is None):
            raise ArenaError(f"{where}give either a preset (e.g. bert-tiny) or a checkpoint, one of the two")
        rates = settle_component_rates(self.component_rates, f"{where}component_rates")
        object.__setattr__(self, "component_rates", rates)
        self._check_start(where)
        of_presets = [field for field in OF_PRESETS if getattr(self, field) is not None]
        if self.checkpoint is not None and of_presets:
            raise ArenaError(
                f"{where}{of_presets[0]} cannot be changed: the checkpoint's weights fix it; remove the field"
            )
        if self.hidden_size and self.num_heads and self.hidden_size % self.num_heads:
            raise ArenaError(
                f"{where}hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}; change one"
            )

    def _check_start(self, where: str) -> None:
        if self.start is not None and self.checkpoint is not None:
            raise ArenaError(
                f"{where}both a checkpoint and a start are given: a start fills a preset's model; give one"
            )
        if self.start_parts and self.start is None:
            raise ArenaError(f"{where}start_parts does nothing without a start; give one, e.g. corpus")
        for part in self.start_parts:
            if part not in START_PARTS:
                raise ArenaError(f"{where}start_parts has no '{part}'; {nearest(part, START_PARTS)}")
        if self.start == CORPUS and self.start_parts not in ((), ("embeddings",)):
            raise ArenaError(f"{where}a corpus has token rows alone: leave start_parts out")

    @property
    def family(self) -> str | None:
        """The architecture, "bert", "roberta" or "gpt2"; None for a checkpoint, whose config.json says it."""
        return None if self.preset is None else self.preset.split("-")[0]
