"""Whether two studies name the same genes of a type, from the JSON of `scx evidence transfer` of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.studies.top_overlap import LIKE_NAMES
from scx_core.runs import read_json


def elsewhere_in(path: Path | str, tracer: Tracer, label: str) -> dict[str, Any] | None:
    """The overlap of genes of this type with the least p against genes of the same level, p multiplied by the
    number of pairs of studies (Bonferroni); None where the file compares no studies in this type.

    Raises ScxError for a file that is none of `scx evidence transfer`, or of another model.
    """
    found, name = read_json(path), str(path)
    remedy = "Give the --json of `scx evidence transfer` with this model."
    if not isinstance(found, Mapping) or not isinstance(found.get("overlaps"), list):
        raise ScxError(f"{name} compares no studies.", remedy)
    try:
        if found["provenance"]["model"]["fingerprint"] != tracer.lm.fingerprint:
            raise ScxError(f"{name} is about another model.", remedy)
        rows = [row for row in found["overlaps"] if (row["what"], row["label"]) == ("genes", label)]
        if not rows:
            return None
        best = min(rows, key=lambda row: row["p"][LIKE_NAMES])
        return {
            "first": best["first"],
            "second": best["second"],
            "shared": best["shared"],
            "top": best["top"],
            "expected": best["expected"][LIKE_NAMES],
            "p": min(1.0, len(rows) * best["p"][LIKE_NAMES]),
            "pairs": len(rows),
            "n": min(best["n_first"], best["n_second"]),
        }
    except (KeyError, TypeError) as error:
        raise ScxError(f"{name} compares no studies ({str(error)[:60]}).", remedy) from error
