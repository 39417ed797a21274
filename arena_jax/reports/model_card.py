"""The card of an exported model: what it is, of which data, by which configuration, and how good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arena_jax import config as configuration
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.scores import SCORES
from arena_jax.reports.parity_figure import ParityFigure, parity_figure
from arena_jax.runs import document
from arena_jax.runs.document import Block, Heading, Items, Listing, Paragraph, Table
from arena_jax.runs.folder import load_run
from arena_jax.runs.records import read
from arena_jax.training.describe_models import describe_models
from arena_jax.training.restore import restore
from arena_jax.training.score_intervals import ScoreInterval, score_intervals

FILE = "README.md"
_PIPELINES = {
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
}
_OBJECTIVES = {"masked-lm": "fill-mask", "causal-lm": "text-generation"}


def write_card(run: Path, model: str, directory: Path, checkpoint: str = "newest") -> Path:
    """Score a run's model on its validation data, and write the card of its exported folder.

    Args:
        run: the run's folder.
        model: the model's name in the run.
        directory: what `arena_jax.training.export` wrote.
        checkpoint: which one was exported.

    Returns:
        The file, ``README.md``.

    Raises:
        ArenaError: there is no such run, model or checkpoint, or the card cannot be written.
    """
    config, records = load_run(run), read(run)
    parts, step, state = restore(run, config, checkpoint)
    rows = parts.validation[model]
    scores = score_intervals(step, state.params[model], model, rows, config.training.evaluation_batch_size)
    empty: dict[str, Any] = {"models": {model: {}}, "derived": []}
    start = next((record for record in records if record["kind"] == "start"), empty)
    # Its shape may have changed since.
    about = {**start, "models": {model: {**start["models"][model], **describe_models(parts)[model]}}}
    parity = parity_figure(directory)
    notes = [record["text"] for record in records if record["kind"] == "note" and record["text"].startswith(model)]
    blocks = _compose(config, model, about, notes, scores, len(rows), checkpoint, parity)
    file = directory / FILE
    try:
        file.write_text(f"{_front(config, model, about)}\n{document.markdown(blocks)}\n", encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write {file}: {error.strerror or error}") from None
    return file


def _parity(parity: ParityFigure) -> list[Block]:
    if not parity.rows:
        return [
            Paragraph(
                f"Not measured: {parity.reason}. `python -m parity --model FOLDER`, of the extra arena-jax[parity],"
                " compares this folder with transformers."
            )
        ]
    rows = [
        (row["layer"], f"{row['error']:.1e}", f"{row['tolerance']:.0e}", "agrees" if row["passed"] else "DIFFERS")
        for row in parity.rows
    ]
    versions = ", ".join(f"{name} {version}" for name, version in parity.versions.items())
    return [
        Table(("this folder, in float64", "worst relative error", "allowed", ""), rows),
        Paragraph(f"arena-jax beside transformers on PyTorch, by `python -m parity --model FOLDER`, with {versions}."),
    ]


def _front(config: RunConfig, model: str, about: dict[str, Any]) -> str:
    """What the Hub reads. It has no licence: that is for whoever publishes the model to choose."""
    from huggingface_hub import ModelCardData

    source = config.model(model).checkpoint
    task = about["models"].get(model, {}).get("task", "")
    facts = ModelCardData(
        library_name="transformers",
        pipeline_tag=_PIPELINES.get(config.task, _OBJECTIVES.get(task)),
        base_model=source if source and "/" in source and not Path(source).exists() else None,
        tags=["arena-jax", "jax"],
    )
    return f"---\n# license: choose one, and remove the first two characters of this line\n{facts.to_yaml()}\n---"


def _compose(
    config: RunConfig,
    model: str,
    about: dict[str, Any],
    notes: list[str],
    scores: dict[str, ScoreInterval],
    rows: int,
    checkpoint: str,
    parity: ParityFigure,
) -> list[Block]:
    facts = about["models"].get(model, {})
    others = [other.name for other in config.models if other.name != model]
    size = f"{facts['size']}, {facts['parameters']:,} parameters" if "parameters" in facts else "a transformer"
    kind = "competed for memory with" if config.arena else "trained together with"
    source = config.model(model).checkpoint
    table = [
        (SCORES[name].title if name in SCORES else name, f"{score.value:.4g}", f"[{score.low:.4g}, {score.high:.4g}]")
        for name, score in scores.items()
    ]
    table = [(name, value, "none" if "nan" in interval else interval) for name, value, interval in table]
    versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
    limits = [
        f"{name} {value}" for name in ("train_limit", "validation_limit") if (value := getattr(config.data, name))
    ]
    return [
        Heading(model, 1),
        Paragraph(
            f"{config.task}: {size}{f', begun from {source}' if source else ''}"
            + (f", {kind} {', '.join(others)} by arena-jax." if others else ", trained by arena-jax.")
        ),
        Heading("Data"),
        Items([", ".join([config.data.name, *limits]), *notes]),
        Heading("Scores"),
        Table(("on the validation data", "value", "95 %"), table),
        Paragraph(
            f"Of the checkpoint “{checkpoint}”, on {rows:,} rows, seed {config.training.seed}. Intervals: jackknife"
            " over groups of rows; they say what other rows would change, not what another seed would."
        ),
        Heading("Command"),
        Paragraph("`arena-jax train --config config.json`, with this file:"),
        Listing(json.dumps(configuration.to_dict(config), indent=1, ensure_ascii=False)),
        Paragraph(f"It ran with {versions}." if versions else "What it ran with is not recorded."),
        Heading("Parity"),
        *_parity(parity),
        Heading("Licence"),
        Paragraph("None is given here: it is for whoever publishes the model to choose."),
    ]
