"""A run's page shows its records, needs no other file, works in a browser, and is served to this machine alone."""

from __future__ import annotations

import dataclasses
import http.client
import json
import math
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser

import jax.numpy as jnp
import pytest

from arena_jax.cli.main import main
from arena_jax.config import presets
from arena_jax.runs import Session, Stopped, run_page
from arena_jax.runs.document import Chart, Heading, Line, markdown, page, text
from arena_jax.runs.run_page import PAGE, compose, read_facts

STEPS = 4
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# What an eye would do: the first line is switched off, and the pointer is held over the chart.
VISITOR = """<script>
addEventListener("load", () => {
  const chart = document.querySelector(".chart"), svg = chart.querySelector("svg"), box = svg.getBoundingClientRect();
  const before = svg.querySelectorAll("path").length;
  chart.querySelector("button").click();
  const event = new PointerEvent("pointermove", { clientX: box.right - 20, clientY: box.top + 50 });
  svg.dispatchEvent(event);
  document.title = JSON.stringify({ before, after: svg.querySelectorAll("path").length,
    tip: [...chart.querySelector(".tip").children].map((row) => row.textContent),
    pressed: [...chart.querySelectorAll("button")].map((button) => button.getAttribute("aria-pressed")) });
});
</script>"""


def a_run(folder, *, seed=0, stop=None, note="a <b>note</b>"):
    """Losses that fall, kept by a session."""
    run = presets.get("joint-synthetic")
    run = dataclasses.replace(run, training=dataclasses.replace(run.training, tensorboard=False, seed=seed))
    with Session(run, folder) as session:
        state, _ = session.begin({"bert": jnp.zeros(2)}, ("bert", "gpt2"))
        models = {name: {"parameters": 7, "size": "tiny", "vocabulary": ""} for name in ("bert", "gpt2")}
        session.record_start(steps=STEPS, models=models, derived=[("devices", "1", "given")], notes=[note])
        session.record_program(0, "step", 2.0, 1000)
        for step in range(1, STEPS + 1):
            if step == stop:
                break
            losses = {"bert": 1 / step, "gpt2": math.nan if step == 2 else 2 / step}
            train = {name: {"loss": loss, "learning_rate": 1e-3} for name, loss in losses.items()}
            session.record("train", step, epoch=0.0, seconds=1.0, steps=1, models=train)
            scores = {name: {"loss": loss, "accuracy": 0.5 + step / 10} for name, loss in losses.items()}
            session.record_evaluation(step, scores, epoch=0.0, split="validation", seconds=0.5)
        taken = STEPS if stop is None else stop - 1
        session.save(taken, state, {}, over=stop is None)
        session.finish(taken, STEPS, over=stop is None)
        session.record_end(taken, epoch=0.0)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("page") / "whole")


class Outside(HTMLParser):
    """Every attribute that could load something, and the data of the charts."""

    def __init__(self):
        super().__init__()
        self.links, self.charts, self._json = [], [], False

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        self._json = ("type", "application/json") in attrs

    def handle_data(self, data):
        if self._json:
            self.charts.append(json.loads(data))
            self._json = False


def test_the_page_is_written_with_the_run_holds_its_records_and_loads_nothing(whole):
    html = (whole / PAGE).read_text()
    reader = Outside()
    reader.feed(html)
    assert reader.links == []
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", html)
    assert "default-src 'none'" in html
    assert "a &lt;b&gt;note&lt;/b&gt;" in html
    charts = {chart["title"]: {line["name"]: line["points"] for line in chart["lines"]} for chart in reader.charts}
    assert list(charts) == ["loss (nats)", "accuracy (%)", "learning rate"]
    assert charts["loss (nats)"]["gpt2, validation"] == [[1, 2.0], [2, None], [3, 2 / 3], [4, 0.5]]
    assert charts["accuracy (%)"]["bert, validation"][-1] == [4, pytest.approx(90.0)]
    assert charts["learning rate"]["bert"] == [[step, 1e-3] for step in range(1, 5)]
    assert f"arena-jax export {whole} gpt2 FOLDER" in html
    assert f"arena-jax resume {whole}" not in html, "it has ended"
    assert "4 of 4 steps, ended" in html


def test_a_stopped_run_says_how_to_go_on_and_several_stand_side_by_side(whole, tmp_path):
    with pytest.raises(Stopped):
        a_run(tmp_path / "part", seed=1, stop=3)
    assert main(["show", str(whole), str(tmp_path / "part"), "--output", str(tmp_path / "both.html")]) == 0
    html = (tmp_path / "both.html").read_text()
    assert f"arena-jax resume {tmp_path / 'part'}" in html
    assert "part: joint-synthetic, sequence-classification, seed 1; 2 of 4 steps, not at its end" in html
    assert "whole → part: training.seed: 0 → 1" in html
    loss = next(
        block for block in compose([read_facts(whole), read_facts(tmp_path / "part")]) if isinstance(block, Chart)
    )
    assert [(line.name, line.dashed) for line in loss.lines if not line.thin] == [
        ("whole · bert, validation", False),
        ("whole · gpt2, validation", False),
        ("part · bert, validation", True),
        ("part · gpt2, validation", True),
    ]
    assert loss.lines[0].colour == loss.lines[4].colour


def test_where_the_time_went_adds_up(whole):
    blocks = compose([read_facts(whole)])
    at = next(i for i, block in enumerate(blocks) if block == Heading("Where the time went"))
    header, (row,) = blocks[at + 1].header, blocks[at + 1].rows
    seconds = {name: float(cell.split()[0]) for name, cell in zip(header[1:-1], row[1:-1], strict=True)}
    assert (seconds["training"], seconds["compiling"], seconds["evaluating"]) == (4.0, 2.0, 2.0)


def test_a_page_that_cannot_be_written_is_named_once_and_stops_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_page, "write", full)
    run = a_run(tmp_path / "run")
    troubles = read_facts(run).of("trouble")
    assert [record["text"] for record in troubles] == [
        "report.html is no longer written (No space left on device); the run goes on"
    ]


def test_a_long_line_is_thinned_and_keeps_its_end():
    count = 2501
    chart = Chart("loss", "step", [Line("bert", list(range(count)), [1.0] * count, "#000000")])
    points = chart.data()["lines"][0]["points"]
    assert len(points) <= 1000
    assert points[-1] == (2500, 1.0)
    assert "loss, at the end: bert 1" in text([chart])
    assert markdown([chart]) == "loss, at the end: bert 1"
    assert "</script><" not in page("x", [Chart("</script><b>", "step", [])]).replace("</script></figure>", "")


def ask(address, path="/", host=None):
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    return response.status, response.headers, response.read().decode()


def test_it_is_served_as_it_is_now_to_this_machine_alone(whole, capsys):
    from arena_jax.cli import show

    server = show.serve([whole], 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"127.0.0.1:{server.server_port}"
        status, headers, html = ask(address)
        assert (status, headers["Refresh"]) == (200, None)
        assert "4 of 4 steps, ended" in html
        assert ask(address, "/config.json")[0] == 404
        assert ask(address, host="evil.example:80")[0] == 403
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert main(["show", str(whole), "--port", "99999"]) == 2
    assert "--port 99999 cannot be served" in capsys.readouterr().err
    assert main(["show", "nowhere"]) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_a_browser_draws_it_without_complaint(whole, tmp_path):
    """Text, console and a picture, in Chromium itself; lines can be switched off, and values are shown."""
    html = (whole / PAGE).read_text()
    (tmp_path / "page.html").write_text(html + VISITOR)

    def chromium(*words):
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command += ["--enable-logging=stderr", "--window-size=1000,800", *words, f"file://{tmp_path}/page.html"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    dom = chromium("--dump-dom")
    seen = json.loads(re.search(r"<title>(.*?)</title>", dom).group(1))
    assert (seen["before"], seen["after"]) == (4, 3)
    assert seen["pressed"] == ["false", "true", "true", "true"]
    assert seen["tip"] == ["step 4", "bert, training: 0.25", "gpt2, validation: 0.5", "gpt2, training: 0.5"]
    assert "Where the time went" in dom
    chromium(f"--screenshot={tmp_path / 'page.png'}")
    assert (tmp_path / "page.png").stat().st_size > 10_000, "an empty page takes less"
