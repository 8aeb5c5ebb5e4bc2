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
from typing import Any

import anndata as ad
import pandas as pd

from scx_core.atlas.annotate import RECORD
from scx_core.circuits import Circuit
from scx_core.circuits.difference import Difference
from scx_core.errors import ScxError
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.runs.files import to_json_text
from scx_core.validation import Validation
from scx_core.validation.result import from_json as validation_of

RESULTS = "results"  # inside uns["scx"]


def keep_in(adata: ad.AnnData, result: Any, name: str) -> None:
    """Put a result into `adata.uns` under a name; one of the same name is replaced. Raises ScxError for what
    is no result."""
    if isinstance(result, pd.DataFrame):
        record: Any = json.loads(result.to_json(orient="table", double_precision=15))
    elif hasattr(result, "to_json"):
        record = result.to_json()
    else:
        raise ScxError(
            f"A {type(result).__name__} is no result that can be kept.", "Give a circuit or a table."
        )
    text = to_json_text({"name": name, "kind": type(result).__name__, "record": record})
    held = dict(adata.uns.get(RECORD) or {})
    held[RESULTS] = {**(held.get(RESULTS) or {}), _key(name): text}
    adata.uns[RECORD] = held


def kept_in(adata: ad.AnnData) -> dict[str, str]:
    """The kind of every result that is kept, by name."""
    return {one["name"]: one["kind"] for one in _records(adata).values()}


def result_in(adata: ad.AnnData, name: str) -> Any:
    """A result that was kept. Raises ScxError where there is none of this name, or it is damaged."""
    found = _records(adata).get(_key(name))
    if found is None:
        known = ", ".join(sorted(kept_in(adata))) or "none"
        raise ScxError(f"This object holds no result {name[:60]!r}.", f"It holds: {known[:200]}.")
    read = _READERS.get(found["kind"])
    try:
        return found["record"] if read is None else read(found["record"], name)
    except (KeyError, TypeError, ValueError) as error:
        raise ScxError(
            f"The result {name[:60]!r} is damaged ({str(error)[:80]}).", "Make it anew."
        ) from error


def _key(name: str) -> str:
    """A name that HDF5 takes; different names have different ones."""
    bare = re.sub(r"[^A-Za-z0-9_+-]+", "_", name)[:40]
    return f"{bare}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _records(adata: ad.AnnData) -> dict[str, dict[str, Any]]:
    held = (adata.uns.get(RECORD) or {}).get(RESULTS) or {}
    found = {}
    for key, text in held.items():
        try:
            one = json.loads(str(text))
            found[str(key)] = {"name": str(one["name"]), "kind": str(one["kind"]), "record": one["record"]}
        except (ValueError, KeyError, TypeError) as error:
            problem = f'uns["{RECORD}"]["{RESULTS}"] holds what is no result of scX ({str(key)[:60]}).'
            raise ScxError(problem, "Remove it.") from error
    return found


def _difference(record: Mapping[str, Any], name: str) -> Difference:
    first, second = (str(one) for one in record["names"])
    sides = (Circuit.from_json(record[part], name) for part in ("first", "second", "difference"))
    return Difference((first, second), *sides)


def _table(record: Mapping[str, Any], name: str) -> pd.DataFrame:
    return pd.read_json(io.StringIO(to_json_text(record)), orient="table", precise_float=True)


def _validation(record: Mapping[str, Any], name: str) -> Validation:
    return validation_of(record)


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "Circuit": Circuit.from_json,
    "Difference": _difference,
    "TypeEvidence": TypeEvidence.from_json,
    "Validation": _validation,
    "DataFrame": _table,
}
