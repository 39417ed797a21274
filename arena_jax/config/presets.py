"""Named configurations: each states its command, how long it takes, and what came out when it was run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.config.errors import ArenaError, nearest

if TYPE_CHECKING:
    from typing import Any


def _three(**sizes: Any) -> tuple[ModelConfig, ...]:
    """One model of each family, of one size, with the paper's model weights."""
    return (
        ModelConfig("bert", preset="bert-tiny", weight=1.0, **sizes),
        ModelConfig("gpt2", preset="gpt2-tiny", weight=0.8, **sizes),
        ModelConfig("roberta", preset="roberta-tiny", weight=1.2, **sizes),
    )


def joint_synthetic() -> RunConfig:
    """Three tiny models learn the papers' synthetic sentiment set together: what `make demo` runs.

    Command: `arena-jax train joint-synthetic`
    Time: about half a minute on 2 cores (AMD EPYC), most of it compiling: 15 s where nothing else ran, 30 s and
    more beside other work, with start-up and figures.
    Result: validation accuracy of all three models 99 to 100 % after epoch 2, 100 % from epoch 3 on (seed 0); by
    epoch 4 with seeds 0, 1 and 2.
    """
    return RunConfig(
        preset="joint-synthetic",
        task="sequence-classification",
        models=_three(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=256, vocab_size=512),
        data=DataConfig(name="synthetic-sentiment", max_length=32),
        # Tried over seeds 0, 1 and 2: at 1e-3 BERT and RoBERTa had not left 50 % after 3 epochs; at 3e-3 in batches
        # of 32 GPT-2 ended at 98 to 100 %; at 4e-3 in batches of 20 all three are at 100 % after epoch 4.
        optimizer=OptimizerConfig(learning_rate=4e-3, warmup_steps=10),
        training=TrainingConfig(epochs=5, batch_size=20, log_every=5, evaluation_batch_size=100),
    )


def joint_sst2() -> RunConfig:
    """Three small models learn the sentiment of film reviews (SST-2) from scratch, together.

    Command: `arena-jax train joint-sst2 --data FOLDER` with train.tsv, dev.tsv and test.tsv in it; without `--data`,
    from the hub. Then `arena-jax evaluate RUN --split test`.
    Time: 4 minutes on 2 cores (3:49 in all, 25 s of them compiling).
    Result: test accuracy (872 sentences, seed 0) 80.6 % BERT, 81.8 % GPT-2, 80.4 % RoBERTa.
    """
    return RunConfig(
        preset="joint-sst2",
        task="sequence-classification",
        models=_three(hidden_size=128, num_layers=2, num_heads=4, intermediate_size=512, vocab_size=8192),
        data=DataConfig(name="sst2", max_length=64, lengths=(16, 32)),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100),
        training=TrainingConfig(epochs=2, batch_size=64, log_every=100, evaluation_batch_size=128),
    )


def joint_ner() -> RunConfig:
    """Three small models learn to find emerging entities (WNUT-17, IOB2 tags) from scratch, together.

    Command: `arena-jax train joint-ner --data FOLDER` with WNUT-17's wnut17train.conll, emerging.dev.conll and
    emerging.test.annotated in it; without `--data`, from the hub. Then `arena-jax evaluate RUN --split test`.
    Time: 5:12 on 2 cores with other work on them, 1:22 of it compiling.
    Result: entity F1 on the test split (1,287 sentences, seed 0) 6.3 % BERT, 5.3 % GPT-2, 6.7 % RoBERTa: words that are
    rare by design are not learnt from 3,394 sentences alone.
    """
    return RunConfig(
        preset="joint-ner",
        task="token-classification",
        models=_three(hidden_size=128, num_layers=2, num_heads=4, intermediate_size=512, vocab_size=8192),
        data=DataConfig(name="wnut17", max_length=64, lengths=(32,)),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=50),
        training=TrainingConfig(epochs=5, batch_size=32, log_every=50, evaluation_batch_size=128),
    )


def joint_qa() -> RunConfig:
    """Three small models learn to find answers in a paragraph (SQuAD 1.1) from scratch, together.

    Command: `arena-jax train joint-qa --data FOLDER` with train.json and dev.json in SQuAD's form in it; without
    `--data`, from the hub.
    Time: 17 minutes on 2 cores with other work on them, in two pieces.
    Result: on 38 articles of SQuAD's development file, scored on its 10 others (seed 0): F1 9.3 % BERT, 10.0 %
    GPT-2, 9.6 % RoBERTa; exact match 2.2, 1.8 and 2.6 %. From scratch that many questions teach little.
    """
    return RunConfig(
        preset="joint-qa",
        task="question-answering",
        models=_three(
            hidden_size=128, num_layers=2, num_heads=4, intermediate_size=512, vocab_size=8192, max_positions=192
        ),
        data=DataConfig(name="squad", max_length=192),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100),
        training=TrainingConfig(epochs=1, batch_size=32, log_every=50, evaluation_batch_size=64),
    )


def mmo_paper() -> RunConfig:
    """The MultiModelOptimizer as its paper sets it up (§4.4), on the paper's synthetic sentiment set.

    Rate 3e-5, weights 1.0, 0.8 and 1.2, α 0.2, β 0.1 every 10 steps, warm-up 100, decay of weights 0.01: the paper's
    form. "Batch 16, accumulation 2" is read as 16 samples at a time, twice for each step of the optimizer: 32 samples a
    step, and steps are those of the optimizer. The paper names neither the models' sizes nor the window of Algorithm 3:
    the models are those of joint-synthetic, from random weights, the window is the published code's, 100 losses.

    Command: `arena-jax train mmo-paper`; from checkpoints, `--model bert.checkpoint=FOLDER`, and so for each;
    on SST-2 with `--data FOLDER`.
    Time: half a minute on 2 cores, most of it compiling.
    Result: after 5 epochs validation accuracy is 50.0 % (BERT), 59.0 % (GPT-2) and 50.0 % (RoBERTa), seed 0: its 80
    steps are all in the warm-up, at a rate by which models that know nothing yet hardly move.
    """
    return RunConfig(
        preset="mmo-paper",
        task="sequence-classification",
        models=_three(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=256, vocab_size=512),
        data=DataConfig(name="synthetic-sentiment", max_length=32),
        optimizer=OptimizerConfig(form="paper", learning_rate=3e-5),
        training=TrainingConfig(epochs=5, batch_size=32, accumulation=2, log_every=5, evaluation_batch_size=100),
    )


def joint_wikitext2() -> RunConfig:
    """Three small language models learn WikiText-2 together: GPT-2 the next token, BERT and RoBERTa the masked ones.

    Command: `arena-jax train joint-wikitext2 --data FOLDER` with train, valid and test files of text in it; without
    `--data`, from the hub.
    Time and result: not yet run to its end.
    """
    return RunConfig(
        preset="joint-wikitext2",
        task="language-model",
        models=_three(hidden_size=128, num_layers=4, num_heads=4, intermediate_size=512, vocab_size=8192),
        data=DataConfig(name="wikitext2", max_length=128),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100),
        training=TrainingConfig(
            epochs=2, batch_size=16, log_every=50, evaluate_every=500, checkpoint_every=500, evaluation_batch_size=32
        ),
    )


def arena_small() -> RunConfig:
    """Four small language models of three families compete for memory on Python's own documentation.

    Command: `arena-jax train arena-small`; `--policy static` is the control, `--policy modelarena` the paper's.
    Against its control a run is compared at the same seeds and the same device-seconds, which equal operations are not:
    `arena-jax train arena-small --spend 300s --seed S` and `arena-jax train arena-small --spend 300s --seed S --policy
    static` for two seeds or more, then `arena-jax report RUN…`. The plan benchmarks/arena.toml is all of it.
    Time: 11:16 on 2 idle cores, 32 s of it compiling, 12 of these beside training (2026-11-21, AMD EPYC).
    """
    sizes: dict[str, Any] = {"num_layers": 2, "num_heads": 4, "vocab_size": 2048}
    narrow: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 384, **sizes}
    return RunConfig(
        preset="arena-small",
        task="language-model",
        models=(
            ModelConfig("bert", preset="bert-tiny", **narrow),
            ModelConfig("gpt2-narrow", preset="gpt2-tiny", **narrow),
            ModelConfig("gpt2-wide", preset="gpt2-tiny", hidden_size=160, intermediate_size=640, **sizes),
            ModelConfig("roberta", preset="roberta-tiny", **narrow),
        ),
        data=DataConfig(name="python-docs", max_length=64, validation_limit=20),
        optimizer=_alone(learning_rate=2e-3, warmup_steps=50, decay="cosine"),
        training=TrainingConfig(
            batch_size=8, evaluation_batch_size=32, log_every=100, evaluate_every=100, checkpoint_every=500
        ),
        # An equal share holds batches of 8 or 12: there is as much room above as below.
        arena=ArenaConfig(
            memory_budget="120MB", spend="91TFLOP", reallocate_every=100, batch_sizes=(1, 2, 4, 8, 12, 16, 24, 32, 48)
        ),
    )


def arena_sst2() -> RunConfig:
    """Six classifiers of three families and two sizes compete on the sentiment of film reviews: which is the best?

    Command: `arena-jax train arena-sst2 --data FOLDER`; `--objective ensemble --score loss` for the six as one answer,
    `--objective target --target 0.78` for the first that gets there; `--policy static` is the control, `--policy
    modelarena` the paper's.
    Time and result: not yet run to its end.
    """
    sizes: dict[str, Any] = {"num_layers": 2, "num_heads": 4, "vocab_size": 4096}
    return RunConfig(
        preset="arena-sst2",
        task="sequence-classification",
        models=tuple(
            ModelConfig(f"{family}-{size}", preset=f"{family}-tiny", hidden_size=w, intermediate_size=4 * w, **sizes)
            for family in ("bert", "gpt2", "roberta")
            for size, w in (("narrow", 64), ("wide", 128))
        ),
        data=DataConfig(name="sst2", max_length=32),
        optimizer=_alone(learning_rate=1e-3, warmup_steps=50, decay="cosine"),
        training=TrainingConfig(
            score="accuracy", batch_size=16, evaluation_batch_size=64, log_every=50, checkpoint_every=500
        ),
        arena=ArenaConfig(
            objective="best",
            memory_budget="240MB",
            spend="30TFLOP",
            reallocate_every=25,
            batch_cap="noise",
            batch_sizes=(2, 4, 8, 16, 32, 64, 128),
        ),
    )


def arena_gpt2() -> RunConfig:
    """Four GPT-2 of mixed size compete on Python's own documentation: which is the best for what may be spent?

    They have one tokenizer's vocabulary size and are judged by bits per byte, which all of them share.

    Command: `arena-jax train arena-gpt2`; `--objective target --target 2.6` for the first that gets there, `--objective
    pareto` for the best at each size; `--policy static` is the control, `--policy modelarena` the paper's.
    Time and result: not yet run to its end.
    """
    sizes: dict[str, Any] = {"num_heads": 4, "vocab_size": 2048, "preset": "gpt2-tiny"}
    return RunConfig(
        preset="arena-gpt2",
        task="language-model",
        models=(
            ModelConfig("narrow", hidden_size=64, intermediate_size=256, num_layers=2, **sizes),
            ModelConfig("middle", hidden_size=96, intermediate_size=384, num_layers=2, **sizes),
            ModelConfig("deep", hidden_size=96, intermediate_size=384, num_layers=4, **sizes),
            ModelConfig("wide", hidden_size=160, intermediate_size=640, num_layers=2, **sizes),
        ),
        data=DataConfig(name="python-docs", max_length=64, validation_limit=20),
        optimizer=_alone(learning_rate=2e-3, warmup_steps=50, decay="cosine"),
        training=TrainingConfig(
            score="bits_per_byte", batch_size=8, evaluation_batch_size=32, log_every=100, checkpoint_every=500
        ),
        arena=ArenaConfig(
            objective="best",
            memory_budget="120MB",
            spend="40TFLOP",
            reallocate_every=50,
            batch_cap="noise",
            batch_sizes=(1, 2, 4, 8, 12, 16, 24, 32, 48),
        ),
    )


def arena_wikitext2() -> RunConfig:
    """ModelArena's own experiment: two GPT-2, BERT and RoBERTa on WikiText-2, for a GPU with 40 GB (never run on one).

    Command: `arena-jax train arena-wikitext2 --data FOLDER`; without `--data`, from the hub. The weights are the hub's;
    `--model NAME.checkpoint=FOLDER` takes them from a folder. No run of 1000 rounds was made;
    three rounds at full size, with untrained weights, ran on a CPU (benchmarks/results/arena_wikitext2.md).
    Against the paper's control, static, at the same seeds and the same device-seconds, which 1000 rounds are not: the
    command with `--spend 2h --seed S`, and the same with `--policy static`, for two seeds or more; then `arena-jax
    report RUN…`.
    """
    return RunConfig(
        preset="arena-wikitext2",
        task="language-model",
        models=(
            ModelConfig("bert", checkpoint="google-bert/bert-base-uncased", learning_rate=3e-5, accumulation=1),
            ModelConfig("gpt2", checkpoint="openai-community/gpt2", learning_rate=5e-5, accumulation=2),
            ModelConfig("gpt2-medium", checkpoint="openai-community/gpt2-medium", learning_rate=4e-5, accumulation=4),
            ModelConfig("roberta", checkpoint="FacebookAI/roberta-base", learning_rate=3e-5, accumulation=1),
        ),
        data=DataConfig(name="wikitext2", max_length=128),
        optimizer=_alone(warmup_steps=100, decay="linear"),
        training=TrainingConfig(
            steps=1000, batch_size=1, evaluation_batch_size=16, evaluate_every=50, checkpoint_every=100
        ),
        # Window 5, smoothing 0.7 and floor 0.05 are the policy's own: given here, they would refuse `--policy static`.
        # An equal share of 40 GB holds 64 of the smaller models: there is room above it.
        arena=ArenaConfig(
            memory_budget="40GB",
            policy="modelarena",
            reallocate_every=100,
            batch_sizes=(1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256),
        ),
    )


def _alone(**options: Any) -> OptimizerConfig:
    """AdamW for models that share nothing: what ModelArena trains with."""
    return OptimizerConfig(share_alpha=0.0, synchronize_beta=0.0, convergence_window=0, **options)


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "joint-synthetic": joint_synthetic,
    "joint-sst2": joint_sst2,
    "joint-ner": joint_ner,
    "joint-qa": joint_qa,
    "mmo-paper": mmo_paper,
    "joint-wikitext2": joint_wikitext2,
    "arena-small": arena_small,
    "arena-sst2": arena_sst2,
    "arena-gpt2": arena_gpt2,
    "arena-wikitext2": arena_wikitext2,
}


def get(name: str) -> RunConfig:
    """Return the preset of that name.

    Raises:
        ArenaError: for an unknown name, with the nearest one.

    Example:
        >>> get("joint-synthetic").task
        'sequence-classification'
        >>> get("joint-sst3")
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: unknown preset 'joint-sst3'; did you mean 'joint-sst2'?
    """
    if name not in PRESETS:
        raise ArenaError(f"unknown preset '{name}'; {nearest(name, PRESETS)}")
    return PRESETS[name]()
