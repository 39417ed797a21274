"""The names of tasks, and what people call them otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from arena_jax.config.errors import nearest

# Tasks of models, not of data: what predicts tokens, and what predicts classes.
LANGUAGE_MODELS = ("causal-lm", "masked-lm")
CLASSIFIERS = ("sequence-classification", "token-classification")

# What labels of sequence classification may be, as transformers calls it.
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# What a row of a language model may hold: a part of all texts joined, a text, or texts that do not see one another.
DOCUMENTS = ("joined", "apart", "packed")

_EVERYDAY = {
    "token-classification": """ner pos tagging tagger named-entity-recognition part-of-speech chunking sequence-labeling
        sequence-labelling sequence-tagging""",
    "sequence-classification": """classification classifier text-classification sentiment sentiment-analysis
        sentence-classification document-classification nli regression sts multi-label multilabel glue sst2 seq-cls""",
    "question-answering": "qa squad extractive-qa reading-comprehension span-prediction",
    "causal-lm": "clm causal text-generation generation next-token gpt",
    "masked-lm": "mlm masked fill-mask masked-language-modeling masked-language-modelling",
    "language-model": "lm language-modeling language-modelling pretraining",
}
_TASK_OF = {name: task for task, names in _EVERYDAY.items() for name in names.split()}


def task_hint(name: object, tasks: Iterable[str]) -> str:
    """The task that was probably meant, by its everyday name or by the nearest one.

    Args:
        name: what was given.
        tasks: those that there are.

    Returns:
        A clause for the end of an error message.

    Example:
        >>> task_hint("NER", ["token-classification", "causal-lm"])
        "did you mean 'token-classification'?"
        >>> task_hint("mlm", ["language-model"])
        "did you mean 'language-model'?"
    """
    tasks = list(tasks)
    meant = _TASK_OF.get(str(name).strip().casefold().replace("_", "-").replace(" ", "-"))
    if meant in LANGUAGE_MODELS and meant not in tasks:
        meant = "language-model"
    if meant == "language-model" and meant not in tasks:
        meant = "masked-lm"
    return f"did you mean '{meant}'?" if meant in tasks else nearest(str(name), tasks)
