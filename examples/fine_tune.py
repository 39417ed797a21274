"""Fine-tune Hugging Face folders together, and export the result for `transformers`.

    python examples/fine_tune.py --folders bert=PATH gpt2=PATH --output OUT
    python examples/fine_tune.py --output OUT              # offline: makes two tiny folders to start from

Takes about 30 seconds on 2 cores with the tiny folders. Prints what was loaded, the losses, and where the exported
folders are; `transformers.AutoModelForSequenceClassification.from_pretrained` loads them as they are.
"""

import argparse
import tempfile
from pathlib import Path

import optax

from arena_jax import data, models, training, transforms

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument(
    "--folders", nargs="+", metavar="NAME=PATH", help="Hugging Face folders with tokenizers, or hub ids"
)
options.add_argument("--output", type=Path, required=True, help="one folder per model is written here")
options.add_argument("--steps", type=int, default=60, help="updates (default 60)")
given = options.parse_args()

# ---- data ----
texts = {split: data.synthetic_sentiment(split) for split in ("train", "validation")}

# ---- where to start: the folders given, or two tiny ones made here ----
if given.folders:
    folders = dict(folder.split("=", 1) for folder in given.folders)
else:
    folders = {}
    for family in ("bert", "gpt2"):
        tokenizer = data.train_tokenizer(texts["train"], family, vocab_size=512)
        config = models.preset(f"{family}-tiny", vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
        folders[family] = Path(tempfile.mkdtemp()) / family
        task = "causal-lm" if family == "gpt2" else "masked-lm"
        models.save_pretrained(models.create(config, task=task), folders[family])
        tokenizer.save(folders[family])

# ---- load: the body comes from the folder, the classification head is new ----
tokenizers = {name: data.load_tokenizer(folder) for name, folder in folders.items()}
made = {}
for name, folder in folders.items():
    made[name] = models.from_pretrained(
        folder, task="sequence-classification", num_labels=2, pad_token_id=tokenizers[name].pad_id
    )
rows = {name: data.encode(texts["train"], tokenizers[name], max_length=32) for name in made}

# ---- optimizer, step, loop ----
optimizer = transforms.multi_model_adamw(optax.constant_schedule(5e-4))
step = training.make_step(made, optimizer)
state = step.init()
streams = {name: data.Batches(rows[name], seed=0) for name in made}
for number in range(1, given.steps + 1):
    state, metrics = step(state, {name: stream.next(32) for name, stream in streams.items()})
    if number % 20 == 0 or number == given.steps:
        print(f"step {number:4d}  " + "  ".join(f"{name} loss {float(metrics[name]['loss']):.4f}" for name in made))

# ---- export ----
for name in made:
    models.save_pretrained(models.merge(step.structures[name], state.params[name]), given.output / name)
    tokenizers[name].save(given.output / name)
    print(f"exported {given.output / name}")
