"""The training section of a run's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from arena_jax.config.address import is_address
from arena_jax.config.errors import ArenaError
from arena_jax.config.fields import check, option
from arena_jax.config.scores import SCORES
from arena_jax.config.step_window import parse_steps
from arena_jax.config.units import parse_duration

# Libraries that track runs; TensorBoard's events need none.
TRACKERS = ("trackio", "wandb", "mlflow")


@dataclass(frozen=True)
class TrainingConfig:
    """How long, in what pieces, with what precision, and what is written."""

    steps: int | None = option(None, "length of training; give this or epochs", unit="steps", low=1)
    epochs: int | None = option(
        None, "length of training in passes over the data; give this or steps", unit="epochs", low=1
    )
    batch_size: int = option(32, "examples per model and step, over all devices", unit="examples", low=1)
    accumulation: int = option(
        1, "parts a batch is computed in, one after the other, to save memory", unit="microbatches", low=1
    )
    evaluation_batch_size: int = option(64, "examples per model and evaluation step", unit="examples", low=1)
    log_every: int = option(10, "print and record training every so many steps", unit="steps", low=1)
    evaluate_every: int | None = option(
        None,
        "score the models every so many steps; if not given, once an epoch, and those of a competition as often as"
        " arena.evaluation_share pays for",
        unit="steps",
        low=1,
    )
    checkpoint_every: int | None = option(
        None, "save the whole state every so many steps; at the end only if not given", unit="steps", low=1
    )
    keep_checkpoints: int = option(
        3, "newest checkpoints that stay on disk, beside the best by score", unit="checkpoints", low=1
    )
    score: str = option(
        "loss",
        "what on the validation data says which checkpoint is best, and whether there is a gain: its mean over the"
        " models, and of a competition its value by the objective",
        choices=tuple(SCORES),
    )
    stop_after_no_gain: int | None = option(
        None,
        "end after so many evaluations in a row without a better score, and save at each better one; none: never",
        unit="evaluations",
        low=1,
    )
    max_nonfinite_steps: int | None = option(
        5,
        "steps in a row, skipped because its loss or gradient was not finite, after which a model has diverged; none:"
        " never",
        unit="steps",
        low=1,
    )
    on_nonfinite: str = option(
        "restore",
        "what a model does that has diverged: goes back to the last checkpoint in which it was finite (frozen if there"
        " is none, or if that does not help), is frozen, or stops the run",
        choices=("restore", "freeze", "stop"),
    )
    seed: int = option(0, "fixes initial weights, data order, masking and dropout", low=0, high=2**32 - 1)
    dtype: str = option(
        "float32",
        "precision of the computation; parameters stay float32; auto: bfloat16 where the device's matrix units have it",
        choices=("float32", "bfloat16", "auto"),
    )
    remat: str = option(
        "dots",
        "what a block keeps for its backward pass: all of it (none), its products with kernels (dots), or its input"
        " alone (block); auto: the first of these whose step fits the device",
        choices=("none", "dots", "block", "auto"),
        older={False: "dots", True: "block"},
    )
    attention: str = option(
        "xla",
        "how it is computed: all weights at once (xla), those of some queries at a time (chunked), by NVIDIA's library"
        " (cudnn: bfloat16, attention_dropout 0); auto: by that where it can, on a CPU in chunks from 1024 tokens on,"
        " else all at once",
        choices=("auto", "xla", "chunked", "cudnn"),
    )
    devices: int | None = option(None, "how many devices share each batch; all if not given", unit="devices", low=1)
    shard: str = option(
        "none",
        "parameters: they, their gradients and the optimizer's states are dealt out over the devices of each machine;"
        " none: every device holds all of them",
        choices=("none", "parameters"),
    )
    figures: bool = option(True, "write report.html at every evaluation, and draw figures at the end")
    tensorboard: bool = option(True, "write TensorBoard events")
    track: tuple[str, ...] = option(
        (),
        "trackers that the same numbers are sent to, each through its own library; tensorboard: its events, which are"
        " written by default",
        choices=(*TRACKERS, "tensorboard"),
    )
    histograms: bool = option(
        False, "of gradients and weights, part by part, whenever training is recorded (about 5 kB a model and record)"
    )
    profile: str | None = option(
        None, "trace what each operation takes from one step to another, e.g. 10:20, for Perfetto and XProf"
    )
    mirror: str | None = option(
        None, "object storage that each checkpoint is copied to, with all that the run needs to go on: s3://bucket/run"
    )
    output: str | None = option(None, "folder of the run; runs/PRESET-NUMBER if not given")
    stop_after: str | None = option(
        None, "time after which a session saves and stops, to be resumed, for as long again: 90s, 10min or 1.5h"
    )

    def __post_init__(self) -> None:
        check(self, "training.")
        if self.output is not None and is_address(self.output):
            raise ArenaError(f"a run's folder is on this machine: give --output FOLDER --mirror {self.output}")
        if not self.tensorboard and "tensorboard" in self.track:
            raise ArenaError("training.tensorboard is off, and training.track names tensorboard: give one of them")
        if self.stop_after is not None:
            parse_duration(self.stop_after)
        if self.profile is not None:
            parse_steps(self.profile, "training.profile")
        if self.steps is not None and self.epochs is not None:
            raise ArenaError("training: give either steps or epochs; both are given")
        if self.batch_size % self.accumulation:
            raise ArenaError(
                f"training.batch_size {self.batch_size} does not divide into accumulation {self.accumulation}"
                " equal parts; change one"
            )
