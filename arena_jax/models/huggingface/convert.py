"""A Hugging Face folder written anew as safetensors: what the old Flax models left, for the library of today."""

from __future__ import annotations

import shutil
from pathlib import Path

from arena_jax.config.errors import ArenaError
from arena_jax.models.huggingface.files import find_folder
from arena_jax.models.huggingface.load import from_pretrained, has_head, read_architecture
from arena_jax.models.huggingface.save import check_folder, save_pretrained
from arena_jax.models.transformer import Transformer

# A tokenizer's files, which go along: data alone, no code.
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "sentencepiece.bpe.model",
)


def convert(source: str | Path, target: str | Path, task: str | None = None) -> Transformer:
    """Read a folder as :func:`from_pretrained` does, and write it as safetensors, tokenizer included.

    Args:
        source: a folder with flax_model.msgpack or safetensors, or a Hub id.
        target: folder; made if it does not exist.
        task: what the head is for; None: what ``architectures`` in config.json says.

    Returns:
        The model, with the head that the folder has: none is drawn.

    Raises:
        ArenaError: one line with what is wrong with either folder.
    """
    folder = find_folder(source)
    check_folder(target, folder)
    if task is not None and read_architecture(folder) is not None and not has_head(folder, task):
        raise ArenaError(
            f"{source} has no head for {task}, and a conversion invents none: leave the task out, or draw a head when "
            "the model is trained"
        )
    model = from_pretrained(folder, task)

    def also(written: Path) -> None:
        for name in _TOKENIZER:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, written / name)

    save_pretrained(model, target, also=also)
    return model
