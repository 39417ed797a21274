"""What a study is, in hashes: its plan, the source of its functions, this program, and the versions of its libraries.

It is written when the first cell runs. A later start that would compute something else is another study.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import arena_jax
from arena_jax.compare.functions import source as source_of
from arena_jax.compare.plan import Plan
from arena_jax.compare.plan_file import plan_to_dict


def identity(plan: Plan) -> dict[str, Any]:
    """Take the hashes.

    Args:
        plan: of the study.

    Returns:
        ``plan``, ``functions`` ``{arm: hash}``, ``source`` of all files of `arena_jax`, ``versions`` and ``commit``.
        The source counts, not the commit: a commit that changes documents alone is the same program, and files that
        were changed since it are another.
    """
    values = plan_to_dict(plan)
    sources = {}
    for arm in plan.arms:
        for field in ("configure", "train"):
            place = getattr(arm, field)
            if place:
                # By its text: where the file lies is no part of the study.
                values["arms"][arm.name][field] = place.rpartition(":")[2]
                sources[f"{arm.name}.{field}"] = _sha256(source_of(place))
    return identity_of(values, sources)


def identity_of(plan: Mapping[str, Any], functions: Mapping[str, str]) -> dict[str, Any]:
    """The hashes of any programme of runs.

    Args:
        plan: what is done, as JSON holds it.
        functions: ``{place: hash}`` of source that is not part of `arena_jax`.

    Returns:
        As `identity`.
    """
    from arena_jax.runs.environment import environment

    about = environment()
    return {
        "plan": _sha256(json.dumps(plan, sort_keys=True)),
        "functions": dict(functions),
        "source": _package(),
        "versions": about["versions"],
        "commit": about["commit"],
    }


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is different, in words; empty where both are the same study."""
    words = {
        "plan": "the plan",
        "functions": "the source of its functions",
        "source": "the source of arena_jax",
        "versions": "the versions of libraries",
    }
    return [text for name, text in words.items() if before.get(name) != now.get(name)]


def _package() -> str:
    root = Path(arena_jax.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
