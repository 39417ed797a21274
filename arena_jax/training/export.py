"""One model of a run as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from arena_jax import models
from arena_jax.models.huggingface.save import check_folder
from arena_jax.runs.folder import load_run
from arena_jax.training.restore import restore


def export(run: Path, model: str, directory: Path, checkpoint: str = "newest") -> None:
    """Write one model of a run's checkpoint as a Hugging Face folder, tokenizer included.

    Args:
        run: the run's folder.
        model: the model's name in the run.
        directory: made if it is not there.
        checkpoint: ``"newest"``, ``"best"`` (by the run's score), a step, ``"ema"`` or ``"mean:K"``; see
            :func:`restore`.

    Raises:
        ArenaError: no such run or model, or a folder that cannot be written or must not be: it holds a run, or is the
            one that the model came from.
    """
    config = load_run(run)
    origin = config.model(model).checkpoint
    check_folder(directory, run, *([origin] if origin else []))
    parts, step, state = restore(run, config, checkpoint)
    trained = models.merge(step.structures[model], state.params[model])
    tokenizer = parts.tokenizers[model]
    models.save_pretrained(
        trained, directory, also=lambda folder: tokenizer.save(folder, max_length=trained.config.max_length)
    )
