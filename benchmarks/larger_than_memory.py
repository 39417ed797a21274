"""Train from a text larger than memory, beside the same run from a small one.

    python -m benchmarks.larger_than_memory prepare --folder FOLDER --size 5GB   # generates, tokenises: half an hour
    python -m benchmarks.larger_than_memory measure --folder FOLDER              # some minutes, on an idle machine

It takes about 2.6 times the size on the disk, in the folder that is named, which `clean` removes: the text, the text as
it is kept, and its tokens. Both runs have the same tokenizer, trained on the first part of the text, and the same GPT-2
of 2 layers, 64 wide. Compared are the peaks of resident memory (of the process that trains, and of the largest that
tokenises), the time of a step in runs that take turns, tokens per second of tokenising against `datasets.map` with as
many processes, and a run that is killed in the middle and resumed against one that is not, bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax import config, data
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.runs.records import read
from arena_jax.runtime.memory import format_bytes, parse_bytes
from benchmarks import measure
from benchmarks.chaos import differences

BATCH, LENGTH, ROUNDS = 16, 128, 4
LIMIT_BYTES, LIMIT_TIME = 300 * 10**6, 1.03


def generate(path: Path, size: int, seed: int = 0) -> None:
    """Write documents of words whose frequencies are as in a language, about 2 KB each."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlcumwfgypbvk"))
    words = np.array(["".join(random.choice(letters, random.integers(2, 11))) for _ in range(30_000)], dtype=object)
    chances = 1 / (np.arange(len(words)) + 2.7)
    bounds = np.cumsum(chances / chances.sum())
    with path.open("w") as file:
        while file.tell() < size:
            drawn = words[np.minimum(np.searchsorted(bounds, random.random(2**16)), len(words) - 1)]
            for first in range(0, len(drawn), 300):
                file.write(" ".join(drawn[first : first + 300]) + ".\n\n")


def configuration(folder: Path, name: str, steps: int, **training: Any) -> RunConfig:
    """A run on one of the texts."""
    return RunConfig(
        preset="larger-than-memory",
        task="language-model",
        models=(ModelConfig("gpt2", preset="gpt2-tiny", tokenizer=str(folder / "tokenizer")),),
        data=DataConfig(name=str(folder / f"{name}.txt"), max_length=LENGTH, validation_limit=32),
        optimizer=OptimizerConfig(warmup_steps=2),
        training=TrainingConfig(
            **{
                "steps": steps,
                "batch_size": BATCH,
                "evaluation_batch_size": 16,
                "log_every": 20,
                "evaluate_every": steps,
                "tensorboard": False,
                "figures": False,
                "devices": 1,
                **training,
            }
        ),
    )


def start(folder: Path, name: str, output: str, steps: int, resume: bool = False, **training: Any) -> Any:
    """Train in a process of its own."""
    given = folder / f"{output}.json"
    config.save(configuration(folder, name, steps, **training), given)
    words = [sys.executable, __file__, "child", "--folder", str(folder / output), "--config", str(given)]
    environment = {
        **os.environ,
        "ARENA_CACHE": str(folder / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
    }
    return subprocess.Popen([*words, *(["--resume"] if resume else [])], env=environment, stdout=subprocess.PIPE)


def finished(process: Any) -> dict[str, int]:
    """What the process says of itself."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {out.decode()[-2000:]}")
    answer: dict[str, int] = json.loads(out.splitlines()[-1])
    return answer


def child(output: Path, given: Path, resume: bool) -> None:
    """One run; prints the peak of its memory as the last line."""
    from arena_jax.training.train import train

    train(config.load(given), output, resume=resume)
    print(json.dumps({"self": measure.process_bytes("VmHWM")}))


def prepare(folder: Path, sizes: dict[str, int]) -> None:
    """Generate the texts, train the tokenizer, and make the first run of each, which tokenises."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        began = time.perf_counter()
        generate(folder / f"{name}.txt", size)
        print(f"{name}: {format_bytes(size)} generated in {time.perf_counter() - began:.0f} s", flush=True)
    with (folder / "small.txt").open() as file:
        first = file.read(20_000_000).split("\n\n")
    data.train_tokenizer(first, "gpt2", vocab_size=8192).save(folder / "tokenizer")
    peaks = {}
    for name in sizes:
        began = time.perf_counter()
        peaks[name] = finished(start(folder, name, f"first-{name}", 20))
        seconds = time.perf_counter() - began
        notes = [record["text"] for record in read(folder / f"first-{name}") if record["kind"] == "note"]
        notes = [note for note in notes if "kept in" in note]
        print(f"{name}: first run {seconds:.0f} s, peaks {peaks[name]}", *notes, sep="\n  ", flush=True)
    (folder / "prepared.json").write_text(json.dumps({"sizes": sizes, "first": peaks}))


def step_seconds(run: Path) -> float:
    """Seconds of a step: the median over the run's intervals, the first left out."""
    rates = [record["models"]["gpt2"]["examples_per_second"] for record in read(run) if record["kind"] == "train"]
    return BATCH / statistics.median(rates[1:])


class Watch(threading.Thread):
    """The largest peak of resident memory among the processes that this one has started, in bytes.

    Not by getrusage, which counts what a process inherits before it becomes another program.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look every tenth of a second."""
        while not self._over.wait(0.1):
            for file in Path("/proc/self/task").glob("*/children"):
                for process in file.read_text().split():
                    with contextlib.suppress(OSError, StopIteration):
                        lines = Path(f"/proc/{process}/status").read_text().splitlines()
                        kilobytes = next(line for line in lines if line.startswith("VmHWM")).split()[1]
                        self.peak = max(self.peak, int(kilobytes) * 1024)


def tokenising(folder: Path) -> tuple[float, float, int]:
    """Tokens per second of the small text, ours and those of `datasets.map`; the peak of our largest process, bytes."""
    import datasets
    from transformers import AutoTokenizer

    from arena_jax.data.parallel_tokens import worker_count

    os.environ["ARENA_CACHE"] = str(folder / "again")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    datasets.disable_progress_bars()
    texts = data.load(folder / "small.txt", task="language-model", split="all")
    with Watch() as watch:
        began = time.perf_counter()
        rows = data.encode(texts, data.load_tokenizer(folder / "tokenizer"), max_length=LENGTH)
        ours = rows.counts["stream_tokens"] / (time.perf_counter() - began)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    theirs = datasets.Dataset.from_dict({"text": list(texts.columns["text"])})

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": tokenizer(batch["text"], add_special_tokens=False)["input_ids"]}

    began = time.perf_counter()
    encoded = theirs.map(encode, batched=True, remove_columns=["text"], num_proc=worker_count())
    seconds = time.perf_counter() - began
    count = sum(map(len, encoded["input_ids"])) + len(encoded)  # with a separator after each document, as in ours
    if count != rows.counts["stream_tokens"] - 1:
        raise RuntimeError(f"{count} tokens, not {rows.counts['stream_tokens'] - 1}")
    shutil.rmtree(folder / "again", ignore_errors=True)
    return ours, count / seconds, watch.peak


def resumed(folder: Path) -> list[str]:
    """What differs between a run on the large text that is killed after step 60 of 120 and one that is not."""
    options: dict[str, Any] = {"checkpoint_every": 60, "evaluate_every": 60}
    finished(start(folder, "large", "whole", 120, **options))
    process = start(folder, "large", "killed", 120, **options)
    while not (folder / "killed" / "checkpoints" / "60").is_dir() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if read(folder / "killed")[-1]["kind"] == "end":
        return ["the run ended before it could be killed"]
    finished(start(folder, "large", "killed", 120, resume=True, **options))
    return differences(folder / "killed", folder / "whole")


def measured(folder: Path) -> int:
    """Measure, and print the table."""
    prepared = json.loads((folder / "prepared.json").read_text())
    sizes = prepared["sizes"]
    ours, theirs, worker_peak = tokenising(folder)
    seconds: dict[str, list[float]] = {name: [] for name in sizes}
    peaks: dict[str, list[int]] = {name: [] for name in sizes}
    for turn in range(ROUNDS):
        for name in sizes:
            peaks[name].append(finished(start(folder, name, f"{name}-{turn}", 300))["self"])
            seconds[name].append(step_seconds(folder / f"{name}-{turn}"))
            shutil.rmtree(folder / f"{name}-{turn}")
    more = statistics.median(peaks["large"]) - statistics.median(peaks["small"])
    # The first run of the small one also compiles, which takes more memory; all others find their programs.
    first = prepared["first"]["large"]["self"] - statistics.median(peaks["small"])
    time_ratio, lower, upper = measure.ratio(seconds["large"], seconds["small"])
    different = resumed(folder)
    rows = [
        ("peak memory, first run (tokenises)", *(format_bytes(prepared["first"][name]["self"]) for name in sizes)),
        ("peak memory, later run", *(format_bytes(statistics.median(peaks[name])) for name in sizes)),
        ("milliseconds of a step", *(f"{1000 * statistics.median(seconds[name]):.2f}" for name in sizes)),
    ]
    print(measure.machine())
    print(measure.table(["", *(f"{name}, {format_bytes(size)}" for name, size in sizes.items())], rows))
    worst = max(more, first)
    print(
        f"peak memory, large − small: {more / 1e6:.0f} MB, the first run of the large one {first / 1e6:.0f} MB:",
        end=" ",
    )
    print(measure.verdict(worst / 1e6, LIMIT_BYTES / 1e6, at_least=False))
    print(f"time of a step, large / small: {time_ratio:.3f} ({lower:.3f}–{upper:.3f}):", end=" ")
    print(measure.verdict(time_ratio, LIMIT_TIME, at_least=False))
    print(f"largest tokenising process: {format_bytes(worker_peak)}")
    print(f"tokens per second: {ours:,.0f}; datasets.map {theirs:,.0f}; ratio {ours / theirs:.2f}")
    print(f"killed in the middle and resumed: {'; '.join(different) or 'identical to the bit'}")
    return bool(different)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("prepare", "measure", "clean", "child"))
    parser.add_argument("--folder", type=Path, required=True, help="for texts, tokens and runs")
    parser.add_argument("--size", default="5GB", help="of the large text [5GB]")
    parser.add_argument("--small", default="50MB", help="of the small one [50MB]")
    parser.add_argument("--config", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what == "child":
        child(arguments.folder, arguments.config, arguments.resume)
    elif arguments.what == "prepare":
        prepare(
            arguments.folder, {"small": int(parse_bytes(arguments.small)), "large": int(parse_bytes(arguments.size))}
        )
    elif arguments.what == "clean":
        shutil.rmtree(arguments.folder)
    else:
        return measured(arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
