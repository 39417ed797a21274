"""Whether two configurations are those of one run: what may be another when it goes on."""

from __future__ import annotations

from arena_jax import config as configuration
from arena_jax.config import RunConfig

# No number of the run depends on these.
_FREE = tuple(
    f"training.{name}: "
    for name in (
        "devices",
        "shard",
        "figures",
        "tensorboard",
        "track",
        "keep_checkpoints",
        "mirror",
        "output",
        "stop_after",
    )
)


def changes(before: RunConfig, now: RunConfig) -> list[str]:
    """The fields that make it another run, in words; none where the run goes on.

    Example:
        >>> import dataclasses
        >>> from arena_jax.config import presets
        >>> config = presets.get("joint-synthetic")
        >>> free = dataclasses.replace(config, training=dataclasses.replace(config.training, keep_checkpoints=9))
        >>> changes(config, free)
        []
        >>> changes(config, dataclasses.replace(config, training=dataclasses.replace(config.training, seed=1)))
        ['training.seed: 0 → 1']
    """
    return [each for each in configuration.differences(before, now) if not each.startswith(_FREE)]
