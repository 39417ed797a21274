"""What the narration says of a competition: who has what, which batch size took over, and who won."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from arena_jax.config.scores import SCORES

Record = Mapping[str, Any]


def allocation_rows(record: Record) -> list[Sequence[str]]:
    """Who has what from a round on, a row per model and one of headings."""
    heading = ("share", "progress", "steps/round", "batch", "memory", "model")
    rows = [
        (
            f"{100 * model['share']:.1f} %",
            f"{model['progress']:+.4f}",
            str(model["steps"]),
            f"{model['batch_size']} × {model['accumulation']}",
            f"{model['memory'] / 1e6:,.3g} of {model['allowed'] / 1e6:,.3g} MB",
            name,
        )
        for name, model in record["models"].items()
    ]
    return [heading, *rows]


def swap_line(record: Record) -> str:
    """Which batch size took over.

    Example:
        >>> swap_line({"step": 105, "model": "bert", "before": 8, "batch_size": 16, "accumulation": 1, "waited": 0.0})
        '  · bert: batch 8 → 16 after round 105'
    """
    waited = f"; waited {record['waited']:.1f} s for the compiler" if record["waited"] >= 0.05 else ""
    late = f", {record['late']} later than planned" if record.get("late") else ""
    parts = f" × {record['accumulation']}" if record["accumulation"] > 1 else ""
    return (
        f"  · {record['model']}: batch {record['before']} → {record['batch_size']}{parts}"
        f" after round {record['step']:,}{late}{waited}"
    )


def calibration_line(record: Record) -> str:
    """What the allocator's peak said of an estimate.

    Example:
        >>> calibration_line({"model": "bert", "size": 8, "estimated": 90e6, "measured": 99e6, "margin": 0.1})
        '  · bert: batch 8 took 99 MB where the compiler said 90 MB; from now on 10 % is left beside its estimates'
    """
    return (
        f"  · {record['model']}: batch {record['size']} took {record['measured'] / 1e6:,.3g} MB where the compiler "
        f"said {record['estimated'] / 1e6:,.3g} MB; from now on {100 * record['margin']:.0f} % is left "
        "beside its estimates"
    )


def domain_rows(record: Record) -> list[Sequence[str]]:
    """Who has which part of each domain, a row per model and one of headings; nothing where there is one domain."""
    domains = record.get("domains", {})
    if not domains:
        return []
    rows = [
        (*(f"{100 * shares[name]:.1f} %" for shares in domains.values()), name) for name in next(iter(domains.values()))
    ]
    return [(*domains, "share of a domain"), *rows]


def specialization_lines(record: Record) -> list[str]:
    """How far the models of a competition divided its domains among themselves.

    Example:
        >>> special = {"value": 0.31, "p": 0.04, "mean": 0.12, "exchanges": 36, "exact": True}
        >>> specialization_lines({"specialization": special})
        ['specialization: 0.310 of 1; models exchanged within domains: 0.120 in the mean, p 0.0400 (all 36)']
    """
    if "specialization" not in record:
        return []
    index = record["specialization"]
    how = f"all {index['exchanges']:,}" if index["exact"] else f"{index['exchanges']:,} drawn"
    return [
        f"specialization: {index['value']:.3f} of 1; models exchanged within domains: {index['mean']:.3f} in the mean, "
        f"p {index['p']:.4f} ({how})"
    ]


def lineage_lines(record: Record) -> list[str]:
    """Who learnt from whom at a reallocation, or whose mixture took whose place.

    Example:
        >>> taught = {"bert": {"steps": 4, "loss": 0.61, "divergence": 0.08}}
        >>> lineage_lines({"how": "distillation", "step": 20, "parents": ["gpt2"], "models": taught})
        ['  · bert learnt from gpt2 for 4 steps after round 20: loss 0.6100, divergence 0.0800 nats']
        >>> mixed = {"how": "crossover", "step": 20, "parents": ["a", "b"], "barrier": 0.31}
        >>> lineage_lines({**mixed, "models": {"c": {"loss": 0.9, "before": 0.7, "taken": False}}})
        ['  · a and b have a barrier of 0.3100 nats after round 20: c (0.7000) stays, their mixture has 0.9000']
    """
    parents, after = " and ".join(record["parents"]), f"after round {record['step']:,}"
    if record["how"] == "distillation":
        return [
            f"  · {name} learnt from {parents} for {model['steps']} steps {after}: loss {model['loss']:.4f}, "
            f"divergence {model['divergence']:.4f} nats"
            for name, model in record["models"].items()
        ]
    lines = []
    for name, model in record["models"].items():
        place = "gives way to" if model["taken"] else "stays,"
        lines.append(
            f"  · {parents} have a barrier of {record['barrier']:.4f} nats {after}: {name} ({model['before']:.4f}) "
            f"{place} their mixture {'with' if model['taken'] else 'has'} {model['loss']:.4f}"
        )
    return lines


def lineage_rows(records: Sequence[Record]) -> list[Sequence[str]]:
    """Who comes from whom, a row per record and model and one of headings."""
    heading = ("round", "how", "model", "from", "what came of it")
    rows = [
        (
            f"{record['step']:,}",
            record["how"],
            name,
            ", ".join(record["parents"]),
            f"{model['steps']} steps, divergence {model['divergence']:.4f} nats"
            if record["how"] == "distillation"
            else f"{'replaced' if model['taken'] else 'kept'}: loss {model['before']:.4f}, mixture {model['loss']:.4f},"
            f" barrier {record['barrier']:.4f} nats",
        )
        for record in records
        for name, model in record["models"].items()
    ]
    return [heading, *rows]


def bits_mark(about: Record) -> str:
    """What stands before a model's bits per byte, given what the first record says of it."""
    return "pseudo " if about.get("task") == "masked-lm" else ""


def bits_note(models: Mapping[str, Record]) -> str:
    """What the bits per byte of a table are not: a line to stand below it, empty where nothing is to be said.

    Args:
        models: ``{name: what the first record says of it}``.

    Example:
        >>> bits_note({"bert": {"task": "causal-lm", "left_out": ["capitals"]}, "gpt2": {"task": "causal-lm"}})
        'bits/byte, of bert: of the text as the tokenizer keeps it, without capitals'
        >>> bits_note({"gpt2": {"task": "causal-lm", "left_out": []}})
        ''
    """
    notes = (
        ["pseudo: of hidden tokens given all others, no code length"] if any(map(bits_mark, models.values())) else []
    )
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, about in models.items():
        if about.get("left_out"):
            groups.setdefault(tuple(about["left_out"]), []).append(name)
    notes += [
        f"of {', '.join(names)}: of the text as the tokenizer keeps it, without {', '.join(lost)}"
        for lost, names in groups.items()
    ]
    return f"bits/byte, {'; '.join(notes)}" if notes else ""


def leaderboard_rows(record: Record, about: Mapping[str, Record] | None = None) -> list[Sequence[str]]:
    """The leaderboard, a row per model and one of headings; ``about`` is what the first record says of each."""
    about = about or {}
    bits = any("bits_per_byte" in model for model in record["models"].values())
    heading = (
        "place",
        "score",
        "at first",
        *(("bits/byte",) if bits else ()),
        "share",
        "steps",
        "examples",
        "TFLOP",
        "device s",
        "model",
    )
    rows = [
        (
            str(model["place"]),
            f"{model['score']:.4f}" + _error(model),
            f"{model['baseline']:.4f}",
            *((_bits(model, about.get(name, {})),) if bits else ()),
            f"{100 * model['mean_share']:.1f} %",
            f"{model['steps']:,}",
            f"{model['examples']:,}",
            f"{model['flops'] / 1e12:,.3g}",
            f"{model['seconds']:,.1f}",
            name,
        )
        for name, model in record["models"].items()
    ]
    return [heading, *rows]


def _bits(model: Record, about: Record) -> str:
    return f"{bits_mark(about)}{model['bits_per_byte']:.3f}" if "bits_per_byte" in model else ""


def winner_line(record: Record) -> str:
    """Who won, and how sure that is.

    Example:
        >>> winner_line({"winner": None})
        'nobody won: no model has a finite score'
    """
    if record["winner"] is None:
        return "nobody won: no model has a finite score"
    first, *others = record["models"].values()
    text = f"{first['score']:.4f}" if math.isfinite(first["score"]) else "no score"
    name = record.get("score", "loss")
    what = f"{'− ' if SCORES[name].sign < 0 else ''}{SCORES[name].title.removesuffix(' (nats)')}"
    line = f"winner: {record['winner']}, {text} (score: {what}; shares are means over the run)"
    if others and "error" in first and "error" in others[0]:
        apart = math.hypot(first["error"], others[0]["error"])
        if first["score"] - others[0]["score"] <= 2 * apart:  # never where one has no error
            line += "; the next is not behind by more than these rows can show"
    return line


def objective_lines(record: Record) -> list[str]:
    """What came out by the objective of a competition; nothing for the mean.

    Example:
        >>> objective_lines({"objective": "ensemble", "ensemble": {"loss": 0.4, "error": 0.02, "weights": {"a": 1.0}}})
        ['objective ensemble: loss 0.4000 ± 0.0200; weights a 1.00']
        >>> objective_lines({"objective": "target", "target": 0.8, "reached": False, "models": {}})
        ['objective target: 0.8 was not reached']
    """
    objective = record.get("objective", "mean")
    if objective == "ensemble":
        mixture = record["ensemble"]
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in mixture["weights"].items())
        return [f"objective ensemble: loss {mixture['loss']:.4f} ± {mixture['error']:.4f}; weights {weights}"]
    if objective == "target":
        if not record["reached"]:
            return [f"objective target: {record['target']:g} was not reached"]
        accounts = record["models"].values()
        seconds, flops = (sum(account[key] for account in accounts) for key in ("seconds", "flops"))
        return [
            f"objective target: {record['target']:g} was reached by {record['winner']} after {seconds:,.1f} "
            f"device-seconds of all models, {flops / 1e12:,.3g} TFLOP"
        ]
    if objective == "pareto":
        costs = record["costs"]
        front = ", ".join(f"{name} ({costs[name]:,.4g})" for name in record["front"])
        return [f"objective pareto: {record['value']:.4f}; no other is better at no more cost than {front}"]
    return []


def _error(model: Record) -> str:
    """The standard error of a score, where there is one."""
    error = model.get("error", math.nan)
    return f" ± {error:.4f}" if math.isfinite(error) else ""
