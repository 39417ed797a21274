"""Four devices of the processor, for what is dealt out over several: JAX has to be told before it looks for any."""

from __future__ import annotations

COUNT = 4
_FLAG = "--xla_force_host_platform_device_count"


def flags(given: str) -> str:
    """What XLA_FLAGS must be; as given where it says how many already.

    Example:
        >>> flags("--xla_a=1")
        '--xla_a=1 --xla_force_host_platform_device_count=4'
    """
    return given if _FLAG in given else f"{given} {_FLAG}={COUNT}".strip()
