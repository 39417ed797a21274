"""Every example runs as its first lines say, for a few steps, and shows what it promises."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_transformations_alone(capsys, monkeypatch):
    out = run("transformations_alone.py", capsys, monkeypatch, "--steps", 21)
    assert "feed-forward" in out, "the table of what corresponds"
    losses = [[float(x) for x in re.findall(r"loss ([\d.]+)", line)] for line in out.splitlines() if "loss" in line]
    assert all(last < first for first, last in zip(losses[0], losses[-1], strict=True))


@pytest.mark.slow
def test_joint_training(capsys, monkeypatch):
    out = run("joint_training.py", capsys, monkeypatch, "--steps", 2)
    assert all(f"{family} loss" in out for family in ("bert", "gpt2", "roberta"))
    assert out.count("accuracy") == 3


@pytest.mark.slow
def test_fine_tune(capsys, monkeypatch, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    out = run("fine_tune.py", capsys, monkeypatch, "--steps", 2, "--output", tmp_path / "out")
    assert out.count("exported") == 2
    for name in ("bert", "gpt2"):
        _, told = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "out" / name, output_loading_info=True
        )
        assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.slow
def test_several_devices(capsys, monkeypatch):
    out = run("several_devices.py", capsys, monkeypatch, "--steps", 1)
    one, eight = re.findall(r"gpt2 loss ([\d.]+)  roberta loss ([\d.]+)", out)
    assert [float(x) for x in one] == pytest.approx([float(x) for x in eight], abs=2e-5)
    assert "8 device(s): 32 examples as 2 microbatches, 2 examples each on a device" in out


@pytest.mark.slow
def test_hand_down(capsys, monkeypatch):
    out = run("hand_down.py", capsys, monkeypatch, "--steps", 2)
    assert "embeddings: 477 of 482 tokens by their text" in out
    assert re.search(r"alone loss [\d.]+  started loss [\d.]+", out)


def test_own_module(capsys, monkeypatch):
    """100 steps: after 60, as many as there once were here, jax 0.12 is at 70.0 %, at the threshold itself."""
    out = run("own_module.py", capsys, monkeypatch, "--steps", 100)
    first, *_, last = [
        [float(x) for x in re.findall(r"loss ([\d.]+)", line)] for line in out.splitlines() if "loss" in line
    ]
    assert all(after < before for before, after in zip(first, last, strict=True))
    assert all(float(share) > 70 for share in re.findall(r"accuracy ([\d.]+)%", out))


@pytest.mark.slow
def test_own_policy(capsys, monkeypatch):
    out = run("own_policy.py", capsys, monkeypatch, "--runs", 8)
    assert [line.split()[0] for line in out.splitlines()] == ["static", "predictive", "halves"]
    assert out.count("against equal shares") == 2


@pytest.mark.parametrize(
    ("name", "shorter"),
    [
        ("curves", {"steps = 125": "steps = 5", "steps=steps,": "steps=steps, devices=1,"}),
        pytest.param("parity_table", {}, marks=pytest.mark.slow),
    ],
)
def test_notebooks(name, shorter, capsys, monkeypatch):
    """Valid as Jupyter sees it, kept with what it printed and drew, and its cells run here one after the other."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("torch")
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {"stream", "display_data"} <= {output.output_type for output in outputs}
    assert not any(output.output_type == "error" for output in outputs)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        code = cell.source
        for long, short in shorter.items() if number == 1 else ():
            assert long in code
            code = code.replace(long, short)
        exec(compile(code, f"{name}[{number}]", "exec"), names)
    assert capsys.readouterr().out


def test_each_example_says_how_it_is_run():
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) >= 8
    for script in scripts:
        assert len(script.read_text().splitlines()) <= 80, script.name
        text = script.read_text().split('"""')[1]
        assert f"python examples/{script.name}" in text, script.name
        assert re.search(r"[Tt]akes about \d+ (seconds|minutes)", text), script.name
