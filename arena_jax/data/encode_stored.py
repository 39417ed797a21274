"""Large texts tokenised once, and kept: every later run and every model with the same tokenizer reads the same rows."""

from __future__ import annotations

import hashlib
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from arena_jax.data import store
from arena_jax.data.parallel_tokens import parallel_tokens, worker_count
from arena_jax.data.stored_documents import Documents
from arena_jax.data.stored_rows import StoredRows
from arena_jax.data.token_stream import RowCutter
from arena_jax.data.tokenizer import Tokenizer

_SILENCE = 20.0  # seconds between two lines about how far it is


def stored_tokens(
    documents: Documents, tokenizer: Tokenizer, cutter: RowCutter, separator: int, length: int
) -> tuple[store.Entry, str]:
    """The token rows of stored texts, from the store or put there now.

    Args:
        documents: the texts.
        tokenizer: of the model.
        cutter: of the rows.
        separator: id of the token between documents.
        length: L, tokens per row.

    Returns:
        The entry, with "ids" (rows, L) and "bytes" (rows,); and a line about where it came from.
    """
    key = store.key_of(
        {
            "text": documents.content,
            "tokenizer": hashlib.blake2b(tokenizer.configured().to_str().encode(), digest_size=16).hexdigest(),
            "unknown": tokenizer.unk_id,
            "cutter": cutter.settings(),
            "pad": tokenizer.pad_id,
            "vocabulary": tokenizer.vocab_size,
        }
    )

    def make(folder: Path) -> dict[str, Any]:
        return _write(folder, documents, tokenizer, cutter, separator, length)

    start = time.perf_counter()
    entry, new = store.get("tokens", key, make)
    if not new:
        return entry, f"tokenised before, kept in {entry.folder}"
    seconds = time.perf_counter() - start
    rate = entry.facts["stream_tokens"] / seconds
    count = worker_count()
    processes = f"{count} processes" if count > 1 else "a process"
    return entry, f"tokenised by {processes} in {seconds:.0f} s ({rate:,.0f} tokens/s), kept in {entry.folder}"


def stored_columns(
    entry: store.Entry, tokenizer: Tokenizer, length: int, token_types: int | None, masked: bool
) -> tuple[dict[str, StoredRows], dict[str, int]]:
    """The columns that a model reads, and what pads each of them; as `token_columns` has them in memory.

    Args:
        entry: of the tokens.
        tokenizer: of the model.
        length: tokens per row.
        token_types: as `encode` takes it.
        masked: masked-lm, which keeps special tokens from being masked.

    Returns:
        "input_ids", perhaps "token_type_ids" and "special_tokens_mask"; and their padding.
    """
    array, last = entry.array("ids", "iu", 2), entry.number("last")
    if not len(array) or array.shape[1] != length or not 0 < last <= length or len(entry.array("bytes")) != len(array):
        raise store.damaged(entry.folder, "its arrays do not fit each other")
    ids = StoredRows(array, last, tokenizer.vocab_size, entry.number("fingerprint"))
    columns, fill = {"input_ids": ids}, {"input_ids": tokenizer.pad_id}
    if tokenizer.token_types and token_types != 0:
        columns["token_type_ids"], fill["token_type_ids"] = ids.derived(_zeros), 0
    if masked:
        special = np.asarray(sorted(tokenizer.special_ids))
        columns["special_tokens_mask"] = ids.derived(lambda rows: np.isin(rows, special).astype(np.int32))
        fill["special_tokens_mask"] = 1
    return columns, fill


def _zeros(rows: np.ndarray) -> np.ndarray:
    return np.zeros(rows.shape, np.int32)


def _write(
    folder: Path, documents: Documents, tokenizer: Tokenizer, cutter: RowCutter, separator: int, length: int
) -> dict[str, Any]:
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.int32)
    rows = tokens = size = unknown = checksum = 0
    began = last_said = time.perf_counter()
    all_bytes = documents.bytes
    (parts := folder / "parts").mkdir(mode=0o700)
    with (folder / "ids.bin").open("wb") as ids_file, (folder / "bytes.bin").open("wb") as bytes_file:
        for ids, sizes, more_unknown in parallel_tokens(documents, tokenizer, separator, parts):
            whole, row_bytes = cutter.add(ids, sizes)
            checksum = zlib.crc32(whole.tobytes(), checksum)
            ids_file.write(whole.astype(dtype).tobytes())
            bytes_file.write(row_bytes.tobytes())
            rows, tokens, size = rows + len(whole), tokens + len(ids), size + int(sizes.sum())
            unknown += more_unknown
            if time.perf_counter() - last_said > _SILENCE:
                last_said = time.perf_counter()
                left = (last_said - began) * (all_bytes - size) / max(1, size)
                print(
                    f"tokenising for {tokenizer.name}: {size / 1e6:,.0f} of {all_bytes / 1e6:,.0f} MB, "
                    f"{left / 60:.0f} min left",
                    file=sys.stderr,
                )
        last, last_bytes = cutter.finish()
        if len(last):
            checksum = zlib.crc32(last.tobytes(), checksum)
            padding = np.full(length - len(last), tokenizer.pad_id)
            ids_file.write(np.concatenate([last, padding]).astype(dtype).tobytes())
            bytes_file.write(last_bytes.tobytes())
            rows += 1
    parts.rmdir()
    last_length = len(last) or length
    total = (rows - 1) * length + last_length
    for first in range(0, rows + 1, 2**16):  # the offsets of the rows, as `Ragged` has them
        offsets = np.minimum(np.arange(first, min(first + 2**16, rows + 1), dtype=np.int64) * length, total)
        checksum = zlib.crc32(offsets.tobytes(), checksum)
    name = documents.entry.facts.get("description", "")
    return {
        "arrays": {"ids": [dtype.name, [rows, length]], "bytes": ["float32", [rows]]},
        "last": last_length,
        "fingerprint": checksum,
        "bytes": size,
        "unknown": unknown,
        "stream_tokens": tokens + (not cutter.masked),
        "description": f"{total:,} tokens of {tokenizer.name}, rows of {length}; {len(documents):,} of the {name}",
    }
