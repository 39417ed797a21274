"""What recorded runs taught the predictive policy, as a text or a file gives it: plain numbers, without jax."""

from __future__ import annotations

import json
import math
from pathlib import Path

from arena_jax.config.errors import ArenaError

PREDICTOR_NUMBERS = 5  # four weights and a width, see arena_jax.arena.predictor.Predictor
FIELD = "predictor"  # of the file


def read_predictor(text: str, where: str) -> tuple[float, ...]:
    """Read a predictor from the command line or from a file.

    Args:
        text: the file that `arena-jax arena calibrate … --output FILE` wrote; five numbers with commas between; or
            "none".
        where: the option or field, for an error.

    Returns:
        Five numbers, or none.

    Raises:
        ArenaError: neither, or a number that is not finite, or a width that is not above 0.

    Example:
        >>> read_predictor("0,0.1,0,-0.2,1.5", "--predictor")
        (0.0, 0.1, 0.0, -0.2, 1.5)
    """
    if text.strip() in ("", "none"):
        return ()
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = _from_file(text, where)
    if len(numbers) != PREDICTOR_NUMBERS or not all(map(math.isfinite, numbers)) or numbers[-1] <= 0:
        raise ArenaError(f"{where} '{text}' is no predictor: it has {PREDICTOR_NUMBERS} numbers, the last above 0")
    return tuple(numbers)


def _from_file(path: str, where: str) -> list[float]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArenaError(
            f"{where} '{path}' is neither numbers nor a file ({error.strerror or error}): give that of "
            "`arena-jax arena calibrate … --output FILE`"
        ) from None
    except ValueError as error:
        raise ArenaError(f"{where} '{path}' is not JSON ({error})") from None
    numbers = content.get(FIELD) if isinstance(content, dict) else None
    if not isinstance(numbers, list) or not all(
        isinstance(n, int | float) and not isinstance(n, bool) for n in numbers
    ):
        raise ArenaError(f"{where} '{path}' holds no '{FIELD}': give the file of arena calibrate")
    return [float(number) for number in numbers]
