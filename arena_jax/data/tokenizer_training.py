"""Tokenizers trained on the data at start: the default that needs no download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.data.dataset import Dataset, texts_of
from arena_jax.data.stored_documents import Documents
from arena_jax.data.tokenizer import SHARED_PAD, SPECIAL, Tokenizer, describe

if TYPE_CHECKING:
    import tokenizers

TRAINED_ON = 64 * 2**20  # bytes of a large text: more of it changes few tokens, and takes minutes


def train_tokenizer(
    data: Dataset | Iterable[str], family: str, *, vocab_size: int = 8192, min_frequency: int = 2
) -> Tokenizer:
    """Train a tokenizer of a family's kind on the data: the default that needs no download.

    BERT: lower-cased WordPiece. RoBERTa and GPT-2: byte-level BPE, which can spell any text. The same data
    gives the same tokenizer.

    Args:
        data: a data set, or texts; of texts in the store the first 64 MiB.
        family: "bert", "roberta" or "gpt2".
        vocab_size: tokens at most, special ones included; small data gives fewer.
        min_frequency: how often a piece must occur to become a token.

    Returns:
        A tokenizer with the family's special tokens.

    Raises:
        ArenaError: an unknown family, no text, or a vocabulary too small for the family's alphabet.

    Example:
        >>> tokenizer = train_tokenizer(["a good film", "a bad film"], "bert", min_frequency=1)
        >>> tokenizer.encode("a good film").tokens
        ['[CLS]', 'a', 'good', 'film', '[SEP]']
        >>> train_tokenizer(["a good film"], "gpt2").decode(train_tokenizer(["a good film"], "gpt2").encode("é!").ids)
        'é!'
    """
    from tokenizers import processors

    if family not in SPECIAL:
        raise ArenaError(f"no tokenizer can be trained for the family '{family}'; {nearest(family, SPECIAL)}")
    notes = [SHARED_PAD] if family == "gpt2" else []
    documents = data.columns.get("text") if isinstance(data, Dataset) else None
    if isinstance(data, Dataset) and isinstance(documents, Documents):
        texts = documents.head(TRAINED_ON)
        if len(texts) < len(data):
            notes.append(f"trained on the first {len(texts):,} of {len(data):,} documents ({TRAINED_ON >> 20} MiB)")
    else:
        texts = list(texts_of(data) if isinstance(data, Dataset) else data)
    if not any(text.strip() for text in texts):
        raise ArenaError("a tokenizer cannot be trained on empty texts; check the data and its column names")
    special = list(dict.fromkeys(SPECIAL[family].values()))
    smallest = len(special) + (4 if family == "bert" else 256)
    if vocab_size < smallest:
        raise ArenaError(f"vocab_size={vocab_size} is too small for a {family} tokenizer: give at least {smallest}")
    backend = (
        _train_wordpiece(texts, special, vocab_size, min_frequency)
        if family == "bert"
        else _train_bytes(texts, special, vocab_size, min_frequency)
    )
    vocabulary = backend.get_vocab(with_added_tokens=True)
    ids = {role: vocabulary[token] for role, token in SPECIAL[family].items()}
    if family == "bert":
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", ids["cls"]), ("[SEP]", ids["sep"])],
        )
    elif family == "roberta":
        backend.post_processor = processors.RobertaProcessing(
            ("</s>", ids["sep"]), ("<s>", ids["cls"]), trim_offsets=True, add_prefix_space=False
        )
    else:
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
    origin = data.name if isinstance(data, Dataset) else "the given texts"
    return describe(
        backend,
        ids,
        family=family,
        name=f"{family}-like, trained on {origin}",
        token_types=family == "bert",
        notes=tuple(notes),
    )


def _train_wordpiece(
    texts: Sequence[str], special: list[str], vocab_size: int, min_frequency: int
) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=True)
    alphabet = _alphabet(texts, normalizer, limit=min(1000, (vocab_size - len(special)) // 3))
    # The trainer numbers the letters inside words in the order of a hash table and breaks ties by number, so
    # two runs differ. Tokens called special come first and in order; the model below forgets that they were.
    first = [*special, *alphabet, *(f"##{letter}" for letter in alphabet)]

    def parts() -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizer
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        return backend

    trained = parts()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    backend = parts()
    backend.model = models.WordPiece(trained.get_vocab(with_added_tokens=True), unk_token="[UNK]")
    backend.add_special_tokens(special)
    return backend


def _train_bytes(texts: Sequence[str], special: list[str], vocab_size: int, min_frequency: int) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _alphabet(texts: Sequence[str], normalizer: tokenizers.normalizers.Normalizer, limit: int) -> list[str]:
    """The most frequent characters, ties by code point: the library's own choice among equals is not repeatable."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    letters = [letter for letter in counts if not letter.isspace()]
    return sorted(letters, key=lambda letter: (-counts[letter], letter))[:limit]
