"""`arena-jax game prune`: heads and neurons, blocks or single weights go, by any criterion; a Hugging Face folder."""

from __future__ import annotations

import argparse
from typing import Any

from arena_jax.config.errors import ArenaError

PARTS, BLOCKS, WEIGHTS = "heads-and-neurons", "blocks", "weights"
CRITERIA = {  # of game.CRITERIA, game.BLOCK_CRITERIA and game.WEIGHT_CRITERIA: the help is printed without JAX
    PARTS: (
        *("banzhaf", "leave-one-out", "shapley", "sensitivity", "second-order", "aumann-shapley"),
        *("magnitude", "wanda", "least-squares", "random"),
    ),
    BLOCKS: ("block-influence", "leave-one-out", "magnitude", "random"),
    WEIGHTS: ("magnitude", "wanda", "sparsegpt", "random"),
}
DEFAULT = {PARTS: "banzhaf", BLOCKS: "block-influence", WEIGHTS: "sparsegpt"}
OF_PARTS = ("threshold", "groups", "even", "form", "repair", "regrow")  # options of heads and neurons alone


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's own options.

    Args:
        parser: of `game prune`.
    """
    parser.add_argument("--parts", choices=tuple(CRITERIA), default=PARTS, help=f"what goes [{PARTS}]")
    parser.add_argument("--share", type=float, metavar="X", help="part of them that goes [0.25]")
    parser.add_argument(
        "--criterion",
        metavar="NAME",
        help="what goes first, "
        + "; ".join(f"of {parts}: {', '.join(names)} [{DEFAULT[parts]}]" for parts, names in CRITERIA.items()),
    )
    parser.add_argument("--recover-steps", type=int, metavar="N", help="train that long afterwards; zeros stay [0]")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="of these steps [the run's own, or 0.001]")
    only = parser.add_argument_group("of heads and neurons alone")
    only.add_argument("--threshold", type=float, metavar="X", help="instead of a share: all who surely are worth less")
    only.add_argument("--groups", type=int, metavar="N", help="groups of feed-forward neurons per block [4]")
    only.add_argument("--even", action="store_true", help="the share of every block, so that compact is smallest")
    only.add_argument(
        "--form",
        choices=("masked", "compact"),
        help="masked: zeros in every shape's place; compact: smaller arrays, as transformers can express them [masked]",
    )
    only.add_argument(
        "--repair",
        choices=("mean", "least-squares"),
        help="what makes up for what goes: its mean, in the bias; or the rest's output maps, refitted [mean]",
    )
    only.add_argument("--regrow", action="store_true", help="split the most valuable parts into the free places")


def prune(arguments: argparse.Namespace) -> int:
    """`arena-jax game prune`: remove what is worth least, and say what it cost."""
    from arena_jax import game
    from arena_jax.cli.game_surgery import finish, subject_of
    from arena_jax.equilibria.arguments import count

    criterion = _check(arguments)
    if arguments.recover_steps is not None:
        count(arguments.recover_steps, "--recover-steps", "steps of training after the removal")
    elif arguments.learning_rate is not None:
        raise ArenaError("--learning-rate is that of the training after the removal: give --recover-steps too")
    subject = subject_of(arguments)
    batches = subject.batches(subject.train, arguments.sequences, 8)
    if arguments.parts == WEIGHTS:
        model = game.sparsify(subject.model, batches, arguments.share, criterion=criterion, seed=arguments.seed)
        name = f"set {arguments.share:.0%} of the weights of every block's kernels to zero"
        print(f"{criterion}; zeros are stored and multiplied like other numbers: nothing gets smaller or faster")
    else:
        table = game.fine_players(subject.model.config, 4 if arguments.groups is None else arguments.groups)
        played = game.AblationGame(
            subject.model, batches, subject.objective, table=table, calibration=batches, seed=arguments.seed
        )
        removal = _blocks if arguments.parts == BLOCKS else _parts
        model, name = removal(arguments, subject, played, criterion)
    if arguments.recover_steps is not None:
        model = _recovery(arguments, subject, model)
        name += f"; {arguments.recover_steps} steps of training"
    return finish(arguments, subject, model, name)


def _check(arguments: argparse.Namespace) -> str:
    """Refuse what does not go together; the criterion."""
    from arena_jax.config.errors import nearest
    from arena_jax.game.pruning import check_choice

    parts = arguments.parts
    criterion = DEFAULT[parts] if arguments.criterion is None else arguments.criterion
    if criterion not in CRITERIA[parts]:
        where = [other for other, names in CRITERIA.items() if criterion in names]
        hint = f"it is one of {where[0]}" if where else nearest(criterion, CRITERIA[parts])
        raise ArenaError(f"--criterion '{criterion}' is none for {parts}: {hint}")
    if parts != PARTS:
        for option in OF_PARTS:
            value = getattr(arguments, option)
            if value is not None and value is not False:  # 0 was given, too
                raise ArenaError(f"--{option} is for heads and neurons: it does nothing with --parts {parts}")
    if arguments.share is None and arguments.threshold is None:
        arguments.share = 0.25
    check_choice(arguments.share, arguments.threshold)
    if arguments.even and arguments.threshold is not None:
        raise ArenaError("--even takes a share of every block: give --share, not --threshold")
    if arguments.threshold is not None and criterion in ("magnitude", "wanda", "least-squares", "random"):
        raise ArenaError(f"--threshold is in nats, and '{criterion}' is not: give --share")
    if arguments.regrow and arguments.form == "compact":
        raise ArenaError("--regrow fills the places that --form compact would take away: choose one")
    return criterion


def _parts(arguments: argparse.Namespace, subject: Any, played: Any, criterion: str) -> tuple[Any, str]:
    from arena_jax import game

    table, compact = played.table, arguments.form == "compact"
    values = game.score(played, criterion, seed=arguments.seed)
    removed = game.choose(values, table, share=arguments.share, threshold=arguments.threshold, even=arguments.even)
    model, means = subject.model, played.observed.means
    if arguments.repair == "least-squares":
        model, means = game.refit_without(model, table, removed, played.calibration), None
    regrow = values if arguments.regrow else None
    cut = game.prune(table, removed, means, compact=compact, all_heads=compact, regrow=regrow, seed=arguments.seed)
    names = ", ".join(table.names[i] for i in removed) or "nobody"
    print(f"{criterion} on {played.tokens:,} training tokens: {names}")
    if removed and compact:
        if cut.after == table.config:
            print(
                "compact removes no parameter here: every block is as wide as the widest that is left, and one has "
                "lost no neurons; what goes is zeroed, as with --form masked"
            )
        if any(table.kinds[i] == "head" for i in removed):
            print("heads are zeroed in their places: in transformers' files heads share out the hidden size")
    return cut.model(model), cut.name


def _blocks(arguments: argparse.Namespace, subject: Any, played: Any, criterion: str) -> tuple[Any, str]:
    from arena_jax import game
    from arena_jax.models.pruning import remove_blocks

    values = game.score_blocks(played, criterion, seed=arguments.seed)
    removed = game.choose_blocks(values, arguments.share)
    cut = remove_blocks(subject.model.config, removed)
    names = ", ".join(values.names[i] for i in removed) or "none"
    print(f"{criterion} on {played.tokens:,} training tokens: {names}")
    return cut.model(subject.model), cut.name


def _recovery(arguments: argparse.Namespace, subject: Any, model: Any) -> Any:
    from arena_jax import data, game

    batches = data.Batches(subject.train, seed=arguments.seed)
    rate = subject.learning_rate if arguments.learning_rate is None else arguments.learning_rate
    return game.recover(
        model,
        subject.objective,
        lambda: batches.next(min(16, len(subject.train))),
        arguments.recover_steps,
        learning_rate=1e-3 if rate is None else rate,
        seed=arguments.seed,
    )
