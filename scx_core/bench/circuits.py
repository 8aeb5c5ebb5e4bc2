"""What a person waits for on the circuits page: gene effects, one cell's circuit, a consensus."""

from __future__ import annotations

from typing import Any

from scx_core.bench.machine import machine, peak_gib, timed
from scx_core.circuits import ConsensusConfig, Tracer

MANY = 64


def bench_circuits(
    tracer: Tracer, label: str | None = None, cells: int = 30, runs: int = 5
) -> dict[str, Any]:
    """Time gene effects and the pruned circuit of one cell, and a consensus of `cells` cells of one type."""
    name = label or str(tracer.table.cells_per_type().index[0])
    cfg = ConsensusConfig(cells=cells)
    row = int(tracer.draw(name, cfg)[0])
    found = tracer.consensus(name, cfg=cfg)
    rows = [
        timed("gene effects of one cell", lambda: tracer.gene_effects(row, name), runs),
        timed("pruned circuit of one cell", lambda: tracer.cell(row, label=name), runs),
        timed(f"consensus of {found.n_cells} cells", lambda: tracer.consensus(name, cfg=cfg), 2, warm=0),
    ]
    many = ConsensusConfig(cells=MANY)
    together = timed(f"consensus of {MANY} cells", lambda: tracer.consensus(name, cfg=many), 2, warm=0)
    each = timed(
        f"circuits of {MANY} cells, one by one",
        lambda: [tracer.cell(int(one), label=name) for one in tracer.draw(name, many)],
        1,
        warm=0,
    )
    rows += [together, each]
    cell = tracer.cell(row, label=name)
    return {
        "machine": machine(tracer.lm.device),
        "model": tracer.lm.name,
        "transcoders": tracer.transcoders.name,
        "cell_type": name,
        "tokens": len(cell.token_ids),
        "rows": [timing._asdict() for timing in rows],
        "together_faster": each.median_s / together.median_s,
        "max_relative_error": found.accounting["max_relative_error"],
        "peak_memory_gib": peak_gib(),
    }
