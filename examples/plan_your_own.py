"""Which batch of your own model fits on a GPU that you do not have? Any jitted step; here a Flax network of our own.

Needs XLA's compiler for GPUs, and no GPU: pip install 'arena-jax[plan]' (Linux). Takes about 20 seconds on 2 cores.

    JAX_PLATFORMS=cpu python examples/plan_your_own.py [GPU] [MEMORY]
"""

import sys

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from arena_jax import ArenaError, runtime

# ---- a model and its training step ----


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(1024, 1024, rngs=rngs) for _ in range(8)])
        self.output = nnx.Linear(1024, 10, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = x + nnx.gelu(layer(x))
        return self.output(x)


structure, params = nnx.split(nnx.eval_shape(lambda: Network(nnx.Rngs(0))))  # shapes: no weight is drawn
optimizer = optax.adamw(1e-3)


@jax.jit
def step(params, state, x, labels):
    def loss(params):
        logits = nnx.merge(structure, params)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    gradients = jax.grad(loss)(params)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


# ---- the plan ----

state = jax.eval_shape(optimizer.init, params)


def arguments_at(batch_size):
    x = jax.ShapeDtypeStruct((batch_size, 1024), jnp.float32)
    return params, state, x, jax.ShapeDtypeStruct((batch_size,), jnp.int32)


name, memory = [*sys.argv[1:], *["a100-40gb", "1GB"][len(sys.argv) - 1 :]]
try:
    gpu = runtime.target(name)
except ArenaError as error:
    sys.exit(f"{error}")
print(runtime.largest_batch(step, arguments_at, memory, target=gpu, limit=100_000).reason)
