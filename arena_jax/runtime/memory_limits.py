"""What running has taught about models' memory: margins beside the compiler's bytes, and sizes that ran out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# A model that ran out of memory in spite of its margin: later searches take its need for so much more.
_AFTER_OUT_OF_MEMORY = 1.1


class Calibration(NamedTuple):
    """The allocator's real peak beside what the compiler reported; measured when a program runs for the first time.

    Attributes:
        model: whose gradients.
        size: the batch size, per device.
        estimated: bytes per device, by the compiler.
        measured: bytes per device, by the allocator.
        margin: what later searches for this model add to the compiler's bytes, as a part of them.
        raised: whether that is more than before.
    """

    model: str
    size: int
    estimated: int
    measured: int
    margin: float
    raised: bool


class MemoryLimits:
    """Per model, the part that is added to the compiler's bytes, and the size from which on none is chosen.

    Args:
        names: of the models.
        sizes: the batch sizes there may be, per device, rising.
        margin: of every model at first, as a part of the compiler's bytes.

    Attributes:
        margins: ``{model: part added to the compiler's bytes}``, by searches that begin from now on.
        ceilings: ``{model: size that ran out of memory}``; neither it nor a larger one is chosen again.

    Example:
        >>> limits = MemoryLimits(("bert",), (2, 4, 8), margin=0.0)
        >>> limits.lower_ceiling("bert", 8), limits.sizes("bert"), round(limits.margins["bert"], 3)
        (4, (2, 4), 0.1)
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], margin: float) -> None:
        self._sizes = tuple(sizes)
        self.margins = dict.fromkeys(names, margin)
        self.ceilings: dict[str, int] = {}

    def sizes(self, name: str) -> tuple[int, ...]:
        """The batch sizes that a model may have: all of them but those that ran out of memory."""
        return tuple(size for size in self._sizes if size < self.ceilings.get(name, size + 1))

    def raise_margin(self, name: str, margin: float) -> float:
        """Leave more beside what the compiler reports, in every search for a model that begins from now on.

        Args:
            name: the model.
            margin: as a part of the compiler's bytes; a margin never falls.

        Returns:
            The margin in force.
        """
        self.margins[name] = max(self.margins[name], margin)
        return self.margins[name]

    def lower_ceiling(self, name: str, size: int) -> int | None:
        """After a size ran out of memory at run time, though it was expected to fit.

        It is not chosen again, nor is a larger one, and the model's margin grows by a tenth of its need. A search that
        was under way does not know of this yet: begin it anew.

        Args:
            name: the model.
            size: the batch size, per device.

        Returns:
            The next size down; None where there is none.
        """
        self.ceilings[name] = min(size, self.ceilings.get(name, size))
        self.raise_margin(name, (1 + self.margins[name]) * _AFTER_OUT_OF_MEMORY - 1)
        return max(self.sizes(name), default=None)

    def of(self, name: str) -> tuple[float, int | None]:
        """Margin and ceiling of a model."""
        return self.margins[name], self.ceilings.get(name)

    def put(self, name: str, margin: float, ceiling: int | None) -> None:
        """Set both anew, as for a model of another shape."""
        self.margins[name] = margin
        self.ceilings.pop(name, None)
        if ceiling is not None:
            self.ceilings[name] = ceiling

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; :meth:`restore` reads it back."""
        return {"margins": dict(self.margins), "ceilings": dict(self.ceilings)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over :meth:`state`."""
        self.margins.update(state["margins"])
        self.ceilings.update({name: int(size) for name, size in state["ceilings"].items()})
