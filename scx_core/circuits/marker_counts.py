"""Known markers among a circuit's strongest genes, never alone: beside two rankings that need no model.

A count of markers says nothing by itself: genes that are merely high in a type are its markers as well. So it
stands beside the count among as many genes by differential expression (Welch's t, the type against all other
labelled cells of the table) and among the highest expressed (mean place in the sentences of the circuit's own
cells). The counts travel in the circuit's provenance, under `marker_counts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scx_core.cells import CellTable, known_markers
from scx_core.cells.differential import differential_genes, type_sizes
from scx_core.cells.markers import shared_markers
from scx_core.circuits.circuit import Circuit

STRONGEST = 10
KEY = "marker_counts"


class MarkerCounts(NamedTuple):
    """How many of the `genes` strongest of each ranking are among the `listed` known markers of a type.

    `cells`: those of the circuit, and of the expression ranking; `type_cells` and `other_cells`: those of the
    differential expression. `..._shared`: how many of those found are on another type's list as well; None in
    older files.
    """

    cell_type: str
    genes: int
    listed: int
    circuit: int
    differential_expression: int
    highest_expression: int
    cells: int
    type_cells: int
    other_cells: int
    circuit_shared: int | None = None
    differential_shared: int | None = None
    highest_shared: int | None = None


def marker_counts(
    circuit: Circuit, table: CellTable, label: str, n_genes: int, n: int = STRONGEST
) -> MarkerCounts | None:
    """Of a circuit of cells of the type `label`, whose sentences have `n_genes`; None without a marker list,
    where no answer is explained, or where the table has no such type."""
    known = known_markers(label)
    if known is None or not circuit.target.answer or label not in table.types:
        return None
    strongest = [row.gene for row in sorted(circuit.genes, key=lambda row: (-row.effect, row.gene))]
    raised = {row.gene for row in circuit.genes if row.effect > 0}
    places = {row.gene: row.share * row.rank + (1 - row.share) * (n_genes + 1) for row in circuit.genes}
    rankings: Sequence[Sequence[str]] = (
        [gene for gene in strongest if gene in raised][:n],
        differential_genes(table, label, n),
        sorted(places, key=lambda gene: (places[gene], gene))[:n],
    )
    own, de, expressed = (sum(gene in known.genes for gene in genes) for genes in rankings)
    others_too = shared_markers(label)
    shared = [sum(gene in others_too for gene in genes) for genes in rankings]
    sizes = type_sizes(table)
    of_type, others = sizes.pop(label), sum(sizes.values())
    counts = (own, de, expressed, circuit.n_cells, of_type, others)
    return MarkerCounts(label, n, len(known.genes), *counts, *shared)


def with_marker_counts(circuit: Circuit, table: CellTable, label: str, n_genes: int) -> Circuit:
    """The circuit with its counts in the provenance; itself where the type has no list of markers."""
    found = marker_counts(circuit, table, label, n_genes)
    if found is None:
        return circuit
    return circuit._replace(provenance=circuit.provenance | {KEY: found._asdict()})


def counts_of(circuit: Circuit) -> MarkerCounts | None:
    """The counts that a circuit carries; None without any that can be read: a file may be anyone's."""
    held: Any = circuit.provenance.get(KEY)
    fields: tuple[str, ...] = MarkerCounts._fields
    if not isinstance(held, Mapping) or set(held) not in (set(fields), set(fields[:-3])):
        return None
    if all(held.get(name) is None for name in fields[-3:]):
        fields = fields[:-3]
    numbers = [held[name] for name in fields[1:]]
    if not all(isinstance(number, int) and 0 <= number < 2**31 for number in numbers):
        return None
    return MarkerCounts(str(held["cell_type"]), *numbers)


def count_words(found: MarkerCounts, full: bool = True) -> str:
    """ "known markers among the 10 strongest genes: 8 of the circuit, 6 by differential expression, 8 of the
    highest expressed", and from how many cells."""
    words = (
        f"known markers among the {found.genes} strongest genes: {found.circuit} of the circuit, "
        f"{found.differential_expression} by differential expression, {found.highest_expression} of the "
        "highest expressed"
    )
    if found.circuit_shared is not None:
        words += (
            f"; of these {found.circuit_shared}, {found.differential_shared} and {found.highest_shared} mark "
            f"other types as well; {found.genes} genes a ranking, so no interval"
        )
    else:
        words += f"; {found.genes} genes a ranking, so no interval"
    if not full:
        return words
    return (
        f"{words} (n = {found.cells}; {found.type_cells} against {found.other_cells}; {found.listed} listed)"
    )
