"""Several processes on loopback: the same losses, checkpoints that any number resumes, deaths that end all of them."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from arena_jax import config, training
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.config.errors import ArenaError
from arena_jax.runs.records import read
from arena_jax.runtime import processes

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}
NEVER = "0 0 0"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a configuration: questions, as their scores need every process' logits on one; with dropout."""
    place = tmp_path_factory.mktemp("processes")
    words = ["red", "green", "blue", "black", "white", "grey"]
    asked = [
        {
            "id": str(i),
            "question": "which?",
            "context": f"{a} and {b}",
            "answers": [{"text": b, "answer_start": 5 + len(a)}],
        }
        for i, (a, b) in enumerate((a, b) for a in words for b in words if a != b)
    ]
    (place / "data").mkdir()
    for split, some in (("train", asked[:24]), ("validation", asked[24:])):
        told = {"data": [{"title": "", "paragraphs": [{"context": q.pop("context"), "qas": [q]} for q in some]}]}
        (place / "data" / f"{split}.json").write_text(json.dumps(told))
    run = RunConfig(
        preset="test",
        task="question-answering",
        models=(ModelConfig("bert", preset="bert-tiny", **SIZES),),
        data=DataConfig(name=str(place / "data"), max_length=24),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=0.01),
        training=TrainingConfig(
            steps=8,
            batch_size=8,
            accumulation=2,
            evaluation_batch_size=4,
            log_every=1,
            evaluate_every=4,
            checkpoint_every=3,
            tensorboard=False,
            figures=False,
        ),
    )
    config.save(run, place / "config.json")
    return place


def launch(place, count, devices, *words, hook=NEVER):
    """Run a command in so many processes with so many devices each; their exit codes, outputs and errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    environment = inherited | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    if count > 1:
        environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
        words = (*words, "--distributed")
    started = []
    for index in range(count):
        files = [open(place / f"{name}.{index}", "w+") for name in ("out", "err")]  # noqa: SIM115 - read below
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("distributed.py")), hook, *map(str, words)],
            env=environment | ({"JAX_PROCESS_ID": str(index)} if count > 1 else {}),
            stdout=files[0],
            stderr=files[1],
        )
        started.append((process, files))
    said = []
    deadline = time.monotonic() + 240
    for process, files in started:
        try:
            process.wait(timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        texts = []
        for file in files:
            file.seek(0)
            # Gloo greets its peers on standard output.
            texts.append("".join(line for line in file if not line.startswith("[Gloo]")))
            file.close()
        said.append((process.returncode, *texts))
    return said


def succeeded(said):
    for code, out, err in said:
        assert code == 0, (out, err)


def numbers(run):
    """Losses and gradient norms of each step, and the scores."""
    return [
        (record["kind"], record["step"], metric, value)
        for record in read(run)
        if record["kind"] in ("train", "evaluation")
        for metric, value in sorted(record["models"]["bert"].items())
        if metric != "examples_per_second"
    ]


def same(run, whole):
    """Everything that was recorded is recorded once, and equal within 1e-6."""
    ours, theirs = numbers(run), numbers(whole)
    assert [one[:3] for one in ours] == [one[:3] for one in theirs][: len(ours)]
    for one, other in zip(ours, theirs, strict=False):
        assert one[3] == pytest.approx(other[3], abs=1e-6), one[:3]
    return len(ours) == len(theirs)


@pytest.fixture(scope="module")
def alone(place, compile_quickly):
    """1 process × 4 devices: this one, with 4 of its own."""
    run = config.load(place / "config.json")
    four = dataclasses.replace(run, training=dataclasses.replace(run.training, devices=4))
    return training.train(four, place / "alone")


@pytest.fixture(scope="module")
def broken(place):
    """2 processes × 2 devices, of which the second dies before step 6."""
    began = time.monotonic()
    words = ("train", "--config", place / "config.json", "--output", place / "broken")
    said = launch(place, 2, 2, *words, hook=f"6 1 {int(signal.SIGKILL)}")
    return said, time.monotonic() - began


@pytest.mark.slow
def test_two_processes_train_like_one(place, alone):
    said = launch(place, 2, 2, "train", "--config", place / "config.json", "--output", place / "two")
    succeeded(said)
    assert same(place / "two", alone)
    assert "finished after 8 steps" in said[0][1]
    assert said[1][1] == "", "only process 0 prints"
    kinds = [record["kind"] for record in read(place / "two")]
    assert kinds == [record["kind"] for record in read(alone)]
    start = read(place / "two")[0]
    assert (start["processes"], len(start["devices"])) == (2, 4)


@pytest.mark.slow  # two processes, then one
def test_parameters_are_dealt_out_within_each_process(place, alone):
    """Two groups of two devices; one process reads the checkpoint of both."""
    run = place / "shards"
    words = ("train", "--config", place / "config.json", "--output", run, "--shard", "parameters")
    succeeded(launch(place, 2, 2, *words))
    assert same(run, alone)
    facts = {fact["name"]: fact["value"] for fact in read(run)[0]["derived"]}
    assert facts["parameters"] == "dealt out over 2 devices"
    last = [record for record in read(alone) if record["kind"] == "evaluation"][-1]["models"]["bert"]
    assert training.evaluate(run)["bert"]["loss"] == pytest.approx(last["loss"], abs=1e-6)


@pytest.mark.slow  # eight processes
def test_a_death_ends_all_and_any_number_goes_on(place, alone, broken):
    said, seconds = broken
    assert said[1][0] == -signal.SIGKILL
    assert said[0][0] not in (0, None)
    told = said[0][2].splitlines()
    assert told[0].endswith(f"then go on with: arena-jax resume {place / 'broken'}"), told[0]
    assert any("another process of this run is gone" in line or "another task died" in line for line in told[1:])
    assert seconds < 60
    for count, devices in ((1, 2), (4, 1)):
        run = place / f"by{count}"
        shutil.copytree(place / "broken", run)
        if count == 1:
            succeeded(launch(place, count, devices, "resume", run))
            assert same(run, alone)
            continue
        # SIGTERM at one of four before their second step: all stop at the same later one, saved.
        said = launch(place, count, devices, "resume", run, hook=f"2 2 {int(signal.SIGTERM)}")
        assert {code for code, _, _ in said} <= {0, 130}, said
        same(run, alone)
        if said[0][0] == 130:
            assert f"go on with: arena-jax resume {run}" in said[0][1]
            succeeded(launch(place, 1, 2, "resume", run))
        assert same(run, alone)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("10.0.0.1", 2, 0), r"write HOST:PORT of process 0"),
        (("10.0.0.1:99", 0, 0), "is 1 or more"),
        (("10.0.0.1:99", 2, 2), "goes from 0 to count - 1"),
        (("10.0.0.1:99", None, None), "give --coordinator HOST:PORT, --process-count N and --process-index I"),
        ((None, None, None), "or start them with srun or mpirun"),
    ],
)
def test_what_cannot_start_is_told(given, told):
    with pytest.raises(ArenaError, match=told):
        processes.start(*given)


def test_an_environment_that_makes_no_sense(monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "one")
    with pytest.raises(ArenaError, match="JAX_PROCESS_ID is 'one' in the environment"):
        processes.start("10.0.0.1:99", 2)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes",
            "process 0 ran out of memory .* 7 bytes",
        ),
        ("UNKNOWN: Gloo all-reduce failed: Connection closed by peer", "another process of this run is gone"),
    ],
)
def test_what_breaks_in_one_of_several_is_one_line(error, told, monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "several", lambda: True)
    with pytest.raises(processes.Lost, match=told) as caught, processes.watched(tmp_path):
        raise jax.errors.JaxRuntimeError(error)
    assert "\n" not in str(caught.value)


def test_other_errors_of_several_stay_what_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "several", lambda: True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="ptxas"), processes.watched(tmp_path):
        raise jax.errors.JaxRuntimeError("INTERNAL: ptxas failed")


def counted(run):
    """Losses, scores, shares and batch sizes of a competition."""
    clocks = {"seconds", "evaluation_seconds", "examples_per_second", "tokens_per_second", "mfu", "peak", "waited"}
    return [
        (record["kind"], record["step"], name, key, value)
        for record in read(run)
        if record["kind"] in ("train", "evaluation", "allocation", "swap")
        for name, told in sorted(record.get("models", {record.get("model"): record}).items())
        for key, value in sorted(told.items())
        if isinstance(value, int | float) and key not in clocks | {"time"}
    ]


@pytest.mark.slow  # three processes, in which much is compiled
def test_a_competition_of_two_processes_is_that_of_two_devices(place):
    arena = ArenaConfig(
        memory_budget="480kB",
        policy="modelarena",
        round_scale=4,
        smoothing=0.0,
        progress_window=1,
        reallocate_every=3,
        swap_after=1,
        late_swaps="wait",
        batch_sizes=(1, 2, 4),
    )
    joint = config.load(place / "config.json")
    run = dataclasses.replace(
        joint,
        task="sequence-classification",
        models=tuple(ModelConfig(name, preset=f"{name}-tiny", **SIZES) for name in ("bert", "gpt2")),
        data=DataConfig(name="synthetic-sentiment", max_length=16, train_limit=400, validation_limit=64),
        training=dataclasses.replace(
            joint.training, steps=5, batch_size=1, accumulation=1, evaluate_every=1, checkpoint_every=None
        ),
        arena=arena,
    )
    config.save(run, place / "competition.json")
    words = "train", "--config", place / "competition.json", "--output"
    succeeded(launch(place, 2, 1, *words, place / "competition-two"))
    succeeded(launch(place, 1, 2, *words, place / "competition-one"))
    assert counted(place / "competition-two") == counted(place / "competition-one")
    assert any(record["kind"] == "swap" for record in read(place / "competition-one"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["store", "stream"])
def test_two_processes_share_a_text_that_is_not_in_memory(place, kind, compile_quickly, monkeypatch):
    """Both want the same entry of the store at once; both read the whole stream. 17 MB are large; few of them train."""
    monkeypatch.setenv("ARENA_CACHE", str(place / f"cache-{kind}"))
    text = "".join(f"{number} is a number, and this a text about {number}\n\n" for number in range(340_000))
    (place / "large.txt").write_text(text if kind == "store" else text[:100_000])
    run = config.load(place / "config.json")
    run = dataclasses.replace(
        run,
        task="language-model",
        models=(ModelConfig("bert", preset="bert-tiny", **SIZES),),
        data=DataConfig(
            name=str(place / "large.txt") if kind == "store" else f"file://{place}/large.txt",
            max_length=24,
            train_limit=300 if kind == "store" else None,
            validation_limit=20,
        ),
    )
    config.save(run, place / f"{kind}.json")
    succeeded(launch(place, 2, 2, "train", "--config", place / f"{kind}.json", "--output", place / f"{kind}-two"))
    four = dataclasses.replace(run, training=dataclasses.replace(run.training, devices=4))
    monkeypatch.setenv("ARENA_CACHE", str(place / f"cache-{kind}-alone"))
    ours, theirs = (numbers(one) for one in (place / f"{kind}-two", training.train(four, place / f"{kind}-alone")))
    assert [one[:3] for one in ours] == [one[:3] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):  # perplexities are 300, so they agree relatively
        assert one[3] == pytest.approx(other[3], rel=1e-6, abs=1e-6), one[:3]
    if kind == "store":
        assert len(list((place / "cache-store" / "data").glob("t*-*/"))) == 3  # the text, and the tokens of two splits
