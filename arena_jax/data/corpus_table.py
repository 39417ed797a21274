"""Token vectors counted off a corpus: which tokens stand near which, as a table of the width that is asked for."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from arena_jax.config.errors import ArenaError
from arena_jax.data.encoded import Encoded

WINDOW = 5  # tokens on each side
SMOOTHING = 0.75  # exponent of how often a token is a neighbour (Levy, Goldberg and Dagan 2015, section 3.2)


def corpus_table(
    rows: Encoded,
    vocab_size: int,
    width: int,
    *,
    special_ids: Collection[int] = (),
    window: int = WINDOW,
    smoothing: float = SMOOTHING,
) -> np.ndarray:
    r"""Factorise the positive pointwise mutual information of tokens and their neighbours.

    .. math:: M_{ij} = \max\left(0, \log\frac{n_{ij}\,\sum_k n_k^{s}}{n_i\,n_j^{s}}\right), \qquad
        M \approx U \Sigma V^\top, \qquad E = U \Sigma^{1/2}

    where :math:`n_{ij}` counts how often token j stands within ``window`` places of token i in one row, and
    :math:`n_i = \sum_j n_{ij}`. The sparse matrix has at most as many entries as the corpus has pairs of neighbours.

    Args:
        rows: of the corpus.
        vocab_size: V, rows of the table.
        width: D, less than V.
        special_ids: tokens that stand for no text: they are nobody's neighbour, though they take their place.
        window: places on each side.
        smoothing: s; 1: none.

    Returns:
        (V, D) float32, singular values falling from the first column to the last. The row of a token that has no
        neighbour in the corpus is 0. The sign of a column is such that its largest entry is positive.

    Raises:
        ArenaError: the table would be as wide as there are tokens, or no token has a neighbour.

    Source:
        Levy and Goldberg 2014; Levy, Goldberg and Dagan 2015 for the smoothing and the root of the singular values.

    Example:
        >>> from arena_jax.data import encode, synthetic_sentiment, train_tokenizer
        >>> texts = synthetic_sentiment()
        >>> tokenizer = train_tokenizer(texts, "gpt2")
        >>> corpus_table(encode(texts, tokenizer), tokenizer.vocab_size, width=16).shape
        (478, 16)
    """
    # Imported here: scipy.sparse takes a tenth of a second that `arena-jax --help` must not wait for.
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import svds

    if not 0 < width < vocab_size:
        raise ArenaError(
            f"a table of {vocab_size} tokens must be narrower than that, not {width} wide: choose a smaller "
            "hidden_size, or another start"
        )
    counts = cooccurrences(rows, vocab_size, special_ids=special_ids, window=window)
    if not counts.nnz:
        raise ArenaError(f"no token of {rows.source.name} has a neighbour: give longer texts, or another start")
    occurring = np.asarray(counts.sum(axis=1)).reshape(-1)
    neighbours = np.asarray(counts.sum(axis=0)).reshape(-1) ** smoothing
    with np.errstate(divide="ignore"):
        inverse = [np.where(x > 0, 1 / x, 0) for x in (occurring, neighbours)]
    ratios = (diags_array(inverse[0]) @ counts @ diags_array(inverse[1] * neighbours.sum())).tocsr()
    ratios.data = np.maximum(np.log(ratios.data), 0)
    ratios.eliminate_zeros()
    # What the iteration begins with must not be drawn anew each time.
    first = np.random.default_rng(0).standard_normal(vocab_size)
    left, values, _ = svds(ratios, k=width, v0=first, solver="arpack")
    order = np.argsort(-values, kind="stable")
    table = left[:, order] * np.sqrt(np.maximum(values[order], 0))
    table = table * np.where(table[np.abs(table).argmax(0), np.arange(width)] < 0, -1, 1)
    table[occurring == 0] = 0  # rounding left a trace there
    return np.ascontiguousarray(table, np.float32)


def cooccurrences(rows: Encoded, vocab_size: int, *, special_ids: Collection[int] = (), window: int = WINDOW):  # type: ignore[no-untyped-def]
    """How often each token stands near each other one, in one row.

    Args:
        rows: of the corpus.
        vocab_size: V.
        special_ids: tokens that are not counted.
        window: places on each side.

    Returns:
        A symmetric sparse array (V, V) of float64 counts (scipy's, compressed by rows).
    """
    from scipy.sparse import coo_array, csr_array

    ids = rows.tokens["input_ids"]
    values = ids.values.astype(np.int64)
    row = np.repeat(np.arange(len(ids)), ids.lengths)
    plain = ~np.isin(values, sorted(special_ids))
    total = csr_array((vocab_size, vocab_size), dtype=np.float64)
    for distance in range(1, window + 1):
        near = (row[distance:] == row[:-distance]) & plain[distance:] & plain[:-distance]
        before, after = values[:-distance][near], values[distance:][near]
        pairs = coo_array((np.ones(len(before)), (before, after)), shape=total.shape)
        total = total + pairs.tocsr()
    return (total + total.T).tocsr()
