"""The figures of what models have to do with one another: the system, influence, attention by t-SNE, CKA."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.compare.relations import Related
from arena_jax.reports.figures import STYLE
from arena_jax.runs.curves import COLOURS
from arena_jax.runs.document import Picture
from arena_jax.training.similarity import linear_cka

_WIDEST = 7.0  # of an arrow, points


def draw(pairs: Sequence[tuple[Related, Related]], folder: Path) -> list[Picture]:
    """Draw ``system.png``, ``influence.png``, ``attention.png`` and ``cka.png``.

    Args:
        pairs: (joint run, lone run) of each seed.
        folder: where to.

    Returns:
        The pictures.
    """
    from matplotlib import rc_context

    joint, lone = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with rc_context({**STYLE, "axes.grid": False}):
        return [
            _system(joint[0], folder / "system.png"),
            _influence(joint, folder / "influence.png"),
            _attention(joint, lone, folder / "attention.png"),
            _cka(joint, lone, folder / "cka.png"),
        ]


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _places(names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The models on a circle, the first at the top."""
    angles = [math.pi / 2 - 2 * math.pi * i / len(names) for i in range(len(names))]
    return {name: (math.cos(angle), math.sin(angle)) for name, angle in zip(names, angles, strict=True)}


def _graph(axes: Any, names: Sequence[str], arrows: Mapping[tuple[str, str], tuple[float, str, str]]) -> None:
    """Models, and arrows from giver to taker: width from 0 to 1, colour, label."""
    places = _places(names)
    for (taker, giver), (width, colour, label) in arrows.items():
        (x0, y0), (x1, y1) = places[giver], places[taker]
        style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "color": colour, "shrinkA": 30, "shrinkB": 30}
        style |= {"linewidth": max(0.4, _WIDEST * width), "connectionstyle": "arc3,rad=0.18", "alpha": 0.75}
        axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)
        x, y = 0.5 * (x0 + x1) + 0.16 * (y1 - y0), 0.5 * (y0 + y1) - 0.16 * (x1 - x0)
        axes.text(x, y, label, fontsize=8, ha="center", va="center", bbox={"fc": "white", "ec": "none", "pad": 1})
    for i, (name, (x, y)) in enumerate(places.items()):
        box = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": COLOURS[i % len(COLOURS)], "lw": 2}
        axes.text(x, y, name, ha="center", va="center", weight="bold", bbox=box)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.4, 1.4), aspect="equal")
    axes.axis("off")


def _system(run: Related, path: Path) -> Picture:
    """Figure 1: what is shared with whom; the width is the part of the taker's numbers."""
    figure, names = _figure(6.4, 5.2), sorted(run.hidden)
    optimizer = run.config.optimizer.resolved()
    arrows = {}
    for (taker, giver), kinds in run.sharing.items():
        part = kinds["all"]
        arrows[taker, giver] = (part, "#777777", f"{100 * part:.0f} %")
    axes = figure.subplots()
    _graph(axes, names, arrows)
    axes.set_title("What is shared with whom")
    text = (
        f"gradients: α {optimizer.share_alpha:g}, pooled by {optimizer.share_reduce}, {optimizer.correspondence}; "
        f"parameters: β {optimizer.synchronize_beta:g} every {optimizer.synchronize_every} steps"
    )
    axes.text(0, -1.38, text, ha="center", fontsize=8)
    figure.savefig(path)
    caption = (
        "The system as it ran: an arrow is the part of a model's numbers that is in groups with the model that it "
        "comes from."
    )
    return Picture(path, caption)


def _influence(runs: Sequence[Related], path: Path) -> Picture:
    """Figure 4: influence by kind, as graphs above and as matrices below."""
    kinds, names = list(runs[0].influence), sorted(runs[0].hidden)
    figure = _figure(3.3 * max(1, len(kinds)), 6.4)
    panels = figure.subplots(2, max(1, len(kinds)), squeeze=False)
    matrices = {}
    for kind in kinds:
        matrix = np.full((len(names), len(names)), np.nan)
        for i, taker in enumerate(names):
            for j, giver in enumerate(names):
                gains = [run.influence[kind].get(taker, {}).get(giver) for run in runs]
                numbers = [1000 * (gain.gain - gain.shuffled) for gain in gains if gain is not None]
                matrix[i, j] = float(np.mean(numbers)) if numbers else np.nan
        matrices[kind] = matrix
    for column, kind in enumerate(kinds):
        matrix, largest = matrices[kind], float(np.nanmax(np.abs(matrices[kind]))) or 1.0
        arrows = {
            (taker, giver): (abs(matrix[i, j]) / largest, COLOURS[0] if matrix[i, j] > 0 else COLOURS[1], "")
            for i, taker in enumerate(names)
            for j, giver in enumerate(names)
            if i != j and not math.isnan(matrix[i, j])
        }
        _graph(panels[0, column], names, arrows)
        panels[0, column].set_title(kind)
        axes = panels[1, column]
        axes.imshow(matrix, cmap="RdBu", vmin=-largest, vmax=largest)
        for i in range(len(names)):
            for j in range(len(names)):
                if not math.isnan(matrix[i, j]):
                    axes.text(j, i, f"{matrix[i, j]:+.2f}", ha="center", va="center", fontsize=8)
        axes.set(xticks=range(len(names)), xticklabels=names, yticks=range(len(names)), yticklabels=names)
        axes.set(xlabel="gradient of", ylabel="loss of" if column == 0 else "")
    figure.savefig(path)
    caption = (
        "Influence by kind of parameters, 1/1000 nat, less the shuffled control, mean over joint runs; arrows go to "
        "the model whose loss changes, blue where it falls, and are as wide as the change within a kind."
    )
    return Picture(path, caption)


def _attention(joint: Sequence[Related], lone: Sequence[Related], path: Path) -> Picture:
    """Figure 5: t-SNE of the attention matrices of one shape; one embedding for both sides, so that they compare."""
    from sklearn.manifold import TSNE

    names = sorted(joint[0].attention)
    points, sides, of = [], [], []
    width = min(matrix.size for run in joint for matrices in run.attention.values() for matrix in matrices)
    for side, runs in enumerate((lone, joint)):
        for run in runs:
            for number, name in enumerate(names):
                for matrix in run.attention[name]:
                    if matrix.size == width:
                        points.append(matrix)
                        sides.append(side)
                        of.append(number)
    data = np.asarray(points)
    perplexity = min(30.0, max(2.0, (len(data) - 1) / 4))
    # By cosine, and from a fixed seed: the same picture from the same runs.
    embedded = TSNE(2, perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(data)
    figure = _figure(9.6, 4.6)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for side, (axes, title) in enumerate(zip(panels, ("alone", "joint"), strict=True)):
        for number, name in enumerate(names):
            here = (np.asarray(sides) == side) & (np.asarray(of) == number)
            axes.scatter(*embedded[here].T, s=12, color=COLOURS[number % len(COLOURS)], label=name)
        axes.set(title=title, xticks=[], yticks=[])
    panels[0].legend()
    figure.savefig(path)
    caption = (
        f"t-SNE of {len(data)} attention matrices (perplexity {perplexity:g}, cosine, one embedding for both sides): a "
        "point is a query, key, value or output kernel of one block of one run."
    )
    return Picture(path, caption)


def _cka(joint: Sequence[Related], lone: Sequence[Related], path: Path) -> Picture:
    """Linear CKA of every model of every run with every other, by side."""
    figure = _figure(10.4, 4.8)
    panels = figure.subplots(1, 2)
    names = sorted(joint[0].hidden)
    image = None
    for axes, runs, title in zip(panels, (lone, joint), ("alone", "joint"), strict=True):
        hidden = [(name, run.config.training.seed, run.hidden[name]) for name in names for run in runs]
        matrix = np.asarray([[linear_cka(a, b) for _, _, b in hidden] for _, _, a in hidden])
        image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
        middle = [len(runs) * (i + 0.5) - 0.5 for i in range(len(names))]
        axes.set(xticks=middle, xticklabels=names, yticks=middle, yticklabels=names, title=title)
    figure.colorbar(image, ax=panels, label="linear CKA")
    figure.savefig(path)
    caption = "Linear CKA of mean hidden states on held-out texts; within a model's block, its seeds: the yardstick."
    return Picture(path, caption)
