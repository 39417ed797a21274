"""What a finished study shows: compute-equivalent gains with intervals, laws, and a sentence for each arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from arena_jax.compare.confidence import confidence_interval
from arena_jax.config.errors import ArenaError
from arena_jax.game.compute_gain import ComputeGain
from arena_jax.game.scaling import compute_equivalent_gain, fit
from arena_jax.game.study.plan import ARMS, PREDICTED
from arena_jax.game.study.run import Study
from arena_jax.game.study.trainer import COMPONENTS
from arena_jax.runs import document
from arena_jax.runs.document import Block, Heading, Items, Paragraph, Table

POINT = 1.05  # a method is a success if its gain is at least this, its interval above 1, and the controls below it
METHODS = ("protocol", "architecture", "both")


def results(study: Study) -> dict[str, Any]:
    """Compare every arm with AdamW and with the stronger of the baselines, on paired seeds.

    Args:
        study: one that has run; what it lacks is computed.

    Returns:
        What ``result.json`` holds: a table per arm and size, gains, laws, costs and verdicts.

    Raises:
        ArenaError: fewer than three sizes, from which no curve can be fitted.
    """
    plan = study.plan
    if len(plan.sizes) < 3:
        raise ArenaError(f"{len(plan.sizes)} sizes cannot determine a curve; a study that is judged needs at least 3")
    table = {arm: [_cell(study, arm, k) for k in range(len(plan.sizes))] for arm in plan.arms}
    strongest = min(
        (arm for arm in ("adamw", "blockwise") if arm in plan.arms), key=lambda arm: _or_worst(table[arm][-1]["loss"])
    )
    searches = {
        "protocol": study.protocol()["flops"],
        **({"population": study.population()["flops"]} if "population" in plan.arms else {}),
        **({"myopic": study.myopic()["flops"]} if "myopic" in plan.arms else {}),
    }
    searches |= {arm: searches["protocol"] for arm in ("both",) if arm in plan.arms}
    largest = study.final("adamw", len(plan.sizes) - 1, 0)["flops"]
    gains: dict[str, dict[str, Any]] = {}
    for arm in plan.arms:
        for base in dict.fromkeys(("adamw", strongest)):
            if arm != base:
                gains.setdefault(arm, {})[base] = _gain(study, arm, base, searches.get(arm, 0.0), largest)
    return {
        "plan": plan.to_json(),
        "data": study.corpus.name,
        "table": table,
        "baseline": strongest,
        "gains": gains,
        "protocol": study.protocol(),
        "signs": _signs(study.protocol(), plan.actions),
        "search_flops": searches,
        "laws": {arm: _law(study, arm) for arm in study.law_arms()},
        "verdicts": _verdicts(plan.arms, gains, strongest),
    }


def _cell(study: Study, arm: str, k: int) -> dict[str, Any]:
    runs = [study.final(arm, k, seed) for seed in range(study.plan.seeds[k])]
    losses = np.array([np.nan if run["loss"] is None else run["loss"] for run in runs])
    other = np.array([np.nan if run["elsewhere"] is None else run["elsewhere"] for run in runs])
    tuned = study.tuned(arm, k)
    loss = confidence_interval(losses.tolist())
    return {
        "rate": tuned["rate"],
        "interior": tuned["interior"],
        "rates_tried": tuned["tried"],
        "seeds": loss.seeds,
        "diverged": int(np.isnan(losses).sum()),
        "loss": _number(loss.mean),
        "loss_half_interval": _number(loss.high - loss.mean),
        "bits_per_byte": _number(loss.mean / np.log(2)),
        "elsewhere_bits_per_byte": _number(other.mean() / np.log(2)),
        "flops": float(np.mean([run["flops"] for run in runs])),
        "moves": float(np.mean([len(run["moves"]) for run in runs])) if "moves" in runs[0] else None,
    }


def _gain(study: Study, arm: str, base: str, search: float, largest: float) -> dict[str, Any]:
    compute, baseline, treated = [], [], []
    for k, count in enumerate(study.plan.seeds):
        for seed in range(count):
            a, b = study.final(base, k, seed), study.final(arm, k, seed)
            if a["loss"] is None or b["loss"] is None:
                return {
                    "gain": None,
                    "reason": f"size {k + 1}, seed {seed}: {arm if b['loss'] is None else base} diverged",
                }
            compute.append(study.final("adamw", k, 0)["flops"])
            baseline.append(a["loss"])
            treated.append(b["loss"])
    try:
        estimate = compute_equivalent_gain(compute, baseline, treated)
    except ArenaError as error:
        return {"gain": None, "reason": str(error)}
    noise, freedom = estimate.log_standard_error, estimate.degrees_of_freedom
    p = float(stats.t.sf(np.log(estimate.gain) / noise, freedom)) if np.isfinite(noise) and noise > 0 else np.nan
    return {
        "gain": estimate.gain,
        "low": _number(estimate.interval[0]),  # None: one seed
        "high": _number(estimate.interval[1]),  # None where low is a number: no upper end
        "p_above_one": _number(p),
        # What is left of it for one training of the largest size that pays for the whole search.
        "gain_search_counted": estimate.gain * largest / (largest + search),
        "nats": float(np.mean(np.array(treated) - baseline)),
        "at_largest": _at_largest(baseline, treated, study.plan.seeds[-1], estimate),
    }


def _at_largest(baseline: list[float], treated: list[float], seeds: int, curve: ComputeGain) -> dict[str, Any]:
    """The gain at the largest size alone, read off the curve of all sizes: k = ((L_B − E) / (L_T − E))^(1/γ)."""
    base, treat = np.array(baseline[-seeds:]), np.array(treated[-seeds:])
    nats, above_floor = confidence_interval((treat - base).tolist()), min(base.min(), treat.min()) > curve.E
    logs = (
        confidence_interval((np.log((base - curve.E) / (treat - curve.E)) / curve.gamma).tolist())
        if above_floor
        else None
    )
    return {
        "nats": nats.mean,
        "nats_low": _number(nats.low),
        "nats_high": _number(nats.high),
        "gain": float(np.exp(logs.mean)) if logs else None,
        "low": _number(np.exp(logs.low)) if logs else None,
        "high": _number(np.exp(logs.high)) if logs else None,
    }


def _law(study: Study, arm: str) -> dict[str, Any]:
    plan, rows = study.plan, []
    for k in range(len(plan.sizes)):
        for tokens in sorted(set(plan.tokens)):
            for seed in range(plan.law_seeds):
                run = study.final(arm, k, seed, tokens)
                if run["loss"] is not None:
                    rows.append((study.trainer(k).parameters, tokens, run["loss"]))
    try:
        law = fit(*np.array(rows, np.float64).T)
    except ArenaError as error:
        return {"reason": str(error)}
    names = ("E", "A", "B", "alpha", "beta", "optimal_exponent")
    return {
        name: {"value": _number(getattr(law, name)), "interval": [_number(x) for x in law.intervals[name]]}
        for name in names
    } | {"cells": law.cells, "undetermined": list(law.undetermined.values())}


def _signs(protocol: dict[str, Any], actions: tuple[float, ...]) -> dict[str, Any]:
    """How many of the predicted signs of the largest multiplier's effect held."""
    column = actions.index(max(actions))
    effects = {name: protocol["effects"][i][column] for i, name in enumerate(COMPONENTS)}
    right = sum(bool(np.sign(effects[name]) == sign) for name, sign in PREDICTED.items())
    return {"effects": effects, "right": right, "of": len(PREDICTED)}


def _verdicts(arms: tuple[str, ...], gains: dict[str, Any], strongest: str) -> list[str]:
    """A sentence per method, by the rule that was written down before: MASGA's, with Holm's correction."""
    judged = [arm for arm in METHODS if arm in arms and gains[arm][strongest].get("p_above_one") is not None]
    order = sorted(judged, key=lambda arm: gains[arm][strongest]["p_above_one"])
    alpha = {arm: 0.025 / (len(order) - i) for i, arm in enumerate(order)}
    significant, open_ = {}, True
    for arm in order:
        open_ = open_ and gains[arm][strongest]["p_above_one"] < alpha[arm]
        significant[arm] = open_
    sentences = []
    for arm in METHODS:
        if arm not in arms:
            continue
        gain = gains[arm][strongest]
        if gain["gain"] is None or gain.get("p_above_one") is None:
            sentences.append(f"{arm}: cannot be judged ({gain.get('reason', 'one seed has no interval')}).")
            continue
        controls = {c: gains[c]["adamw"]["gain"] for c in ("shuffled", "global") if c in gains}
        over_adamw = gains[arm]["adamw"]["gain"] if "adamw" in gains[arm] else gain["gain"]
        beaten = all(value is None or (over_adamw or 0) > value for value in controls.values())
        success = significant[arm] and gain["gain"] >= POINT and beaten and bool(controls)
        high = gain["at_largest"]["high"]
        but = ", but a loss at the largest size" if success and high is not None and high < 1 else ""
        reasons = [
            f"gain {gain['gain']:.3f} {_interval(gain)} over {strongest}",
            f"{'above' if significant[arm] else 'not above'} 1 after Holm's correction",
            "controls "
            + (", ".join(f"{c} {v:.3f}" if v else f"{c} diverged" for c, v in controls.items()) or "missing"),
            f"{gain['gain_search_counted']:.3f} if one largest training pays for the search",
            f"at the largest size alone {_largest(gain['at_largest'])}",
        ]
        sentences.append(
            f"{arm}: {'success' if success else 'no success'} by the rule written before{but}; {'; '.join(reasons)}."
        )
    return sentences


def save(study: dict[str, Any], folder: Path) -> list[Path]:
    """Write result.json and result.md.

    Raises:
        ArenaError: the folder cannot be written.
    """
    try:
        (folder / "result.json").write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")
        (folder / "result.md").write_text(markdown(study), encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write to '{folder}': {error.strerror}; choose another folder") from None
    return [folder / "result.json", folder / "result.md"]


def markdown(study: dict[str, Any]) -> str:
    """The study as text: first what was found, then the numbers behind it."""
    learned, signs = study["protocol"], study["signs"]
    effects = ", ".join(f"{name} {effect:+.4f}" for name, effect in signs["effects"].items())
    laws: list[Block] = [Heading("Laws L = E + A/N^alpha + B/D^beta"), _laws(study)] if study["laws"] else []
    blocks: list[Block] = [
        Heading("Scaling study", 1),
        Paragraph(f"Data: {study['data']}. Stronger baseline: {study['baseline']}."),
        Items(study["verdicts"]),
        Heading("Compute-equivalent gain (95 %, paired seeds)"),
        _gains(study),
        Heading("Final scores"),
        _scores(study),
        *laws,
        Heading("The learned protocol"),
        Paragraph(
            f"{learned['profiles']} profiles, {'settled' if learned['settled'] else 'not settled'}, "
            f"gain {learned['gain']:+.4f} nats where it was learned, {learned['flops']:.3g} operations. "
            f"At {max(study['plan']['actions']):g} times the rate one type alone gains, in nats: {effects}. "
            f"{signs['right']} of {signs['of']} predicted signs held."
        ),
    ]
    return document.markdown(blocks) + "\n"


def _gains(study: dict[str, Any]) -> Table:
    header = ("arm", "over adamw", "interval", "search counted", "nats", "at the largest size alone", "what it is")
    rows = []
    for arm, by in study["gains"].items():
        gain = by.get("adamw")
        if gain is None:
            continue
        if gain["gain"] is None:
            numbers = ("none", gain["reason"], "", "", "")
        else:
            counted, nats = f"{gain['gain_search_counted']:.3f}", f"{gain['nats']:+.4f}"
            numbers = (f"{gain['gain']:.3f}", _interval(gain), counted, nats, _largest(gain["at_largest"]))
        rows.append((arm, *numbers, ARMS[arm]))
    return Table(header, rows, len(header))


def _scores(study: dict[str, Any]) -> Table:
    header = (
        *("arm", "size", "rate", "inside its grid", "seeds"),
        *("nats per byte", "bits per byte", "out of domain", "operations"),
    )
    rows = []
    for arm, cells in study["table"].items():
        for size, cell in zip(study["plan"]["sizes"], cells, strict=True):
            rate, inside = f"{cell['rate']:.3g}", "yes" if cell["interior"] else "no"
            loss = "diverged" if cell["loss"] is None else f"{cell['loss']:.4f}"
            half = "" if cell["loss_half_interval"] is None else f" ± {cell['loss_half_interval']:.4f}"
            bits = (_text(cell[name]) for name in ("bits_per_byte", "elsewhere_bits_per_byte"))
            numbers = (rate, inside, str(cell["seeds"]), loss + half, *bits, f"{cell['flops']:.3g}")
            rows.append((arm, "-".join(map(str, size)), *numbers))
    return Table(header, rows, 2)


def _laws(study: dict[str, Any]) -> Items:
    sentences = []
    for arm, law in study["laws"].items():
        if "reason" in law:
            sentences.append(f"{arm}: {law['reason']}")
            continue
        parts = [
            f"{name} {_text(entry['value'])} [{_text(entry['interval'][0])}, {_text(entry['interval'][1])}]"
            for name, entry in law.items()
            if name not in ("cells", "undetermined")
        ]
        sentences.append("; ".join([f"{arm}, {law['cells']} cells: {', '.join(parts)}", *law["undetermined"]]))
    return Items(sentences)


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _interval(gain: dict[str, Any]) -> str:
    if gain["low"] is None:
        return "(one seed: no interval)"
    return f"[{gain['low']:.3f}, {'∞' if gain['high'] is None else format(gain['high'], '.3f')}]"


def _largest(gain: dict[str, Any]) -> str:
    if gain["gain"] is None:
        return f"{gain['nats']:+.4f} nats"
    return f"{gain['gain']:.3f} {_interval(gain)}, {gain['nats']:+.4f} nats"


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _or_worst(loss: float | None) -> float:
    return np.inf if loss is None else loss
