"""Joint training written out: BERT, GPT-2 and RoBERTa learn sentiment together in one jitted step.

    python examples/joint_training.py

Takes about 30 seconds on 2 cores, most of it compiling. Prints the three losses and, after each epoch, the validation
accuracy of each model; all three reach 100 %.
"""

import argparse

from arena_jax import data, models, runtime, training, transforms

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--steps", type=int, default=80, help="updates (default 80, five epochs)")
steps = options.parse_args().steps
families, batch_size, seed = ("bert", "gpt2", "roberta"), 32, 0

# ---- data: one text, and for each model its own tokenizer and token rows ----
texts = {split: data.synthetic_sentiment(split) for split in ("train", "validation")}
tokenizers = {family: data.train_tokenizer(texts["train"], family, vocab_size=512) for family in families}
train = {family: data.encode(texts["train"], tokenizers[family], max_length=32) for family in families}
validation = {family: data.encode(texts["validation"], tokenizers[family], max_length=32) for family in families}

# ---- models: one transformer, three families ----
made = {}
for family in families:
    config = models.preset(
        f"{family}-tiny", vocab_size=tokenizers[family].vocab_size, pad_token_id=tokenizers[family].pad_id, num_labels=2
    )
    made[family] = models.create(config, task="sequence-classification", seed=seed)

# ---- optimizer: one transformation over all models ----
optimizer = transforms.multi_model_adamw(
    1e-3, {"bert": 1.0, "gpt2": 0.8, "roberta": 1.2}, warmup_steps=10, decay_steps=steps
)

# ---- devices and step: batches are spread over all devices there are ----
step = training.make_step(made, optimizer, mesh=runtime.make_mesh(1), seed=seed)
state = step.init()

# ---- loop ----
streams = {family: data.Batches(train[family], seed=seed) for family in families}
steps_per_epoch = streams["bert"].steps_per_epoch(batch_size)
for number in range(1, steps + 1):
    state, metrics = step(state, {family: stream.next(batch_size) for family, stream in streams.items()})
    if number % steps_per_epoch == 0 or number == steps:
        line = []
        for family in families:
            correct = count = 0.0
            for index, batch in enumerate(data.evaluation_batches(validation[family], 100)):
                sums = step.evaluate(family, state.params[family], batch, index).sums
                correct, count = correct + float(sums["correct"]), count + float(sums["count"])
            line.append(f"{family} loss {float(metrics[family]['loss']):.4f} accuracy {correct / count:.1%}")
        print(f"step {number:4d}  " + "  ".join(line))
