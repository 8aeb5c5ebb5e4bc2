"""Which column of a circuit's genes leads a table or a chart: measured before estimated before frozen.

What the real model loses without a gene comes first where it was measured (method §8); the frozen attribution
stands behind it.
"""

from __future__ import annotations

from typing import Literal

from scx_core.circuits.circuit import Circuit, GeneEffect

Leading = Literal["gap", "text", "estimate", "frozen"]
TITLES: dict[Leading, str] = {
    "gap": "lost without the gene (a neutral one in its place)",
    "text": "lost without the gene (the rest moved up)",
    "estimate": "estimated loss without the gene",
    "frozen": "frozen attribution",
}


def leading(circuit: Circuit) -> Leading:
    """The first of `gap`, `text` and `estimate` that any gene has, else the frozen attribution."""
    if circuit.scope != "difference":
        for name in ("gap", "text", "estimate"):
            if any(getattr(row, name) is not None for row in circuit.genes):
                return name  # type: ignore[return-value]
    return "frozen"


def led(row: GeneEffect, by: Leading) -> GeneEffect | None:
    """The gene with the leading column's mean and interval in the place of its frozen attribution; None where
    it has none."""
    if by == "frozen":
        return row
    found = getattr(row, by)
    if found is None:
        return None
    return row._replace(effect=found.mean, low=found.low, high=found.high, sd=0.0, n_cells=found.n)
