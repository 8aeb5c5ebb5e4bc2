"""Results of single cells on disk, so that a consensus which was stopped goes on where it was.

One JSON file a cell and step, `runs/consensus/KEY/STEP-ROW.json`; KEY is a digest of the provenance (model,
set, cells, target, settings), so that a changed question begins anew. Floats are written so that they read
back to the same bits. A broken file counts as absent.
Legend: M merged nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scx_core.circuits.circuit import Node
from scx_core.circuits.consensus import Merged
from scx_core.circuits.feature_names import ByPlace
from scx_core.runs import write_json
from scx_core.runs.cached_results import key_of
from scx_core.runs.run_folder import runs_root

FOLDER = "consensus"
REVISION = 3  # of what the files hold
_PLACES = ("active", "stands", "added")


class KeptCells:
    """The folder of one consensus. `found`: how many results were there already when they were asked for."""

    def __init__(self, about: Mapping[str, Any], runs: Path | None = None) -> None:
        self.path = (runs or runs_root()) / FOLDER / key_of(about, REVISION)
        self.path.mkdir(parents=True, exist_ok=True)
        self.found = 0

    def read(self, step: str, row: int) -> Any:
        """What was kept of a cell; None where there is nothing."""
        try:
            record = json.loads((self.path / f"{step}-{row}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        self.found += 1
        return record

    def write(self, step: str, row: int, record: Any) -> None:
        """Keep it, whole or not at all."""
        write_json(self.path / f"{step}-{row}.json", record)


def merged_record(cell: Merged) -> dict[str, Any]:
    """A merged circuit as plain data."""
    target, source = np.nonzero(cell.edge_MM)
    rest = {
        "nodes": {name: node._asdict() for name, node in cell.nodes.items()},
        "value_M3": cell.value_M3.tolist(),
        "edges": [target.tolist(), source.tolist(), cell.weight_MM[target, source].tolist()],
        "genes": {gene: list(pair) for gene, pair in cell.genes.items()},
    }
    places = {name: _place_record(getattr(cell, name)) for name in _PLACES}
    plain = {name: getattr(cell, name) for name in ("value", "scores", "max_relative_error", "patterns")}
    return rest | places | plain | {"rival_shares": list(cell.rival_shares)}


def read_merged(record: Mapping[str, Any]) -> Merged:
    """The merged circuit of `merged_record`."""
    nodes = {name: Node(**node) for name, node in record["nodes"].items()}
    weight_MM = np.zeros((len(nodes), len(nodes)))
    target, source, weight = record["edges"]
    weight_MM[target, source] = weight
    edge_MM = np.zeros(weight_MM.shape, dtype=bool)
    edge_MM[target, source] = True
    return Merged(
        nodes,
        np.array(record["value_M3"]).reshape(-1, 3),
        weight_MM,
        edge_MM,
        **{name: _read_place(record[name]) for name in _PLACES},
        genes={gene: (effect, rank) for gene, (effect, rank) in record["genes"].items()},
        value=record["value"],
        scores=record["scores"],
        max_relative_error=record["max_relative_error"],
        rival_shares=tuple(record["rival_shares"]),
        patterns=record["patterns"],
    )


def _place_record(by: ByPlace) -> dict[str, Any]:
    return {"rows": list(by.rows), "genes": list(by.genes), "sum_RP": by.sum_RP.tolist()}


def _read_place(record: Mapping[str, Any]) -> ByPlace:
    rows, genes = tuple(record["rows"]), tuple(record["genes"])
    return ByPlace(rows, genes, np.array(record["sum_RP"]).reshape(len(rows), len(genes) + 2))
