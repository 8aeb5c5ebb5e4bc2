"""Results of single cells on disk, so that a consensus which was stopped goes on where it was.

One JSON file a cell and step, `runs/consensus/KEY/STEP-ROW.json`; KEY is a digest of the provenance (model,
set, cells, target, settings), so that a changed question begins anew. Floats are written so that they read
back to the same bits. A broken file counts as absent.
Legend: M merged nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

import numpy as np

from scx_core.circuits.circuit import Node
from scx_core.circuits.consensus import Merged
from scx_core.circuits.feature_names import ByPlace
from scx_core.circuits.schema import LARGEST, Misfit, read_object, read_record
from scx_core.errors import ScxError
from scx_core.runs import read_json, write_json
from scx_core.runs.cached_results import key_of
from scx_core.runs.run_folder import runs_root

T = TypeVar("T")
FOLDER = "consensus"
REVISION = 3  # of what the files hold
_PLACES = ("active", "stands", "added")


class CellEffects(NamedTuple):
    """Step 1 of one cell: gene → (effect, rank); its chosen features, (layer, index, position, feature)."""

    genes: dict[str, tuple[float, float]]
    chosen: tuple[tuple[int, int, int, int], ...]


class _Place(TypedDict):
    """`ByPlace`; its table of numbers is checked by `_table`, as it has tens of thousands."""

    rows: list[str]
    genes: list[str]


class _Scores(TypedDict):
    """What every circuit has of `scx_core.circuits.trace.graph_scores`."""

    value: float
    gene_effect: float
    prompt_effect: float
    answer_effect: float
    error_effect: float
    bias_effect: float
    replacement: float
    completeness: float
    error_share: float
    token_share: float
    unexplored_share: float
    bias_share: float


class _Merged(TypedDict):
    """`Merged` but for its tables of numbers, `value_M3` and `edges`, and what a node is."""

    nodes: dict[str, Any]
    active: _Place
    stands: _Place
    added: _Place
    genes: dict[str, tuple[float, float]]
    value: float
    scores: _Scores
    max_relative_error: float
    rival_shares: tuple[float, ...]
    patterns: str


class KeptCells:
    """The folder of one consensus. `found`: how many results were there already when they were asked for."""

    def __init__(self, about: Mapping[str, Any], runs: Path | None = None) -> None:
        self.path = (runs or runs_root()) / FOLDER / key_of(about, REVISION)
        self.path.mkdir(parents=True, exist_ok=True)
        self.found = 0

    def read(self, step: str, row: int, read: Callable[[Any], T]) -> T | None:
        """What was kept of a cell, as `read` takes it; None where there is nothing, or what it refuses with a
        Misfit."""
        path = self.path / f"{step}-{row}.json"
        if not path.is_file():
            return None
        try:
            found = read(read_json(path))
        except (ScxError, Misfit):
            return None
        self.found += 1
        return found

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


def read_effects(record: Any) -> CellEffects:
    """Step 1 of a cell. Raises Misfit that names the place."""
    found = read_record(CellEffects, record)
    for place, row in enumerate(found.chosen):
        if min(row) < 0:
            raise Misfit("holds a number below 0", f"chosen[{place}]")
    return found


def read_merged(record: Any) -> Merged:
    """The merged circuit of `merged_record`. Raises Misfit that names the place: a value of another type, a
    table of another size, a node that is not there."""
    found = read_object(_Merged, record)
    nodes = {name: _node(name, node) for name, node in found["nodes"].items()}
    features = {name for name, node in nodes.items() if node.kind == "feature"}
    weight_MM, edge_MM = _edges(found.get("edges"), len(nodes))
    active, stands, added = (_read_place(found[name], features, name) for name in _PLACES)
    return Merged(
        nodes,
        _table(found.get("value_M3"), (len(nodes), 3), "value_M3"),
        weight_MM,
        edge_MM,
        active,
        stands,
        added,
        genes=found["genes"],
        value=found["value"],
        scores=found["scores"],
        max_relative_error=found["max_relative_error"],
        rival_shares=found["rival_shares"],
        patterns=found["patterns"],
    )


def _node(name: str, record: Any) -> Node:
    try:
        found = read_record(Node, record)
    except Misfit as misfit:
        raise misfit.inside(f"nodes.{name[:40]}") from None
    if found.id != name:
        raise Misfit(f"has the id {found.id[:40]!r}", f"nodes.{name[:40]}")
    return found


def _edges(given: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and where there is an edge, both [target, source]."""
    if not isinstance(given, list) or len(given) != 3 or not isinstance(given[0], list):
        raise Misfit("is not three lists", "edges")
    target, source, weight = (_table(part, (len(given[0]),), "edges") for part in given)
    ends = np.concatenate([target, source])
    if ((ends != np.floor(ends)) | (ends < 0) | (ends >= m)).any():
        raise Misfit("names a node that is not there", "edges")
    at = target.astype(np.int64), source.astype(np.int64)
    weight_MM, edge_MM = np.zeros((m, m)), np.zeros((m, m), dtype=bool)
    weight_MM[at], edge_MM[at] = weight, True
    return weight_MM, edge_MM


def _table(given: Any, shape: Sequence[int], where: str) -> np.ndarray:
    """Numbers of a shape. Not `np.asarray(given, float)`, which takes true and the text "1.5" for numbers."""
    numbers: np.ndarray | None = None
    try:
        found = np.array(given, dtype=object)
        if {type(one) for one in found.flat} <= {int, float}:
            numbers = found.astype(np.float64)
    except (ValueError, OverflowError):  # rows that are no table, a whole number that no float is
        pass
    if numbers is None or not (np.abs(numbers) <= LARGEST).all():
        raise Misfit("is no table of finite numbers of a usual size", where)
    if numbers.size == 0 and math.prod(shape) == 0:
        return numbers.reshape(shape)
    if numbers.shape != tuple(shape):
        raise Misfit(f"is of the size {numbers.shape}, expected {tuple(shape)}", where)
    return numbers


def _place_record(by: ByPlace) -> dict[str, Any]:
    return {"rows": list(by.rows), "genes": list(by.genes), "sum_RP": by.sum_RP.tolist()}


def _read_place(found: dict[str, Any], features: set[str], where: str) -> ByPlace:
    rows, genes = tuple(found["rows"]), tuple(found["genes"])
    if set(rows) != features or len(rows) != len(features):
        raise Misfit("is not of the features that are nodes", f"{where}.rows")
    return ByPlace(rows, genes, _table(found.get("sum_RP"), (len(rows), len(genes) + 2), f"{where}.sum_RP"))
