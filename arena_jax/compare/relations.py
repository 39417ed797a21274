"""What the models of runs have to do with one another: influence, likeness, agreement; joint runs against lone ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import data, models
from arena_jax.compare.paired import Paired, difference
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.folder import load_run
from arena_jax.runs.records import read
from arena_jax.training import similarity
from arena_jax.training.build import Parts, encode, load_split, load_splits, problem_type
from arena_jax.training.influence import Influence, influences
from arena_jax.training.predictions import align, predict
from arena_jax.training.restore import restore
from arena_jax.transforms.correspondence import CORRESPONDENCES, by_kind, kind_of, without_kinds
from arena_jax.transforms.pools import groups
from arena_jax.transforms.trees import read as read_tree

Array = np.ndarray[Any, Any]
Run = tuple[Path, RunConfig]  # its folder, and what is in it
ROWS = 256  # that gradients are taken on, and as many others that losses and representations are


class Related(NamedTuple):
    """One run, measured.

    Attributes:
        folder: of the run.
        config: of the run.
        sharing: ``{(taker, giver): {kind, or "all": part}}``: of the taker's numbers of a kind, the part that is in
            groups in which the giver is, too.
        influence: ``{kind: {taker: {giver: influence}}}``.
        correlation: ``{(taker, giver): r}``: over the run's records, of the giver's gradient norm with the fall of the
            taker's training loss that follows; the reading that the paper's words allow.
        attention: ``{model: (matrix, …)}``, a kernel of each block's attention each.
        hidden: ``{model: (rows, width)}``, a row's mean hidden state over its tokens.
        scores: "agreement" and "kappa" (means over pairs), "ensemble" (accuracy of the mean probabilities), "mean" and
            "best" (accuracy of the models), "gain" (the ensemble's less the mean of the models).
        accuracies: ``{model: accuracy}``.
    """

    folder: Path
    config: RunConfig
    sharing: dict[tuple[str, str], dict[str, float]]
    influence: dict[str, dict[str, dict[str, Influence]]]
    correlation: dict[tuple[str, str], float]
    attention: dict[str, tuple[Array, ...]]
    hidden: dict[str, Array]
    scores: dict[str, float]
    accuracies: dict[str, float]


class Rows(NamedTuple):
    """What runs of one configuration of data are measured on, read once for all of them.

    Attributes:
        splits: that the runs are built on.
        scored: that answers are scored on.
    """

    splits: Mapping[str, data.Dataset]
    scored: data.Dataset


def rows_of(config: RunConfig, split: str = "validation") -> Rows:
    """Read the data of a run.

    Args:
        config: of the run.
        split: that answers are scored on.

    Raises:
        ArenaError: they cannot be read.
    """
    splits = load_splits(config)
    scored = splits.get(split)
    if scored is None:
        scored = load_split(config.data, config.task, split, config.data.validation_limit)
    # Runs have tokenizers of their own, so what they learnt from need not be encoded for each of them again.
    return Rows({**splits, "train": splits["train"].take(1)}, scored)


def relate(run: Path, rows: Rows) -> Related:
    """Measure one run of sequence classification.

    Args:
        run: its folder.
        rows: of its data. Gradients, losses and representations are of validation rows.

    Returns:
        What its models have to do with one another.

    Raises:
        ArenaError: one model alone, another task, fewer than four validation rows, or no checkpoint.
    """
    config = load_run(run)
    _check_task(run, config)
    parts, _, state = restore(run, config, splits=rows.splits)
    params = {name: state.params[name] for name in sorted(parts.models)}
    count = min(ROWS, min(len(rows) for rows in parts.validation.values()) // 2)
    if count < 2:
        raise ArenaError(f"'{run}' has too few validation rows for gradients and losses on different ones")
    learnt, held_out = np.arange(count), np.arange(count, 2 * count)
    correspondence = _correspondence(config)
    optimizer = config.optimizer.resolved()
    gradients = {name: jax.jit(jax.grad(_loss(parts, name, learnt)))(params[name]) for name in params}
    influence = influences(
        {name: _loss(parts, name, held_out) for name in params},
        params,
        gradients,
        {model.name: model.weight for model in config.models},
        correspondence,
        mean=optimizer.share_reduce == "mean",
    )
    networks = {name: models.merge(models.split(parts.models[name])[0], params[name]) for name in params}
    scores, accuracies = _answers(config, parts, networks, rows.scored)
    return Related(
        run,
        config,
        sharing(params, correspondence),
        influence,
        correlations(read(run), sorted(params)),
        {name: attention_matrices(params[name]) for name in params},
        {name: _hidden(networks[name], parts, name, held_out) for name in params},
        scores,
        accuracies,
    )


def _check_task(run: Path, config: RunConfig) -> None:
    if len(config.models) < 2 or config.task != "sequence-classification" or problem_type(config) is not None:
        raise ArenaError(
            f"'{run}' has {len(config.models)} model(s) of {problem_type(config) or config.task}: relate needs two "
            "that give each text one class"
        )


def _correspondence(config: RunConfig) -> Any:
    name = config.optimizer.resolved().correspondence
    pairs = by_kind if name is None else CORRESPONDENCES[name]
    return without_kinds(pairs, config.optimizer.unshared) if config.optimizer.unshared else pairs


def _loss(parts: Parts, name: str, rows: Array) -> Any:
    """A model's mean loss on some of its validation rows, without dropout, as a function of its parameters."""
    structure, objective = models.split(parts.models[name])[0], parts.objectives[name]
    batch = {key: jnp.asarray(value) for key, value in parts.validation[name].batch(rows).items()}

    def loss(params: Any) -> jax.Array:
        sums = objective(models.merge(structure, params), batch, jax.random.key(0), False).sums
        mean: jax.Array = sums["loss_sum"] / jnp.maximum(sums["count"], 1)
        return mean

    return loss


def sharing(params: Mapping[str, Any], correspondence: Any) -> dict[tuple[str, str], dict[str, float]]:
    """Which part of a model's numbers of each kind is in groups with another model.

    Args:
        params: ``{model: parameters}``.
        correspondence: which parameters belong together.

    Example:
        >>> params = {"a": {"up": jnp.ones(3)}, "b": {"up": jnp.ones(3), "down": jnp.ones(9)}}
        >>> sharing(params, by_kind)[("b", "a")]
        {'all': 0.25, 'feed-forward': 0.25}
    """
    _, _, leaves = read_tree(params)
    names = sorted({str(leaf.model) for leaf in leaves})
    totals: dict[tuple[str, str], float] = {}
    shared: dict[tuple[str, str, str], float] = {}
    for group in groups(leaves, correspondence):
        size = float(math.prod(group.shape))
        there = {str(leaves[leaf].model) for leaf, _ in group.members}
        for leaf, _ in group.members:
            taker = str(leaves[leaf].model)
            for kind in ("all", kind_of(leaves[leaf].path)):
                totals[taker, kind] = totals.get((taker, kind), 0.0) + size
                for giver in there - {taker} if group.key is not None else ():
                    shared[taker, giver, kind] = shared.get((taker, giver, kind), 0.0) + size
    return {
        (taker, giver): {
            kind: shared.get((taker, giver, kind), 0.0) / total
            for (of, kind), total in sorted(totals.items())
            if of == taker
        }
        for taker, giver in itertools.permutations(names, 2)
    }


def correlations(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[tuple[str, str], float]:
    """Pearson's correlation of one model's gradient norm with the fall of another's loss, over a run's records.

    Example:
        >>> lines = [{"kind": "train", "models": {"a": {"gradient_norm": g, "loss": x}}} for g, x in
        ...          ((3, 9.0), (2, 6.0), (1, 4.0), (9, 3.0))]
        >>> round(correlations(lines, ["a"])[("a", "a")], 6)  # norms 3, 2, 1 before falls of 3, 2, 1
        1.0
    """
    lines = [record["models"] for record in records if record["kind"] == "train"]
    lines = [line for line in lines if all(name in line for name in names)]
    result = {}
    for taker, giver in itertools.product(names, repeat=2):
        falls = -np.diff([line[taker]["loss"] for line in lines])
        norms = np.asarray([line[giver]["gradient_norm"] for line in lines[:-1]], float)
        varied = len(falls) > 2 and np.std(falls) > 0 and np.std(norms) > 0
        result[taker, giver] = float(np.corrcoef(norms, falls)[0, 1]) if varied else math.nan
    return result


def attention_matrices(params: Any) -> tuple[Array, ...]:
    """The kernels of each block's attention, flat, in the order of names and then of blocks."""
    values, _, leaves = read_tree({"model": params})
    return tuple(
        np.asarray(layer, np.float64).ravel()
        for value, leaf in zip(values, leaves, strict=True)
        if kind_of(leaf.path) == "attention" and value.ndim == 3
        for layer in value
    )


def _hidden(network: Any, parts: Parts, name: str, rows: Array) -> Array:
    """The mean of each row's hidden states over its tokens, padding left out."""
    batch = parts.validation[name].batch(rows)
    token_types = batch.get("token_type_ids")
    structure, params = models.split(network)
    states = np.asarray(
        jax.jit(lambda p, *inputs: models.merge(structure, p).encode(*inputs))(
            params,
            jnp.asarray(batch["input_ids"]),
            jnp.asarray(batch["attention_mask"]),
            None if token_types is None else jnp.asarray(token_types),
        ),
        np.float64,
    )
    mask = batch["attention_mask"][..., None]
    mean: Array = (states * mask).sum(axis=1) / mask.sum(axis=1)
    return mean


def _answers(
    config: RunConfig, parts: Parts, networks: Mapping[str, Any], examples: data.Dataset
) -> tuple[dict[str, float], dict[str, float]]:
    predictions_by_name = align(
        {
            name: predict(
                name,
                network,
                parts.objectives[name],
                encode(network, name, config.data, examples, parts.tokenizers[name], learning=False),
                parts.tokenizers[name],
                config.training.evaluation_batch_size,
            )
            for name, network in networks.items()
        }
    )
    labels = next(iter(predictions_by_name.values())).labels
    answers = {name: predictions.log_probabilities.argmax(axis=1) for name, predictions in predictions_by_name.items()}
    accuracies = {name: float(np.mean(answer == labels)) for name, answer in answers.items()}
    mixed = np.mean(
        [np.exp(predictions.log_probabilities) for predictions in predictions_by_name.values()], axis=0
    ).argmax(axis=1)
    together, mean = float(np.mean(mixed == labels)), float(np.mean(list(accuracies.values())))
    alike, kappa = similarity.agreement(answers)
    scores = {"agreement": alike, "kappa": kappa, "ensemble": together, "mean": mean}
    return scores | {"best": max(accuracies.values()), "gain": together - mean}, accuracies


# ---- several runs ----


def pairs_of(joint: Sequence[Run], lone: Sequence[Run]) -> list[tuple[Path, Path]]:
    """Joint and lone runs of one seed, side by side.

    Args:
        joint: folders and configurations of joint runs.
        lone: of lone runs, whose models share nothing.

    Returns:
        Their folders, by seed.

    Raises:
        ArenaError: a seed is twice on a side, the seeds of both sides differ, a run has other models or data than the
            first, or the models of a lone run share.
    """
    by_seed = []
    for runs in (joint, lone):
        seeds = [config.training.seed for _, config in runs]
        if len(set(seeds)) < len(seeds):
            raise ArenaError("two runs of one side have the same seed: give each once")
        by_seed.append(dict(zip(seeds, (folder for folder, _ in runs), strict=True)))
    _check_alike([*joint, *lone])
    for folder, config in lone:
        optimizer = config.optimizer.resolved()
        if optimizer.share_alpha or optimizer.synchronize_beta:
            raise ArenaError(
                f"the models of '{folder}' are not alone: share_alpha is {optimizer.share_alpha:g}, synchronize_beta "
                f"{optimizer.synchronize_beta:g}; give --alone runs in which both are 0"
            )
    if by_seed[0].keys() != by_seed[1].keys():
        raise ArenaError(
            f"the joint runs have the seeds {sorted(by_seed[0])}, the lone ones {sorted(by_seed[1])}: give pairs"
        )
    return [(by_seed[0][seed], by_seed[1][seed]) for seed in sorted(by_seed[0])]


def _check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs whose numbers do not belong side by side."""
    first, of_first = runs[0]
    _check_task(first, of_first)
    names = sorted(model.name for model in of_first.models)
    for folder, config in runs[1:]:
        others = sorted(model.name for model in config.models)
        if others != names:
            raise ArenaError(
                f"'{folder}' has the models {', '.join(others)}, '{first}' {', '.join(names)}: give runs of the same"
            )
        if config.data != of_first.data:
            raise ArenaError(f"'{folder}' and '{first}' differ in their data: give runs of the same")


def compared(pairs: Sequence[tuple[Related, Related]]) -> dict[str, Paired]:
    """Every score, joint less lone, paired by seed."""
    return {
        name: difference([joint.scores[name] for joint, _ in pairs], [lone.scores[name] for _, lone in pairs])
        for name in pairs[0][0].scores
    }


def likeness(runs: Sequence[Related]) -> dict[str, dict[str, list[float]]]:
    """Linear CKA and relative distances of attention matrices: between models of a run, and between seeds of a model.

    Returns:
        ``{"cka" or "distance": {"a and b": [one per run], "a, seeds": [one per pair of runs]}}``; models whose
        attention matrices differ in shape or number have no distance.
    """
    names = sorted(runs[0].hidden)
    result: dict[str, dict[str, list[float]]] = {"cka": {}, "distance": {}}

    def add(label: str, left: Related, right: Related, a: str, b: str) -> None:
        cka = similarity.linear_cka(left.hidden[a], right.hidden[b])
        result["cka"].setdefault(label, []).append(cka)
        x, y = left.attention[a], right.attention[b]
        if [m.shape for m in x] == [m.shape for m in y] and x:
            result["distance"].setdefault(label, []).append(similarity.relative_distance(x, y))

    for a, b in itertools.combinations(names, 2):
        for run in runs:
            add(f"{a} and {b}", run, run, a, b)
    for name in names:
        for left, right in itertools.combinations(runs, 2):
            add(f"{name}, seeds", left, right, name, name)
    return result


def asymmetry(runs: Sequence[Related]) -> dict[tuple[str, str], Paired]:
    """For each two models, what the second gains from the first less what the first gains from the second, over runs.

    Gains are summed over kinds of parameters, each less its control; nats.
    """
    names = sorted(runs[0].hidden)

    def total(run: Related, taker: str, giver: str) -> float:
        parts = [kind.get(taker, {}).get(giver) for kind in run.influence.values()]
        return float(sum(part.gain - part.shuffled for part in parts if part is not None))

    return {
        (giver, taker): difference(
            [total(run, taker, giver) for run in runs], [total(run, giver, taker) for run in runs]
        )
        for giver, taker in itertools.combinations(names, 2)
    }
