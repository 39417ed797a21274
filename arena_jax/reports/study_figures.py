"""The scaling study's figure: loss against operations for every arm, and what each arm gains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError
from arena_jax.reports.figures import STYLE
from arena_jax.runs.curves import COLOURS


def draw(study: Mapping[str, Any], folder: Path) -> Path:
    """Draw ``study.png``.

    Args:
        study: what ``result.json`` holds.
        folder: of the study.

    Returns:
        The file.

    Raises:
        ArenaError: the folder cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(11.0, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        arms = list(study["table"])
        # Arms whose colours are used up are dashed, on both sides.
        look = {
            arm: {"color": COLOURS[i % len(COLOURS)], "ls": "--" if i >= len(COLOURS) else "-"}
            for i, arm in enumerate(arms)
        }
        baseline = [cell["loss"] for cell in study["table"]["adamw"]]
        for i, (arm, cells) in enumerate(study["table"].items()):
            aside = 1.04 ** (i - len(arms) / 2)  # side by side, or one would hide the next
            points = [
                (cell["flops"] * aside, cell["loss"] - base, cell["loss_half_interval"] or 0.0)
                for cell, base in zip(cells, baseline, strict=True)
                if cell["loss"] is not None and base is not None
            ]
            if points:
                x, y, half = zip(*points, strict=True)
                left.errorbar(x, y, yerr=half, label=arm, marker="o", ms=4, capsize=2, **look[arm])
        left.set_xscale("log")
        left.set(
            title="Loss beside tuned AdamW", xlabel="operations of one training", ylabel="nats per byte, above AdamW"
        )
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(arms))
        gains = {arm: by["adamw"] for arm, by in study["gains"].items() if by.get("adamw", {}).get("gain") is not None}
        for row, (arm, gain) in enumerate(gains.items()):
            low, high = gain["low"] or gain["gain"], gain["high"] or gain["gain"]
            right.plot([low, high], [row, row], lw=2, **look[arm])
            color, largest = look[arm]["color"], gain["at_largest"]["gain"]
            right.plot(gain["gain"], row, "o", color=color, label=None if row else "all sizes")
            if largest is not None:
                label = None if row else "the largest size alone"
                right.plot(largest, row, "D", ms=6, mfc="white", color=color, label=label)
        right.axvline(1.0, color="#999999", lw=1)
        right.set_yticks(range(len(gains)), list(gains))
        right.invert_yaxis()
        right.legend()
        right.set(title="Compute-equivalent gain, 95 %", xlabel="times AdamW's compute that buys the same loss")
        path = folder / "study.png"
        try:
            figure.savefig(path)
        except OSError as error:
            raise ArenaError(f"cannot write '{path}': {error.strerror}; choose another folder") from None
    return path
