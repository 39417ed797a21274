"""Who won: the models of a competition, the best score first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arena_jax.arena.accounts import Account
from arena_jax.arena.history import History
from arena_jax.arena.progress import resource_utilization_efficiency
from arena_jax.transforms.learning_progress import learning_progress


def leaderboard(
    names: Sequence[str],
    history: History,
    accounts: Mapping[str, Account],
    metrics: Mapping[str, Mapping[str, float]],
    judgement: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Rank the models by their last score, S: what ``training.score`` names, more being better, −loss if nothing.

    Losses of different kinds (next token or masked tokens, different tokenizers) are ranked as the paper ranks them;
    bits per byte stand beside, which do not depend on how a tokenizer divides the text. They do on what it leaves out
    (an uncased BERT's are of a text without capitals and accents), and masked models' are of the hidden tokens alone:
    where they are printed, `arena_jax.runs.competition_lines.bits_note` adds both.

    Args:
        names: of the models, in the history's order.
        history: of the whole run.
        accounts: ``{model: account}``.
        metrics: ``{model: {metric: value}}`` of the last evaluation.
        judgement: of the last evaluation by the objective, see `arena_jax.arena.scoring.score_models`.

    Returns:
        ``winner`` (None where no score is finite), ``efficiency`` (equation 8 over the whole run, memory as a share of
        what was divided), what the judgement holds (``objective``, ``score``, ``value``, …), and ``models``, ``{name:
        {"place", "score", "error", "baseline", "progress", "share", …}}`` in order.

    Example:
        >>> from arena_jax.arena.history import extend, start
        >>> h = start([-4.0, -3.0])
        >>> h = extend(h, scores=[-1, -2], shares=[0.5, 0.5], seconds=[1, 1], steps=[5, 5], fraction=1)
        >>> board = leaderboard(["bert", "gpt2"], h, {"bert": Account(), "gpt2": Account()}, {"bert": {}, "gpt2": {}})
        >>> board["winner"], list(board["models"]), board["efficiency"]
        ('bert', ['bert', 'gpt2'], 4.0)

    Source: ModelArena, Table 1 and equation 8.
    """
    scores, shares = np.asarray(history.scores), np.asarray(history.shares)
    last = scores[-1]
    order = sorted(range(len(names)), key=lambda i: (-last[i] if math.isfinite(last[i]) else math.inf, names[i]))
    progress, judged = learning_progress(scores).tolist(), dict(judgement or {})
    errors = judged.pop("errors", {})
    mean_shares = shares[1:].mean(0) if len(shares) > 1 else shares[0]
    models = {
        names[i]: {
            "place": place,
            "score": float(last[i]),
            **({"error": errors[names[i]]} if names[i] in errors else {}),
            "baseline": float(scores[0, i]),
            "progress": progress[i],
            "share": float(shares[-1, i]),
            "mean_share": float(mean_shares[i]),
            **({"bits_per_byte": bits} if (bits := metrics[names[i]].get("bits_per_byte")) is not None else {}),
            **accounts[names[i]].to_json(),
        }
        for place, i in enumerate(order, start=1)
    }
    winner = names[order[0]] if math.isfinite(last[order[0]]) else None
    return {
        "winner": winner,
        "efficiency": float(resource_utilization_efficiency(last - scores[0], mean_shares)),
        **judged,
        "models": models,
    }
