"""``python -m parity``: its exit codes, what it writes, and what it says when it cannot run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from parity import mutants
from parity.__main__ import main
from parity.case import random_case
from parity.mutants.fault import applied
from parity.report import MARKS

QUICK = ["--layer", "convergence rate", "--dtype", "float64"]


def test_writes_a_table_and_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    assert main([*QUICK, "--output", str(tmp_path), "--readme", str(readme)]) == 0
    assert "convergence rate" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "parity.json").read_text())["rows"]
    assert row["passed"]
    assert row["comparisons"] > 100
    assert "| convergence rate | all |" in (tmp_path / "parity.md").read_text()
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "convergence rate" in text
    assert "old" not in text


def test_fails_where_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    fault = next(mutant for mutant in mutants.ALL if mutant.name == "slope signed")
    with applied(fault):
        assert main(QUICK) == 1
    assert "FAILED" in capsys.readouterr().out
    assert main(QUICK) == 0  # and the fault is gone


def test_says_what_to_do_without_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(QUICK) == 2
    told = capsys.readouterr().err
    assert "pip install" in told
    assert told.count("\n") == 1


def test_what_cannot_be_written_is_no_disagreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    assert main([*QUICK, "--readme", str(page)]) == 2
    assert main([*QUICK, "--readme", str(tmp_path / "none.md")]) == 2
    assert main([*QUICK, "--output", str(page)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["--readme", "parity cannot run", "parity cannot run"]


def test_refuses_what_it_cannot_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--family", "bert", "--task", "nothing"]) == 2
    assert main(["--model", str(tmp_path)]) == 2
    assert "no config.json" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    assert main(["--model", str(tmp_path)]) == 2
    assert "parity knows" in capsys.readouterr().err


def test_checks_a_given_folder(capsys: pytest.CaptureFixture[str]) -> None:
    folder = random_case("gpt2", "token-classification").folder
    assert main(["--model", str(folder), "--layer", "weights"]) == 0
    assert "gpt2" in capsys.readouterr().out
