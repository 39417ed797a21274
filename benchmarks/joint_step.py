"""The price of joint training: against no sharing, separate steps, PyTorch, and the machine's own peak.

    python benchmarks/joint_step.py                 # everything; about 25 minutes on 2 cores
    python benchmarks/joint_step.py --only a b d    # some parts
    python benchmarks/joint_step.py --dtype bfloat16

Part (c) needs the extra `parity` (torch). Each part prints a Markdown table; ratios are medians over interleaved rounds
with their quartiles.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # parity/ is not part of the installed package

from arena_jax import models, training, transforms
from benchmarks.measure import interleaved, machine, ratio, table, verdict

TASKS = {"bert": "masked-lm", "gpt2": "causal-lm", "roberta": "masked-lm"}
WEIGHTS = {"bert": 1.0, "gpt2": 0.8, "roberta": 1.2}
MASK = 4  # the token that hidden ones become


def make_models(hidden: int, layers: int, vocabulary: int, length: int, dtype: str, only: str | None = None) -> dict:
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_layers": layers,
        "num_heads": max(1, hidden // 64),
        "intermediate_size": 4 * hidden,
        "max_positions": length + 2,
        "dtype": dtype,
    }
    return {
        family: models.create(models.preset(f"{family}-tiny", **shape), task=task)
        for family, task in TASKS.items()
        if only in (None, family)
    }


def make_batches(architectures: dict, rows: int, length: int) -> dict:
    random = np.random.default_rng(0)
    return {
        name: {
            "input_ids": random.integers(5, model.config.vocab_size, (rows, length)).astype(np.int32),
            "attention_mask": np.ones((rows, length), np.int32),
        }
        for name, model in architectures.items()
    }


def objectives(architectures: dict) -> dict:
    return {name: training.objective_for(model.task, mask_token_id=MASK) for name, model in architectures.items()}


def stepper(architectures: dict, optimizer: optax.GradientTransformation, batches: dict):
    """A function that takes one step and waits for it, and the step itself."""
    step = training.make_step(architectures, optimizer, objectives(architectures))
    state = [step.init()]
    placed = step.place(batches)

    def run() -> None:
        state[0], _ = step.run(state[0], placed)
        jax.block_until_ready(state[0])

    run()
    return run, step


def everything() -> optax.GradientTransformation:
    return transforms.multi_model_adamw(1e-4, WEIGHTS, form="paper")


def nothing() -> optax.GradientTransformation:
    return transforms.multi_model_adamw(1e-4, WEIGHTS, form="paper", alpha=0.0, beta=0.0, window=0)


def part_a(options: argparse.Namespace) -> None:
    """Sharing, synchronisation and convergence scaling against the same step without them."""
    rows = []
    for hidden, layers in ((256, 4), (512, 4)):
        architectures = make_models(hidden, layers, 8192, 64, options.dtype)
        batches = make_batches(architectures, 16, 64)
        with_all, full = stepper(architectures, everything(), batches)
        without, plain = stepper(architectures, nothing(), batches)
        seconds = interleaved({"with": with_all, "without": without}, repeats=options.repeats)
        time_ratio, low, high = ratio(seconds["with"], seconds["without"])
        memory = full.programs[0].bytes.temporaries / plain.programs[0].bytes.temporaries
        rows.append(
            (
                f"hidden {hidden}, {layers} layers, 3 × 16 × 64 tokens",
                f"{time_ratio:.3f} ({low:.3f}–{high:.3f})",
                verdict(time_ratio, 1.03, at_least=False),
                f"{memory:.4f}",
                verdict(memory, 1.01, at_least=False),
            )
        )
        del with_all, without, full, plain
        gc.collect()
    print("\n(a) everything on / everything off\n")
    print(table(("size", "time", "limit", "temporary bytes", "limit"), rows), flush=True)


def part_b(options: argparse.Namespace) -> None:
    """One program against three separately jitted steps."""
    rows = []
    on_gpu = jax.devices()[0].platform != "cpu"
    for hidden, layers in ((64, 2), (512, 4)):
        architectures = make_models(hidden, layers, 8192, 64, options.dtype)
        batches = make_batches(architectures, 16, 64)
        joint, _ = stepper(architectures, nothing(), batches)
        separate = [
            stepper({name: architectures[name]}, nothing_for(name), {name: batches[name]})[0] for name in architectures
        ]

        def three(separate=separate) -> None:
            for run in separate:
                run()

        repeats = options.repeats * (4 if hidden == 64 else 1)
        seconds = interleaved({"joint": joint, "three": three}, repeats=repeats)
        speed, low, high = ratio(seconds["three"], seconds["joint"])
        limit = 1.2 if on_gpu and hidden == 64 else 0.98
        rows.append(
            (
                f"hidden {hidden}, {layers} layers",
                f"{speed:.3f} ({low:.3f}–{high:.3f})",
                verdict(speed, limit, at_least=True),
            )
        )
        del joint, separate, three
        gc.collect()
    print("\n(b) speed of the joint step / three separately jitted steps\n")
    print(table(("size", "speed", "limit"), rows), flush=True)


def nothing_for(name: str) -> optax.GradientTransformation:
    return transforms.multi_model_adamw(1e-4, {name: WEIGHTS[name]}, form="paper", alpha=0.0, beta=0.0, window=0)


def part_c(options: argparse.Namespace) -> None:
    """Against Hugging Face PyTorch models trained by a literal PyTorch MultiModelOptimizer, same everything.

    The PyTorch side is measured three times. Equal work: its vocabulary heads see the scored tokens alone, as ours do
    (as many hidden tokens in each row, all but the last of GPT-2's), eager, and with loss and gradient of each model
    by `torch.compile`. All logits: what `transformers` computes when it is given labels, eager. The limit is on equal
    work, against the faster of the two. The optimizer is eager in all.
    """
    import torch
    import transformers

    from parity.reference.multi_model_optimizer import MultiModelOptimizer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = []
    sizes = [(64, 2, 8192, 16, 64), (256, 4, 8192, 16, 64)]
    sizes.append((768, 12, 50257, 8, 128))
    for hidden, layers, vocabulary, batch, length in sizes:
        if hidden not in options.widths:
            continue
        architectures = make_models(hidden, layers, vocabulary, length, options.dtype)
        batches = make_batches(architectures, batch, length)
        run_ours, _ = stepper(architectures, everything(), batches)
        common = {"vocab_size": vocabulary}
        encoder = {
            **common,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": max(1, hidden // 64),
            "intermediate_size": 4 * hidden,
            "max_position_embeddings": length + 2,
        }
        torch_models = {
            "bert": transformers.BertForMaskedLM(transformers.BertConfig(**encoder)),
            "gpt2": transformers.GPT2LMHeadModel(
                transformers.GPT2Config(
                    **common, n_embd=hidden, n_layer=layers, n_head=max(1, hidden // 64), n_positions=length
                )
            ),
            "roberta": transformers.RobertaForMaskedLM(transformers.RobertaConfig(**encoder)),
        }
        optimizer = MultiModelOptimizer(torch_models, mode="paper", lr=1e-4, weights=WEIGHTS)
        generator = torch.Generator().manual_seed(0)
        places = training.objectives.hidden_tokens(length)

        losses_of = {
            "all": {name: partial(loss_of_all, model, TASKS[name]) for name, model in torch_models.items()},
            "equal": {name: partial(loss_of_scored, model, TASKS[name]) for name, model in torch_models.items()},
        }
        losses_of["compiled"] = {name: torch.compile(loss, dynamic=False) for name, loss in losses_of["equal"].items()}

        def torch_step(
            kind,
            losses_of=losses_of,
            torch_models=torch_models,
            optimizer=optimizer,
            batches=batches,
            generator=generator,
            places=places,
        ):
            optimizer.zero_grad(set_to_none=True)
            losses = {}
            for name, model in torch_models.items():
                model.train()
                ids = torch.from_numpy(batches[name]["input_ids"].astype(np.int64))
                mask = torch.from_numpy(batches[name]["attention_mask"].astype(np.int64))
                chosen = torch.rand(ids.shape, generator=generator).topk(places, dim=1).indices
                loss = losses_of[kind][name](ids, mask, chosen)
                loss.backward()
                losses[name] = loss.item()
            optimizer.step(losses=losses)

        repeats = max(3, options.repeats // 4) if hidden == 768 else options.repeats
        contestants = {"ours": run_ours, **{kind: partial(torch_step, kind) for kind in ("equal", "compiled", "all")}}
        seconds = interleaved(contestants, repeats=repeats)
        ratios = {kind: ratio(seconds[kind], seconds["ours"]) for kind in ("equal", "compiled", "all")}
        nearest = min(ratios["equal"][0], ratios["compiled"][0])
        tokens = 3 * batch * length
        rows.append(
            (
                f"hidden {hidden}, {layers} layers, vocabulary {vocabulary}, 3 × {batch} × {length}",
                *(f"{tokens / np.median(seconds[name]):,.0f}" for name in contestants),
                *(f"{speed:.2f} ({low:.2f}–{high:.2f})" for speed, low, high in ratios.values()),
                verdict(nearest, 2.0, at_least=True),
            )
        )
        del run_ours, torch_models, optimizer, torch_step, architectures, contestants, losses_of
        gc.collect()
    print(f"\n(c) tokens/s against transformers {transformers.__version__} on PyTorch {torch.__version__}\n")
    header = (
        "size",
        "ours",
        "PyTorch, equal work",
        "PyTorch, equal work, compiled",
        "PyTorch, all logits",
        "ours / equal work",
        "ours / equal work, compiled",
        "ours / all logits",
        "limit, equal work",
    )
    print(table(header, rows), flush=True)


def loss_of_all(model, task: str, ids, mask, chosen):
    """`transformers`' own loss: logits of every token, scored where labels are not -100."""
    if task == "causal-lm":
        return model(input_ids=ids, attention_mask=mask, labels=ids).loss
    import torch

    labels = torch.full_like(ids, -100).scatter(1, chosen, ids.gather(1, chosen))
    return model(input_ids=ids.scatter(1, chosen, MASK), attention_mask=mask, labels=labels).loss


def loss_of_scored(model, task: str, ids, mask, chosen):
    """The same number from the same modules, the vocabulary head applied to the scored tokens alone."""
    import torch

    if task == "causal-lm":
        states = model.transformer(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
        logits, targets = model.lm_head(states), ids[:, 1:]
    else:
        body, head = (model.bert, model.cls) if hasattr(model, "bert") else (model.roberta, model.lm_head)
        states = body(input_ids=ids.scatter(1, chosen, MASK), attention_mask=mask).last_hidden_state
        logits = head(states.gather(1, chosen[:, :, None].expand(-1, -1, states.shape[-1])))
        targets = ids.gather(1, chosen)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def part_d(options: argparse.Namespace) -> None:
    """Compile seconds at 24 layers against 6."""
    seconds: dict[int, list[float]] = {6: [], 24: []}
    for _ in range(3):
        for layers in seconds:
            jax.clear_caches()
            architectures = make_models(64, layers, 1024, 32, options.dtype, only="gpt2")
            _, step = stepper(architectures, nothing_for("gpt2"), make_batches(architectures, 4, 32))
            seconds[layers].append(step.programs[0].seconds)
    value, low, high = ratio(seconds[24], seconds[6])
    print("\n(d) compile seconds, 24 layers / 6 layers\n")
    print(
        table(
            ("24 layers", "6 layers", "ratio", "limit"),
            [
                (
                    f"{np.median(seconds[24]):.2f} s",
                    f"{np.median(seconds[6]):.2f} s",
                    f"{value:.2f} ({low:.2f}–{high:.2f})",
                    verdict(value, 1.3, at_least=False),
                )
            ],
        ),
        flush=True,
    )


def part_e(options: argparse.Namespace) -> None:
    """Achieved FLOP/s at GPT-2-small size, batch 8, length 128, over the machine's own matrix-product peak."""
    hidden, layers, vocabulary, rows, length = 768, 12, 50257, 8, 128
    architectures = make_models(hidden, layers, vocabulary, length, options.dtype, only="gpt2")
    run, _ = stepper(architectures, nothing_for("gpt2"), make_batches(architectures, rows, length))
    size, dtype = (4096, jnp.float32) if jax.devices()[0].platform == "cpu" else (8192, jnp.dtype(options.dtype))
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda x: x @ x)

    def peak() -> None:
        jax.block_until_ready(product(a))

    contestants = {"step": run, "product": peak}
    if jax.devices()[0].platform == "cpu":
        # The machine's peak is whoever's product is fastest: XLA's, or the BLAS that NumPy brings.
        plain = np.asarray(a)
        contestants["BLAS"] = lambda: plain @ plain
    seconds = interleaved(contestants, repeats=max(3, options.repeats // 2))
    tokens = rows * length
    # Forward and backward of every matrix product: 6 FLOP per weight and token, and 12·L·D per token for attention.
    weights = layers * 12 * hidden**2 + vocabulary * hidden * (length - 1) / length
    flop = tokens * (6 * weights + 12 * layers * length * hidden)
    achieved = flop / np.median(seconds["step"])
    products = [seconds[name] for name in contestants if name != "step"]
    best = 2 * size**3 / min(min(times) for times in products)
    typical = 2 * size**3 / min(np.median(times) for times in products)
    share = achieved / best
    print(f"\n(e) GPT-2 small, batch {rows} × {length}, one training step, {options.dtype}\n")
    print(
        table(
            ("seconds", "tokens/s", "GFLOP/s", f"{size}³ product: best (median)", "share of the best", "limit"),
            [
                (
                    f"{np.median(seconds['step']):.2f}",
                    f"{tokens / np.median(seconds['step']):,.0f}",
                    f"{achieved / 1e9:,.0f}",
                    f"{best / 1e9:,.0f} ({typical / 1e9:,.0f}) GFLOP/s",
                    f"{share:.2f}",
                    verdict(share, 0.6, at_least=True),
                )
            ],
        ),
        flush=True,
    )


PARTS = {"a": part_a, "b": part_b, "c": part_c, "d": part_d, "e": part_e}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=sorted(PARTS), help="parts to run")
    parser.add_argument("--repeats", type=int, default=12, help="rounds of each measurement (default 12)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    parser.add_argument(
        "--widths", nargs="+", type=int, choices=(64, 256, 768), default=[64, 256, 768], help="of part c"
    )
    options = parser.parse_args()
    print(f"{machine()}; {options.dtype}; {time.strftime('%Y-%m-%d')}; {' '.join(sys.argv)}")
    for part in options.only:
        PARTS[part](options)


if __name__ == "__main__":
    main()
