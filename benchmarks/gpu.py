"""Everything that only a GPU can show, in under ten minutes on one card.

    python benchmarks/gpu.py --output gpu.json           # writes gpu.json and gpu.md, and prints the table
    python benchmarks/gpu.py --part planned memory       # some parts
    python benchmarks/gpu.py --small                     # tiny models, a few steps: that the script works, on a CPU too

Each part runs in a process of its own, so that the allocator's peak is its own and one failure does not end the rest:

- planned: the bytes that the compiler reports, on this card and without one (extra `plan`), against the allocator's
  peak, for six programs;
- memory: 500 steps of the largest batch in 95 % of the card;
- largest: the longest batch of `docs/guides/plan.md`'s table, 552 rows of GPT-2 small with 40 GB, or what fits here;
- peak: model FLOPs utilisation of GPT-2 small and BERT base in bfloat16;
- torch: a joint step of BERT, GPT-2 and RoBERTa against `torch.compile` with flash attention;
- attention: cuDNN's attention and the chunked head, on and off: bytes and time of a step;
- competition: 200 reallocations, each step timed (benchmarks/reallocation.py).

What could not be measured is a row too, with the reason.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

# Before JAX is imported: the card is this process's own, and 95 % of it must be there to be planned with.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.97")

import jax
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from arena_jax import models, runtime, training, transforms
from arena_jax.config.errors import ArenaError
from arena_jax.runtime.gpus import Gpu, gpus
from arena_jax.runtime.memory import calibrate, device_limit
from arena_jax.training import vocabulary_loss
from arena_jax.training.objectives import head_positions
from benchmarks.measure import table

MASK = 4  # the token that hidden ones become
WHOLE_LOGITS = 2**62  # bytes that a chunk of logits may take: all of them at once
TINY = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "vocab_size": 300}
FLASH = {"attention": "cudnn", "attention_dropout": 0.0, "right_padded": True}
WHOLE_S = 590  # of all parts; a part may take twice its equal share of what is left


class Row(NamedTuple):
    """One measurement: what, its value with a unit, what it is held against, and what that says."""

    part: str
    what: str
    value: str
    reference: str = ""


class Training(NamedTuple):
    """One model with AdamW: its jitted step, its state, its arguments by batch size, and operations of a row."""

    step: Any
    keys: Any
    state: Any
    batch_of: Callable[[int], Any]
    row_flops: float
    dtype: str

    def arguments_at(self, size: int) -> tuple[Any, ...]:
        """Shapes of a step's arguments."""
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self.batch_of(1))
        batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, size, *leaf.shape[2:]), leaf.dtype), shapes)
        return jax.eval_shape(lambda: self.state()), {"m": batch}, self.keys, {}

    def run(self, size: int, steps: int) -> list[float]:
        """Seconds of some steps after the first, each waited for."""
        state, batch, seconds = self.state(), {"m": self.batch_of(size)}, []
        for _ in range(steps + 1):
            begin = time.perf_counter()
            state, metrics = self.step(state, batch, self.keys, {})
            jax.block_until_ready((state, metrics))
            seconds.append(time.perf_counter() - begin)
        return seconds[1:]


def one_model(preset: str, length: int, small: bool, *, task: str = "causal-lm", **changes: Any) -> Training:
    """A model of a preset's size, or a tiny one; nothing is drawn until it runs."""
    sizes = {**TINY, "max_positions": length + 2} if small else {}
    shape = models.preset(preset).replace(**sizes, **changes)
    network = models.abstract(shape, task)
    objectives = {"m": training.objective_for(task, mask_token_id=MASK)}
    step = training.make_step({"m": network}, optax.adamw(1e-4), objectives)

    def state() -> Any:
        return training.make_step({"m": models.create(shape, task)}, optax.adamw(1e-4), objectives).init()

    def batch_of(size: int) -> dict[str, np.ndarray]:
        ids = np.random.default_rng(0).integers(5, shape.vocab_size, (1, size, length)).astype(np.int32)
        return {"input_ids": ids, "attention_mask": np.ones((1, size, length), np.int32)}

    row = models.training_flops(shape, task, length, head_positions(task, length))
    return Training(jax.jit(step.whole, donate_argnums=(0,)), step.keys, state, batch_of, row, shape.compute_dtype)


def card() -> Gpu | None:
    """What is known of this card, by the name that its driver gives."""
    kind = jax.devices()[0].device_kind
    return next((gpu for gpu in gpus().values() if gpu.title == kind or gpu.title == f"NVIDIA {kind}"), None)


def utilisation(operations: float, seconds: float, dtype: str) -> str:
    """Operations per second, and as a part of the card's peak."""
    gpu, rate = card(), operations / seconds
    part = f", {rate / gpu.peak(dtype):.1%} of the peak" if gpu else ""
    return f"{rate / 1e12:.3g} TFLOP/s{part}"


def planned(small: bool) -> list[Row]:
    """Six programs in the order of their bytes, as the allocator remembers its largest peak alone."""
    sizes = (1, 2) if small else (8, 32)
    kinds = [("gpt2", "causal-lm", 128, "float32"), ("bert-base", "masked-lm", 128, "float32")]
    kinds.append(("gpt2", "causal-lm", 1024 if not small else 64, "bfloat16"))
    programs = []
    for preset, task, length, dtype in kinds:
        for size in sizes:
            subject = one_model(preset, length, small, task=task, dtype=dtype)
            program = runtime.compile_program(subject.step, *subject.arguments_at(size))
            programs.append((program.bytes.total, f"{preset} {dtype} {length}, batch {size}", subject, size, program))
    rows = []
    for total, name, subject, size, program in sorted(programs, key=lambda item: item[0]):
        arguments = jax.device_put((subject.state(), {"m": subject.batch_of(size)}, subject.keys, {}))
        jax.block_until_ready(arguments)
        _, excess = calibrate(program, lambda a=arguments, p=program: p.executable(*a))
        peak = "no peak is kept here" if excess is None else f"{total * (1 + excess) / 1e9:.3f} GB at the peak"
        rows.append(Row("planned", name, peak, f"{total / 1e9:.3f} GB compiled here; {without_card(subject, size)}"))
        del arguments
        gc.collect()
    return rows


def without_card(subject: Training, size: int) -> str:
    """The same program's bytes as a plan has them."""
    gpu = card()
    if gpu is None:
        return "no plan: the card is not in gpus.toml"
    try:
        target = runtime.target(gpu.name)
        return f"{target.compile_program(subject.step, *subject.arguments_at(size)).bytes.total / 1e9:.3f} GB planned"
    except ArenaError as error:
        return f"no plan: {error}"


def memory(small: bool) -> list[Row]:
    """500 steps of the largest batch in 95 % of the card; narrow, so that a step is short."""
    length, steps = (16, 5) if small else (128, 500)
    subject = one_model("gpt2-tiny" if small else "gpt2", length, small, **({} if small else NARROW), dtype="bfloat16")
    device = jax.devices()[0]
    budget = 20_000_000 if small else int(0.95 * device_limit(device) / memory_fraction())
    budget = min(budget, device_limit(device))
    choice = runtime.largest_batch(subject.step, subject.arguments_at, budget, limit=64 if small else 100_000)
    seconds = subject.run(choice.batch_size, steps)
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    used = f"peak {peak / 1e9:.2f} GB" if peak else "no peak is kept here"
    name = f"{steps} steps of {choice.batch_size} × {length} tokens in {budget / 1e9:.2f} GB"
    planned_bytes = f"{choice.program.bytes.with_code / 1e9:.2f} GB planned"
    return [
        Row("memory", name, f"none ran out; {statistics.median(seconds) * 1e3:.3g} ms a step; {used}", planned_bytes)
    ]


NARROW = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 1024, "vocab_size": 8192}


def memory_fraction() -> float:
    """The part of the card that JAX takes."""
    return float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"])


def largest(small: bool) -> list[Row]:
    """552 rows of 1024 tokens in 40 GB, or the most that fits a smaller card."""
    length = 32 if small else 1024
    options = {} if jax.devices()[0].platform == "cpu" else FLASH
    subject = one_model("gpt2", length, small, dtype="bfloat16", remat="block", **options)
    budget = 20_000_000 if small else min(40_000_000_000, device_limit(jax.devices()[0]))
    choice = runtime.largest_batch(subject.step, subject.arguments_at, budget, limit=64 if small else 4096)
    size = choice.batch_size if choice.batch_size < 552 else 552
    seconds = statistics.median(subject.run(size, 2))
    speed = utilisation(size * subject.row_flops, seconds, subject.dtype)
    attention = "cuDNN" if options else "XLA"
    name = f"GPT-2 small, bfloat16, {length} tokens, {attention}, remat block: batch {size}"
    return [Row("largest", name, f"{seconds:.3g} s a step, {speed}", f"552 planned; {choice.reason}")]


def peak(small: bool) -> list[Row]:
    """Model FLOPs utilisation: the operations that the model needs, over the time that its step takes."""
    rows = []
    on_gpu = jax.devices()[0].platform != "cpu"
    for preset, task, length, size in (("gpt2", "causal-lm", 1024, 16), ("bert-base", "masked-lm", 512, 32)):
        length, size = (32, 2) if small else (length, size)
        for options in ({}, FLASH) if on_gpu else ({},):
            subject = one_model(preset, length, small, task=task, dtype="bfloat16", **options)
            seconds = statistics.median(subject.run(size, 3 if small else 20))
            name = f"{preset}, bfloat16, {size} × {length} tokens, attention {options.get('attention', 'xla')}"
            speed = utilisation(size * subject.row_flops, seconds, subject.dtype)
            rows.append(Row("peak", name, speed, f"{1e3 * seconds:.4g} ms a step"))
    return rows


def torch(small: bool) -> list[Row]:
    """Three models, forward, backward and AdamW, ours in one program and PyTorch's compiled; equal rows and tokens."""
    name = "joint step of BERT, GPT-2 and RoBERTa, bfloat16"
    if importlib.util.find_spec("torch") is None:
        return [Row("torch", name, "not measured", "no torch here: pip install torch")]
    import torch
    import transformers

    on_gpu = jax.devices()[0].platform != "cpu"
    if on_gpu and not torch.cuda.is_available():
        return [Row("torch", name, "not measured", "this torch has no CUDA")]
    place = "cuda" if on_gpu else "cpu"
    length, size, steps = (16, 2, 2) if small else (512, 16, 20)
    common: dict[str, Any] = {"max_positions": length + 2, "dtype": "bfloat16", "vocab_size": 300 if small else 8192}
    common |= {**TINY, "max_positions": length + 2, "dtype": "bfloat16"} if small else {}
    names = {
        "bert": ("bert-base", "masked-lm"),
        "gpt2": ("gpt2", "causal-lm"),
        "roberta": ("roberta-base", "masked-lm"),
    }
    ours = {n: models.create(models.preset(preset).replace(**common), task) for n, (preset, task) in names.items()}
    objectives = {n: training.objective_for(model.task, mask_token_id=MASK) for n, model in ours.items()}
    step = training.make_step(ours, transforms.multi_model_adamw(1e-4, dict.fromkeys(ours, 1.0)), objectives)
    generator = np.random.default_rng(0)
    ids = {n: generator.integers(5, common["vocab_size"], (size, length)).astype(np.int32) for n in ours}
    batches = {n: {"input_ids": rows, "attention_mask": np.ones_like(rows)} for n, rows in ids.items()}
    state, placed = step.init(), step.place(batches)
    our_seconds = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        state, _ = step.run(state, placed)
        jax.block_until_ready(state)
        our_seconds.append(time.perf_counter() - begin)

    theirs, optimizers = {}, {}
    for n, model in ours.items():
        shape = model.config
        encoder = {
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "intermediate_size": shape.intermediate_size,
            "max_position_embeddings": length + 2,
            "attn_implementation": "sdpa",
        }
        decoder = {"n_embd": shape.hidden_size, "n_layer": shape.num_layers, "n_head": shape.num_heads}
        decoder |= {"vocab_size": shape.vocab_size, "n_positions": length + 2, "attn_implementation": "sdpa"}
        network = {
            "bert": lambda e=encoder: transformers.BertForMaskedLM(transformers.BertConfig(**e)),
            "roberta": lambda e=encoder: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**e)),
            "gpt2": lambda d=decoder: transformers.GPT2LMHeadModel(transformers.GPT2Config(**d)),
        }[n]().to(place)
        optimizers[n] = torch.optim.AdamW(network.parameters(), lr=1e-4)
        theirs[n] = torch.compile(network) if on_gpu else network

    def torch_step() -> None:
        for n, network in theirs.items():
            tokens = torch.as_tensor(ids[n], dtype=torch.long, device=place)
            optimizers[n].zero_grad(set_to_none=True)
            with torch.autocast(place, torch.bfloat16):
                loss = network(input_ids=tokens, labels=tokens).loss
            loss.backward()
            optimizers[n].step()
        if on_gpu:
            torch.cuda.synchronize()

    their_seconds = []
    for turn in range(steps + 3):
        begin = time.perf_counter()
        torch_step()
        if turn >= 3:
            their_seconds.append(time.perf_counter() - begin)
    mine, other = statistics.median(our_seconds[1:]), statistics.median(their_seconds)
    kind = "torch.compile, flash attention (sdpa)" if on_gpu else "torch, eager, sdpa"
    heads = "its heads score every token, ours the hidden ones"
    value = f"{1e3 * mine:.4g} ms against {1e3 * other:.4g} ms: {other / mine:.2f} times as fast"
    return [Row("torch", f"{name}, 3 × {size} × {length} tokens", value, f"{kind}; {heads}")]


def attention(small: bool) -> list[Row]:
    """Bytes and time of a step, with and without cuDNN's attention and the chunked head."""
    rows = []
    length, size = (32, 2) if small else (1024, 32)
    for options in ({"attention_dropout": 0.0}, FLASH):
        for chunk in (WHOLE_LOGITS, vocabulary_loss.CHUNK_BYTES if not small else 1000):
            kind, head = options.get("attention", "XLA"), "whole logits" if chunk == WHOLE_LOGITS else "chunked head"
            name = f"GPT-2 small, bfloat16, {size} × {length} tokens: {kind} attention, {head}"
            try:
                with mock.patch.object(vocabulary_loss, "CHUNK_BYTES", chunk):
                    subject = one_model("gpt2", length, small, dtype="bfloat16", **options)
                    program = runtime.compile_program(subject.step, *subject.arguments_at(size))
                    seconds = statistics.median(subject.run(size, 3 if small else 10))
            except (ArenaError, NotImplementedError, RuntimeError, ValueError) as error:
                rows.append(Row("attention", name, "not here", str(error).strip().splitlines()[0][:120]))
                continue
            rows.append(Row("attention", name, f"{1e3 * seconds:.4g} ms", f"{program.bytes.total / 1e9:.3f} GB"))
    return rows


def competition(small: bool) -> list[Row]:
    """Reallocations of four models, each step timed: stalls, what is compiled, memory."""
    from benchmarks import reallocation

    count, watch = 6 if small else 200, reallocation.Watch()
    with tempfile.TemporaryDirectory() as folder:
        configuration = reallocation.configuration("warm", count, small)
        run = watch.run(configuration, reallocation.FOUR, Path(folder) / "run")
        criteria = reallocation.criteria("warm", watch, run)
    return [Row("competition", *(str(cell) for cell in row)) for row in criteria]


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    part.__name__: part for part in (planned, memory, largest, peak, torch, attention, competition)
}


def in_process(part: str, small: bool, limit: float) -> tuple[list[Row], float]:
    """A part in a process of its own, and its seconds; a failure is a row, and so is one that takes too long."""
    command = [sys.executable, __file__, "--part", part, "--child", *(["--small"] if small else [])]
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
        lines = done.stdout.splitlines()
        rows = [Row(*row) for row in json.loads(lines[-1])] if done.returncode == 0 else []
        if not rows:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            rows = [Row(part, "the part", "failed", last[:200])]
    except subprocess.TimeoutExpired:
        rows = [Row(part, "the part", "not ended", f"after {limit:.0f} s")]
    return rows, time.perf_counter() - begin


def main() -> int:
    """Run the parts; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--small", action="store_true", help="tiny models and a few steps")
    parser.add_argument("--output", type=Path, help="FILE.json; the table goes beside it, as FILE.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        standard, sys.stdout = sys.stdout, sys.stderr  # a run's own lines are not the answer
        rows = PARTS[options.part[0]](options.small)
        sys.stdout = standard
        print(json.dumps(rows))
        return 0
    rows, seconds = [], {}
    for index, part in enumerate(options.part):
        left = WHOLE_S - sum(seconds.values())
        measured, seconds[part] = in_process(part, options.small, min(left, 2 * left / (len(options.part) - index)))
        rows += measured
        print(f"{part}: {seconds[part]:.0f} s", file=sys.stderr, flush=True)
    text = f"{describe()}, {time.strftime('%Y-%m-%d')}\n\n" + table(Row._fields, rows)
    print(text)
    if options.output:
        content = {"machine": describe(), "small": options.small, "seconds": seconds}
        content["rows"] = [row._asdict() for row in rows]
        options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    return int(any(row.value in ("failed", "not ended") for row in rows))


def describe() -> str:
    """The machine, asked in a process of its own: the card must be free for the next part."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r}); "
    code += "from benchmarks.measure import machine; print(machine())"
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    return done.stdout.strip() or "machine unknown"


if __name__ == "__main__":
    sys.exit(main())
