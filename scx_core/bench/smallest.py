"""How much smaller a searched circuit is than the influence cut at equal recovered share (method §6, §9).

The search is asked for the share that the cut recovers in the searched cells. The cut, the set found, plain
greedy and random sets are then measured by the same intervention in the same cells, which none of them has
seen. A ratio of sizes has a range only over several draws of cells (`seeds`); of one draw none is given.
Where the features add so little that a share of it says little, the row is marked as faint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scx_core.bench.machine import machine, peak_gib
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.evidence.rankings.rankings import markdown
from scx_core.evidence.smallest.smallest_circuit import Smallest, SmallestConfig, smallest
from scx_core.runs.progress import Progress, silent

# As `evidence/smallest/graph_baselines.py` makes it, for a reader of the table.
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
            answers = tracer.predict(tracer.draw(label, ConsensusConfig(cells=cells)))
            found += [label] if 2 * answers.count(label) > len(answers) else []
    return found or labels[:n_types]


def bench_smallest(
    tracer: Tracer,
    label: str | None = None,
    n_types: int = 6,
    cfg: SmallestConfig | None = None,
    seeds: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Search in one type, or in the `n_types` most frequent that the model calls by their name.

    With `seeds` above 1 each search is done again on other draws of cells, which gives ratios their range.
    """
    cfg = cfg or SmallestConfig()
    labels = [label] if label is not None else called_types(tracer, n_types)
    rows = []
    for done, name in enumerate(labels):
        progress(done, len(labels), name)
        start = time.perf_counter()
        found = [smallest(tracer, name, cfg=replace(cfg, seed=cfg.seed + k)) for k in range(seeds)]
        rows.append(_row(found) | {"seconds": time.perf_counter() - start})
    return {
        "machine": machine(tracer.lm.device),
        "model": tracer.lm.name,
        "transcoders": tracer.transcoders.name,
        "influence_cut": CUT,
        "wanted": cfg.wanted,
        "seeds": seeds,
        "smallest": rows,
        "peak_memory_gib": peak_gib(),
    }


def _row(found: Sequence[Smallest]) -> dict[str, Any]:
    """One type: the sets of the first draw of cells, and the ratios over all draws."""
    first = found[0].to_json()
    keys = ("sets", "added", "ahead", "faint", "logits", "unexplored", "whose")
    cells = found[0].cells
    return {key: first[key] for key in keys} | {
        "type": found[0].label,
        "target": found[0].target,
        "ratio": _ratio(found, "influence_cut", "ours_as_cut"),
        "strict_ratio": _ratio(found, "strict_cut", "ours_as_strict_cut"),
        "searched": len(cells["search"]),
        "verified": len(cells["unseen"]),
    }


def _ratio(found: Sequence[Smallest], cut: str, ours: str) -> dict[str, float] | None:
    """Median and range of (size of the cut / size of the set found) over the draws; None for one draw."""
    if len(found) < 2:
        return None
    ratios = [one.sizes[cut] / max(1, one.sizes[ours]) for one in found]
    return {"median": float(np.median(ratios)), "least": min(ratios), "most": max(ratios)}


def smallest_table(result: Mapping[str, Any]) -> str:
    """The table of docs/benchmarks.md, in Markdown: sizes, and shares with intervals in unseen cells."""
    names = ("influence_cut", "ours_as_cut", "greedy_as_cut", "ours", "greedy", "random")
    header = (
        "cell type", "n", "all features", "none", "features add", "influence cut", "searched for its share",
        "greedy for it", "searched for 0.8", "greedy for 0.8", "random like it", "found less random",
        "cut / searched",
    )  # fmt: skip
    lines = []
    for row in result["smallest"]:
        logits, sets = row["logits"], row["sets"]
        mark = " (faint)" if row["faint"] else ""
        cells = [_set(sets[name]) + mark for name in names]
        lines.append(
            (
                row["type"] + mark,
                str(row["verified"]),
                f"{logits['full']:.2f}",
                f"{logits['empty']:.2f}",
                span(row["added"]),
                *cells,
                span(row["ahead"]),
                _range(row["ratio"]) + (mark if row["ratio"] else ""),
            )
        )
    return markdown(header, lines)


def span(one: Mapping[str, Any]) -> str:
    """Mean and interval."""
    return f"{one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def _set(one: Mapping[str, Any]) -> str:
    """ "29 (0.83 [0.75, 0.90]; 0.94)": size, share of what features add, share of the whole target."""
    whole = "" if one["whole"] is None else f"; {one['whole']:.2f}"
    short = "" if one["reached"] else ", short"
    return f"{one['size']} ({one['unseen']:.2f} [{one['low']:.2f}, {one['high']:.2f}]{whole}{short})"


def _range(ratio: Mapping[str, float] | None) -> str:
    return "–" if ratio is None else f"{ratio['median']:.1f} ({ratio['least']:.1f} to {ratio['most']:.1f})"
