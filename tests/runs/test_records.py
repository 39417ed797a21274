"""Records lose no line and double none; TensorBoard holds the same numbers; the terminal's lines follow from them."""

from __future__ import annotations

import io
import json
import math
import re

import numpy as np
import pytest

from arena_jax import ArenaError
from arena_jax.runs.console import Console
from arena_jax.runs.log_lines import WIDTH, Narrator, narrate, summary
from arena_jax.runs.records import FILE, Records, read

MODELS = ("bert", "gpt2", "roberta")


def a_run(models=MODELS, *, metric="accuracy", reason="finished", steps=8):
    """Records of a run with round numbers: 4 steps an epoch, 2 seconds a step after 5 seconds of compiling."""

    def metrics(step, i):
        return {"loss": 1 / (step + i), metric: 1 - 0.1 / (step + i)}

    yield {
        "kind": "start",
        "step": 0,
        "time": 1000.0,
        "preset": "joint-synthetic",
        "task": "sequence-classification",
        "run": "runs/joint-synthetic-1",
        "steps": steps,
        "models": {name: {"parameters": 123456, "size": "2 × 64", "vocabulary": "512, trained"} for name in models},
        "derived": [{"name": "steps", "value": 8, "reason": "2 epochs of 4 steps"}],
        "versions": {"arena-jax": "0.1.0"},
    }
    yield {"kind": "compile", "step": 0, "time": 1005.0, "program": "step", "seconds": 5.0, "bytes": 84e6}
    for step in range(2, steps + 1, 2):
        more = {"learning_rate": 1e-3, "gradient_norm": 1.0, "examples_per_second": 16.0}
        both = {"step": step, "time": 1005.0 + 2 * step, "epoch": step / 4}
        yield {"kind": "train", **both, "models": {n: metrics(step, i) | more for i, n in enumerate(models)}}
        if step % 4 == 0:
            scores = {n: metrics(step, i) for i, n in enumerate(models)}
            yield {"kind": "evaluation", **both, "split": "validation", "seconds": 0.5, "models": scores}
    yield {"kind": "end", "step": steps, "time": 1025.0, "epoch": 2.0, "seconds": 25.0, "reason": reason}


def test_what_is_written_is_read(tmp_path):
    with Records(tmp_path, tensorboard=False) as records:
        written = records.write(
            "train", np.int32(3), models={"bert": {"loss": np.float32(0.5), "counts": np.arange(2)}}, folder=tmp_path
        )
        records.write("evaluation", 3, models={"bert": {"loss": math.nan, "accuracy": math.inf}}, text="Ünïcode")
    first, second = read(tmp_path)
    assert first == written
    assert first["models"] == {"bert": {"loss": 0.5, "counts": [0, 1]}}
    assert (first["kind"], first["step"], first["folder"]) == ("train", 3, str(tmp_path))
    assert math.isnan(second["models"]["bert"]["loss"])
    assert second["models"]["bert"]["accuracy"] == math.inf
    assert second["text"] == "Ünïcode"


def test_every_line_is_json_that_any_reader_takes(tmp_path):
    with Records(tmp_path, tensorboard=False) as records:
        records.write("train", 1, loss=math.nan, other=[-math.inf])

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    (line,) = (tmp_path / FILE).read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["other"] == ["-Infinity"]


def test_a_resumed_run_goes_on_at_the_checkpoint_with_no_line_lost_or_doubled(tmp_path):
    with Records(tmp_path, tensorboard=False) as records:
        records.write("train", 1)
        records.write("train", 2)
        position = records.position
        records.write("train", 3)
    with open(tmp_path / FILE, "ab") as file:
        file.write(b'{"kind": "train", "st')  # killed in the middle of a line
    assert [record["step"] for record in read(tmp_path)] == [1, 2, 3]
    with Records(tmp_path, position, tensorboard=False) as records:
        assert records.position == position
        records.write("train", 3)
        records.write("train", 4)
    assert [record["step"] for record in read(tmp_path)] == [1, 2, 3, 4]


def test_records_that_cannot_be_continued_are_left_alone(tmp_path):
    with Records(tmp_path, tensorboard=False) as records:
        records.write("train", 1)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ArenaError, match="already holds a run"):
        Records(tmp_path)
    with pytest.raises(ArenaError, match="records are lost"):
        Records(tmp_path, len(before) + 1)
    with pytest.raises(ArenaError, match="does not end a line at byte 5"):
        Records(tmp_path, 5)
    assert (tmp_path / FILE).read_bytes() == before


def test_missing_and_damaged_records_are_named(tmp_path):
    with pytest.raises(ArenaError, match="cannot read the records"):
        read(tmp_path)
    with pytest.raises(ArenaError, match="cannot write records"):
        Records(tmp_path / "nowhere")
    for damage in (b"\xff\n", b"[]\n", b'{"kind": "train"}\n', b'{"kind": 1, "step": 1}\n', b"\n"):
        (tmp_path / FILE).write_bytes(b'{"kind": "start", "step": 0}\n' + damage)
        with pytest.raises(ArenaError, match="line 2 is not a record"):
            read(tmp_path)
    with Records(tmp_path / "..", tensorboard=False) as records, pytest.raises(ArenaError, match="cannot hold"):
        records.write("train", 1, loss=object())


def events(folder):
    """The scalars in a folder's event files, read by TensorBoard itself."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = accumulators.EventAccumulator(str(folder), purge_orphaned_data=True)
    accumulator.Reload()
    return {
        tag: [(event.step, round(event.value, 4)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own imports
def test_tensorboard_shows_the_same_numbers_also_after_a_resume(tmp_path):
    with Records(tmp_path) as records:
        records.write("train", 1, models={"bert": {"loss": 0.5, "accuracy": math.nan}})
        records.write("evaluation", 1, split="validation", models={"bert": {"accuracy": 0.75}})
        position = records.position
        records.write("train", 2, models={"bert": {"loss": 9.0}})
    with Records(tmp_path, position) as records:
        records.write("train", 2, models={"bert": {"loss": 0.25}})
    shown = events(tmp_path / "tensorboard")
    assert shown == {
        "train_loss/bert": [(1, 0.5), (2, 0.25)],
        "validation_accuracy/bert": [(1, 0.75)],
    }


def test_lines_say_the_numbers_of_the_records():
    text = narrate(a_run())
    assert "runs/joint-synthetic-1" in text.splitlines()[0]
    assert re.search(r"steps +8 +2 epochs of 4 steps", text)
    assert "compiled step in 5.0 s; it uses 84 MB per device" in text
    line = next(line for line in text.splitlines() if line.startswith("      2  0.50"))
    # 2 seconds a step without the compiling, 6 steps to go; 3 models at 16 examples a second.
    assert " ".join(line.split()) == "2 0.50 0.500 95.0 1.00e-3 0.333 96.7 1.00e-3 0.250 97.5 1.00e-3 48 0:12"
    assert "4  1.00    0.250  97.5    best" in text
    assert text.splitlines()[-1].endswith("arena-jax export runs/joint-synthetic-1 bert FOLDER")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_no_line_is_wider_than_the_terminal(count):
    names = [f"a-model-with-a-name-of-forty-letters-{i:03}" for i in range(count)]
    for metric in ("accuracy", "perplexity", "bits_per_byte"):
        for line in narrate(a_run(names, metric=metric)).splitlines()[:-1]:
            assert len(line) <= WIDTH, line


def test_a_finished_run_that_is_resumed_says_so():
    narrator = Narrator()
    for record in a_run():
        narrator(record)
    lines = narrator({"kind": "resume", "step": 8, "time": 9999.0})
    assert lines[0] == "nothing is left to do: all 8 steps were taken"
    assert lines[-1].endswith("arena-jax export runs/joint-synthetic-1 bert FOLDER")
    assert any("─ bert ─" in line for line in narrator(list(a_run())[2]))
    early = Narrator()
    early(next(a_run()))
    assert early({"kind": "resume", "step": 4, "time": 0.0}) == ["resumed at step 4 from the last checkpoint"]


def test_a_long_note_is_wrapped():
    lines = Narrator()({"kind": "note", "step": 0, "time": 0.0, "text": "examples are many " * 20})
    assert all(line.startswith("  · " if i == 0 else "    ") and len(line) <= WIDTH for i, line in enumerate(lines))
    assert " ".join(" ".join(lines).split()[1:]) == ("examples are many " * 20).strip()


def test_an_interrupted_run_says_how_to_go_on():
    assert "arena-jax resume runs/joint-synthetic-1" in summary(list(a_run(reason="interrupted")))[-1]


def test_the_summary_names_the_best_score_and_its_step():
    records = list(a_run(["bert"]))
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    evaluations[-1]["models"]["bert"]["accuracy"] = 0.5
    row = next(line for line in summary(records) if line.strip().startswith("bert"))
    assert row.split() == ["bert", "0.125", "0.125", "50.0", "%", "97.5", "%", "4", "16"]


def test_nan_is_told_as_nan_and_is_never_the_best():
    narrator = Narrator()
    score = {"kind": "evaluation", "step": 1, "time": 0.0, "models": {"bert": {"loss": math.nan, "accuracy": math.nan}}}
    *_, line = narrator(score)
    assert line.split() == ["1", "0.00", "nan", "nan", "validation"]
    score["models"] = {"bert": {"loss": 2.0, "accuracy": 0.5}}
    *_, line = narrator(score)
    assert "best" in line


def test_metrics_beside_the_score_have_a_line_of_their_own():
    narrator = Narrator()
    models = {name: {"loss": 3.0, "perplexity": 20.1, "bits_per_byte": 1.25} for name in ("bert", "gpt2")}
    *_, line = narrator({"kind": "evaluation", "step": 1, "time": 0.0, "models": models})
    assert line.strip() == "bits/byte: bert 1.250 · gpt2 1.250"


def test_a_leaderboard_marks_bits_per_byte_that_are_no_code_length():
    about = {"bert": {"task": "masked-lm", "left_out": ["capitals"]}, "gpt2": {"task": "causal-lm", "left_out": []}}
    account = {"steps": 1, "examples": 1, "flops": 1e12, "seconds": 1.0}
    scores = {"score": -1.0, "baseline": -2.0, "mean_share": 0.5, "bits_per_byte": 1.25, **account}
    board = {"winner": "bert", "models": {name: {"place": place, **scores} for place, name in enumerate(about, 1)}}
    start = {"parameters": 1, "size": "", "vocabulary": ""}
    told = narrate(
        [
            {"kind": "start", "step": 0, "time": 0.0, "models": {name: start | of for name, of in about.items()}},
            {"kind": "leaderboard", "step": 1, "time": 1.0, **board},
        ]
    )
    assert [line.split()[3:-7] for line in told.splitlines()[-5:-3]] == [["pseudo", "1.250"], ["1.250"]]
    note = " ".join(" ".join(told.splitlines()[-3:-1]).split())
    assert note.endswith("no code length; of bert: of the text as the tokenizer keeps it, without capitals")


def test_records_of_kinds_that_nobody_tells_are_passed_over():
    assert narrate([{"kind": "unheard-of", "step": 1, "time": 0.0}, {"kind": "rows", "step": 1, "time": 0.0}]) == ""


def test_a_pipe_gets_plain_lines():
    stream = io.StringIO()
    with Console(stream) as display:
        for record in a_run():
            display.advance(record["step"])
            display.show(record)
    assert stream.getvalue() == narrate(a_run()) + "\n"
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_the_same_lines_and_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    with Console(stream) as display:
        for record in a_run():
            display.show(record)
            display.advance(record["step"])
    bare = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    for line in narrate(a_run()).splitlines():
        assert line in bare
    assert "8/8" in bare
    assert "\x1b" in stream.getvalue()


def test_a_resumed_run_remembers_its_best_and_prints_nothing_twice():
    stream = io.StringIO()
    records = list(a_run())
    with Console(stream, earlier=records[:-1]) as display:
        assert stream.getvalue() == ""
        worse = {"bert": {"loss": 1.0, "accuracy": 0.1}}
        display.show({"kind": "evaluation", "step": 10, "time": 9999.0, "models": worse})
    assert "best" not in stream.getvalue()
