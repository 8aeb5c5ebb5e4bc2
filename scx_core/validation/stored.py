"""A validation table read back from its JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scx_core.errors import ScxError
from scx_core.runs import read_json
from scx_core.statistics.intervals import Interval
from scx_core.validation.result import (
    Added,
    BaselineRow,
    Caution,
    ClassRow,
    Confusion,
    LayerRow,
    Logistic,
    Validation,
)

FILE = "validation.json"  # beside a set that was made by a build


def from_json(record: Mapping[str, Any]) -> Validation:
    """The table that `Validation.to_json` wrote, now or before there were baselines (format 1); null becomes
    nan. KeyError or TypeError if it is none."""
    rest = {key: _number(value) for key, value in record.items() if key in Validation._fields}
    confusion = record["confusion"]
    rest["per_layer"] = tuple(LayerRow(**_numbers(row)) for row in record["per_layer"])
    rest["by_token_class"] = {k: ClassRow(**_numbers(row)) for k, row in record["by_token_class"].items()}
    rest["confusion"] = Confusion(
        tuple(confusion["labels"]),
        tuple(map(tuple, confusion["original"])),
        tuple(map(tuple, confusion["transcoder"])),
    )
    rest["warnings"] = tuple(
        Caution(row["sign"], tuple(row["layers"]), row["text"], row["remedy"]) for row in record["warnings"]
    )
    rest["format"] = record.get("format", 1)
    rest["intervals"] = _intervals(record.get("intervals", {}))
    rest["baselines"] = tuple(
        BaselineRow(**_numbers(row) | {"intervals": _intervals(row["intervals"])})
        for row in record.get("baselines", [])
    )
    for name, kind in (("added", Added), ("logistic", Logistic)):
        made = record.get(name)
        rest[name] = None if made is None else kind(**{key: _value(value) for key, value in made.items()})
    return Validation(**rest)


def validation_beside(folder: Path | None, fingerprints: Mapping[str, str]) -> Validation | None:
    """The table that lies beside a set, when it is about this very data, model and set; else None.

    `fingerprints` are those of "data", "model" and "transcoders". Raises ScxError when the file is damaged.
    """
    path = folder / FILE if folder is not None else None
    if path is None or not path.exists():
        return None
    try:
        found = from_json(read_json(path))
        then = {key: found.provenance[key]["fingerprint"] for key in fingerprints}
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"{path} holds no validation table ({error})."
        raise ScxError(problem, "Delete it and measure anew.") from error
    return found if then == dict(fingerprints) else None


def _intervals(found: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: Interval(**_numbers(ends)) for name, ends in found.items()}


def _value(value: Any) -> Any:
    return Interval(**_numbers(value)) if isinstance(value, Mapping) else _number(value)


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) for key, value in row.items()}


def _number(value: Any) -> Any:
    return math.nan if value is None else value
