"""Examples from one file: its ending says what it is, and where that says nothing its content does."""

from __future__ import annotations

from pathlib import Path

from arena_jax.config.errors import ArenaError
from arena_jax.data.columnar import COLUMNAR, read_columnar
from arena_jax.data.conll import read_tagged
from arena_jax.data.content import ending_of, read_bytes, read_text
from arena_jax.data.dataset import LANGUAGE, TAGGING
from arena_jax.data.documents import split_documents
from arena_jax.data.json_files import read_json, read_json_lines
from arena_jax.data.separated import read_csv, read_tsv
from arena_jax.data.table import Table
from arena_jax.data.tags import scheme_of
from arena_jax.data.word_rows import names_words

TABLES = (".tsv", ".csv", ".jsonl", ".ndjson", ".json", *COLUMNAR)
TEXTS = (".txt", ".text", ".raw", ".tokens")
TAGGED = (".conll", ".conllu", ".conllx", ".bio", ".iob", ".iob2", ".bioes", ".bmes", ".annotated", ".ner", ".pos")
# CoNLL-2003's own files are called eng.train, eng.testa and eng.testb.
SPLIT_ENDINGS = (".train", ".dev", ".test", ".testa", ".testb", ".valid")


def read_file(path: Path, task: str | None) -> Table:
    """Read a file of examples.

    Args:
        path: of the file, packed or not.
        task: one of the four kinds of examples, where it is known.

    Returns:
        The table.

    Raises:
        ArenaError: any defect, with its line, or a kind of file that is not known.
    """
    ending = ending_of(path)
    if ending in COLUMNAR or (ending not in (*TABLES, *TEXTS, *TAGGED) and read_bytes(path)[:4] == b"PAR1"):
        return read_columnar(path)
    if ending == ".tsv":
        text = read_text(path)
        return read_tagged(path, text) if _is_tagged(text, task) else read_tsv(path, text)
    if ending == ".csv":
        return read_csv(path, read_text(path))
    if ending in (".jsonl", ".ndjson"):
        text = read_text(path)
        return read_json(path, text) if text.lstrip()[:1] == "[" and "\n{" not in text else read_json_lines(path, text)
    if ending == ".json":
        return read_json(path, read_text(path))
    if ending in TAGGED or task == TAGGING:
        return read_tagged(path, read_text(path))
    if ending in SPLIT_ENDINGS and task is None:
        return read_tagged(path, read_text(path))
    if task == LANGUAGE or (task is None and ending in TEXTS):
        documents = split_documents(read_text(path))
        return Table({"text": documents}, str(path), [f"document {index}" for index in range(len(documents))])
    raise ArenaError(
        f"{path}: {ending or 'a file without ending'} is not known for {task or 'any task'}; "
        f"use {', '.join(TABLES)} with named columns"
    )


def _is_tagged(text: str, task: str | None) -> bool:
    """Whether a .tsv is words with tags, as GermEval's are, and no table with names in its first line."""
    lines = text.split("\n")
    first = next(line for line in lines if line.strip())
    names = first.rstrip("\r").split("\t")
    if names_words(names):
        return False
    if task == TAGGING:
        return not {"words", "tokens"} & {name.strip().casefold() for name in names}
    if task is not None:
        return False
    if all(line.strip() for line in lines[:-1]):
        return False  # a table has no blank lines, sentences have them between
    rows = [line.rstrip("\r").split("\t") for line in lines if line.strip() and not line.startswith("#")]
    return any(scheme_of(field) is not None for field in zip(*rows, strict=False))
