"""From examples to token arrays, for any task."""

from __future__ import annotations

from collections.abc import Sequence

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.tasks import DOCUMENTS
from arena_jax.data.dataset import CLASSIFICATION, LANGUAGE, QUESTIONS, TAGGING, Dataset, data_task
from arena_jax.data.encode_classification import encode_classification
from arena_jax.data.encode_documents import encode_documents
from arena_jax.data.encode_language import encode_language
from arena_jax.data.encode_questions import encode_questions
from arena_jax.data.encode_tagging import encode_tagging
from arena_jax.data.encoded import Encoded
from arena_jax.data.tokenizer import Tokenizer


def encode(
    data: Dataset,
    tokenizer: Tokenizer,
    *,
    task: str | None = None,
    max_length: int = 128,
    lengths: Sequence[int] | None = None,
    stride: int = 128,
    token_types: int | None = None,
    documents: str = "joined",
) -> Encoded:
    """Tokenise a data set for one model.

    Args:
        data: from `load` or one of the built-in sources.
        tokenizer: of the model.
        task: the model's task; None takes the data set's own (for a language model, masked-lm where the
            tokenizer has a mask token, else causal-lm).
        max_length: tokens per row at most, special tokens included.
        lengths: allowed padded lengths (each is a compilation); None pads all rows to one length.
        stride: tokens that neighbouring windows over one long context share (question answering).
        token_types: types that the model has a row for: 0 leaves them out, 1 makes both texts of a pair of one type;
            None: as the tokenizer gives them.
        documents: of language models. "joined": one stream of tokens, cut into rows, in which a text sees what stands
            before it; "apart": a row each; "packed": short ones share rows and do not see one another.

    Returns:
        Rows from which `Batches` and `evaluation_batches` draw.

    Raises:
        ArenaError: the task does not fit the data or the tokenizer, or a length makes no sense.

    Example:
        >>> from arena_jax.data import synthetic_sentiment, train_tokenizer
        >>> sentences = synthetic_sentiment()
        >>> rows = encode(sentences, train_tokenizer(sentences, "bert"), max_length=32)
        >>> rows.task, len(rows), rows.lengths
        ('sequence-classification', 500, (16,))
    """
    if task is None:
        task = data.task
    if task == LANGUAGE:
        task = "causal-lm" if tokenizer.mask_id is None else "masked-lm"
    if data_task(task) != data.task:
        raise ArenaError(f"data set '{data.name}' is for {data.task}, but a model is to be trained for {task}")
    if max_length < 1:
        raise ArenaError(f"max_length={max_length}: give the tokens per row, 1 or more")
    if documents not in DOCUMENTS:
        raise ArenaError(f"documents='{documents}'; {nearest(str(documents), DOCUMENTS)}")
    if documents != "joined" and data.task != LANGUAGE:
        raise ArenaError(f"documents={documents} is for language models; {task} has an example per row")
    if documents != "joined":
        return encode_documents(
            data,
            tokenizer,
            task=task,
            max_length=max_length,
            packed=documents == "packed",
            lengths=lengths,
            token_types=token_types,
        )
    if data.task == LANGUAGE:
        return encode_language(data, tokenizer, task=task, max_length=max_length, token_types=token_types)
    smallest = tokenizer.backend.num_special_tokens_to_add("text_pair" in data.columns) + 2
    if data.task != QUESTIONS and max_length < smallest:
        raise ArenaError(f"max_length={max_length} leaves no room for text; give {smallest} or more")
    if data.task == CLASSIFICATION:
        return encode_classification(data, tokenizer, max_length=max_length, lengths=lengths, token_types=token_types)
    if data.task == TAGGING:
        return encode_tagging(data, tokenizer, max_length=max_length, lengths=lengths, token_types=token_types)
    return encode_questions(
        data, tokenizer, max_length=max_length, lengths=lengths, stride=stride, token_types=token_types
    )
