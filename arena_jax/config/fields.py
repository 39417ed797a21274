"""How a field of a configuration is declared and checked: its type, its unit, its bounds and what it means.

The declaration is the single source of the check at construction, of the JSON form and of the command line's options.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arena_jax.config.errors import ArenaError, nearest

# Wider than any real setting, and safely inside the 64-bit integers of JSON readers, NumPy and TensorStore.
LARGEST_INTEGER = 2**53


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
    flag: str = "",
    older: Mapping[bool, str] | None = None,
    read: Callable[[str, str], Any] | None = None,
) -> Any:
    """Declare a field of a configuration.

    Args:
        default: its value when nothing is given; `dataclasses.MISSING` for a field that must be given.
        help: what it does, in the words the command line shows.
        unit: what one of it is, e.g. "steps" or "tokens".
        low: the smallest value allowed.
        above: a bound that the value must exceed.
        high: the largest value allowed.
        below: a bound that the value must stay under.
        choices: the words allowed.
        flag: the option's name on the command line, where it differs from the field's.
        older: what yes and no mean in files of versions that knew only these two.
        read: turns a text, and where it stands, into a value; for a field that is no text, and may be given as one.

    Returns:
        A dataclass field whose metadata holds all of this.

    Example:
        >>> rate = option(1e-3, "step length", unit="per step", above=0)
        >>> rate.default, rate.metadata["above"]
        (0.001, 0)
    """
    metadata = {
        "help": help,
        "unit": unit,
        "low": low,
        "above": above,
        "high": high,
        "below": below,
        "choices": tuple(choices),
        "flag": flag,
        "older": older or {},
        "read": read,
    }
    return dataclasses.field(default=default, metadata=metadata)


def hints(kind: type) -> dict[str, Any]:
    """Return the resolved type of each field of a configuration class, by name."""
    return typing.get_type_hints(kind)


def optional(hint: Any) -> tuple[Any, bool]:
    """Split `X | None` into X and True; any other type into itself and False.

    Example:
        >>> optional(int | None), optional(float)
        ((<class 'int'>, True), (<class 'float'>, False))
    """
    if isinstance(hint, types.UnionType):
        inner = [member for member in hint.__args__ if member is not type(None)]
        return inner[0], True
    return hint, False


def check(instance: Any, where: str) -> None:
    """Check every field of a frozen configuration and settle each on its declared type.

    Args:
        instance: the configuration, inside its `__post_init__`.
        where: what precedes a field's name in an error, e.g. "optimizer.".

    Raises:
        ArenaError: naming the field, the value and what would be right.
    """
    kinds = hints(type(instance))
    for field in dataclasses.fields(instance):
        value = _read(field, getattr(instance, field.name), where + field.name)
        converted = _settle(value, kinds[field.name], where + field.name)
        _bounds(converted, field.metadata, where + field.name)
        object.__setattr__(instance, field.name, converted)


def unknown(fields: Sequence[str], kind: type, where: str) -> None:
    """Refuse field names that a configuration class does not have, with the nearest one that it has."""
    names = [field.name for field in dataclasses.fields(kind)]
    for name in fields:
        if name not in names:
            raise ArenaError(f"unknown field {error_text(where + name)}; {nearest(name, names)}")


def _read(field: dataclasses.Field[Any], value: Any, where: str) -> Any:
    read = field.metadata.get("read")
    return read(value, where) if read is not None and isinstance(value, str) else value


def _settle(value: Any, hint: Any, where: str) -> Any:
    inner, may_be_none = optional(hint)
    if value is None:
        if may_be_none:
            return None
        raise ArenaError(f"{where} is missing: it must be {_words(inner)}")
    if dataclasses.is_dataclass(inner):
        return _section(value, typing.cast(type, inner), where)
    if typing.get_origin(inner) is tuple:
        return _tuple(value, inner, where)
    if inner is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER:
        value = float(value)
    # bool is an int to Python; to a reader of a configuration it is not.
    if not isinstance(value, inner) or (inner is int and isinstance(value, bool)):
        raise ArenaError(f"{where} is {error_text(value)}: it must be {_words(inner)}")
    if inner is float and not math.isfinite(value):
        raise ArenaError(f"{where} is {value}: it must be a finite number")
    if inner is int and abs(value) > LARGEST_INTEGER:
        raise ArenaError(f"{where} is {error_text(value)}: it must be at most {LARGEST_INTEGER}")
    if inner is str and (not value.strip() or not value.isprintable()):
        raise ArenaError(f"{where} is {error_text(value)}: it must be text on one line, and not empty")
    return value


def _section(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping):
        return build(kind, value, where + ".")
    raise ArenaError(f"{where} is {error_text(value)}: it must be an object with the fields of {kind.__name__}")


def _tuple(value: Any, hint: Any, where: str) -> tuple[Any, ...]:
    member = hint.__args__[0]
    if isinstance(value, Mapping) and typing.get_origin(member) is tuple:
        value = tuple(value.items())
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise ArenaError(f"{where} is {error_text(value)}: it must be {_words(hint)}")
    if typing.get_origin(member) is not tuple:
        return tuple(_settle(item, member, f"{where}[{i}]") for i, item in enumerate(value))
    pairs: list[tuple[str, Any]] = []
    for pair in value:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise ArenaError(f"{where} holds {error_text(pair)}: it must be {_words(hint)}")
        name, item = pair
        kind = member.__args__[1]
        if typing.get_origin(kind) is tuple and isinstance(item, int | float):
            item = (item,)
        pairs.append((_settle(name, str, where), _settle(item, kind, f"{where} of {error_text(name)}")))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ArenaError(f"{where} is {error_text(value)}: a name stands twice; keep one")
    return tuple(sorted(pairs))


def build(kind: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build a configuration from names and values as JSON gives them.

    Args:
        kind: the dataclass.
        values: one entry per field that is given.
        where: what precedes a field's name in an error.

    Returns:
        The checked configuration.

    Raises:
        ArenaError: for an unknown, missing or wrong field.
    """
    unknown([str(name) for name in values], kind, where)
    kinds = hints(kind)
    arguments = {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            value, older = values[field.name], field.metadata.get("older", {})
            value = older.get(value, value) if isinstance(value, bool) else value
            value = _read(field, value, where + field.name)
            arguments[field.name] = _settle(value, kinds[field.name], where + field.name)
        elif field.default is dataclasses.MISSING:
            raise ArenaError(f"{where}{field.name} is missing: it must be {_words(optional(kinds[field.name])[0])}")
    return kind(**arguments)


def plain(value: Any) -> Any:
    """Turn a configuration into what JSON can hold; the inverse of `build`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        if value and all(isinstance(item, tuple) for item in value):
            return dict(value)
        return [plain(item) for item in value]
    return value


def error_text(value: Any) -> str:
    """Write a value for an error message: short, on one line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = "a number with thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def _bounds(value: Any, limits: Mapping[str, Any], where: str) -> None:
    if value is None:
        return
    choices = limits.get("choices", ())
    for word in value if isinstance(value, tuple) else (value,):
        if choices and word not in choices:
            raise ArenaError(f"{where} is {error_text(value)}; {nearest(word, choices)}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, int | float):
            return
        for name, holds in (
            ("low", lambda bound, number=number: number >= bound),
            ("above", lambda bound, number=number: number > bound),
            ("high", lambda bound, number=number: number <= bound),
            ("below", lambda bound, number=number: number < bound),
        ):
            bound = limits.get(name)
            if bound is not None and not holds(bound):
                words = {"low": "at least", "above": "above", "high": "at most", "below": "below"}[name]
                raise ArenaError(f"{where} is {error_text(number)}: it must be {words} {bound:g}")


def _words(hint: Any) -> str:
    if hint == tuple[int, ...]:
        return "a list of whole numbers"
    if hint == tuple[float, ...]:
        return "a number, or a list of numbers"
    if hint == tuple[tuple[str, tuple[float, ...]], ...]:
        return "an object of names and numbers"
    if hint == tuple[str, ...]:
        return "a list of texts"
    if typing.get_origin(hint) is tuple:
        member = hint.__args__[0]
        return "a list of objects" if dataclasses.is_dataclass(member) else "an object of names and texts"
    return {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
    }.get(hint, "an object")
