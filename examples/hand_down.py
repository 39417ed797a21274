"""Hand GPT-2's embeddings to a new RoBERTa with another tokenizer, and see how it learns beside one without them.

    python examples/hand_down.py
    python examples/hand_down.py --source PATH     # any Hugging Face folder with its tokenizer, at least as wide

Takes about 20 seconds on 2 cores. Without a folder a small GPT-2 is trained first. Prints what was handed down, and the
loss of hidden tokens of both RoBERTas.
"""

import argparse

import optax

from arena_jax import data, models, training

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--source", help="a Hugging Face folder or hub id")
options.add_argument("--steps", type=int, default=100, help="updates of each model (default 100)")
chosen = options.parse_args()
texts = data.synthetic_sentiment()
texts = data.Dataset("sentences", "language-model", "train", {"text": texts.columns["text"]})


def train(made, tokenizer, steps):
    """Your own loop: models of one tokenizer and task, side by side; their parameters and last losses."""
    task = next(iter(made.values())).task
    objective = training.objective_for(task, mask_token_id=tokenizer.mask_id, vocab_size=tokenizer.vocab_size)
    batches = data.Batches(data.encode(texts, tokenizer, task=task, max_length=32), seed=0)
    step = training.make_step(made, optax.adam(2e-3), dict.fromkeys(made, objective))
    state = step.init()
    for _ in range(steps):
        state, metrics = step(state, dict.fromkeys(made, batches.next(16)))
    return {name: models.merge(step.structures[name], state.params[name]) for name in made}, metrics


def new(family, task):
    """A tokenizer trained on the texts, and a model of random weights for it."""
    tokenizer = data.train_tokenizer(texts, family, vocab_size=512)
    config = models.preset(f"{family}-tiny", vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
    return tokenizer, models.create(config, task=task)


if chosen.source:
    source, source_tokenizer = models.from_pretrained(chosen.source), data.load_tokenizer(chosen.source)
else:
    source_tokenizer, gpt2 = new("gpt2", "causal-lm")
    source = train({"gpt2": gpt2}, source_tokenizer, chosen.steps)[0]["gpt2"]
tokenizer, roberta = new("roberta", "masked-lm")
start = models.hand_down(source, roberta, source_tokenizer.backend.get_vocab(), tokenizer.backend.get_vocab())
print("\n".join(start.report))
_, metrics = train({"alone": roberta, "started": start.model}, tokenizer, chosen.steps)
print("  ".join(f"{name} loss {float(metrics[name]['loss']):.4f}" for name in ("alone", "started")))
