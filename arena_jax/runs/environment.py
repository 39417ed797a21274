"""What a run's numbers depend on beside its configuration: versions, devices, flags and settings."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import arena_jax

# Settings of JAX that change numbers, or where they are computed.
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_disable_jit",
    "jax_platforms",
    "jax_cpu_collectives_implementation",
)
# Variables that the libraries below JAX read.
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


def environment() -> dict[str, Any]:
    """What a number depends on beside the configuration.

    Returns:
        ``versions``; ``commit`` of arena_jax, with a + where its files were changed since, None where it is no
        checkout; ``platform``; ``devices``; ``processes``; ``flags``: the variables of the environment that JAX and
        XLA read, and ``settings`` of JAX that change numbers.
    """
    import flax
    import jaxlib
    import numpy
    import optax
    import orbax.checkpoint

    return {
        "versions": {
            "arena-jax": arena_jax.__version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "orbax": orbax.checkpoint.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        "commit": commit(Path(arena_jax.__file__).parent),
        "platform": platform.platform(),
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "flags": {
            name: os.environ[name] for name in sorted(os.environ) if name in _VARIABLES or name.startswith("JAX_")
        },
        "settings": {name: getattr(jax.config, name) for name in _SETTINGS},
    }


def commit(package: Path) -> str | None:
    """The commit that a package's files are of, with a + where they were changed since.

    Args:
        package: its folder.

    Returns:
        40 digits, perhaps a +; None where it is in no repository, or git is not there.
    """

    def git(*words: str) -> str:
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        done = subprocess.run(
            ["git", "-C", str(package), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env=environment,
        )
        return done.stdout.strip()

    try:
        # A package that is installed in some other repository is not of that one.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
