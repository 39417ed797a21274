"""Sources, tokenizers and seeded, resumable batches. NumPy only: nothing here needs jax."""

from arena_jax.data.batches import Batches, Padding, common_padding, evaluation_batches
from arena_jax.data.corpus_table import corpus_table
from arena_jax.data.dataset import Dataset, data_task, held_out, texts_of
from arena_jax.data.encode import encode
from arena_jax.data.encoded import Batch, Encoded, Ragged
from arena_jax.data.sources import load
from arena_jax.data.stdlib_text import python_docs
from arena_jax.data.streamed_batches import StreamedBatches, next_batches, training_batches
from arena_jax.data.streamed_text import is_stream, open_stream
from arena_jax.data.synthetic import synthetic_sentiment
from arena_jax.data.tokenizer import Tokenizer, load_tokenizer
from arena_jax.data.tokenizer_training import train_tokenizer

__all__ = [
    "Dataset",
    "load",
    "data_task",
    "held_out",
    "texts_of",
    "synthetic_sentiment",
    "python_docs",
    "Tokenizer",
    "load_tokenizer",
    "train_tokenizer",
    "encode",
    "Encoded",
    "Ragged",
    "Batch",
    "Batches",
    "corpus_table",
    "Padding",
    "common_padding",
    "next_batches",
    "evaluation_batches",
    "StreamedBatches",
    "training_batches",
    "is_stream",
    "open_stream",
]
