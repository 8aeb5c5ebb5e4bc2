"""The circuit of a cell type: what is common to the circuits of many cells (method §8).

All means run over all cells, with 0 where a cell's circuit does not hold the node or edge; intervals are
95% percentile bootstraps over cells.
Legend: C cells, G genes, M merged nodes, E edges, B bootstraps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node, Target
from scx_core.circuits.merged import Merged, merged_circuit

BOOTSTRAPS = 1000
_ORDER = {"feature": 0, "error": 1, "embedding": 2, "bias": 3, "target": 4}


class Statistics(NamedTuple):
    """Statistics over cells, one value a column."""

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray


def resamples(n_cells: int, seed: int) -> np.ndarray:
    """How often each bootstrap holds each cell, as shares, [B, C]."""
    return np.random.default_rng(seed).multinomial(n_cells, [1 / n_cells] * n_cells, BOOTSTRAPS) / n_cells


def statistics(value_CX: np.ndarray, draw_BC: np.ndarray) -> Statistics:
    """Mean, sd and interval of every column."""
    low, high = np.percentile(draw_BC @ value_CX, [2.5, 97.5], axis=0)
    sd = value_CX.std(0, ddof=1) if len(value_CX) > 1 else np.zeros(value_CX.shape[1])
    return Statistics(value_CX.mean(0), sd, low, high)


def _nodes(cells: Sequence[Merged], min_share: float, draw_BC: np.ndarray) -> list[Node]:
    """The nodes that enough cells hold, in a stable order."""
    about: dict[str, Node] = {}
    count: dict[str, int] = {}
    for cell in cells:
        for name, node in cell.nodes.items():
            about.setdefault(name, node)
            count[name] = count.get(name, 0) + 1
    n = len(cells)
    rare = ("feature", "embedding")
    names = [x for x, node in about.items() if node.kind not in rare or count[x] / n >= min_share]
    column = {name: j for j, name in enumerate(names)}
    value_CM3 = np.zeros((n, len(names), 3))
    reads: dict[str, dict[str, float]] = {name: {} for name in names}
    for c, cell in enumerate(cells):
        for i, name in enumerate(cell.nodes):
            if name in column:
                value_CM3[c, column[name]] = cell.value_M3[i]
        for name, mass in cell.reads.items():
            if name in column:
                for gene, activation in mass.items():
                    reads[name][gene] = reads[name].get(gene, 0.0) + activation
    mean_M3, effect = value_CM3.mean(0), statistics(value_CM3[:, :, 2], draw_BC)
    out = []
    for name, j in column.items():
        node, genes = about[name], reads[name]
        gene = max(genes, key=lambda g: (genes[g], g)) if genes else node.gene
        out.append(
            node._replace(
                gene=gene,
                activation=float(mean_M3[j, 0]),
                influence=float(mean_M3[j, 1]),
                effect=float(mean_M3[j, 2]),
                share=count[name] / n,
                sd=float(effect.sd[j]),
                n_cells=count[name],
                low=float(effect.low[j]),
                high=float(effect.high[j]),
            )
        )
    return sorted(out, key=lambda node: (_ORDER[node.kind], node.layer or 0, -node.influence, node.id))


def _edges(
    cells: Sequence[Merged], nodes: Sequence[Node], min_share: float, draw_BC: np.ndarray
) -> list[Edge]:
    """The edges between these nodes that enough cells hold, by source and target."""
    n, m = len(cells), len(nodes)
    column = {node.id: j for j, node in enumerate(nodes)}
    places = []
    held_MM = np.zeros((m, m), dtype=np.int64)
    for cell in cells:
        pairs = [(i, column[name]) for i, name in enumerate(cell.nodes) if name in column]
        local, common = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        places.append((local, common))
        held_MM[np.ix_(common, common)] += cell.edge_MM[np.ix_(local, local)]
    target_E, source_E = np.nonzero((held_MM > 0) & (held_MM / n >= min_share))
    value_CE = np.zeros((n, len(target_E)))
    for c, (cell, (local, common)) in enumerate(zip(cells, places, strict=True)):
        weight_MM = np.zeros((m, m))
        weight_MM[np.ix_(common, common)] = (cell.weight_MM * cell.edge_MM)[np.ix_(local, local)]
        value_CE[c] = weight_MM[target_E, source_E]
    found = statistics(value_CE, draw_BC)
    rows = [
        Edge(
            nodes[s].id,
            nodes[t].id,
            float(found.mean[e]),
            float(held_MM[t, s] / n),
            float(found.sd[e]),
            float(found.low[e]),
            float(found.high[e]),
        )
        for e, (t, s) in enumerate(zip(target_E.tolist(), source_E.tolist(), strict=True))
    ]
    return sorted(rows, key=lambda edge: (edge.source, edge.target))


def consensus_genes(cells: Sequence[dict[str, tuple[float, float]]], seed: int) -> list[GeneEffect]:
    """Gene effects over cells, strongest first. Each cell maps its genes to (effect, rank)."""
    names = sorted({gene for cell in cells for gene in cell})
    column = {gene: j for j, gene in enumerate(names)}
    effect_CG = np.zeros((len(cells), len(names)))
    rank_CG = np.full((len(cells), len(names)), np.nan)
    for c, cell in enumerate(cells):
        for gene, (effect, rank) in cell.items():
            effect_CG[c, column[gene]], rank_CG[c, column[gene]] = effect, rank
    found = statistics(effect_CG, resamples(len(cells), seed))
    held, rank = (~np.isnan(rank_CG)).sum(0), np.nanmean(rank_CG, 0)
    rows = [
        GeneEffect(
            gene,
            float(found.mean[j]),
            float(rank[j]),
            int(held[j]),
            float(found.sd[j]),
            float(held[j] / len(cells)),
            float(found.low[j]),
            float(found.high[j]),
        )
        for gene, j in column.items()
    ]
    return sorted(rows, key=lambda row: (-row.effect, row.gene))


def combine(
    cells: Sequence[Merged], target: Target, min_share: float, seed: int, provenance: dict[str, Any]
) -> Circuit:
    """The consensus of the merged circuits of cells that were traced for one target."""
    draw_BC = resamples(len(cells), seed)
    nodes = _nodes(cells, min_share, draw_BC)
    edges = _edges(cells, nodes, min_share, draw_BC)
    linked = {edge.source for edge in edges} | {edge.target for edge in edges} | {"target", "bias"}
    value_C = np.array([cell.value for cell in cells])
    scores = {key: float(np.mean([cell.scores[key] for cell in cells])) for key in cells[0].scores}
    return Circuit(
        scope="consensus",
        target=target._replace(position=None, value=float(value_C.mean())),
        genes=tuple(consensus_genes([cell.genes for cell in cells], seed)),
        nodes=tuple(node for node in nodes if node.id in linked),
        edges=tuple(edges),
        scores=scores | {"value_sd": float(value_C.std(ddof=1)) if len(value_C) > 1 else 0.0},
        accounting={"max_relative_error": max(cell.max_relative_error for cell in cells)},
        provenance=provenance,
        n_cells=len(cells),
    )


def combine_circuits(
    circuits: Sequence[Circuit], min_share: float, seed: int, provenance: dict[str, Any]
) -> Circuit:
    """The consensus of single-cell circuits, as traced or as read from files."""
    return combine([merged_circuit(one) for one in circuits], circuits[0].target, min_share, seed, provenance)
