"""`arena-jax game prune` and `grow`: a smaller or larger model of the same function, as a Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError


def prune(arguments: argparse.Namespace) -> int:
    """`arena-jax game prune`: remove who is worth least, and say what it cost."""
    from arena_jax import game
    from arena_jax.game.pruning import check_choice

    share = arguments.share if arguments.share is not None or arguments.threshold is not None else 0.25
    check_choice(share, arguments.threshold)
    subject = _subject(arguments)
    config = subject.model.config
    table = game.fine_players(config, arguments.groups)
    calibration = subject.batches(subject.train, arguments.sequences, 8)
    probe = subject.batches(subject.train, arguments.sequences, 8)
    ablation_game = game.AblationGame(
        subject.model, probe, subject.objective, table=table, calibration=calibration, seed=arguments.seed
    )
    values = game.measure(ablation_game, arguments.measure, seed=arguments.seed)
    removed = game.choose(values, table, share=share, threshold=arguments.threshold)
    cut = game.prune(
        table,
        removed,
        ablation_game.observed.means,
        compact=arguments.form == "compact",
        regrow=values if arguments.regrow else None,
        seed=arguments.seed,
    )
    names = ", ".join(table.names[i] for i in removed) or "nobody"
    print(f"{arguments.measure} on {ablation_game.tokens:,} training tokens: {names}")
    if removed and arguments.form == "compact" and cut.after == config:
        print(
            "compact removes no parameter here: every block is as wide as the widest that is left, and one has lost no "
            "part of each kind; what goes is zeroed, as with --form masked"
        )
    return _finish(arguments, subject, cut)


def grow(arguments: argparse.Namespace) -> int:
    """`arena-jax game grow`: new parts that change no output yet, but for rounding."""
    from arena_jax import game

    if not arguments.widen and arguments.insert_block is None:
        raise ArenaError("nothing to grow: give --widen or --insert-block")
    subject = _subject(arguments)
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
    return _finish(arguments, subject, surgery)


def _subject(arguments: argparse.Namespace) -> Any:
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


def _finish(arguments: argparse.Namespace, subject: Any, surgery: Any) -> int:
    """Write the new model, and print what changed: the loss on held-out rows, the operations, the parameters."""
    import jax
    import numpy as np

    from arena_jax import game, models

    new = surgery.model(subject.model)
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
        count = sum(x.size for x in jax.tree.leaves(models.split(model)[1]))
        rows.append((loss, models.forward_flops(model.config, length), count))
    (loss, flops, count), (new_loss, new_flops, new_count) = rows
    traded = new_flops - flops
    trade = "neither bought nor sold" if traded == 0 else f"{'bought' if traded > 0 else 'sold'}: {abs(traded):,.0f}"
    print(f"{surgery.name}; operations per token of {flops:,.0f}: {trade}")
    print(f"parameters {count:,} → {new_count:,}; loss on validation rows {loss:.4f} → {new_loss:.4f} nats")
    print(f"{subject.name} is in {folder}")
    return 0
