"""The genes of a circuit as a table: frozen attribution, what the real model loses, tests, markers."""

from __future__ import annotations

from scx_core.circuits import Circuit
from scx_core.figures.drawing.text import plain
from scx_core.figures.report.parts import Table
from scx_core.figures.table import gene_table, markers_of

GENES = 20  # rows that are shown; a file has all
_MEASURED = {
    "lost without it (neutral gene)": "knockout_gap",
    "lost without it (taken out)": "knockout_text",
    "estimated loss": "estimated_knockout",
}


def genes_part(circuit: Circuit, note: str, most: int | None = GENES) -> Table:
    """The genes by the size of their frozen attribution. In one cell there is nothing to test."""
    genes = gene_table(circuit, *markers_of(circuit))
    genes = genes.astype(object).where(genes.notna(), None)
    columns: list[tuple[str, tuple[str, ...]]] = [
        ("gene", ("gene",)),
        (f"frozen attribution, {plain(circuit.target.unit, 20)}", ("frozen_attribution", "low", "high")),
    ]
    measured = {title: key for title, key in _MEASURED.items() if key in genes}
    columns += [(title, (key, f"{key}_low", f"{key}_high")) for title, key in measured.items()]
    columns += [("n", ("knockout_gap_n",))] if "knockout_gap_n" in genes else []
    if circuit.scope != "cell":
        columns += [("q", ("q",)), ("in cells", ("share_of_cells",))]
    columns += [("tested", ("direction",))] if circuit.scope == "difference" else []
    columns += [("rank", ("rank",))] if circuit.scope == "cell" else []
    columns += [("marker", ("known_marker",))]
    strongest = sorted(genes.to_dict("records"), key=lambda row: -abs(row["frozen_attribution"]))
    rows = tuple({str(key): value for key, value in row.items()} for row in strongest)
    title = "Genes with what the real model loses without them" if measured else "Genes"
    return Table("genes", title, note, tuple(columns), rows, most)
