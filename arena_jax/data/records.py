"""Records that cannot be used: each costs itself, is counted and named; too many are an error."""

from __future__ import annotations

import dataclasses

from arena_jax.config.errors import ArenaError, few_sentences

LIMIT = 0.05  # of a set; above it, something else than a few records is wrong


@dataclasses.dataclass
class Rejected:
    """What was left out of one table, with the reason of each.

    Args:
        where: the file or data set.
        reasons: record to reason, such as "line 7" to "line 7 has no label".
        more: records beside them, which are only counted.

    Example:
        >>> rejected = Rejected("a.tsv")
        >>> rejected.add("line 7", "has no label")
        >>> rejected.settle(total=100, limit=0.05)
        ['1 of 100 records left out: line 7 has no label']
        >>> rejected.settle(total=10, limit=0.05)
        Traceback (most recent call last):
            ...
        arena_jax.ArenaError: a.tsv: 1 of 10 records cannot be used, more than max_bad_records=0.05: line 7 has no label
    """

    where: str
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    more: int = 0

    def add(self, row: str, reason: str, most: int | None = None) -> None:
        """Note one record, once: what is said of it first; after the first ``most`` they are only counted."""
        if most is not None and len(self.reasons) >= most:
            self.more += 1
            return
        self.reasons.setdefault(row, row + reason if reason.startswith(":") else f"{row} {reason}")

    def settle(self, total: int, limit: float) -> list[str]:
        """A note on what was left out; or the set is refused.

        Args:
            total: records that there were.
            limit: largest fraction of them that may be left out, in [0, 1).

        Returns:
            One note, or none.

        Raises:
            ArenaError: more than ``limit`` of them, or all.
        """
        count = len(self.reasons) + self.more
        if not count:
            return []
        first = few_sentences(self.reasons.values(), more=self.more)
        if count > limit * total or count >= total:
            what = "record" if total == 1 else "records"
            raise ArenaError(
                f"{self.where}: {count:,} of {total:,} {what} cannot be used, more than "
                f"max_bad_records={limit:g}: {first}"
            )
        return [f"{count:,} of {total:,} records left out: {first}"]
