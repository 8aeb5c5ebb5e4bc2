"""What a feature of a circuit is called, and what drives it: two things, kept apart.

The *name* says what the feature is active at. From the circuit alone that is where its activation lies in
these cells: the gene that holds at least `GENE_SHARE` of it, else the prompt's words, the answer's place or
many genes. An atlas of the same features knows more, and its names (`NameBook`) take their place; which of
the two it was stands in the circuit's provenance. *Driven by* is the gene whose tokens add most to the
feature over all paths of the frozen model. The two differ wherever attention carries a gene's trace to
another token.

Activation at position 0 is left out, as in an atlas: some models park attention there.
Legend: R rows (features), P places: the genes, then the prompt's words, then the answer's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits.circuit import Circuit, Node

GENE_SHARE = 0.25  # of a feature's activation at a gene, to be named after it
PROMPT_WORD, ANSWER_POSITION, MANY_GENES = "prompt word", "answer position", "many genes"
GENE, PROMPT, ANSWER, MANY = "gene", "prompt", "answer", "many genes"  # kinds of name without an atlas
# The token of beginning that some tokenizers add is no text: a node of its own kind.
BOS, BOS_NAME = "bos", "start of text"
FROM_CIRCUIT = "names from this circuit"


class FeatureName(NamedTuple):
    """`text` in a few words, `kind`: what the feature is active at (gene, family, prompt, …), `share`: how
    much of its activation the name stands for (0 to 1, None where nobody measured it), `source`: who says
    so."""

    text: str
    kind: str
    share: float | None
    source: str


class NameBook(NamedTuple):
    """Names by (layer, feature) and where they are from, as the provenance states it."""

    source: str
    names: Mapping[tuple[int, int], FeatureName]


def name_in(book: NameBook | None, layer: int, feature: int) -> str | None:
    """What a book calls a feature; None without a book, or where it has no name for it."""
    found = book.names.get((layer, feature)) if book is not None else None
    return found.text if found is not None else None


def sourced(provenance: dict[str, Any], book: NameBook | None) -> dict[str, Any]:
    """The provenance of a result that names features by a book."""
    return provenance if book is None else provenance | {"names": book.source}


class ByPlace(NamedTuple):
    """Amounts by place, `sum_RP`: a row each of `rows` (ids of merged nodes), a column a gene, then the
    prompt's words, then the answer's place."""

    rows: tuple[str, ...]
    genes: tuple[str, ...]
    sum_RP: np.ndarray


class Where(NamedTuple):
    """Where the activation of a feature lies. `share`: of all its activation, at `gene` or the place."""

    text: str
    kind: str
    share: float
    gene: str | None = None


def where_active(mass_P: np.ndarray, genes: Sequence[str]) -> Where | None:
    """The place of a feature's activation: the largest of genes, prompt and answer; of genes the one that
    holds `GENE_SHARE` of all, if one does. None where there is no activation at all."""
    mass_P = np.maximum(mass_P, 0.0)
    total = float(mass_P.sum())
    if total <= 0:
        return None
    at_genes, prompt, answer = float(mass_P[:-2].sum()), float(mass_P[-2]), float(mass_P[-1])
    if answer >= max(at_genes, prompt):
        return Where(ANSWER_POSITION, ANSWER, answer / total)
    if prompt >= at_genes:
        return Where(PROMPT_WORD, PROMPT, prompt / total)
    best = int(mass_P[:-2].argmax())
    if mass_P[best] >= GENE_SHARE * total:
        return Where(genes[best], GENE, float(mass_P[best]) / total, genes[best])
    return Where(MANY_GENES, MANY, at_genes / total)


def where_in_cell(position: Where, gene: str | None, token: str | None) -> Where:
    """The place of one node of one cell, which stands at one token. `position.share`: of the feature's
    activation in this cell at that gene or place."""
    if gene is None:
        text = f"{position.text} “{token.strip()}”" if token and token.strip() else position.text
        return position._replace(text=text)
    if position.share >= GENE_SHARE:
        return position
    return position._replace(text=f"{MANY_GENES}, here {gene}", kind=MANY)


def drivers(added_RP: np.ndarray, genes: Sequence[str]) -> list[tuple[str, float] | None]:
    """For each row the gene that adds most, with its share of all that tokens add (what they take away is
    left out); None where no gene adds anything."""
    added_RP = np.maximum(added_RP, 0.0)
    if added_RP.shape[1] < 3:
        return [None] * len(added_RP)
    best_R, total_R = added_RP[:, :-2].argmax(1), added_RP.sum(1)
    return [
        (genes[best], float(added_RP[r, best] / total_R[r])) if added_RP[r, best] > 0 else None
        for r, best in enumerate(best_R.tolist())
    ]


def added_up(tables: Sequence[ByPlace], rows: Sequence[str]) -> ByPlace:
    """The sum of tables over some rows; a table without a row adds nothing to it."""
    genes = sorted({gene for table in tables for gene in table.genes})
    place = {gene: p for p, gene in enumerate(genes)}
    number = {name: r for r, name in enumerate(rows)}
    sum_RP = np.zeros((len(rows), len(genes) + 2))
    for table in tables:
        here = [(r, number[name]) for r, name in enumerate(table.rows) if name in number]
        columns = [*(place[gene] for gene in table.genes), len(genes), len(genes) + 1]
        own, common = np.array(here, dtype=np.int64).reshape(-1, 2).T
        sum_RP[np.ix_(common, np.array(columns))] += table.sum_RP[own]
    return ByPlace(tuple(rows), tuple(genes), sum_RP)


def named_nodes(nodes: Sequence[Node], active: ByPlace, stands: ByPlace, added: ByPlace) -> list[Node]:
    """Merged nodes with the names of their features from these cells, and with what drives them.

    A feature is named by all of its activation in the prompts (`active`); `active_at` is where the part of it
    stands that the circuits hold.
    """
    row = {name: r for r, name in enumerate(active.rows)}
    driver_R = drivers(added.sum_RP, added.genes)
    out = []
    for node in nodes:
        if node.kind == "feature":
            r = row[node.id]
            found = where_active(active.sum_RP[r], active.genes)
            node = with_where(node._replace(gene=found.gene if found else None), found, driver_R[r])
            here = where_active(stands.sum_RP[r], stands.genes)
            if here is not None:
                node = node._replace(active_at=here.text, active_share=here.share)
        out.append(node)
    return out


def with_where(node: Node, where: Where | None, driver: tuple[str, float] | None) -> Node:
    """The node with a name from this circuit alone, and with its driver."""
    if driver is not None:
        node = node._replace(driven_by=driver[0], driven_share=driver[1])
    if where is None:
        return node
    return node._replace(
        name=where.text,
        name_kind=where.kind,
        name_share=where.share,
        name_source="circuit",
        active_at=where.text,
        active_share=where.share,
    )


def with_names(circuit: Circuit, book: NameBook | None, ids: str = "") -> Circuit:
    """The circuit with the names of a book where it has one; all others keep the name from the circuit.

    `ids`: only nodes whose id begins so. The provenance says where names are from. Without a book they stay.
    """
    if book is None:
        return circuit
    nodes = tuple(_from_book(node, book) if node.id.startswith(ids) else node for node in circuit.nodes)
    before = str(circuit.provenance.get("names") or "")
    kept = ids and before and before not in (FROM_CIRCUIT, book.source)
    source = f"{before}; {book.source}" if kept else book.source
    return circuit._replace(nodes=nodes, provenance=circuit.provenance | {"names": source})


def _from_book(node: Node, book: NameBook) -> Node:
    if node.kind != "feature" or node.layer is None or node.feature is None:
        return node
    found = book.names.get((node.layer, node.feature))
    if found is None:
        return node
    return node._replace(
        name=found.text, name_kind=found.kind, name_share=found.share, name_source=found.source
    )


def names_of(provenance: Mapping[str, Any]) -> str:
    """Where the names of a circuit are from, in words; empty where its file does not say."""
    return str(provenance.get("names") or "")
