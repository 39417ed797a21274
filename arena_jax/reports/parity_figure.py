"""How far an exported folder is from what transformers computes with it: measured by ``python -m parity`` itself."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple


class ParityFigure(NamedTuple):
    """What was measured of a folder, in float64.

    Attributes:
        rows: of outputs, loss and gradients: "layer", "error" (the worst, relative to the largest value), "tolerance"
            and "passed". Empty: nothing was measured.
        versions: ``{"jax", "torch", "transformers"}`` that measured it.
        reason: why nothing was measured.
    """

    rows: list[dict[str, Any]]
    versions: dict[str, str]
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether something was measured, and all of it is within its tolerance."""
        return bool(self.rows) and all(row["passed"] for row in self.rows)


def parity_figure(folder: Path) -> ParityFigure:
    """Compare an exported folder with transformers, in a process of its own: PyTorch is never imported here.

    Args:
        folder: a Hugging Face folder.
    """
    for package in ("torch", "parity"):
        if importlib.util.find_spec(package) is None:
            return ParityFigure([], {}, f"{package} is not installed")
    with tempfile.TemporaryDirectory() as place:
        words = ["--model", str(folder.absolute()), "--dtype", "float64", "--output", place]
        done = subprocess.run(
            [sys.executable, "-m", "parity", *words],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            content = json.loads((Path(place) / "parity.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            lines = done.stderr.strip().splitlines()
            return ParityFigure([], {}, lines[-1][:200] if lines else f"parity ended with exit code {done.returncode}")
    rows = [{**row, "error": float(row["error"]), "tolerance": float(row["tolerance"])} for row in content["rows"]]
    return ParityFigure(rows, content["versions"])
