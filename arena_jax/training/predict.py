"""What models say of texts: labels, entities, answers, perplexity.

Perplexity of a masked language model is the pseudo-perplexity of Salazar et al. 2020 (arXiv:1910.14659).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arena_jax import data, models
from arena_jax.config.agreement import check
from arena_jax.config.errors import ArenaError, nearest
from arena_jax.data.tags import scheme_of
from arena_jax.data.tokenizer import encodings
from arena_jax.runs.folder import load_run
from arena_jax.training.entities import entities
from arena_jax.training.folder_model import is_model_folder
from arena_jax.training.restore import restore
from arena_jax.training.squad import Answers

_WORDS = re.compile(r"\w+|[^\w\s]")
_MULTIPLE = 16  # rows are padded to one length, a multiple of this: one program for all
_LIMIT = 512  # tokens of a row, where the model takes more


class Subject(NamedTuple):
    """A model that is asked.

    Attributes:
        name: of it.
        model: with the head of its task.
        tokenizer: its own.
    """

    name: str
    model: models.Transformer
    tokenizer: data.Tokenizer


def load_subjects(source: Path, name: str | None = None, checkpoint: str = "newest") -> list[Subject]:
    """The models of a run's checkpoint, or of a Hugging Face folder.

    Args:
        source: a run's folder, or a model's.
        name: of one model of the run; None: all.
        checkpoint: of the run: "newest", "best" or a step.

    Raises:
        ArenaError: there is none, or it cannot be read.
    """
    if is_model_folder(source):
        return [Subject(source.name, models.from_pretrained(source), data.load_tokenizer(source))]
    config = load_run(source)
    parts, step, state = restore(source, config, checkpoint)
    names = [model.name for model in config.models]
    if name is not None and name not in names:
        raise ArenaError(f"'{source}' has no model '{name}'; {nearest(name, names)}")
    return [
        Subject(model, models.merge(step.structures[model], state.params[model]), parts.tokenizers[model])
        for model in names
        if name in (None, model)
    ]


def read_inputs(file: Path) -> list[dict[str, str]]:
    """The inputs of a file: JSON lines with text (and text_pair), or question and context; any other: a text per line.

    Raises:
        ArenaError: it cannot be read, or a line is no such object.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ArenaError(f"'{file}' cannot be read ({error}): give a text file in UTF-8, or JSON lines") from None
    if file.suffix != ".jsonl":
        return [{"text": line} for line in lines if line.strip()]
    inputs = []
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArenaError(f"{file}, line {number}: {error}; each line must be a JSON object") from None
        if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
            raise ArenaError(f'{file}, line {number}: an object of texts is expected, such as {{"text": "…"}}')
        inputs.append(content)
    return inputs


def predict(subject: Subject, inputs: Sequence[Mapping[str, str]], batch_size: int = 32) -> Iterator[dict[str, Any]]:
    """What a model says of each input.

    Args:
        subject: the model and its tokenizer.
        inputs: "text", and "text_pair" where a classifier reads two; "question" and "context" for answers.
        batch_size: rows at a time.

    Yields:
        For each input, in order, of what JSON can hold: a classifier's "label" and the "probabilities" of all (several
        labels: "labels"; regression: "value"); the "entities" of a tagger, each with label, text and place in
        characters, or where its tags mark none, "tags" of the words; the "answer" to a question; of a language model
        "perplexity", "loss" (nats per token) and "tokens" — of a masked one with each token hidden in turn. "cut" where
        the input had more tokens than fit.

    Raises:
        ArenaError: an input lacks what the task needs.
    """
    task = subject.model.task
    parts = ("question", "context") if task == "question-answering" else ("text",)
    for number, entry in enumerate(inputs, 1):
        missing = [part for part in parts if part not in entry]
        if missing:
            raise ArenaError(f"input {number} has no {missing[0]}, which {task} reads: give JSON lines with {parts}")
    say = {
        "sequence-classification": _classes,
        "token-classification": _tags,
        "question-answering": _answers,
        "causal-lm": _following,
        "masked-lm": _hidden,
    }[task]
    yield from say(subject, list(inputs), batch_size)


def _agreement(subject: Subject) -> int | None:
    facts = models.facts(subject.model.config, subject.model.task, subject.name)
    return check(facts, subject.tokenizer.facts).token_types


def _logits(
    subject: Subject, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]], batch_size: int
) -> Iterator[np.ndarray]:
    """The logits of each row, padding left out of those per token; one compiled program for all rows."""
    token_types, fill = _agreement(subject), subject.tokenizer.pad_id
    longest = min(-(-max(map(len, ids)) // _MULTIPLE) * _MULTIPLE, subject.model.config.max_length)
    structure, params = models.split(subject.model)
    run = jax.jit(lambda params, batch: models.merge(structure, params)(**batch).astype(jnp.float32))
    per_token = subject.model.task != "sequence-classification"
    for start in range(0, len(ids), batch_size):
        rows = ids[start : start + batch_size]
        batch = {"input_ids": np.full((batch_size, longest), fill, np.int32)}
        batch["attention_mask"] = np.zeros((batch_size, longest), np.int32)
        if subject.tokenizer.token_types and token_types != 0:
            batch["token_type_ids"] = np.zeros((batch_size, longest), np.int32)
        for row, tokens in enumerate(rows):
            batch["input_ids"][row, : len(tokens)] = tokens
            batch["attention_mask"][row, : len(tokens)] = 1
            if "token_type_ids" in batch and token_types is None:
                batch["token_type_ids"][row, : len(tokens)] = types[start + row]
        batch["attention_mask"][len(rows) :, 0] = 1  # rows that only fill up attend to something
        logits = np.asarray(run(params, batch), np.float64)
        for row, tokens in enumerate(rows):
            yield logits[row, : len(tokens)] if per_token else logits[row]


def _encoded(subject: Subject, texts: Sequence[Any], *, words: bool = False) -> tuple[list[Any], int]:
    """Encodings cut to what fits, one at least a token long; and how long they may be."""
    length = min(_LIMIT, subject.model.config.max_length)
    options: dict[str, Any] = {"is_pretokenized": True} if words else {}
    return list(encodings(subject.tokenizer.configured(length, words=words), texts, **options)), length


def _ids(subject: Subject, encoding: Any) -> list[int]:
    return list(encoding.ids) or [subject.tokenizer.stand_in_id]


def _types(encoding: Any) -> list[int]:
    return list(encoding.type_ids) or [0]


def _cut(encoding: Any) -> dict[str, bool]:
    return {"cut": True} if encoding.overflowing else {}


def _classes(subject: Subject, inputs: list[Mapping[str, str]], batch_size: int) -> Iterator[dict[str, Any]]:
    config = subject.model.config
    texts = [(entry["text"], entry["text_pair"]) if "text_pair" in entry else entry["text"] for entry in inputs]
    encoded, _ = _encoded(subject, texts)
    rows = _logits(subject, [_ids(subject, e) for e in encoded], [_types(e) for e in encoded], batch_size)
    for encoding, logits in zip(encoded, rows, strict=True):
        if config.labels_are == "regression":
            answer: dict[str, Any] = {"value": logits.tolist() if len(logits) > 1 else float(logits[0])}
        elif config.labels_are == "multi_label_classification":
            probabilities = dict(zip(config.labels(), (1 / (1 + np.exp(-logits))).tolist(), strict=True))
            likely = [label for label, probability in probabilities.items() if probability >= 0.5]
            answer = {"labels": likely, "probabilities": probabilities}
        else:
            weights = np.exp(logits - logits.max())
            probabilities = dict(zip(config.labels(), (weights / weights.sum()).tolist(), strict=True))
            answer = {"label": config.labels()[int(logits.argmax())], "probabilities": probabilities}
        yield answer | _cut(encoding)


def _tags(subject: Subject, inputs: list[Mapping[str, str]], batch_size: int) -> Iterator[dict[str, Any]]:
    names = subject.model.config.labels()
    scheme = scheme_of(names)
    places = [[match.span() for match in _WORDS.finditer(entry["text"])] for entry in inputs]
    words = [[entry["text"][a:b] for a, b in spans] for entry, spans in zip(inputs, places, strict=True)]
    encoded, _ = _encoded(subject, words, words=True)
    rows = _logits(subject, [_ids(subject, e) for e in encoded], [_types(e) for e in encoded], batch_size)
    for entry, spans, encoding, logits in zip(inputs, places, encoded, rows, strict=True):
        # A word has the tag of its first piece, as in training.
        tags: dict[int, str] = {}
        for word, row in zip(encoding.word_ids, logits, strict=False):
            if word is not None and word not in tags:
                tags[word] = names[int(row.argmax())]
        numbers = sorted(tags)
        if scheme is None:
            answer: dict[str, Any] = {"tags": [[entry["text"][slice(*spans[n])], tags[n]] for n in numbers]}
        else:
            answer = {"entities": []}
            for label, first, last in entities([tags[n] for n in numbers], scheme):
                start, end = spans[numbers[first]][0], spans[numbers[last]][1]
                text = entry["text"][start:end]
                answer["entities"].append({"label": label, "text": text, "start": start, "end": end})
        yield answer | _cut(encoding)


def _answers(subject: Subject, inputs: list[Mapping[str, str]], batch_size: int) -> Iterator[dict[str, Any]]:
    columns: dict[str, list[Any]] = {name: [entry[name] for entry in inputs] for name in ("question", "context")}
    # An answer that is there, wherever: the best span is asked for, and never "no answer".
    columns |= {"id": [str(number) for number in range(len(inputs))], "answers": [[("", 0)]] * len(inputs)}
    dataset = data.Dataset("inputs", "question-answering", "all", columns)
    length = min(_LIMIT, subject.model.config.max_length)
    rows = data.encode(dataset, subject.tokenizer, task="question-answering", max_length=length)
    ids, types = rows.tokens["input_ids"], rows.tokens.get("token_type_ids")
    count = len(rows)
    windows = [np.asarray(ids[row]).tolist() for row in range(count)]
    kinds = [np.asarray(types[row]).tolist() if types is not None else [0] * len(windows[row]) for row in range(count)]
    best = Answers(rows)
    for row, logits in enumerate(_logits(subject, windows, kinds, batch_size)):
        best.add(np.asarray([row]), logits[None, :, 0], logits[None, :, 1])
    for text in best.texts():
        yield {"answer": text}


def _following(subject: Subject, inputs: list[Mapping[str, str]], batch_size: int) -> Iterator[dict[str, Any]]:
    encoded, _ = _encoded(subject, [entry["text"] for entry in inputs])
    ids = [_ids(subject, encoding) for encoding in encoded]
    for encoding, tokens, logits in zip(
        encoded, ids, _logits(subject, ids, [_types(e) for e in encoded], batch_size), strict=True
    ):
        losses = _nats(logits[:-1], np.asarray(tokens[1:], np.int64))
        yield _perplexity(losses) | _cut(encoding)


def _hidden(subject: Subject, inputs: list[Mapping[str, str]], batch_size: int) -> Iterator[dict[str, Any]]:
    mask = subject.tokenizer.mask_id
    if mask is None:
        raise ArenaError(f"the tokenizer of '{subject.name}' has no mask token: a masked language model needs one")
    encoded, _ = _encoded(subject, [entry["text"] for entry in inputs])
    for encoding in encoded:
        tokens = _ids(subject, encoding)
        special = subject.tokenizer.special_ids
        places = [place for place, token in enumerate(tokens) if token not in special]
        if not places:
            yield _perplexity(np.zeros(0)) | _cut(encoding)
            continue
        rows = [[mask if at == place else token for at, token in enumerate(tokens)] for place in places]
        logits = _logits(subject, rows, [_types(encoding)] * len(rows), batch_size)
        losses = [
            float(_nats(row[place][None], np.asarray([tokens[place]]))[0])
            for place, row in zip(places, logits, strict=True)
        ]
        yield _perplexity(np.asarray(losses)) | _cut(encoding)


def _nats(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """−log of the probability of each token: (T, V) and (T,) → (T,)."""
    largest = logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits - largest).sum(axis=-1)) + largest[:, 0]
    return np.asarray(total - logits[np.arange(len(tokens)), tokens])


def _perplexity(losses: np.ndarray) -> dict[str, Any]:
    """Of a text with no token to predict there is none: null."""
    if not len(losses):
        return {"perplexity": None, "loss": None, "tokens": 0}
    loss = float(losses.mean())
    return {"perplexity": float(np.exp(loss)), "loss": loss, "tokens": len(losses)}
