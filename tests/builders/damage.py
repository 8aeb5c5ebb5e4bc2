"""Records damaged as files are: a key that is lost, a number as text, a list for an object, NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scx_core.runs.files import to_json_text

WRONG: tuple[Any, ...] = ("12", None, math.nan, [], {}, True, -1, 1.5, 1e300, [[1]], {"a": 1})


def places(record: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value; of a list the first and the last, of a table by name the first two."""
    yield path
    if isinstance(record, dict):
        alike = len(record) > 3 and len({type(value) for value in record.values()}) == 1
        for key in [*record][:2] if alike else list(record):
            yield from places(record[key], (*path, key))
    elif isinstance(record, list):
        for at in {0, len(record) - 1} if record else ():
            yield from places(record[at], (*path, at))


def damaged(record: Any) -> Iterator[tuple[str, Any]]:
    """(what was done, the damaged record), everything once at every place. The record itself is changed and
    put back, as copies of all of it would take most of a test's time."""
    yield from ((f"it is {wrong!r}", wrong) for wrong in WRONG)
    for path in list(places(record)):
        if not path:
            continue
        *above, key = path
        inside = record
        for step in above:
            inside = inside[step]
        right = inside[key]
        for wrong in WRONG:
            inside[key] = wrong
            yield f"{path} is {wrong!r}", record
        del inside[key]
        yield f"{path} is gone", record
        if isinstance(inside, list):
            inside.insert(key, right)
        else:
            inside[key] = right


def check_every_damage(
    record: Any,
    read: Callable[[Any], Any],
    again: Callable[[Any], Any],
    refusal: type[Exception],
    *,
    defaults: bool = False,
) -> int:
    """Every damaged copy is refused with `refusal`, or holds what may stand there: then `again` of what was
    read writes it once more as it is, NaN as null. `defaults`: what is gone may have a default. Returns how
    many were refused."""
    assert _same(json.loads(to_json_text(again(read(record)))), record)
    refused = 0
    for words, spoiled in damaged(record):
        try:
            found = read(spoiled)
        except refusal:
            refused += 1
            continue
        except Exception as error:  # noqa: BLE001 (what a user would see as a traceback)
            pytest.fail(f"{words}: {type(error).__name__}: {error}")
        if defaults and words.endswith("is gone"):
            continue
        if not _same(*(json.loads(to_json_text(one)) for one in (again(found), spoiled))):
            pytest.fail(f"{words}: read as another value")
    return refused


def _same(ours: Any, theirs: Any) -> bool:
    """Equal in value and type at every place; 3 and 3.0 are one number."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    return ours == theirs and isinstance(ours, str) == isinstance(theirs, str)
