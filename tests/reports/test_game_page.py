"""The page of an analysis, from a record written here: what it says of each part, and of its partners."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.reports import game_page
from arena_jax.runs.document import markdown, text

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VISITOR = """<script>
const buttons = [...document.querySelectorAll("figure.grid button")];
const marked = () => buttons.filter((button) => button.style.outline).length;
const before = marked();
buttons.find((button) => button.ariaLabel === "1.head1").dispatchEvent(new Event("pointerenter"));
const name = document.querySelector(".panel b").textContent;
document.title = JSON.stringify({ before, after: marked(), name, buttons: buttons.length });
</script>"""


def record():
    players = [
        {"name": f"{layer}.{kind}{i}", "kind": kind, "layer": layer, "index": i, "flops_per_token": 4096.0}
        for layer in (0, 1)
        for kind, count in (("head", 2), ("neurons", 1))
        for i in range(count)
    ]
    random = np.random.default_rng(0)
    pairs = random.normal(size=(6, 6)) / 10
    pairs = pairs + pairs.T
    np.fill_diagonal(pairs, 0)
    banzhaf = {"values": [0.3, -0.1, 0.02, 0.0, 0.5, 0.1], "standard_errors": [0.01, None, 0, 0, 0, 0], "samples": 40}
    entropy = {"values": [0.4, 0.9, None, 0.2, 0.6, None], "standard_errors": [0] * 6, "samples": 0}
    return {
        "subject": "tiny <b>",
        "task": "causal-lm",
        "family": "gpt2",
        "loss": 3.25,
        "probe_tokens": 512,
        "ablation": "mean",
        "players": players,
        "utilities": {"banzhaf": banzhaf, "entropy": entropy},
        "interactions": pairs.tolist(),
        "warnings": ["no game, but optimisation"],
    }


def test_the_page_has_every_part_with_its_worth_and_its_partners(tmp_path):
    (tmp_path / "game.json").write_text(json.dumps(record()))
    html = game_page.write(tmp_path / "game.json").read_text()
    assert "tiny &lt;b&gt;: its parts as players" in html
    assert "no game, but optimisation" in html
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")  # needs no other file
    data = re.search(r'<figure class="grid">.*?<script type="application/json">(.*?)</script>', html, re.DOTALL)
    grid = json.loads(data[1])
    assert grid["rows"] == ["block 0", "block 1"]
    assert grid["columns"] == ["head 0", "head 1", "neurons 0"]
    cells = {cell["name"]: cell for cell in grid["cells"]}
    assert cells["0.head0"]["facts"] == [
        ["banzhaf", "+0.3000 ± 1.0e-02"], ["entropy", "+0.4000"], ["operations per token", "4,096"],
    ]  # fmt: skip
    assert (cells["1.neurons0"]["row"], cells["1.neurons0"]["column"]) == (1, 2)
    assert dict(cells["1.neurons0"]["facts"])["entropy"] == "-"
    partners = cells["1.head1"]["partners"]
    assert len(partners) == 5  # everybody else
    pairs = np.array(record()["interactions"])[4]
    assert [value for _, value in partners] == sorted(np.delete(pairs, 4).tolist())


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_a_browser_marks_partners_without_complaint(tmp_path):
    (tmp_path / "game.json").write_text(json.dumps(record()))
    page = tmp_path / "visited.html"
    page.write_text(game_page.write(tmp_path / "game.json").read_text() + VISITOR)
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--enable-logging=stderr", "--dump-dom", f"file://{page}"]
    done = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert seen == {"before": 0, "after": 5, "name": "1.head1", "buttons": 6}


def test_a_grid_in_words(tmp_path):
    blocks = [game_page.grid(record())]
    assert "the highest: 1.head1 0.5, 0.head0 0.3" in text(blocks)
    assert "the highest: 1.head1 0.5" in markdown(blocks)


def test_what_is_no_record_is_refused(tmp_path):
    (tmp_path / "game.json").write_text("{}")
    with pytest.raises(ArenaError, match="no game's record"):
        game_page.write(tmp_path / "game.json")
