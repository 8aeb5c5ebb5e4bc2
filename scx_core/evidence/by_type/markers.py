"""Known markers among a circuit's strongest genes, against chance and beside rankings that need no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from scx_core.cells.markers import known_markers
from scx_core.evidence.rankings.rankers import rank_matched
from scx_core.statistics.intervals import wilson

DRAWS = 200


def marker_evidence(
    label: str, rankings: Mapping[str, Any], places: Mapping[str, float], seed: int = 0
) -> dict[str, Any] | None:
    """Counts among the strongest genes of the circuit, of `DRAWS` draws of genes of the same ranks (mean), by
    differential expression and of the most expressed. `p`: so many or more markers among as many genes drawn
    from all that the type's sentences hold (hypergeometric); `chance`: the number expected. `rankings` is the
    JSON of a type. None without a list of markers, or where no sentence holds one."""
    known = known_markers(label)
    by = {one["name"]: one["genes"] for one in rankings["rankings"]}
    held = set(places)
    if known is None or not held & known.genes or not by["circuit"]:
        return None
    genes, listed = len(by["circuit"]), len(held & known.genes)
    rng = np.random.default_rng(seed)
    drawn = [_count(rank_matched(dict(places), by["circuit"], rng), known.genes) for _ in range(DRAWS)]
    own = _count(by["circuit"], known.genes)
    return {
        "genes": genes,
        "listed": listed,
        "candidates": len(held),
        "chance": genes * listed / len(held),
        "circuit": own,
        "interval": list(wilson(own, genes)),
        "random": float(np.mean(drawn)),
        "differential": _count(by["t-test"], known.genes),
        "expressed": _count(by["expression"], known.genes),
        "gradient": _count(by["gradient"], known.genes),
        "p": float(hypergeom.sf(own - 1, len(held), listed, genes)),
        "citations": list(known.citations),
    }


def _count(genes: Iterable[str], known: frozenset[str]) -> int:
    return sum(gene in known for gene in genes)
