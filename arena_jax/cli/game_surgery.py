"""`arena-jax game grow`, and what it shares with `prune`: the model that is read, and the folder that is written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError


def grow(arguments: argparse.Namespace) -> int:
    """`arena-jax game grow`: new parts that change no output yet, but for rounding."""
    from arena_jax import game

    if not arguments.widen and arguments.insert_block is None:
        raise ArenaError("nothing to grow: give --widen or --insert-block")
    subject = subject_of(arguments)
    config = subject.model.config
    steps = []
    if arguments.widen:
        steps.append(game.widen(config, arguments.widen, seed=arguments.seed))
    if arguments.insert_block is not None:
        steps.append(
            game.insert_block(steps[-1].after if steps else config, arguments.insert_block, seed=arguments.seed)
        )
    surgery = steps[0]
    for step in steps[1:]:
        surgery = surgery.then(step)
    return finish(arguments, subject, surgery.model(subject.model), surgery.name)


def subject_of(arguments: argparse.Namespace) -> Any:
    """The model, once all that is asked for is known to make sense."""
    from arena_jax.equilibria.arguments import count, seed_number
    from arena_jax.game.subject import load_subject
    from arena_jax.models.huggingface.save import check_folder

    check_folder(arguments.output, arguments.target)
    count(arguments.sequences, "--sequences", "how many rows are looked at")
    seed_number(arguments.seed)
    return load_subject(
        arguments.target, dataset=arguments.data, model=arguments.model, max_length=arguments.max_length
    )


def finish(arguments: argparse.Namespace, subject: Any, new: Any, name: str) -> int:
    """Write the new model, and print what changed: the loss on held-out rows, the operations, the parameters."""
    import numpy as np

    from arena_jax import game, models

    folder = Path(arguments.output)
    models.save_pretrained(
        new, folder, also=lambda place: subject.tokenizer.save(place, max_length=new.config.max_length)
    )
    batches = subject.batches(subject.validation, arguments.sequences, 8)
    length = batches[0]["input_ids"].shape[1]
    rows = []
    for model in (subject.model, new):
        ablation_game = game.AblationGame(model, batches, subject.objective, table=game.fine_players(model.config, 1))
        loss = -float(ablation_game.evaluate(np.ones((1, len(ablation_game.table))))[0])
        count = models.count_parameters(models.split(model)[1])
        rows.append((loss, models.forward_flops(model.config, length), count))
    (loss, flops, count), (new_loss, new_flops, new_count) = rows
    traded = new_flops - flops
    trade = "neither bought nor sold" if traded == 0 else f"{'bought' if traded > 0 else 'sold'}: {abs(traded):,.0f}"
    print(f"{name}; operations per token of {flops:,.0f}: {trade}")
    print(f"parameters {count:,} → {new_count:,}; loss on validation rows {loss:.4f} → {new_loss:.4f} nats")
    print(f"{subject.name} is in {folder}")
    return 0
