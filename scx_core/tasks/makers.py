"""What each kind of task does: opened sources and what was asked in, plain JSON out.

circuit: of one cell, a consensus, of chosen cells, or a difference; knockouts: the same circuit with measured
knock-outs; smallest, rankings, paths: as `scx smallest`, `scx rankings`, `scx paths`; validation and map are
kept where these have always lain, a shared page in `RUNS/shared`, a report in `RUNS/reports`, so their answer
says only where.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from scx_core.attribution.endpoints import parse_ref
from scx_core.cells.computed_map import computed_map
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer
from scx_core.circuits.difference import Difference, compare_types
from scx_core.circuits.many_cells.two_steps import Partial, SoFar
from scx_core.circuits.paths import PathConfig, Paths, trace_paths
from scx_core.circuits.schema import Misfit, read_object
from scx_core.circuits.traced_prompt import prompt_of_row
from scx_core.errors import ScxError
from scx_core.evidence import with_knockouts
from scx_core.evidence.rankings.rankings import (
    RankingConfig,
    TypeRankings,
    rank_genes_of,
    read_rankings_record,
)
from scx_core.evidence.smallest.smallest_circuit import Smallest, SmallestConfig, smallest, smallest_in_cell
from scx_core.language.hub import fetch
from scx_core.runs import Progress, RunFolder, from_dict, read_json, write_json
from scx_core.runs.cached_results import key_of
from scx_core.runs.progress import nested
from scx_core.share import ShareConfig, gather, write_share
from scx_core.tasks.answer_shapes import Answered, Shared, SoFarKnown, read_paths_record, read_smallest_record
from scx_core.tasks.makers_of_features import GENE_SETS, gene_sets, match
from scx_core.tasks.makers_of_reports import report
from scx_core.tasks.makers_of_training import TRIAL, trial
from scx_core.tasks.sources import Opened, Sources
from scx_core.tasks.task import Maker, Task
from scx_core.validation import draw_rows, validate, validation_rows
from scx_core.validation.result import plain
from scx_core.validation.standing import keep_validation

Asked = dict[str, Any]
AT_A_TIME = 32  # cells
STRONGEST, SO_FAR = 12, "so-far.json"
SHARED = "shared"


def circuit(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: label, answer, against (a type, or None for all others), row (of one cell, or None), less (a
    type whose circuit is subtracted, or None), rows (chosen by hand, or None), trace, consensus. What is
    known before a long consensus is done is in its folder (`so_far`). Raises ScxError."""
    made = circuit_of(opened.tracer, asked, progress, _write_so_far(opened.folder))
    return made.to_json() if isinstance(made, Difference) else {"circuit": made.to_json()}


def circuit_of(
    tracer: Tracer, asked: Asked, progress: Progress, known: Partial | None = None
) -> Circuit | Difference:
    """The same as a record; `known` is given what is known so far of a consensus in two steps."""
    trace, cfg = from_dict(TraceConfig, asked["trace"]), from_dict(ConsensusConfig, asked["consensus"])
    against = [asked["against"]] if asked["against"] else None
    if asked["row"] is not None:
        return tracer.cell(asked["row"], label=asked["answer"], against=against, cfg=trace)
    common: dict[str, Any] = {"trace": trace, "cfg": cfg, "progress": progress}
    if asked["less"] is not None:
        return compare_types(tracer, asked["label"], asked["less"], **common)
    common["against"] = against
    if asked["rows"] is not None:
        return tracer.of_cells(asked["rows"], asked["answer"], label=asked["label"], **common)
    return tracer.consensus(asked["label"], answer=asked["answer"], partial=known, **common)


def _write_so_far(folder: Path | None) -> Partial | None:
    """What writes the strongest genes of a consensus that is being made into its job's folder."""
    if folder is None:
        return None

    def write(known: SoFar) -> None:
        rows = [
            {"gene": gene.gene, "effect": gene.effect, "low": gene.low, "high": gene.high, "n": gene.n_cells}
            for gene in known.genes[:STRONGEST]
        ]
        record = {"cells": known.n_cells, "edges": len(known.merged), "genes": rows}
        write_json(folder / SO_FAR, record, durable=False)

    return write


def so_far(run: RunFolder) -> dict[str, Any] | None:
    """What is known of a consensus of two steps before it is done: cells, how many have their edges, and the
    strongest genes, each with effect, low, high, n. None before anything is."""
    with suppress(ScxError, OSError, Misfit):
        path = run.path / SO_FAR
        return read_object(SoFarKnown, read_json(path)) if path.exists() else None
    return None


def read_circuit(record: Asked) -> Circuit | Difference:
    """What `circuit` and `knockouts` gave. Raises ScxError."""
    if isinstance(record, dict) and "circuit" in record:
        return Circuit.from_json(record["circuit"])
    return Difference.from_json(record, "The answer")


def knockouts(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: that of `circuit`, without `less`. Raises ScxError."""
    made = circuit_of(opened.tracer, asked | {"less": None}, nested(progress, 0, 2))
    assert isinstance(made, Circuit)
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
    """What `smallest_circuit` gave. Raises Misfit."""
    return read_smallest_record(record)


def rankings(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: label, cfg. Raises ScxError."""
    cfg = from_dict(RankingConfig, asked["cfg"])
    return plain(rank_genes_of(opened.tracer, [asked["label"]], cfg, progress).types[0])


def read_rankings(record: Asked) -> TypeRankings:
    """What `rankings` gave. Raises Misfit."""
    return read_rankings_record(record)


def paths(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: answer, against, row, trace. Raises ScxError."""
    progress(0, 1, "following paths")
    return plain(paths_of(opened.tracer, asked).to_json())


def paths_of(tracer: Tracer, asked: Asked) -> Paths:
    """The same as a record."""
    against = [asked["against"]] if asked["against"] else None
    trace = from_dict(TraceConfig, asked["trace"])
    prompt = prompt_of_row(tracer, asked["row"], asked["answer"], against, trace)
    return trace_paths(prompt, parse_ref("target", prompt.frozen), PathConfig())


def read_paths(record: Asked) -> Paths:
    """What `paths` gave. Raises Misfit or ScxError."""
    return read_paths_record(record)


def validation(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: cells, how many test cells are drawn. Kept where circuits and pages look for it. Raises
    ScxError."""
    lm, coders, table = opened.lm, opened.coders, opened.table
    rows = validation_rows(lm, coders, table)
    test = draw_rows(rows.test, asked["cells"])
    found = validate(lm, coders, table, test, train_rows=rows.train, split=rows.words, progress=progress)
    path = keep_validation(found, opened.root)
    return {"kept": path.name if path else None}


def answers(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: most; the model's answer for each of the cells that are drawn (`rows_drawn`). Raises
    ScxError."""
    tracer, found = opened.tracer, list[str]()
    rows = rows_drawn(tracer.table.n_cells, asked["most"])
    for start in range(0, len(rows), AT_A_TIME):
        found += tracer.predict(rows[start : start + AT_A_TIME])
        progress(len(found), len(rows), "asking the model")
    return {"answers": found}


def rows_drawn(n_cells: int, most: int) -> np.ndarray:
    """All rows, or so many of them, drawn with a seed, ascending."""
    if n_cells <= most:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(0).choice(n_cells, most, replace=False))


def read_answers(record: Asked, n_cells: int) -> list[str]:
    """What `answers` gave for so many cells. Raises Misfit."""
    found: list[str] = read_object(Answered, record)["answers"]
    if len(found) != n_cells:
        raise Misfit(f"has {len(found):,} for {n_cells:,} cells", "answers")
    return found


def cell_map(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: seed. Raises ScxError."""
    progress(0, 1, "principal components, neighbours, UMAP")
    computed_map(opened.table, asked["seed"], root=opened.root)
    return {"kept": True}


def shared(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: cfg, and the stamp of what was known then (`scx_core.share.stamp_of`), which decides only
    about the name. Raises ScxError."""
    cfg = from_dict(ShareConfig, asked["cfg"])
    found = gather(opened.tracer, cfg=cfg, root=opened.root, progress=progress)
    name = key_of(opened.tracer.about({"asked": asked}))
    path = write_share(found, opened.root / SHARED / f"{name}.html", cfg)
    circuits, evidence = list(found.circuits), [one.label for one in found.evidence]
    return {"kept": path.name, "circuits": circuits, "evidence": evidence, "atlas": found.atlas is not None}


def read_shared(record: Asked) -> dict[str, Any]:
    """What `shared` gave, its file by name alone. Raises Misfit."""
    found = read_object(Shared, record)
    return found | {"kept": Path(found["kept"]).name}


def download(opened: Opened, asked: Asked, progress: Progress) -> dict[str, Any]:
    """`asked`: hub_id, a checkpoint that is fetched from the hub. Raises ScxError."""
    return {"commit": fetch(asked["hub_id"], progress).name}


def download_task(hub_id: str) -> Task:
    """The download of a checkpoint as a job. What it needs is known to the hub's own cache, so a job that is
    done says nothing about what is there now (`scx_core.language.hub.checkpoint_folder` does)."""
    asked = {"hub_id": hub_id}
    return Task("download", f"Download of {hub_id}", Sources(model=hub_id), asked, {"hub_id": hub_id}, True)


MAKERS: dict[str, Maker] = {
    "download": download,
    "circuit": circuit,
    "knockouts": knockouts,
    "smallest": smallest_circuit,
    "rankings": rankings,
    "paths": paths,
    "validation": validation,
    "map": cell_map,
    "answers": answers,
    "share": shared,
    "match": match,
    GENE_SETS: gene_sets,
    "report": report,
    TRIAL: trial,
}
