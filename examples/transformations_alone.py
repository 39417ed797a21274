"""The transformations by themselves: two different Flax modules of your own, in a plain Optax loop.

    python examples/transformations_alone.py

Takes about 5 seconds on a CPU. Prints which parameters correspond, then both losses falling, with the factor by which
each model's learning rate follows its convergence. Nothing of arena_jax but `arena_jax.transforms` is used.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from arena_jax import transforms

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--steps", type=int, default=200, help="updates (default 200)")
steps = options.parse_args().steps


# ---- two different models: one deeper, one with a gate; both have 32 × 32 kernels ----
class Deep(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.embed, self.mlp = nnx.Linear(4, 32, rngs=rngs), nnx.List([nnx.Linear(32, 32, rngs=rngs) for _ in range(3)])
        self.head = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.embed(x)
        for layer in self.mlp:
            x = x + nnx.gelu(layer(x))
        return self.head(x)[:, 0]


class Gated(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.embed, self.mlp = nnx.Linear(4, 32, rngs=rngs), nnx.Linear(32, 32, rngs=rngs)
        self.gate, self.head = nnx.Linear(32, 32, rngs=rngs), nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.embed(x)
        return self.head(nnx.tanh(self.mlp(x)) * nnx.sigmoid(self.gate(x)))[:, 0]


# ---- split once; the parameters of all models are one dictionary ----
structures, params = {}, {}
for name, module in {"deep": Deep(rngs=nnx.Rngs(0)), "gated": Gated(rngs=nnx.Rngs(1))}.items():
    structures[name], params[name] = nnx.split(module, nnx.Param)
transforms.explain_correspondence(params)

# ---- any chain: share gradients, each model's own Adam, rates that follow convergence, synchronise last ----
optimizer = optax.chain(
    transforms.share_gradients({"deep": 1.0, "gated": 0.8}, alpha=0.2, reduce="mean"),
    optax.adam(3e-3),
    transforms.scale_by_convergence(window=20, slope="signed"),
    transforms.synchronize_parameters(beta=0.05, every=10),
)


@jax.jit
def step(params, state, x, y):
    def loss(p, name):
        return jnp.mean((nnx.merge(structures[name], p)(x) - y) ** 2)

    values, gradients = {}, {}
    for name in params:
        values[name], gradients[name] = jax.value_and_grad(loss)(params[name], name)
    updates, state = optimizer.update(gradients, state, params, value=values)
    return optax.apply_updates(params, updates), state, values


# ---- the loop ----
state = optimizer.init(params)
for number in range(steps):
    x = jax.random.normal(jax.random.fold_in(jax.random.key(2), number), (64, 4))
    y = jnp.sin(x[:, 0]) + x[:, 1] * x[:, 2]
    params, state, losses = step(params, state, x, y)
    if number % 20 == 0 or number == steps - 1:
        print(f"step {number:4d}  " + "  ".join(f"{name} loss {float(loss):.4f}" for name, loss in losses.items()))
