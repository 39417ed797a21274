"""Pruning criteria, repairs and sparse weights against PyTorch, where they are computed from the inputs themselves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from arena_jax import game, models
from arena_jax.training.objectives import objective_for
from parity import inputs
from parity.case import MAIN_TASK, Case, precision, random_case, tensors
from parity.measure import Measurement, compare, exactly
from parity.reference import pruning as reference
from parity.registry import Check

GROUPS = 4
REMOVED = (1, 3, 6, 9, 14, 25)  # heads and groups of three blocks of 5 + 4
SHARE = 0.5


def setting(family: str) -> tuple[Case, models.Transformer, dict[str, np.ndarray], dict[str, torch.Tensor]]:
    """A model on both sides, and a batch with padding."""
    case = random_case(family, MAIN_TASK[family])
    batch = inputs.variants(case.sizes)["right padding"]
    return case, case.ours("float64"), batch, tensors(batch)


def played(model: models.Transformer, batch: dict[str, np.ndarray]) -> game.AblationGame:
    """The game of a model whose probe and calibration are one batch."""
    objective = objective_for(model.task, mask_token_id=3, vocab_size=model.config.vocab_size)
    return game.AblationGame(model, [batch], objective, table=game.fine_players(model.config, GROUPS))


def scores(family: str) -> Iterator[Measurement]:
    """Magnitude, Wanda and least squares of every head and group; the influence of every block."""
    with precision("float64"):
        case, model, batch, torch_batch = setting(family)
        config, theirs = model.config, case.reference
        of_game = played(model, batch)
        expected: dict[str, list[torch.Tensor]] = {name: [] for name in ("magnitude", "wanda", "least-squares")}
        for layer, name, channels in reference.parts(theirs, family, config.num_layers, config.num_heads, GROUPS):
            kernel, x = (
                reference.weight(theirs, family, layer, name),
                reference.collect(theirs, family, layer, torch_batch)[name],
            )
            stays = torch.ones(len(kernel), dtype=torch.bool)
            stays[channels] = False
            expected["magnitude"].append(reference.magnitude(theirs, family, layer, name, channels))
            expected["wanda"].append(reference.wanda(x, kernel)[channels].sum())
            expected["least-squares"].append(reference.without(x, kernel, stays)[1])
        for name, values in expected.items():
            yield from compare({name: game.score(of_game, name).values}, {name: torch.stack(values)})
        influence = {"block influence": reference.block_influence(theirs, family, torch_batch)}
        yield from compare({"block influence": game.score_blocks(of_game).values}, influence)
        maps = reference.MAPS[family]
        norms = [
            torch.cat([reference.weight(theirs, family, layer, name).flatten() for name in maps]).norm()
            for layer in range(config.num_layers)
        ]
        actual = {"blocks' magnitude": game.score_blocks(of_game, "magnitude").values}
        yield from compare(actual, {"blocks' magnitude": torch.stack(norms)})


def same_logits(model: Any, theirs: Any, batch: Any, torch_batch: Any, where: str) -> Iterator[Measurement]:
    """Of two models, at real tokens."""
    real = batch["attention_mask"] != 0
    ours = np.asarray(model(**{name: jnp.asarray(x) for name, x in batch.items()}))
    with torch.no_grad():
        logits = theirs(**torch_batch).logits.numpy()
    yield from compare({"logits": ours[real]}, {"logits": logits[real]}, f"{where}: ")


def repairs(family: str) -> Iterator[Measurement]:
    """Heads and groups removed and the rest refitted: masked, and as narrow as they can be."""
    with precision("float64"):
        case, model, batch, torch_batch = setting(family)
        table = game.fine_players(model.config, GROUPS)
        theirs = reference.refit(case.reference, family, torch_batch, set(REMOVED), model.config.num_heads, GROUPS)
        refitted = game.refit_without(model, table, REMOVED, [batch])
        for form, compact in (("masked", False), ("compact", True)):
            pruned = game.prune(table, REMOVED, compact=compact).model(refitted)
            yield from same_logits(pruned, theirs, batch, torch_batch, form)


def blocks(family: str) -> Iterator[Measurement]:
    """A block removed, whichever; in a causal model the increase of the loss as well."""
    with precision("float64"):
        case, model, batch, torch_batch = setting(family)
        losses = []
        for layer in range(model.config.num_layers):
            theirs = reference.without_block(case.reference, family, layer)
            ours = game.remove_blocks(model.config, [layer]).model(model)
            yield from same_logits(ours, theirs, batch, torch_batch, f"without block {layer}")
            losses.append(next_token_loss(theirs, torch_batch))
        if model.task == "causal-lm":
            increase = torch.stack(losses) - next_token_loss(case.reference, torch_batch)
            values = game.score_blocks(played(model, batch), "leave-one-out").values
            yield from compare({"increase": values}, {"increase": increase})


@torch.no_grad()
def next_token_loss(model: Any, torch_batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean over real tokens that follow real ones."""
    ids, mask = torch_batch["input_ids"], torch_batch["attention_mask"]
    counts = (mask[:, 1:] * mask[:, :-1]) != 0
    losses = torch.nn.functional.cross_entropy(
        model(**torch_batch).logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return losses[counts].mean()


def weights(family: str) -> Iterator[Measurement]:
    """Half of all weights zero, by each criterion: the same weights, of the same size."""
    with precision("float64"):
        case, model, batch, torch_batch = setting(family)
        for criterion in ("magnitude", "wanda", "sparsegpt"):
            theirs = reference.sparsify(case.reference, family, torch_batch, SHARE, criterion)
            ours = game.sparsify(model, [batch], SHARE, criterion=criterion)
            params = models.split(ours)[1]["blocks"]
            actual, expected = {}, {}
            for layer in range(model.config.num_layers):
                for name in reference.MAPS[family]:
                    part, module = name.split("/")
                    actual[f"{layer}/{name}"] = np.asarray(params[part][module]["kernel"][layer])
                    expected[f"{layer}/{name}"] = reference.weight(theirs, family, layer, name)
            same = all(np.array_equal(actual[name] == 0, expected[name].numpy() == 0) for name in expected)
            yield exactly(f"{criterion}: the same weights are zero", same)
            yield from compare(actual, expected, f"{criterion}: ")
            yield from same_logits(ours, theirs, batch, torch_batch, criterion)


def checks() -> list[Check]:
    """Four for each encoder; RoBERTa's is BERT's, and has its scores compared."""
    kinds = {"scores": scores, "refitted": repairs, "blocks": blocks, "sparse": weights}
    return [
        Check("pruning", family, task, "float64", partial(run, family), 1e-10)
        for family in MAIN_TASK
        for task, run in kinds.items()
        if family != "roberta" or task == "scores"
    ]
