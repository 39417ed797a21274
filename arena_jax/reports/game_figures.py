"""Figures of a model's game, drawn from its ``game.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.reports.figures import STYLE
from arena_jax.runs.curves import COLOURS

KINDS = {"head": ("heads", COLOURS[0]), "neurons": ("feed-forward groups", COLOURS[1])}
_SIZE = (7.0, 4.2)
_SQUARE = (6.4, 5.6)
Record = Mapping[str, Any]


def draw(record: str | Path) -> list[Path]:
    """Draw every figure that the analysis holds something for, beside it.

    Args:
        record: ``game.json``, as ``arena-jax game analyze`` writes it.

    Returns:
        The files: ``importance.png``, ``interactions.png``, ``entropy.png``, ``profiles.png`` (needs scikit-learn and
        at least 5 players), and with an update game ``update.png`` and ``simplex.png``.

    Raises:
        ArenaError: no such record, or a folder that cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path = Path(record)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        players = content["players"]
    except (OSError, ValueError, KeyError):
        raise ArenaError(f"'{path}' is no game's record: write one with `arena-jax game analyze`") from None
    panels: list[tuple[str, tuple[float, float], Callable[[Any, Record], None]]] = [
        ("importance", _SIZE, importance),
        ("interactions", _SQUARE, interactions),
    ]
    if _pairs_of(content, "entropy"):
        panels.append(("entropy", _SIZE, entropy))
    if len(players) >= 5 and _has_sklearn():
        panels.append(("profiles", _SQUARE, profiles))
    if content["update"]:
        panels.append(("update", _SIZE, update))
        if len(content["update"]["potential"]["names"]) >= 3:
            panels.append(("simplex", _SQUARE, simplex))
    paths = []
    with rc_context(STYLE):
        for name, size, panel in panels:
            figure = Figure(figsize=size, layout="constrained")
            panel(figure.subplots(), content)
            paths.append(path.with_name(f"{name}.png"))
            try:
                figure.savefig(paths[-1])
            except OSError as error:
                raise ArenaError(f"cannot write {paths[-1]}: {error.strerror or error}") from None
    return paths


def importance(axes: Any, content: Record) -> None:
    """Each player's utility over the blocks, by kind, and the mean of the kind in each block with its error bar."""
    players, banzhaf = content["players"], content["utilities"]["banzhaf"]
    values = np.array(banzhaf["values"], float)
    errors = np.array([np.nan if e is None else e for e in banzhaf["standard_errors"]], float)
    layers = sorted({p["layer"] for p in players})
    for shift, (kind, (label, colour)) in zip((-0.16, 0.16), KINDS.items(), strict=True):
        of_kind = np.array([p["kind"] == kind for p in players])
        where = np.array([p["layer"] for p in players])[of_kind]
        spread = np.array([p["index"] for p in players])[of_kind]
        offset = shift + 0.2 * ((spread + 0.5) / (spread.max() + 1) - 0.5)
        axes.errorbar(
            where + offset,
            values[of_kind],
            1.96 * np.nan_to_num(errors[of_kind]),
            fmt="o",
            color=colour,
            alpha=0.45,
            markersize=4,
            linewidth=1,
        )
        means = [values[of_kind][where == layer].mean() for layer in layers]
        axes.hlines(means, np.array(layers) + shift - 0.13, np.array(layers) + shift + 0.13, color=colour, linewidth=3)
        axes.plot([], [], color=colour, marker="o", linewidth=3, label=f"{label}; bar: their mean")
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_xticks(layers)
    axes.set_xlabel("block")
    axes.set_ylabel("worth in random coalitions (nats, 95 %)")
    axes.set_title("What each part is worth")
    axes.legend()


def interactions(axes: Any, content: Record) -> None:
    """The heat map of pairs: red substitutes each other, blue complements."""
    from matplotlib.colors import SymLogNorm

    matrix = np.array(content["interactions"], float)
    np.fill_diagonal(matrix, np.nan)
    limit = float(np.nanmax(np.abs(matrix), initial=1e-12))
    # A few large pairs would leave all others white.
    small = max(float(np.nanmedian(np.abs(matrix))), limit / 1e3, 1e-12)
    image = axes.imshow(matrix, cmap="RdBu", norm=SymLogNorm(small, vmin=-limit, vmax=limit))
    names = [p["name"] for p in content["players"]]
    every = max(1, len(names) // 32)
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=90, fontsize=7)
    axes.set_yticks(range(0, len(names), every), names[::every], fontsize=7)
    axes.grid(visible=False)
    axes.set_title("Pairs: red replace, blue need each other")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, label="interaction (nats)")
    middle = (small * limit) ** 0.5
    bar.set_ticks([-limit, -middle, 0, middle, limit], labels=[f"{x:.1g}" for x in (-limit, -middle, 0, middle, limit)])
    bar.minorticks_off()


def entropy(axes: Any, content: Record) -> None:
    """Attention entropy of each head against its utility."""
    from matplotlib import colormaps

    x, y, layers = map(np.array, zip(*_pairs_of(content, "entropy"), strict=True))
    blocks = sorted(set(layers.tolist()))
    shades = colormaps["viridis"].resampled(max(2, blocks[-1] + 1))  # one for each block
    limits = {"vmin": -0.5, "vmax": shades.N - 0.5}
    image = axes.scatter(x, y, c=layers, cmap=shades, s=36, edgecolors="white", linewidths=0.7, **limits)
    rho = content["correlations"]["entropy"]["banzhaf"]
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_xlabel("entropy of its attention (0: one token, 1: all alike)")
    axes.set_ylabel("worth (nats)")
    axes.set_title("Heads: where they look, and what they are worth")
    note = "too few heads" if rho is None else f"Spearman {rho:+.2f}, {len(x)} heads"
    axes.text(0.98, 0.97, note, transform=axes.transAxes, ha="right", va="top")
    bar = axes.figure.colorbar(image, ax=axes, label="block", ticks=blocks)
    bar.outline.set_visible(False)


def profiles(axes: Any, content: Record) -> None:
    """Players near each other have alike utilities by all measures and alike interactions (t-SNE)."""
    from sklearn.manifold import TSNE

    columns = [
        np.array([np.nan if v is None else v for v in u["values"]], float) for u in content["utilities"].values()
    ]
    table = np.column_stack([*[c for c in columns if np.isfinite(c).all()], np.array(content["interactions"], float)])
    table = (table - table.mean(0)) / np.where(table.std(0) > 0, table.std(0), 1)
    perplexity = min(30.0, max(2.0, (len(table) - 1) / 4))
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(table)
    players = content["players"]
    layers = np.array([p["layer"] for p in players])
    shades = 0.35 + 0.65 * (layers + 1) / (layers.max() + 1)
    for kind, (label, colour) in KINDS.items():
        of_kind = np.array([p["kind"] == kind for p in players])
        axes.scatter(*places[of_kind].T, color=colour, alpha=shades[of_kind], s=55, label=f"{label} (darker: later)")
    if len(players) <= 64:
        for (x, y), player in zip(places, players, strict=True):
            text = player["name"].replace("head", "h").replace("neurons", "n")
            axes.annotate(text, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title("Parts with alike profiles of utility (t-SNE)")
    axes.legend()


def update(axes: Any, content: Record) -> None:
    """What each type's step gains alone, last, and as its fair share."""
    update = content["update"]["game"]
    names, width = update["names"], 0.26
    at = np.arange(len(names))
    for i, (key, label) in enumerate((("solo", "alone"), ("last", "as the last"), ("shapley", "fair share (Shapley)"))):
        axes.bar(at + (i - 1) * width, update[key], width * 0.92, color=COLOURS[i], label=label)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_xticks(at, [name.replace(" ", "\n").replace("/", "/\n") for name in names], fontsize=9)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("reduction of the loss (nats)")
    overshoot = update["overshoot"]
    note = "" if overshoot is None else f", overshoot {overshoot:.2f}"
    together = f"{update['joint']:+.4f}".replace("-", "−")  # as the axis writes it
    axes.set_title(f"Whose step helps: together {together} nats{note}")
    axes.legend()


def simplex(axes: Any, content: Record) -> None:
    """Replicator paths of the three types with the largest shares, in the shared step budget."""
    from arena_jax.equilibria import replicator

    potential = content["update"]["potential"]
    warmest = max(potential["logit"], key=float)
    largest = np.argsort(-np.array(potential["logit"][warmest]))[:3]
    names = [potential["names"][i] for i in largest]
    payoff = np.array(content["update"]["potential_payoff"], float)[np.ix_(largest, largest)]
    spread = float(np.ptp(payoff)) or 1.0
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    inner = np.array([(i, j, 6 - i - j) for i in range(1, 5) for j in range(1, 6 - i)], float) / 6
    # Near a line of almost equal payoffs it creeps: long times, in which only what has stopped is said to rest. Of what
    # goes round for ever the first part is drawn.
    times = np.concatenate([np.linspace(0, 40, 200), np.geomspace(42, 20_000, 60)])
    shares = np.asarray(replicator(payoff / spread, inner, times, max_step=1.0))
    ends = shares[:, -1]
    worth = ends @ payoff.T / spread
    rests = np.abs(ends * (worth - (ends * worth).sum(1, keepdims=True))).max(1) < 1e-6
    paths = [path if resting else path[:200] for path, resting in zip(shares @ corners, rests, strict=True)]
    begin, end = (np.array([path[at] for path in paths]) for at in (0, -1))
    axes.plot(*corners[[0, 1, 2, 0]].T, color="#999999", linewidth=1)
    for path in paths:
        axes.plot(*path.T, color=COLOURS[5], linewidth=1.2)
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        at = min(int(np.searchsorted(length, length[-1] * 0.45)), len(path) - 2)
        axes.annotate("", path[at + 1], path[at], arrowprops={"arrowstyle": "-|>", "color": COLOURS[0]})
    axes.plot(*begin.T, "o", color="white", markeredgecolor=COLOURS[0], markersize=4, label="start")
    axes.plot(*end[rests].T, "o", color=COLOURS[1], markersize=7, label="where it rests")
    if not rests.all():
        axes.plot(*end[~rests].T, "x", color=COLOURS[1], markersize=7, label="still moving")
    for corner, name, align in zip(corners, names, ("right", "left", "center"), strict=True):
        shift = (corner - corners.mean(0)) * 0.07
        axes.text(*(corner + shift), name, ha=align, va="bottom" if align == "center" else "top")
    axes.set_xlim(-0.25, 1.25)
    axes.set_ylim(-0.15, 1.0)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title("Three types share a budget of steps")
    axes.legend(loc="upper right")


def _pairs_of(content: Record, name: str) -> list[tuple[float, float, int]]:
    """(that measure, worth, block) of every player that has both."""
    if name not in content["utilities"]:
        return []
    worth = content["utilities"]["banzhaf"]["values"]
    rows = zip(content["utilities"][name]["values"], worth, content["players"], strict=True)
    return [(a, b, p["layer"]) for a, b, p in rows if a is not None and b is not None]


def _has_sklearn() -> bool:
    import importlib.util

    return importlib.util.find_spec("sklearn") is not None
