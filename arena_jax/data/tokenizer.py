"""One interface to the tokenizers of Hugging Face and to those trained on the data at start."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena_jax.config.agreement import TokenizerFacts
from arena_jax.config.errors import ArenaError, first_line
from arena_jax.config.hub_access import near_here, stay_offline_if_unreachable
from arena_jax.data.tokenizer_files import check_files, check_vocabulary, lost_capitals, saved_settings

if TYPE_CHECKING:
    import tokenizers

# What a tokenizer may leave out of a text, each with two texts that differ in nothing else.
_DIFFERENCES = {
    "capitals": ("A", "a"),
    "accents": ("é", "e"),
    "the choice among forms of a letter": ("\N{LATIN SMALL LIGATURE FI}", "fi"),
    "control characters": ("a\x01b", "ab"),
    "the kind and number of blanks": ("a \tb", "a b"),
}
_CHUNK = 2048  # texts handed to the backend at once: enough for its threads, little memory


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer of the `tokenizers` library with the ids that encoding needs.

    Args:
        backend: the tokenizer itself.
        family: "bert", "roberta", "gpt2" or "other".
        name: where it came from, for reports.
        vocab_size: largest id + 1: what a model's embedding must have at least.
        pad_id: fills rows up to their padded length; always hidden by the attention mask.
        special_ids: ids that stand for no text; never masked.
        unk_id: of what is not in the vocabulary; this and the next five are None where the family has none.
        bos_id: before a text.
        eos_id: behind a text.
        cls_id: before a text whose class is asked for.
        sep_id: between and behind texts.
        mask_id: in the place of a hidden token.
        token_types: whether the model of this family takes token types (BERT does).
        max_length: longest sequence that the tokenizer's own model takes, in tokens; None if unknown.
        truncation_side: which end of a long text is cut off, "right" or "left".
        padding_side: as its files say; rows are padded on the right whatever it is.
        notes: what a person should know.
        source: the `transformers` object it was read from, kept to be saved again unchanged.
    """

    backend: tokenizers.Tokenizer
    family: str
    name: str
    vocab_size: int
    pad_id: int
    special_ids: frozenset[int]
    unk_id: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    cls_id: int | None = None
    sep_id: int | None = None
    mask_id: int | None = None
    token_types: bool = False
    max_length: int | None = None
    truncation_side: str = "right"
    padding_side: str = "right"
    notes: tuple[str, ...] = ()
    source: Any = dataclasses.field(default=None, repr=False)

    @property
    def separator_id(self) -> int | None:
        """The id between two documents: end of text where there is one, else the separator."""
        return self.eos_id if self.eos_id is not None else self.sep_id

    @property
    def stand_in_id(self) -> int:
        """The id that an example without any token is read as."""
        return self.pad_id if self.separator_id is None else self.separator_id

    @property
    def left_out(self) -> tuple[str, ...]:
        """What its normaliser and its division into words leave out of a text, found by trial.

        Where that is something, bits per byte are of another text than the raw one.
        """

        def pieces(text: str) -> list[str]:
            normalizer, splitter = self.backend.normalizer, self.backend.pre_tokenizer
            text = text if normalizer is None else normalizer.normalize_str(text)
            return [text] if splitter is None else [piece for piece, _ in splitter.pre_tokenize_str(text)]

        return tuple(what for what, (first, other) in _DIFFERENCES.items() if pieces(first) == pieces(other))

    @property
    def facts(self) -> TokenizerFacts:
        """What it gives to a model, for :func:`arena_jax.config.agreement.check`."""
        ids = {role: getattr(self, f"{role}_id") for role in ("unk", "bos", "eos", "cls", "sep", "mask")}
        pair = self.backend.encode("a", "a").type_ids if self.token_types else []
        return TokenizerFacts(
            name=self.name,
            vocab_size=self.vocab_size,
            pad_id=self.pad_id,
            special={role: token for role, token in ids.items() if token is not None},
            token_types=max(pair, default=-1) + 1,
            padding_side=self.padding_side,
        )

    def encode(self, text: str, pair: str | None = None) -> tokenizers.Encoding:
        """Turn one text, or a pair, into tokens with the family's special tokens around.

        Args:
            text: the text.
            pair: a second text, such as the context of a question.

        Returns:
            An encoding: `.ids`, `.type_ids`, `.offsets` in characters, `.word_ids`, `.special_tokens_mask`.
        """
        return self.backend.encode(text, pair)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids back into text, without special tokens.

        Args:
            ids: token ids.

        Returns:
            The text; lower-cased and with normalised spaces where the tokenizer does that.
        """
        return self.backend.decode([int(token) for token in ids], skip_special_tokens=True)

    def configured(
        self, max_length: int | None = None, *, stride: int = 0, strategy: str = "longest_first", words: bool = False
    ) -> tokenizers.Tokenizer:
        """Copy the backend with truncation set, leaving this one as it is.

        Args:
            max_length: tokens per row, special tokens included; None leaves rows whole.
            stride: tokens that neighbouring windows share.
            strategy: "longest_first" or "only_second", as in `transformers`.
            words: the input will be lists of words; byte-level tokenizers then put a space before each.

        Returns:
            An independent backend.
        """
        import tokenizers

        copy = tokenizers.Tokenizer.from_str(self.backend.to_str())
        copy.no_padding()
        copy.no_truncation()
        if max_length is not None:
            # Windows over a context lose nothing, so they go from left to right whatever side is cut elsewhere.
            side = "right" if strategy == "only_second" else self.truncation_side
            copy.enable_truncation(max_length, stride=stride, strategy=strategy, direction=side)
        if words and isinstance(copy.pre_tokenizer, tokenizers.pre_tokenizers.ByteLevel):
            copy.pre_tokenizer.add_prefix_space = True
        return copy

    def save(self, folder: str | Path, *, max_length: int | None = None) -> None:
        """Write the tokenizer so that `load_tokenizer`, and `transformers`, read it back.

        Args:
            folder: made if it does not exist.
            max_length: the longest input of the model beside it, in tokens, for a tokenizer that knows of none.

        Raises:
            ArenaError: the folder cannot be written.
        """
        source = copy.copy(self.source) if self.source is not None else _as_transformers(self)
        if max_length is not None and self.max_length is None:
            source.model_max_length = max_length
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            source.save_pretrained(str(folder))
        except OSError as error:
            raise ArenaError(f"cannot write the tokenizer to {folder}: {error.strerror or error}") from None

    def report(self) -> list[str]:
        """Describe the tokenizer for a person, one fact per line.

        Returns:
            Name and vocabulary size, and every note.
        """
        return [
            f"tokenizer {self.name}: {self.vocab_size:,} tokens",
            *(f"tokenizer {self.name}: {note}" for note in self.notes),
        ]


_IDS = ("unk", "bos", "eos", "cls", "sep", "mask", "pad")
# The order is the family's own: RoBERTa's positions start after its padding id, so that id is 1 as in the original.
SPECIAL = {
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "roberta": {
        "bos": "<s>",
        "pad": "<pad>",
        "eos": "</s>",
        "unk": "<unk>",
        "mask": "<mask>",
        "cls": "<s>",
        "sep": "</s>",
    },
    "gpt2": {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>", "pad": "<|endoftext|>"},
}
SHARED_PAD = "has no padding token: padded with the end-of-text token, which the attention mask hides"


def load_tokenizer(path_or_id: str | Path, *, pad_token: str | None = None) -> Tokenizer:
    """Read a Hugging Face tokenizer from a folder, or from the Hub by its id.

    Nothing from the folder is executed. Truncation and padding that are saved inside tokenizer.json are not applied:
    the rows' own length decides, and the notes say so.

    Args:
        path_or_id: a folder with tokenizer.json (or the family's vocabulary files), or an id such as "gpt2".
        pad_token: token of the vocabulary that fills rows up; None: the tokenizer's own, else its end-of-text token.

    Returns:
        The tokenizer.

    Raises:
        ArenaError: nothing there, not readable, no vocabulary, or a tokenizer that only exists as Python code.
    """
    stay_offline_if_unreachable()
    import tokenizers
    from transformers import AutoTokenizer

    name = str(path_or_id)
    path = Path(name)
    if (path.is_absolute() or name.startswith(".")) and not path.is_dir():
        raise ArenaError(f"no tokenizer folder at {name}; give a folder with tokenizer.json, or a Hugging Face id")
    if path.is_dir():
        check_files(path)
    try:
        source = AutoTokenizer.from_pretrained(name, use_fast=True, trust_remote_code=False)
        backend = tokenizers.Tokenizer.from_str(source.backend_tokenizer.to_str())
        ids = {role: getattr(source, f"{role}_token_id", None) for role in _IDS}
        special, more_special = list(source.all_special_tokens), list(source.all_special_ids)
        limit = None if source.model_max_length is None else int(source.model_max_length)
        token_types = "token_type_ids" in source.model_input_names
        sides = {side: str(getattr(source, side)) for side in ("truncation_side", "padding_side")}
    except Exception as error:  # the library raises whatever its parsers and its network meet
        where = "in the folder" if path.is_dir() else "on the Hugging Face Hub or in its cache"
        advice = "give a folder with tokenizer.json, or leave it out to train one on the data"
        if path.is_dir() and not (path / "config.json").is_file() and not (path / "tokenizer.json").is_file():
            advice = "add the model's config.json (or a tokenizer.json), which says of what kind these files are"
        raise ArenaError(
            f"no usable tokenizer '{name}' {where} ({type(error).__name__}: {first_line(error)[:160]}); "
            f"{advice}{near_here(name)}"
        ) from None
    notes = [*saved_settings(backend), *lost_capitals(backend)]
    backend.no_padding()
    backend.no_truncation()
    check_vocabulary(backend, special, name)
    if pad_token is not None:
        ids["pad"] = backend.token_to_id(pad_token)
        if ids["pad"] is None:
            raise ArenaError(f"tokenizer '{name}' has no token '{pad_token}' to pad with; name one of its vocabulary")
        notes.append(f"rows are padded with '{pad_token}', as asked")
    elif ids["pad"] is None:
        shared = next((ids[role] for role in ("eos", "bos", "sep", "unk") if ids[role] is not None), None)
        if shared is None:
            raise ArenaError(f"tokenizer '{name}' has neither a padding nor an end-of-text token; add one to its files")
        ids["pad"] = shared
        notes.append(SHARED_PAD)
    kind = type(source).__name__.lower()
    if "tokenizersbackend" in kind or "pretrainedtokenizerfast" in kind:
        kind = _kind_by_tokens(source)
    family = next((family for family in ("roberta", "gpt2", "bert") if family in kind), "other")
    wrong = next((side for side, value in sides.items() if value not in ("left", "right")), None)
    if wrong is not None:
        raise ArenaError(f"tokenizer '{name}': {wrong} is {sides[wrong]!r}; it is left or right")
    return describe(
        backend,
        ids,
        family=family,
        name=name,
        token_types=token_types,
        max_length=limit if limit is not None and 0 < limit < 10**9 else None,
        **sides,
        notes=tuple(notes),
        source=source,
        more_special=more_special,
    )


def encodings(backend: tokenizers.Tokenizer, texts: Sequence[Any], **options: Any) -> Iterator[tokenizers.Encoding]:
    """Encode many texts in parallel, a chunk at a time.

    Args:
        backend: as `Tokenizer.configured` returns it.
        texts: texts, pairs of texts, or lists of words.
        **options: `add_special_tokens`, `is_pretokenized`, as the backend takes them.

    Yields:
        One encoding per text, in order.
    """
    for start in range(0, len(texts), _CHUNK):
        yield from backend.encode_batch(list(texts[start : start + _CHUNK]), **options)


def _kind_by_tokens(source: Any) -> str:
    """The family of a tokenizer saved without its class from its special tokens."""
    for family, tokens in SPECIAL.items():
        if all(getattr(source, f"{role}_token") == token for role, token in tokens.items()):
            return family
    return "other"


def describe(
    backend: tokenizers.Tokenizer,
    ids: Mapping[str, int | None],
    *,
    more_special: Iterable[int] = (),
    **fields: Any,
) -> Tokenizer:
    """Wrap a backend, given its special ids by role.

    Args:
        backend: the tokenizer.
        ids: id of each role ("pad", "unk", "bos", "eos", "cls", "sep", "mask"), None where it has none.
        more_special: further ids that stand for no text.
        **fields: the other fields of `Tokenizer`.

    Returns:
        The wrapped tokenizer.

    Raises:
        ArenaError: the backend has no tokens.
    """
    vocabulary = backend.get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise ArenaError(f"tokenizer '{fields['name']}' has an empty vocabulary")
    return Tokenizer(
        backend=backend,
        vocab_size=max(vocabulary.values()) + 1,
        special_ids=frozenset(i for i in (*ids.values(), *more_special) if i is not None),
        **{f"{role}_id": ids.get(role) for role in _IDS},  # type: ignore[arg-type]
        **fields,
    )


def _as_transformers(tokenizer: Tokenizer) -> Any:
    from transformers import PreTrainedTokenizerFast

    names = (
        ["input_ids", "token_type_ids", "attention_mask"] if tokenizer.token_types else ["input_ids", "attention_mask"]
    )
    special = {f"{role}_token": token for role, token in SPECIAL[tokenizer.family].items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.configured(), model_input_names=names, **special)
