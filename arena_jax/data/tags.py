"""Schemes in which tags of words mark entities: which one a set of tags follows, and how its tags are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

# What scripts write where a word has no tag of its own: read as outside any entity, and said.
_OUTSIDE = frozenset(
    {"o", "0", "x", "_", "-", "-x-", "pad", "[pad]", "<pad>", "[cls]", "[sep]", "<s>", "</s>", "<start>", "<stop>"}
)
# Prefixes of each scheme, and what each stands for in IOBES, in which entities are found.
_SCHEMES: dict[str, dict[str, str]] = {
    "BIO": {"B": "B", "I": "I"},
    "IOE": {"I": "I", "E": "E"},
    "BIOES": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "BILOU": {"B": "B", "I": "I", "L": "L", "U": "U"},
    "BMES": {"B": "B", "M": "I", "E": "E", "S": "S"},
    "BMEWO": {"B": "B", "M": "I", "E": "E", "W": "S"},
}


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How a set of tags marks entities.

    Attributes:
        name: "BIO" (also IOB1, which has the same tags), "IOE", "BIOES", "BILOU", "BMES" or "BMEWO".
        delimiter: between prefix and type, "-" or "_"; empty where tags have no type.
        odd: tags beside, which are read as outside.
    """

    name: str
    delimiter: str
    odd: tuple[str, ...] = ()

    @property
    def strict(self) -> bool:
        """Whether only well-formed entities count, as in seqeval's strict mode: BILOU."""
        return self.name == "BILOU"

    def read(self, tag: str) -> tuple[str, str]:
        """A tag as (prefix of IOBES or BILOU, type); ("O", "") outside.

        Example:
            >>> Scheme("BMES", "_").read("M_x"), Scheme("BIO", "-").read("O")
            (('I', 'x'), ('O', ''))
        """
        prefix, _, kind = tag.partition(self.delimiter) if self.delimiter else (tag, "", "")
        meaning = _SCHEMES[self.name].get(prefix)
        return ("O", "") if meaning is None or tag.casefold() in _OUTSIDE else (meaning, kind)

    def complete(self, names: Iterable[str]) -> set[str]:
        """The tags with every tag of each type that occurs: a split may lack some."""
        there = set(names)
        if not self.delimiter:
            return there | set(_SCHEMES[self.name])
        kinds = {tag.partition(self.delimiter)[2] for tag in there if self.read(tag)[0] != "O"}
        return there | {f"{prefix}{self.delimiter}{kind}" for kind in kinds for prefix in _SCHEMES[self.name]}

    def describe(self) -> str:
        """The scheme in a few words."""
        text = f"entities in {self.name}"
        if self.name == "BMES" or self.name == "BMEWO":
            text += ", read as IOBES"
        return text + (f"; {', '.join(self.odd)} read as outside" if self.odd else "")


def scheme_of(names: Iterable[str]) -> Scheme | None:
    """The scheme of a set of tags; None where they mark no entities.

    Args:
        names: all tags.

    Returns:
        The scheme.

    Example:
        >>> scheme_of(["O", "B-x", "I-x"]).name, scheme_of(["O", "B_x", "M_x", "E_x", "S_x"]).name
        ('BIO', 'BMES')
        >>> scheme_of(["NOUN", "VERB"]) is None
        True
    """
    return _recognise(list(dict.fromkeys(names)))[0]


def why_no_scheme(names: Iterable[str]) -> str:
    """Why a set of tags marks no entities, for a person; empty where it does.

    Example:
        >>> why_no_scheme(["O", "B-x", "NOUN"])
        "'NOUN' has no prefix of a scheme"
    """
    return _recognise(list(dict.fromkeys(names)))[1]


def _recognise(names: list[str]) -> tuple[Scheme | None, str]:
    typed = {name: name[1] for name in names if len(name) > 2 and name[1] in "-_" and name.casefold() not in _OUTSIDE}
    bare = [name for name in names if name in ("B", "I", "E", "S", "L", "U", "M", "W")]
    odd = [name for name in names if name not in typed and name not in bare]
    strange = [name for name in odd if name.casefold() not in _OUTSIDE]
    if strange:
        return None, f"'{strange[0]}' has no prefix of a scheme"
    if typed and bare:
        return None, f"'{bare[0]}' has no type, '{next(iter(typed))}' has one"
    if not typed and not bare:
        return None, "no tag marks an entity" if names else ""
    if len(set(typed.values())) > 1:
        return None, "tags have both - and _ behind their prefix"
    delimiter = next(iter(typed.values()), "")
    prefixes = {name[0] for name in (*typed, *bare)}
    for scheme, meanings in _SCHEMES.items():
        if prefixes <= set(meanings):
            beside = tuple(name for name in odd if name != "O")
            return Scheme(scheme, delimiter, beside), ""
    prefixes_of_schemes = {prefix for parts in _SCHEMES.values() for prefix in parts}
    wrong = sorted(prefixes - prefixes_of_schemes)
    if wrong:
        example = next(name for name in (*typed, *bare) if name[0] == wrong[0])
        return None, f"'{example}' has no prefix of a scheme"
    return None, f"the prefixes {', '.join(sorted(prefixes))} belong to no one scheme"
