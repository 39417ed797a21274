"""``python -m parity.mutants.node FAULT NODE``: one pytest node, with a fault in the library; pytest's exit code."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.pop("PYTEST_CURRENT_TEST", None)

import pytest

from parity import mutants
from parity.mutants.fault import applied


def main(name: str, node: str) -> int:
    """Put the fault in and run the node."""
    (mutant,) = (mutant for mutant in mutants.ALL if mutant.name == name)
    with applied(mutant):
        return int(pytest.main([node, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain"]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
