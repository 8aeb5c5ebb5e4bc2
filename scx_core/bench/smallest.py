"""How much smaller a searched circuit is than the influence cut at equal recovered share (method §6, §9).

The search is asked for the share that the cut recovers in the searched cells. The cut, the set found and
plain greedy are then measured by the same intervention in the same cells, which none of them has seen.
"""

from __future__ import annotations

import time
from typing import Any

from scx_core.bench.machine import machine, peak_gib
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.circuits.smallest import Smallest, SmallestConfig, smallest
from scx_core.runs.progress import Progress, silent

# As `circuits/baselines.py` makes it, for a reader of the table.
CUT = (
    "Influence cut: influence of the features in the attribution graphs of the searched cells, mean over "
    "cells with positions merged; the fewest with 0.8 of the sum. Cut of all kinds: the fewest nodes of any "
    "kind (features, tokens, errors) with 0.8 of the sum of all; its features count."
)


def called_types(tracer: Tracer, n_types: int, cells: int = 16) -> list[str]:
    """The most frequent types whose name the model gives to more than half of so many of their cells.

    Where the model has other names, the most frequent types.
    """
    labels = [str(name) for name in tracer.table.cells_per_type().index]
    found: list[str] = []
    for label in labels:
        if len(found) < n_types and label in tracer.labels:
            said = tracer.predict(tracer.draw(label, ConsensusConfig(cells=cells)))
            found += [label] if 2 * said.count(label) > len(said) else []
    return found or labels[:n_types]


def bench_smallest(
    tracer: Tracer,
    label: str | None = None,
    n_types: int = 6,
    cfg: SmallestConfig | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Search in one type, or in the `n_types` most frequent that the model calls by their name."""
    cfg = cfg or SmallestConfig()
    labels = [label] if label is not None else called_types(tracer, n_types)
    rows = []
    for done, name in enumerate(labels):
        progress(done, len(labels), name)
        start = time.perf_counter()
        found = smallest(tracer, name, cfg=cfg)
        rows.append(_row(found) | {"seconds": time.perf_counter() - start})
    return {
        "machine": machine(tracer.lm.device),
        "model": tracer.lm.name,
        "transcoders": tracer.transcoders.name,
        "influence_cut": CUT,
        "wanted": cfg.wanted,
        "smallest": rows,
        "peak_memory_gib": peak_gib(),
    }


def _row(found: Smallest) -> dict[str, Any]:
    """One type: sizes, what the sets keep in unseen cells, and the ratios at equal share."""
    sizes = found.sizes
    return {
        "type": found.label,
        "sets": {name: one._asdict() for name, one in found.sets.items()},
        "ratio": sizes["influence_cut"] / max(1, sizes["ours_as_cut"]),
        "strict_ratio": sizes["strict_cut"] / max(1, sizes["ours_as_strict_cut"]),
        "searched": len(found.cells["search"]),
        "verified": len(found.cells["unseen"]),
        "logits": found.logits,
        "unexplored": found.unexplored,
    }
