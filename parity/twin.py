"""A function of your own in JAX beside its twin in PyTorch: outputs, gradients, and a trajectory, in float64.

    import parity
    report = parity.compare(jax_layer, torch_layer, {"x": x, "kernel": kernel, "bias": bias})
    print(report)
    report.check()

Parameters are inputs like any other: both functions take the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.measure import Measurement
from parity.measure import compare as measure

TOLERANCE = 1e-10  # of float64, as the suite's own checks have it


class TwinReport(NamedTuple):
    """What was compared, and how far apart it is.

    Attributes:
        forward: of each output.
        gradients: of each input that is floating, of a random projection of the outputs.
        trajectory: of each trained input, after the last step of gradient descent; empty without steps.
    """

    forward: list[Measurement]
    gradients: list[Measurement]
    trajectory: list[Measurement]

    @property
    def worst(self) -> Measurement:
        """The largest error of all."""
        return max((*self.forward, *self.gradients, *self.trajectory), key=lambda one: one.error)

    def check(self, tolerance: float = TOLERANCE) -> None:
        """Raise where anything is further apart than the tolerance.

        Raises:
            AssertionError: naming the worst.
        """
        if not self.worst.error <= tolerance:
            raise AssertionError(f"{self.worst.where}: {self.worst.error:.3g} is above {tolerance:.3g}\n{self}")

    def __str__(self) -> str:
        """A line for each comparison."""
        return "\n".join(f"{one.error:9.2e}  {one.where}" for kind in self for one in kind)


def compare(
    jax_fn: Callable[..., Any],
    torch_fn: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    trained: Sequence[str] = (),
    steps: int = 0,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> TwinReport:
    """Compare a function in JAX with the same in PyTorch.

    Args:
        jax_fn: ``(**inputs) -> array``, or a dictionary or sequence of arrays.
        torch_fn: the same with tensors.
        inputs: ``{name: array}``; what is floating becomes float64, and the functions are differentiated in it.
        trained: names of the inputs that gradient descent moves.
        steps: of gradient descent on half the mean square of the outputs; 0: none.
        learning_rate: of gradient descent.
        seed: of the projection.

    Returns:
        The errors, as `parity.measure` defines them.

    Raises:
        ValueError: nothing can be compared: no inputs, trained inputs without steps or the other way round, or trained
            inputs that are not floating.
    """
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    if not arrays:
        raise ValueError("inputs is empty: give {name: array}, parameters among them")
    floating = {name: value.astype(np.float64) for name, value in arrays.items() if value.dtype.kind == "f"}
    fixed = {name: value for name, value in arrays.items() if name not in floating}
    if bool(trained) != bool(steps):
        raise ValueError("a trajectory needs both: trained, the names of inputs, and steps")
    unknown = [name for name in trained if name not in floating]
    if unknown:
        raise ValueError(f"trained names {unknown[0]}, which is no floating input; those are {', '.join(floating)}")
    with jax.enable_x64(True):
        ours = _Ours(jax_fn, fixed)
        theirs = _Theirs(torch_fn, fixed)
        expected = theirs.outputs(floating)
        forward = measure(ours.outputs(floating), expected, "forward: ")
        random = np.random.default_rng(seed)
        projection = {name: random.standard_normal(np.shape(value)) for name, value in expected.items()}
        gradients = (
            measure(ours.gradients(floating, projection), theirs.gradients(floating, projection), "gradient: ")
            if floating
            else []
        )
        ends = [_descend(side, floating, trained, steps, learning_rate) for side in (ours, theirs)]
        trajectory = measure(*ends, f"after {steps} steps: ") if steps else []
    return TwinReport(forward, gradients, trajectory)


def _named(outputs: Any) -> dict[str, Any]:
    """Outputs by name: the only one is "output", others go by their place."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, tuple | list):
        return {f"output {i}": value for i, value in enumerate(outputs)}
    return {"output": outputs}


class _Ours:
    def __init__(self, function: Callable[..., Any], fixed: Mapping[str, np.ndarray]) -> None:
        self._function, self._fixed = function, fixed

    def outputs(self, floating: Mapping[str, Any]) -> dict[str, Any]:
        arrays = {name: jnp.asarray(value) for name, value in {**floating, **self._fixed}.items()}
        return _named(self._function(**arrays))

    def gradients(self, floating: Mapping[str, Any], projection: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
        def scalar(values: Mapping[str, Any]) -> jax.Array:
            outputs = self.outputs(values)
            if projection is None:
                return sum(jnp.mean(value**2) / 2 for value in outputs.values())  # type: ignore[return-value]
            return sum(jnp.sum(value * projection[name]) for name, value in outputs.items() if name in projection)  # type: ignore[return-value]

        return jax.jit(jax.grad(scalar))({name: jnp.asarray(value) for name, value in floating.items()})


class _Theirs:
    def __init__(self, function: Callable[..., Any], fixed: Mapping[str, np.ndarray]) -> None:
        self._function, self._fixed = function, fixed

    def outputs(self, floating: Mapping[str, Any]) -> dict[str, Any]:
        tensors = {name: torch.as_tensor(value) for name, value in {**floating, **self._fixed}.items()}
        return {name: value.detach().numpy() for name, value in _named(self._function(**tensors)).items()}

    def gradients(self, floating: Mapping[str, Any], projection: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
        leaves = {name: torch.tensor(np.asarray(value), requires_grad=True) for name, value in floating.items()}
        fixed = {name: torch.as_tensor(value) for name, value in self._fixed.items()}
        outputs = _named(self._function(**leaves, **fixed))
        if projection is None:
            loss = sum((value**2).mean() / 2 for value in outputs.values())
        else:
            loss = sum((value * torch.as_tensor(projection[name])).sum() for name, value in outputs.items())
        gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return {name: gradient.numpy() for name, gradient in zip(leaves, gradients, strict=True)}


def _descend(
    side: _Ours | _Theirs, floating: Mapping[str, Any], trained: Sequence[str], steps: int, learning_rate: float
) -> dict[str, Any]:
    values = dict(floating)
    for _ in range(steps):
        gradients = side.gradients(values, None)
        values |= {name: np.asarray(values[name]) - learning_rate * np.asarray(gradients[name]) for name in trained}
    return {name: values[name] for name in trained}
