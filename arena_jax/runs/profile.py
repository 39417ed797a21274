"""A trace of some steps of a run, by JAX's profiler: what each operation of each program took."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import jax

from arena_jax.config.step_window import parse_steps


class Profile:
    """Traces a stretch of a run into a folder; a context, so that a trace is whole where the run ends within it.

    Args:
        steps: such as ``"10:20"``, the ten steps after the tenth; None traces nothing.
        folder: where to. ``plugins/profile/…/perfetto_trace.json.gz`` below it opens in https://ui.perfetto.dev, the
            folder itself in XProf and TensorBoard's profiler.

    Example:
        >>> with Profile(None, Path("profile")) as profile:
        ...     profile.reach(10)
        False
    """

    def __init__(self, steps: str | None, folder: Path) -> None:
        self._ends = parse_steps(steps, "training.profile") if steps else None
        self.folder = folder
        self._tracing = False

    def reach(self, step: int) -> bool:
        """Begin or end the trace where the run has come to that.

        Args:
            step: steps taken.

        Returns:
            Whether a trace has been written just now.
        """
        if self._ends is None:
            return False
        first, last = self._ends
        if not self._tracing and step == first:
            jax.block_until_ready(jax.live_arrays())  # what is still being computed belongs to the steps before
            jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
            self._tracing = True
        elif self._tracing and step >= last:
            self._write()
            return True
        return False

    def _write(self) -> None:
        jax.block_until_ready(jax.live_arrays())
        jax.profiler.stop_trace()
        self._tracing = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._tracing:
            self._write()
