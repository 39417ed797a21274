"""GPUs that are not here, as something to compile for: XLA needs a description of a GPU, and not the GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding

from arena_jax.config.errors import ArenaError, first_line
from arena_jax.config.standard_error import quiet
from arena_jax.config.units import parse_memory
from arena_jax.models.attention import compiling_for
from arena_jax.runtime.devices import mesh_of, replicated, rows_over
from arena_jax.runtime.gpus import Gpu, gpu
from arena_jax.runtime.program import Program, compile_program

# A card's memory is never all there: CUDA, its libraries and fragments take some.
DEFAULT_BUDGET = 0.9
# XLA begins to compute things again once a program passes this part of the memory that it believes in; a budget that is
# to be filled is therefore told as this much more.
_REMATERIALISES_AT = 0.8


class Target(NamedTuple):
    """Some GPUs of one kind.

    Attributes:
        gpu: their kind.
        mesh: of them, as `make_mesh` makes one; its devices compile and do not run.
        budget: bytes that programs may take on each.
        hosts: machines that they are in.
    """

    gpu: Gpu
    mesh: Mesh
    budget: int
    hosts: int = 1

    def sharded(self) -> Target:
        """The same GPUs, with parameters dealt out over those of each machine."""
        return self._replace(mesh=mesh_of(self.mesh.devices.reshape(-1), self.hosts))

    def compile_program(self, function: Callable[..., Any], *arguments: Any) -> Program:
        """Compile for these GPUs; as `arena_jax.runtime.compile_program`, and nothing can run the result here.

        Args:
            function: any, or an already jitted one.
            *arguments: `jax.ShapeDtypeStruct` and the like. Those without a sharding lie whole on every GPU.

        Returns:
            The program. Its bytes are per GPU.
        """
        whole = replicated(self.mesh)
        placed = jax.tree.map(functools.partial(_placed, whole=whole), arguments)
        token = compiling_for.set("gpu")
        try:
            return compile_program(function, *placed)
        finally:
            compiling_for.reset(token)

    def bytes_of(self, amount: str | float | int) -> int:
        """Bytes of an amount of memory; a part is one of what each of these GPUs has."""
        return _bytes(amount, self.gpu)

    def rows(self, *shape: int, dtype: Any, axis: int = 0) -> jax.ShapeDtypeStruct:
        """An abstract array whose ``axis`` is dealt out over the GPUs.

        Args:
            *shape: of the whole array.
            dtype: of its elements.
            axis: which one; the GPUs' number divides it.
        """
        return jax.ShapeDtypeStruct(shape, dtype, sharding=rows_over(self.mesh, axis))


def _bytes(amount: str | float | int, kind: Gpu) -> int:
    read = parse_memory(amount)
    return int(read.amount * kind.memory if read.of == "fraction" else read.amount)


def _placed(array: Any, whole: NamedSharding) -> jax.ShapeDtypeStruct:
    sharding = getattr(array, "sharding", None)
    on_mesh = isinstance(sharding, NamedSharding) and sharding.mesh == whole.mesh
    dtype = getattr(array, "dtype", None) or jnp.result_type(array)
    return jax.ShapeDtypeStruct(np.shape(array), dtype, sharding=sharding if on_mesh else whole)


def target(name: str, *, gpus: int = 1, hosts: int = 1, memory_budget: str | float | int | None = None) -> Target:
    """GPUs to compile for, described by name.

    Needs the compiler of the extra ``plan`` (``pip install 'arena-jax[plan]'``, Linux), no GPU and no driver; set
    ``JAX_PLATFORMS=cpu`` before JAX is used, or JAX complains of the missing driver.

    Args:
        name: a kind of GPU, see `arena_jax.runtime.gpus.gpu`.
        gpus: how many.
        hosts: over how many machines; divides ``gpus``.
        memory_budget: what programs may take on each: bytes, ``"38GB"`` or a part; 90 % if not given.

    Returns:
        The target. ``largest_batch(step, arguments_at, "40GB", target=target("a100-40gb"))`` plans any jitted step.

    Raises:
        ArenaError: an unknown GPU, numbers that do not divide, or no compiler for GPUs here.
    """
    kind = gpu(name)
    if gpus < 1 or hosts < 1 or gpus % hosts:
        raise ArenaError(f"{gpus} GPUs cannot be dealt out over {hosts} machines; give a multiple")
    budget = _bytes(DEFAULT_BUDGET if memory_budget is None else memory_budget, kind)
    if budget > kind.memory:
        raise ArenaError(
            f"a budget of {budget / 1e9:.1f} GB is more than a {kind.title} has, {kind.memory / 1e9:.1f} GB; give less"
        )
    text = kind.description(int(budget / _REMATERIALISES_AT))
    try:
        with quiet():
            jax.devices()  # where JAX loads its plugins
            description = topologies.get_topology_desc(
                platform="cuda", target_config=text, topology=f"1x{hosts}x{gpus // hosts}"
            )
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise ArenaError(
            "planning for a GPU that is not here needs its compiler: pip install 'arena-jax[plan]' (Linux only, no GPU"
            f" needed); JAX said: {first_line(error, type(error).__name__)[:200]}"
        ) from None
    return Target(kind, mesh_of(np.array(description.devices)), budget, hosts)
