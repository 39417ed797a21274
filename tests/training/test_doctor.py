"""The doctor says what is there, and an installation that cannot train is told."""

from __future__ import annotations

import jax
import pytest

from arena_jax.cli.main import main
from arena_jax.training import doctor


@pytest.mark.slow
def test_a_healthy_installation(capsys, tmp_path, monkeypatch):
    (tmp_path / "sst2").mkdir()
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0] for line in lines}
    assert {"versions", "device", "disk", "programs", "data", "joint"} <= found
    assert any(f"jax {jax.__version__}" in line for line in lines)
    assert any(f"sst2: {tmp_path / 'sst2'}" in line for line in lines)
    assert any("squad: from the Hugging Face Hub" in line for line in lines)
    assert "bert loss 0." in lines[-1]
    assert "gpt2 loss" in lines[-1]


def test_an_installation_that_cannot_train(capsys, monkeypatch):
    def broken(*words, **options):
        raise RuntimeError("no device\nat all")

    monkeypatch.setattr(doctor, "make_step", broken)
    assert main(["doctor"]) == 1
    assert "FAILS: RuntimeError: no device at all" in capsys.readouterr().out
