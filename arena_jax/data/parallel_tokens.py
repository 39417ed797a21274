"""Tokenising a stored text in several processes, part by part and in order."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

import arena_jax
from arena_jax.config.errors import ArenaError
from arena_jax.data.stored_documents import Documents
from arena_jax.data.token_stream import TokenStream
from arena_jax.data.tokenizer import Tokenizer

PART = 8 * 2**20  # bytes of text that a process is handed at a time


def worker_count() -> int:
    """Processes that tokenise: one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_tokens(
    documents: Documents, tokenizer: Tokenizer, separator: int, folder: Path, workers: int | None = None
) -> Iterator[TokenStream]:
    """Tokenise stored texts as `token_stream` does, in processes of their own.

    Args:
        documents: the texts.
        tokenizer: of the model.
        separator: id of the token between documents.
        folder: for what the processes write until it is taken; it must exist, and is left empty.
        workers: processes; None: one for each core.

    Yields:
        The stream in parts, in order.

    Raises:
        ArenaError: a process failed, with the last line that it wrote.
    """
    cuts = documents.cuts(PART)
    workers = max(1, min(worker_count() if workers is None else workers, len(cuts) - 1))
    tokenizer.configured().save(str(folder / "tokenizer.json"))
    order = {"text": str(documents.entry.folder), "separator": separator, "unknown": tokenizer.unk_id}
    (folder / "job.json").write_text(json.dumps(order))
    if documents.rows is not None:
        np.save(folder / "rows.npy", documents.rows)
    pool = _Pool(folder, workers)
    try:
        waiting: collections.deque[tuple[int, Future[int]]] = collections.deque()
        for part in range(len(cuts) - 1):
            waiting.append((part, pool.submit(part, cuts[part], cuts[part + 1])))
            if len(waiting) > 2 * workers:
                yield _take(folder, *waiting.popleft())
        while waiting:
            yield _take(folder, *waiting.popleft())
    finally:
        pool.close()
        for path in folder.iterdir():
            path.unlink()


def _take(folder: Path, part: int, result: Future[int]) -> TokenStream:
    unknown = result.result()
    paths = folder / f"{part}.ids", folder / f"{part}.sizes"
    ids, sizes = np.fromfile(paths[0], np.int32), np.fromfile(paths[1], np.uint32)
    for path in paths:
        path.unlink()
    return TokenStream(ids, sizes.astype(np.int64), unknown)


class _Pool:
    """Processes that are handed parts, each by a thread that waits for it."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(workers, "tokenise")
        self._local = threading.local()
        self._processes: list[subprocess.Popen[str]] = []
        self._closed = False

    def submit(self, part: int, first: int, last: int) -> Future[int]:
        return self._threads.submit(self._run, part, first, last)

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown(wait=True)
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with contextlib.suppress(OSError):
                    stream.close()

    def _run(self, part: int, first: int, last: int) -> int:
        process = getattr(self._local, "process", None)
        if process is None:
            self._local.name = f"worker-{threading.get_ident()}"
            process = self._local.process = self._start(self._local.name)
        assert process.stdin is not None
        assert process.stdout is not None
        answer = ""
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(f"{part} {first} {last}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if not answer.strip().isdigit():
            process.kill()
            code = process.wait()
            lines = (self._folder / f"{self._local.name}.errors").read_text(errors="replace").strip().splitlines()
            why = lines[-1][:200] if lines else f"exit code {code}; was it killed for want of memory?"
            raise ArenaError(f"a process that tokenises has ended: {why}")
        return int(answer)

    def _start(self, name: str) -> subprocess.Popen[str]:
        package = str(Path(arena_jax.__file__).parents[1])
        path = os.pathsep.join([package, *filter(None, sys.path)])
        with (self._folder / f"{name}.errors").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "arena_jax.data.tokens_worker", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # Each is one of the processes side by side; threads inside them would only get in each other's way.
                env={**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
            )
        self._processes.append(process)
        if self._closed:
            process.kill()
        return process
