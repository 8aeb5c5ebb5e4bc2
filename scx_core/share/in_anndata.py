"""Results kept in an AnnData object, `uns["scx"]["results"]`, where `write_h5ad` and `read_h5ad` leave them
as they are: each as JSON under a key of its own, with its name and kind.

What has a reader comes back as itself (circuits, differences, validations, evidence of a type, tables);
other evidence as the record that its `to_json` gives.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

import anndata as ad
import pandas as pd

from scx_core.atlas.annotate import RECORD, held_in, mapping_at
from scx_core.circuits import Circuit
from scx_core.circuits.difference import Difference
from scx_core.circuits.schema import Misfit, read_object
from scx_core.errors import ScxError
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.runs.files import to_json_text
from scx_core.validation.result import from_json as validation_of

RESULTS = "results"  # inside uns["scx"]


class _Kept(TypedDict):
    """A result as it lies there; its record is read by the reader of its kind."""

    name: str
    kind: str


class _Schema(TypedDict):
    fields: list[dict[str, Any]]
    primaryKey: NotRequired[list[str]]


class _Table(TypedDict):
    """What pandas writes of a table (orient="table"), a row an object."""

    schema: _Schema
    data: list[dict[str, Any]]


def keep_in(adata: ad.AnnData, result: Any, name: str) -> None:
    """Put a result into `adata.uns` under a name; one of the same name is replaced. Raises ScxError for what
    is no result, or where something else lies in its place."""
    if isinstance(result, pd.DataFrame):
        record: Any = json.loads(result.to_json(orient="table", double_precision=15))
    elif hasattr(result, "to_json"):
        record = result.to_json()
    else:
        raise ScxError(
            f"A {type(result).__name__} is no result that can be kept.", "Give a circuit or a table."
        )
    text = to_json_text({"name": name, "kind": type(result).__name__, "record": record})
    adata.uns[RECORD] = {**held_in(adata), RESULTS: {**_results(adata), _key(name): text}}


def kept_in(adata: ad.AnnData) -> dict[str, str]:
    """The kind of every result that is kept, by name. Raises ScxError where something else lies there."""
    kept = [_kept(key, text) for key, text in _results(adata).items()]
    return {one["name"]: one["kind"] for one in kept}


def result_in(adata: ad.AnnData, name: str) -> Any:
    """A result that was kept. Raises ScxError where there is none of this name, or it is damaged."""
    text = _results(adata).get(_key(name))
    if text is None:
        known = ", ".join(sorted(kept_in(adata))) or "none"
        raise ScxError(f"This object holds no result {name[:60]!r}.", f"It holds: {known[:200]}.")
    found = _kept(_key(name), text)
    read = _READERS.get(found["kind"])
    try:
        return found["record"] if read is None else read(found["record"], f"The result {name[:60]!r}")
    except ScxError:  # it names the result and the place itself
        raise
    except _DAMAGED as error:
        raise ScxError(
            f"The result {name[:60]!r} is damaged ({str(error)[:80]}).", "Make it anew."
        ) from error


def _key(name: str) -> str:
    """A name that HDF5 takes; different names have different ones."""
    bare = re.sub(r"[^A-Za-z0-9_+-]+", "_", name)[:40]
    return f"{bare}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _results(adata: ad.AnnData) -> Mapping[str, Any]:
    return mapping_at(held_in(adata), RESULTS, f'uns["{RECORD}"]["{RESULTS}"]')


def _kept(key: str, text: Any) -> dict[str, Any]:
    """Name, kind and record of what lies at a key."""
    try:
        one = json.loads(str(text))
        if not isinstance(one, dict) or "record" not in one:
            raise Misfit("has no record")
        read_object(_Kept, {name: one[name] for name in ("name", "kind") if name in one})
        if _key(one["name"]) != str(key):
            raise Misfit(f"lies in the place of another than {one['name'][:40]!r}")
    except (ValueError, RecursionError) as error:
        place = f'uns["{RECORD}"]["{RESULTS}"]'
        problem = f"{place} holds what is no result of scX ({str(key)[:60]}: {str(error)[:80]})."
        raise ScxError(problem, "Remove it.") from error
    return one


def _table(record: Any, name: str) -> pd.DataFrame:
    """A table, each value of its column's type; pandas itself takes the text "12" for a number."""
    found = read_object(_Table, record)
    fields = {}
    for place, field in enumerate(found["schema"]["fields"]):
        if not isinstance(field.get("name"), (str, int)) or not isinstance(field.get("type"), str):
            raise Misfit("has no name or no type", f"schema.fields[{place}]")
        fields[str(field["name"])] = field
    for place, row in enumerate(found["data"]):
        if row.keys() != fields.keys():
            raise Misfit("has other columns than the table", f"data[{place}]")
        for column, value in row.items():
            if not _fits(fields[column], value):
                kind = fields[column]["type"][:20]
                raise Misfit(f"is {str(value)[:40]!r}, which no {kind} is", f"data[{place}].{column[:40]}")
    if not set(found["schema"].get("primaryKey", ())) <= fields.keys():
        raise Misfit("names a column that is not there", "schema.primaryKey")
    return pd.read_json(io.StringIO(to_json_text(record)), orient="table", precise_float=True)


def _fits(field: Mapping[str, Any], value: Any) -> bool:
    """Whether a value may stand in a column. Of null pandas makes False in a plain column of switches; null
    of a value that is none of the column's categories."""
    if value is None:
        return field["type"] not in ("integer", "boolean") or "extDtype" in field
    constraints = field.get("constraints")
    if isinstance(constraints, Mapping) and isinstance(constraints.get("enum"), list):
        return value in constraints["enum"]
    kinds = _VALUES.get(field["type"])
    return kinds is None or type(value) in kinds


# Of a column's type in the table: what a value may be; of other types anything.
_VALUES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "string": (str,),
    "datetime": (str,),
    "duration": (str,),
}
# A table's reader is pandas', which says in many ways that it does not understand.
_DAMAGED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, NotImplementedError)
_READERS: dict[str, Callable[[Any, str], Any]] = {
    "Circuit": Circuit.from_json,
    "Difference": Difference.from_json,
    "TypeEvidence": TypeEvidence.from_json,
    "Validation": validation_of,
    "DataFrame": _table,
}
