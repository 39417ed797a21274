"""The data section of a run's configuration."""

from __future__ import annotations

from dataclasses import MISSING, dataclass

from arena_jax.config.errors import ArenaError
from arena_jax.config.fields import check, error_text, option
from arena_jax.config.tasks import DOCUMENTS, PROBLEM_TYPES


@dataclass(frozen=True)
class DataConfig:
    """What is learnt from: a data set, its columns, and the lengths its examples are cut and padded to."""

    name: str = option(MISSING, "built-in or known data set, file, folder, hub id, or address to stream", flag="data")
    subset: str | None = option(None, "name of the configuration inside a hub data set")
    columns: tuple[tuple[str, str], ...] = option(
        (), "which column plays which part, e.g. text=sentence,label=label; guessed for known data"
    )
    max_length: int = option(
        128, "longest input; what is cut off is counted and reported", unit="tokens", low=4, high=1_000_000
    )
    lengths: tuple[int, ...] = option(
        (),
        "padded lengths below max-length, e.g. 16,32 (each costs one compilation); none: max-length only",
        unit="tokens",
        low=4,
    )
    documents: str = option(
        "joined",
        "what a row of a language model holds: a part of all texts joined, one text (apart), or several texts that do"
        " not see one another (packed)",
        choices=DOCUMENTS,
    )
    label_names: tuple[str, ...] = option(
        (), "names of class 0, 1, …, where data hold numbers, or their order, where data hold names"
    )
    problem_type: str | None = option(
        None,
        "what labels of sequence classification are; one class each if not given",
        choices=PROBLEM_TYPES,
    )
    new_head: bool = option(False, "draw the heads of checkpoints anew, for classes that are not theirs")
    max_bad_records: float = option(
        0.05,
        "largest part of the records that may be left out because they cannot be used",
        unit="fraction",
        low=0,
        below=1,
    )
    validation_fraction: float = option(
        0.1,
        "part of the training split held out where the data has no validation split",
        unit="fraction",
        above=0,
        below=1,
    )
    hold_out: str = option(
        "rows",
        "sentences: validation data are whole sentences of the training split, and every text contained in one of them"
        " is dropped, also where there is a validation split; rows: examples, where there is none",
        choices=("rows", "sentences"),
    )
    train_limit: int | None = option(
        None, "use only this many training examples; all if not given", unit="examples", low=1
    )
    validation_limit: int | None = option(
        None, "score only this many examples; all if not given", unit="examples", low=1
    )

    def __post_init__(self) -> None:
        check(self, "data.")
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ArenaError(f"data.lengths is {error_text(self.lengths)}: lengths must rise, e.g. 16,32,64")
        if self.lengths and self.lengths[-1] > self.max_length:
            raise ArenaError(
                f"data.lengths reaches {self.lengths[-1]}, above data.max_length {self.max_length}; raise max_length"
            )

    @property
    def padded_lengths(self) -> tuple[int, ...]:
        """Every length a batch may have, in tokens; the last is `max_length`."""
        return tuple(sorted({*self.lengths, self.max_length}))
