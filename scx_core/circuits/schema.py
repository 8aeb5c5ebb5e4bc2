"""Untrusted JSON read as what a NamedTuple states: every key known, every value of its type, nothing else.

A circuit's file may come from anywhere, and figures, tables and pages rely on the types of its fields. So
they are checked once, here, and an error names the place: `edges[12].weight is not a number`. Not pydantic's
TypeAdapter: it takes arrays for rows and " 3 " for a key, writes 3 back as 3.0, and in `Any` knows no size,
depth or half character; with these checks and a table of wordings it would be as long.
"""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")
Reader = Callable[[Any], Any]
LONGEST_TEXT = 10_000  # characters; the longest honest text is a cell's token or a citation
LARGEST = 1e100  # its square is still a number, as variances are summed
DEEPEST = 20  # levels of a record that holds any JSON


class Misfit(ValueError):
    """A value that is not what its place asks for; `where` grows as it is passed up."""

    def __init__(self, problem: str, where: str = "") -> None:
        super().__init__(problem)
        self.problem, self.where = problem, where

    def __str__(self) -> str:
        return f"{self.where.removeprefix('.') or 'it'} {self.problem}"

    def inside(self, place: str) -> Misfit:
        """The same, seen from one level up."""
        return Misfit(self.problem, place + self.where)


def read_row(cls: type[T], data: Any) -> T:
    """A NamedTuple from a JSON object. Lists become tuples; NaN, infinities and half characters are refused.

    Raises Misfit that names the place.
    """
    return typing.cast(T, _row(cls, False, data))


def read_record(cls: type[T], data: Any) -> T:
    """A NamedTuple from what `scx_core.validation.result.plain` made of it: every field is there, also those
    that have a default, and null stands for a number that was NaN.

    Raises Misfit that names the place: the file may have been damaged or edited since it was written.
    """
    return typing.cast(T, _row(cls, True, data))


def _row(cls: Any, ours: bool, data: Any) -> Any:
    if not isinstance(data, Mapping):
        raise Misfit("is not an object")
    readers, required = _fields(cls, ours)
    if not required <= data.keys():
        raise Misfit(f"lacks {', '.join(sorted(required - data.keys()))}")
    values = {}
    for key, value in data.items():
        if key not in readers:
            raise Misfit(f"has an unknown key {str(key)[:40]!r}")
        try:
            values[key] = readers[key](value)
        except Misfit as found:
            raise found.inside(f".{key}") from None
    return cls(**values)


def read_object(shape: Any, data: Any) -> dict[str, Any]:
    """A JSON object as a TypedDict states it, plain as it was; keys that it does not name hold any JSON.

    Raises Misfit that names the place.
    """
    if not isinstance(data, Mapping):
        raise Misfit("is not an object")
    readers, required = _keys(shape)
    if not required <= data.keys():
        raise Misfit(f"lacks {', '.join(sorted(required - data.keys()))}")
    found = {}
    for key, value in data.items():
        try:
            found[_text(key)] = readers.get(key, _any)(value)
        except Misfit as misfit:
            raise misfit.inside(f".{str(key)[:40]}") from None
    return found


@functools.cache
def _keys(shape: Any) -> tuple[dict[str, Reader], frozenset[str]]:
    readers = {name: _reader(hint) for name, hint in typing.get_type_hints(shape).items()}
    return readers, _required(shape)


def _required(shape: Any) -> frozenset[str]:
    """The keys without NotRequired. Not `__required_keys__`: where annotations are texts it has all."""
    hints = typing.get_type_hints(shape, include_extras=True)
    return frozenset(
        name for name, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired
    )


@functools.cache
def _fields(cls: Any, ours: bool) -> tuple[dict[str, Reader], frozenset[str]]:
    hints = typing.get_type_hints(cls)
    readers = {name: _reader(hints[name], ours) for name in cls._fields}
    return readers, frozenset(cls._fields) - (frozenset() if ours else frozenset(cls._field_defaults))


def _reader(hint: Any, ours: bool = False) -> Reader:
    """What reads a value of this type, `ours`: as `read_record` does. Raises KeyError for a type that no
    field has had so far."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, UnionType):
        (plain,) = (part for part in inner if part is not NoneType)
        read = _reader(plain, ours)
        return lambda value: None if value is None else read(value)
    if origin is Literal:
        return functools.partial(_one_of, inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return functools.partial(_list, _reader(inner[0], ours))
    if origin is tuple:
        return functools.partial(_places, tuple(_reader(part, ours) for part in inner))
    if origin is list:
        read_item = _reader(inner[0], ours)
        return lambda value: list(_list(read_item, value))
    if typing.is_typeddict(hint):
        return functools.partial(read_object, hint)
    if origin is dict:
        return functools.partial(_table, _whole_key if inner[0] is int else _text, _reader(inner[1], ours))
    if hasattr(hint, "_fields"):
        return functools.partial(_row, hint, ours)
    number = _number_or_gap if ours else _number
    return {str: _text, int: _whole, float: number, bool: _switch, Any: _any}[hint]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Misfit("is not a text")
    if len(value) > LONGEST_TEXT:
        raise Misfit(f"has {len(value):,} characters, more than {LONGEST_TEXT:,}")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise Misfit("holds half a character")
    return value


def _whole(value: Any) -> int:
    # Beyond 2^53 other programs read another number.
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**53:
        raise Misfit("is not a whole number of a usual size")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Misfit("is not true or false")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Misfit("is not a number")
    if not abs(value) <= LARGEST:  # NaN is not, and a whole number of 400 digits has no float to ask
        raise Misfit("is not a finite number of a usual size")
    return value


def _number_or_gap(value: Any) -> float:
    return math.nan if value is None else float(_number(value))


def _whole_key(value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise Misfit(f"has the key {text[:40]!r}, which is no token's number")
    return int(text)


def _one_of(choices: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise Misfit(f"is not one of {', '.join(map(str, choices))}")
    return value


def _list(read: Reader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise Misfit("is not a list")
    out = []
    for place, item in enumerate(value):
        try:
            out.append(read(item))
        except Misfit as found:
            raise found.inside(f"[{place}]") from None
    return tuple(out)


def _places(readers: tuple[Reader, ...], value: Any) -> tuple[Any, ...]:
    """A list of so many values, each of its own type."""
    if isinstance(value, (list, tuple)) and len(value) != len(readers):
        raise Misfit(f"has {len(value)} values and not {len(readers)}")
    each = iter(readers)
    return _list(lambda item: next(each)(item), value)  # noqa: PLW0108 (`next` is asked for each item)


def _table(read_key: Reader, read: Reader, value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise Misfit("is not an object")
    out = {}
    for key, item in value.items():
        known = read_key(key)
        try:
            out[known] = read(item)
        except Misfit as found:
            raise found.inside(f".{str(key)[:40]}") from None
    return out


def _any(value: Any, depth: int = 0) -> Any:
    """Any JSON of a moderate depth, for records that only people read."""
    if depth > DEEPEST:
        raise Misfit(f"is nested more than {DEEPEST} levels deep")
    if isinstance(value, Mapping):
        return {_text(key): _any(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_any(item, depth + 1) for item in value]
    if isinstance(value, str):
        return _text(value)
    return value if value is None or isinstance(value, bool) else _number(value)


def check_figures(value: Any, where: str = "") -> None:
    """Raise Misfit, which names the place, for an interval, a probability or a count that cannot be, at any
    depth but in settings and what only people read."""
    if isinstance(value, Mapping):
        low, high = value.get("low"), value.get("high")
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
            raise Misfit("is an interval that ends before it begins", where)
        for key in ("p", "q"):
            if isinstance(value.get(key), (int, float)) and not 0 <= value[key] <= 1:
                raise Misfit("is not between 0 and 1", f"{where}.{key}")
        for key in ("n", "size", "draws", "comparisons"):
            if isinstance(value.get(key), int) and value[key] < 0:
                raise Misfit("is less than none", f"{where}.{key}")
        for key, one in value.items():
            if key != "provenance":
                check_figures(one, f"{where}.{key}")
    elif isinstance(value, list):
        for place, one in enumerate(value):
            check_figures(one, f"{where}[{place}]")


def json_schema(cls: type) -> dict[str, Any]:
    """The same checks as JSON Schema (draft 2020-12), one definition a NamedTuple, for others' readers.

    What no schema can say stays with `read_row`'s callers: ids that must exist, edges that are there once.
    """
    found: dict[str, Any] = {}
    top = _schema_of(cls, found)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": found}


def _schema_of(hint: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Of one type; what has fields goes into `found` by its name. Raises KeyError as `_reader` does."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, UnionType):
        (plain,) = (part for part in inner if part is not NoneType)
        return {"anyOf": [_schema_of(plain, found), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(inner[0], found)}
    if origin is dict:
        keys = {"pattern": "^[0-9]{1,15}$"} if inner[0] is int else {"maxLength": LONGEST_TEXT}
        return {
            "type": "object",
            "propertyNames": keys,
            "additionalProperties": _schema_of(inner[1], found),
        }
    if hasattr(hint, "_fields"):
        if hint.__name__ not in found:
            found[hint.__name__] = {}  # it may hold itself
            hints = typing.get_type_hints(hint)
            found[hint.__name__] = {
                "type": "object",
                "properties": {name: _schema_of(hints[name], found) for name in hint._fields},
                "required": [name for name in hint._fields if name not in hint._field_defaults],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{hint.__name__}"}
    number = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
    plain_types: dict[Any, dict[str, Any]] = {
        str: {"type": "string", "maxLength": LONGEST_TEXT},
        int: {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
        float: number,
        Any: {},
    }
    return plain_types[hint]
