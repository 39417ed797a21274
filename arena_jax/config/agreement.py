"""Whether a model, its tokenizer and the data belong together: one function of plain facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from arena_jax.config.errors import ArenaError, few, nearest
from arena_jax.config.tasks import CLASSIFIERS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model can take.

    Attributes:
        name: for messages.
        family: "bert", "roberta" or "gpt2".
        task: one of the five.
        vocab_size: rows of its token table.
        max_length: tokens of its longest input.
        token_types: rows of its table of token types; 0: it has none.
        pad_id: token that its configuration says fills rows up; None: it says none.
        ends: tokens that its configuration calls start and end of a text, by role; those that are there.
        num_labels: outputs of its head.
        label_names: a name per output; None: they have none of their own.
        problem_type: what its configuration says labels are; None: it does not say.
    """

    name: str
    family: str
    task: str
    vocab_size: int
    max_length: int
    token_types: int
    pad_id: int | None = None
    ends: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    num_labels: int = 2
    label_names: Sequence[str] | None = None
    problem_type: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerFacts:
    """What a tokenizer gives.

    Attributes:
        name: for messages.
        vocab_size: largest token + 1.
        pad_id: token that fills rows up; None where the files name none.
        special: other special tokens by role ("bos", "eos", "cls", "sep", "mask", "unk"); those that are there.
        token_types: how many token types it gives to a pair of texts; 0 or 1: it tells the two texts apart by none.
        padding_side: as its files say.
    """

    name: str
    vocab_size: int
    pad_id: int | None = None
    special: Mapping[str, int] = dataclasses.field(default_factory=dict)
    token_types: int = 0
    padding_side: str = "right"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What data ask of a model.

    Attributes:
        name: for messages.
        label_names: name of each class; empty where there are none.
        used: the classes that occur, as numbers into the names; None: all.
        numbered: whether the data say which class is 0, 1, …; False: they hold names, numbered by the alphabet.
        problem_type: "regression" or "multi_label_classification"; None: one class each.
        pairs: whether an example is two texts.
    """

    name: str
    label_names: Sequence[str] = ()
    used: frozenset[int] | None = None
    numbered: bool = True
    problem_type: str | None = None
    pairs: bool = False


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What follows from the facts.

    Attributes:
        notes: what a person should know, a line each.
        token_types: types that rows may use; 0: none are handed to the model; None: as the tokenizer gives them.
        outputs: for each class of the data the model's output (-1: the class does not occur); None: no classes.
    """

    notes: tuple[str, ...] = ()
    token_types: int | None = None
    outputs: tuple[int, ...] | None = None


def check(
    model: ModelFacts,
    tokenizer: TokenizerFacts | None = None,
    data: DataFacts | None = None,
    *,
    max_length: int | None = None,
    learning: bool = False,
) -> Agreement:
    """Check a model, its tokenizer and the data against one another.

    Refused is what would give wrong numbers: tokens or types without a row, RoBERTa's positions counted from another
    padding token, rows longer than the model, a mask token that is missing, classes that are not the model's. Classes
    are matched by name, in whatever order; only where one side has no names does the position say it, and it is told.

    Args:
        model: what it can take.
        tokenizer: what it gives; None: it is not looked at.
        data: what they ask; None: not looked at.
        max_length: tokens of the longest row; None: not looked at.
        learning: whether the model will be trained: then outputs without names can be given the data's.

    Returns:
        Notes, the token types that rows may use, and which output is which class.

    Raises:
        ArenaError: one line with everything that does not agree.

    Example:
        >>> facts = ModelFacts(name="m", family="bert", task="sequence-classification", vocab_size=9, max_length=8,
        ...                    token_types=2, label_names=("positive", "negative"))
        >>> check(facts, data=DataFacts(name="d", label_names=("negative", "positive"))).outputs
        (1, 0)
        >>> check(facts, TokenizerFacts(name="t", vocab_size=10))
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: model 'm' has 9 token embeddings, but its tokenizer has 10 tokens: use the model's own
        tokenizer, or a model with a larger vocabulary
    """
    problems: list[str] = []
    notes: list[str] = []
    if max_length is not None and max_length > model.max_length:
        problems.append(
            f"model '{model.name}' takes {model.max_length} tokens, but rows may have {max_length}: "
            f"set max_length to at most {model.max_length}"
        )
    types = None
    if tokenizer is not None:
        _tokens(model, tokenizer, problems, notes)
        types = _types(model, tokenizer, data is not None and data.pairs, problems, notes)
    outputs = None
    if data is not None and model.task in CLASSIFIERS:
        outputs = _classes(model, data, learning, problems, notes)
    if problems:
        raise ArenaError("; ".join(problems))
    return Agreement(tuple(notes), types, outputs)


def _tokens(model: ModelFacts, tokenizer: TokenizerFacts, problems: list[str], notes: list[str]) -> None:
    size, rows = tokenizer.vocab_size, model.vocab_size
    if size > rows:
        problems.append(
            f"model '{model.name}' has {rows:,} token embeddings, but its tokenizer has {size:,} tokens: "
            "use the model's own tokenizer, or a model with a larger vocabulary"
        )
    elif size < 0.9 * rows and rows - size > 256:  # tables are rounded up, at most to a multiple of 256
        notes.append(f"the tokenizer has {size:,} tokens for {rows:,} embeddings: is it this model's own?")
    pad = tokenizer.pad_id
    if model.family == "roberta" and pad is not None and model.pad_id is not None and pad != model.pad_id:
        problems.append(
            f"model '{model.name}' counts positions from padding token {model.pad_id}, but its tokenizer pads with "
            f"{pad}: use the model's own tokenizer, or correct pad_token_id in config.json"
        )
    elif pad is not None and model.pad_id is not None and pad != model.pad_id:
        notes.append(
            f"config.json pads with token {model.pad_id} and the tokenizer with {pad}: rows are padded with {pad}, "
            "and the attention mask says what is padding"
        )
    if model.task == "masked-lm" and tokenizer.special and "mask" not in tokenizer.special:
        problems.append(f"tokenizer {tokenizer.name} has no mask token, which masked-lm needs; use causal-lm")
    for role, tokens in model.ends.items():
        # A number outside the table is a leftover that can mean nothing.
        stated = [token for token in tokens if 0 <= token < rows]
        token_id = tokenizer.special.get(role)
        if token_id is None:
            token_id = tokenizer.special.get({"bos": "cls", "eos": "sep"}[role])
        if stated and token_id is not None and token_id not in stated:
            what = {"bos": "start", "eos": "end"}[role]
            notes.append(
                f"config.json says that token {stated[0]} is the {what} of a text, the tokenizer says {token_id}: "
                "is it this model's own?"
            )
    if tokenizer.padding_side != "right":
        notes.append(
            f"the tokenizer would pad on the {tokenizer.padding_side}; rows are padded on the right here, "
            "which the attention mask hides"
        )


def _types(
    model: ModelFacts, tokenizer: TokenizerFacts, pairs: bool, problems: list[str], notes: list[str]
) -> int | None:
    if tokenizer.token_types < 2:
        return 0 if model.token_types == 0 else None
    if model.token_types == 0:
        notes.append("the tokenizer gives token types, which the model has none of: they are left out")
        return 0
    if model.token_types == 1:
        if pairs:
            notes.append("the model has a single token type: both texts of a pair have it")
        return 1
    if tokenizer.token_types > model.token_types:
        problems.append(
            f"model '{model.name}' has {model.token_types} token types, but its tokenizer gives "
            f"{tokenizer.token_types}: use the model's own tokenizer"
        )
    return None


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if not (c in "-_/." or c.isspace()))


def unnamed(names: Sequence[str] | None) -> bool:
    """Whether outputs have no names of their own: none, LABEL_0, LABEL_1, …, or their numbers.

    Example:
        >>> unnamed(("LABEL_0", "LABEL_1")), unnamed(("0", "1")), unnamed(("no", "yes"))
        (True, True, False)
    """
    if names is None:
        return True
    count = range(len(names))
    return tuple(names) in (tuple(f"LABEL_{i}" for i in count), tuple(str(i) for i in count))


def _classes(
    model: ModelFacts, data: DataFacts, learning: bool, problems: list[str], notes: list[str]
) -> tuple[int, ...] | None:
    replace = " or replace the head (--new-head)" if learning else ""
    stated = model.problem_type
    if stated is not None and (None if stated == "single_label_classification" else stated) != data.problem_type:
        problems.append(
            f"model '{model.name}' is for {stated}, data '{data.name}' are read for "
            f"{data.problem_type or 'single_label_classification'}: say problem_type={stated}{replace}"
        )
        return None
    if data.problem_type == "regression":
        if model.num_labels != 1:
            problems.append(
                f"model '{model.name}' has {model.num_labels} outputs, regression on data '{data.name}' needs 1: "
                f"give another checkpoint{replace}"
            )
        return None
    if not data.label_names:
        return None
    count = len(data.label_names)
    used = range(count) if data.used is None else sorted(data.used)
    if unnamed(model.label_names):
        if model.num_labels != count:
            problems.append(
                f"model '{model.name}' has {model.num_labels} outputs, data '{data.name}' have {count} classes: "
                f"give data with the same classes{replace}"
            )
        elif not (data.numbered or learning):
            order = ",".join(map(str, data.label_names))
            problems.append(
                f"the outputs of model '{model.name}' have no names, and the classes of data '{data.name}' are names "
                f"({few(data.label_names)}) that say no order: give the names in the order of the outputs, for "
                f"example label_names={order[:80]}"
            )
        elif not unnamed(data.label_names):
            listing = few([f"{i} is {name}" for i, name in enumerate(data.label_names)])
            notes.append(f"the model's outputs have no names; they are taken as the data number them: {listing}")
        return tuple(range(count))
    assert model.label_names is not None
    exact = {name: number for number, name in enumerate(model.label_names)}
    alike: dict[str, list[int]] = {}
    for number, name in enumerate(model.label_names):
        alike.setdefault(_plain(name), []).append(number)
    outputs, renamed, missing = [-1] * count, [], []
    for label in range(count):
        name = data.label_names[label]
        if name in exact:
            outputs[label] = exact[name]
        elif len(alike.get(_plain(name), ())) == 1:
            outputs[label] = alike[_plain(name)][0]
            if label in used:
                renamed.append(f"{name} is {model.label_names[outputs[label]]}")
        elif label in used:
            missing.append(name)
    twice = [n for n in outputs if n >= 0 and outputs.count(n) > 1]
    if missing or twice:
        if unnamed(data.label_names):
            advice = f"say which class each number is, for example label_names={','.join(model.label_names)[:80]}"
        else:
            advice = nearest(missing[0], model.label_names) if missing and len(exact) <= 20 else "give other data"
        which = few(missing) if missing else f"two classes for {model.label_names[twice[0]]}"
        problems.append(
            f"model '{model.name}' has the classes {few(model.label_names)}; data '{data.name}' have {which}, "
            f"which it does not know: {advice}{replace}"
        )
        return None
    if renamed:
        notes.append(f"classes matched without regard to case: {few(renamed)}")
    if any(outputs[label] != label for label in used):
        listing = few([f"{i} is {name}" for i, name in enumerate(model.label_names)])
        notes.append(f"classes are matched by name; in the order of the model's outputs {listing}")
    return tuple(outputs)
