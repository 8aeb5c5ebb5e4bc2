"""What each kind of task does: opened sources and what was asked in, plain JSON out.

circuit: a consensus, the circuit of chosen cells, or a difference; knockouts: the same circuit with measured
knock-outs; smallest, rankings: as `scx smallest` and `scx rankings`; validation and map are kept where these
have always lain, so their answer says only where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.cells.computed_map import computed_map
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig
from scx_core.circuits.difference import Difference, compare_types
from scx_core.evidence import with_knockouts
from scx_core.evidence.rankings.rankings import RankingConfig, TypeRankings, rank_genes_of
from scx_core.evidence.smallest.smallest_circuit import Smallest, SmallestConfig, smallest, smallest_in_cell
from scx_core.runs import Progress, from_dict
from scx_core.runs.progress import nested
from scx_core.tasks.records import read_record
from scx_core.tasks.sources import Opened
from scx_core.tasks.task import Maker
from scx_core.validation import draw_rows, validate, validation_rows
from scx_core.validation.result import plain
from scx_core.validation.standing import keep_validation

Asked = Mapping[str, Any]


def circuit(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: label, answer, against (a type, or None for all others), less (a type whose circuit is
    subtracted, or None), rows (chosen by hand, or None), trace, consensus. Raises ScxError."""
    made = made_circuit(opened, asked, progress)
    return made.to_json() if isinstance(made, Difference) else {"circuit": made.to_json()}


def made_circuit(opened: Opened, asked: Asked, progress: Progress) -> Circuit | Difference:
    """The same as a record."""
    tracer = opened.tracer
    trace, cfg = from_dict(TraceConfig, asked["trace"]), from_dict(ConsensusConfig, asked["consensus"])
    common: dict[str, Any] = {"trace": trace, "cfg": cfg, "progress": progress}
    if asked["less"] is not None:
        return compare_types(tracer, asked["label"], asked["less"], **common)
    against = [asked["against"]] if asked["against"] else None
    if asked["rows"] is not None:
        return tracer.of_cells(
            asked["rows"], asked["answer"], label=asked["label"], against=against, **common
        )
    return tracer.consensus(asked["label"], answer=asked["answer"], against=against, **common)


def read_circuit(record: Asked) -> Circuit | Difference:
    """What `circuit` and `knockouts` gave. Raises ScxError, or KeyError."""
    if "circuit" in record:
        return Circuit.from_json(record["circuit"])
    sides = (Circuit.from_json(record[name]) for name in ("first", "second", "difference"))
    first, second = record["names"]
    return Difference((first, second), *sides)


def knockouts(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: that of `circuit`, or row and answer of one cell. Raises ScxError."""
    if asked.get("row") is not None:
        against = [asked["against"]] if asked["against"] else None
        trace = from_dict(TraceConfig, asked["trace"])
        made = opened.tracer.cell(asked["row"], label=asked["answer"], against=against, cfg=trace)
    else:
        found = made_circuit(opened, asked, nested(progress, 0, 2))
        assert isinstance(found, Circuit)
        made = found
    return {"circuit": with_knockouts(opened.tracer, made, progress=nested(progress, 1, 2)).to_json()}


def smallest_circuit(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: label, answer, against, row (of one cell, or None), trace, cfg. Raises ScxError."""
    tracer = opened.tracer
    same: dict[str, Any] = {
        "against": [asked["against"]] if asked["against"] else None,
        "trace": from_dict(TraceConfig, asked["trace"]),
        "cfg": from_dict(SmallestConfig, asked["cfg"]),
        "answer": asked["answer"],
    }
    if asked["row"] is not None:
        same["label"] = same.pop("answer")
        return plain(smallest_in_cell(tracer, asked["row"], **same))
    return plain(smallest(tracer, asked["label"], progress=progress, **same))


def read_smallest(record: Asked) -> Smallest:
    """What `smallest_circuit` gave. Raises KeyError, TypeError or ValueError."""
    return read_record(Smallest, record)


def rankings(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: label, cfg. Raises ScxError."""
    cfg = from_dict(RankingConfig, asked["cfg"])
    return plain(rank_genes_of(opened.tracer, [asked["label"]], cfg, progress).types[0])


def read_rankings(record: Asked) -> TypeRankings:
    """What `rankings` gave. Raises KeyError, TypeError or ValueError."""
    return read_record(TypeRankings, record)


def validation(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: cells, how many test cells are drawn. Kept where circuits and pages look for it. Raises
    ScxError."""
    lm, coders, table = opened.lm, opened.coders, opened.table
    rows = validation_rows(lm, coders, table)
    test = draw_rows(rows.test, asked["cells"])
    found = validate(lm, coders, table, test, train_rows=rows.train, split=rows.words, progress=progress)
    path = keep_validation(found, opened.root)
    return {"kept": path.name if path else None}


def cell_map(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: seed. Raises ScxError."""
    progress(0, 1, "principal components, neighbours, UMAP")
    computed_map(opened.table, asked["seed"], root=opened.root)
    return {"kept": True}


MAKERS: dict[str, Maker] = {
    "circuit": circuit,
    "knockouts": knockouts,
    "smallest": smallest_circuit,
    "rankings": rankings,
    "validation": validation,
    "map": cell_map,
}
