"""Named tuples of results read back from our own JSON (`scx_core.validation.result.plain` writes it).

A circuit has a strict reader of its own (`scx_core.circuits.schema`), as its file may come from anybody.
"""

from __future__ import annotations

import math
import typing
from types import NoneType, UnionType
from typing import Any, TypeVar, Union

T = TypeVar("T")


def read_record(cls: type[T], data: Any) -> T:
    """What `plain` made of a NamedTuple. Raises KeyError, TypeError or ValueError where it is another."""
    return typing.cast(T, _read(cls, data))


def _read(hint: Any, value: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, UnionType):
        (kind,) = (part for part in inner if part is not NoneType)
        return None if value is None else _read(kind, value)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_read(kind, item) for kind, item in zip(kinds, value, strict=True))
    if origin is dict:
        return {inner[0](key): _read(inner[1], item) for key, item in value.items()}
    if hasattr(hint, "_fields"):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _read(hints[name], value[name]) for name in hint._fields})
    if hint is float:
        return math.nan if value is None else float(value)
    return value
