"""A process that tokenises parts of a stored text: started by `parallel_tokens`, one line in and one line out per part.

It imports neither jax nor the program that started it, so that it may be started from any script and any thread.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main(job: Path) -> None:
    """Work until the input ends.

    Args:
        job: folder with job.json, tokenizer.json and perhaps rows.npy; parts are written into it.
    """
    import tokenizers

    from arena_jax.data.store import finished
    from arena_jax.data.stored_documents import Documents
    from arena_jax.data.token_stream import token_stream

    order = json.loads((job / "job.json").read_text())
    backend = tokenizers.Tokenizer.from_file(str(job / "tokenizer.json"))
    rows = np.load(job / "rows.npy", mmap_mode="r") if (job / "rows.npy").exists() else None
    entry = finished(Path(order["text"]))
    assert entry is not None
    documents = Documents(entry, rows)
    for line in sys.stdin:
        part, first, last = map(int, line.split())
        unknown = 0
        with (job / f"{part}.ids").open("wb") as ids, (job / f"{part}.sizes").open("wb") as sizes:
            for texts in documents.blocks(first, last):
                stream = token_stream(texts, backend, order["separator"], order["unknown"])
                ids.write(stream.ids.astype(np.int32).tobytes())
                sizes.write(stream.sizes.astype(np.uint32).tobytes())
                unknown += stream.unknown
        print(unknown, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
