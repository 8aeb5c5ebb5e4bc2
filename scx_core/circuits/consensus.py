"""The circuit of a cell type: what is common to the circuits of many cells (method §8).

All means run over all cells, with 0 where a cell's circuit does not hold the node or edge; intervals are
95% percentile bootstraps over cells.
Legend: C cells, G genes, M merged nodes, E edges, B bootstraps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node, Scope, Target
from scx_core.circuits.merged import Merged, merged_circuit

BOOTSTRAPS = 1000
_ORDER = {"feature": 0, "error": 1, "embedding": 2, "bias": 3, "target": 4}


class Statistics(NamedTuple):
    """Statistics over cells, one value a column."""

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Sampling(NamedTuple):
    """How cells are weighed: `weight_C` gives the mean, `draw_BC` a bootstrap's mean each, `group_C` the
    group of each cell. One group: its mean. Two: the mean of group 0 less that of group 1."""

    weight_C: np.ndarray
    draw_BC: np.ndarray
    group_C: np.ndarray
    paired: bool = False

    def of(self, value_CX: np.ndarray) -> Statistics:
        """Mean (or difference of means), sd and interval of every column."""
        low, high = np.percentile(self.draw_BC @ value_CX, [2.5, 97.5], axis=0)
        parts = [value_CX[self.group_C == group] for group in np.unique(self.group_C)]
        if self.paired:
            parts = [parts[0] - parts[1]]
        variance = [part.var(0, ddof=1) if len(part) > 1 else np.zeros(part.shape[1]) for part in parts]
        return Statistics(self.weight_C @ value_CX, np.sqrt(sum(variance)), low, high)

    def share(self, held_CX: np.ndarray) -> np.ndarray:
        """Share of the cells that hold each column; of two groups, that of the group where it is larger."""
        groups = np.unique(self.group_C)
        return np.max([held_CX[self.group_C == group].mean(0) for group in groups], axis=0)


def _draws(n_cells: int, seed: int) -> np.ndarray:
    """How often each bootstrap holds each cell, as shares, [B, C]."""
    return np.random.default_rng(seed).multinomial(n_cells, [1 / n_cells] * n_cells, BOOTSTRAPS) / n_cells


def one_group(n_cells: int, seed: int) -> Sampling:
    """The mean over cells."""
    return Sampling(np.full(n_cells, 1 / n_cells), _draws(n_cells, seed), np.zeros(n_cells, dtype=np.int64))


def two_groups(n_first: int, n_second: int, seed: int, paired: bool = False) -> Sampling:
    """First group less second. Paired: both are the same cells in the same order, drawn together."""
    first = _draws(n_first, seed)
    second = first if paired else _draws(n_second, seed + 1)
    weight_C = np.repeat([1 / n_first, -1 / n_second], [n_first, n_second])
    group_C = np.repeat([0, 1], [n_first, n_second])
    return Sampling(weight_C, np.hstack([first, -second]), group_C, paired)


def _nodes(cells: Sequence[Merged], min_share: float, sampling: Sampling) -> list[Node]:
    """The nodes that enough cells hold, in a stable order."""
    about: dict[str, Node] = {}
    for cell in cells:
        for name, node in cell.nodes.items():
            about.setdefault(name, node)
    names = list(about)
    column = {name: j for j, name in enumerate(names)}
    value_CM3 = np.zeros((len(cells), len(names), 3))
    held_CM = np.zeros((len(cells), len(names)), dtype=bool)
    reads: dict[str, dict[str, float]] = {name: {} for name in names}
    for c, cell in enumerate(cells):
        at = [column[name] for name in cell.nodes]
        value_CM3[c, at], held_CM[c, at] = cell.value_M3, True
        for name, mass in cell.reads.items():
            for gene, activation in mass.items():
                reads[name][gene] = reads[name].get(gene, 0.0) + activation
    share_M, mean_M3 = sampling.share(held_CM), np.tensordot(sampling.weight_C, value_CM3, 1)
    effect = sampling.of(value_CM3[:, :, 2])
    out = []
    for name, j in column.items():
        node, genes = about[name], reads[name]
        if node.kind in ("feature", "embedding") and share_M[j] < min_share:
            continue
        out.append(
            node._replace(
                gene=max(genes, key=lambda g: (genes[g], g)) if genes else node.gene,
                activation=float(mean_M3[j, 0]),
                influence=float(value_CM3[:, j, 1].mean()),
                effect=float(mean_M3[j, 2]),
                share=float(share_M[j]),
                sd=float(effect.sd[j]),
                n_cells=int(held_CM[:, j].sum()),
                low=float(effect.low[j]),
                high=float(effect.high[j]),
            )
        )
    return sorted(out, key=lambda node: (_ORDER[node.kind], node.layer or 0, -node.influence, node.id))


def _edges(
    cells: Sequence[Merged], nodes: Sequence[Node], min_share: float, sampling: Sampling
) -> list[Edge]:
    """The edges between these nodes that enough cells hold, by source and target."""
    m = len(nodes)
    column = {node.id: j for j, node in enumerate(nodes)}
    places = []
    held_GMM = np.zeros((int(sampling.group_C.max()) + 1, m, m))
    size_G = np.bincount(sampling.group_C)
    for cell, group in zip(cells, sampling.group_C.tolist(), strict=True):
        pairs = [(i, column[name]) for i, name in enumerate(cell.nodes) if name in column]
        local, common = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        places.append((local, common))
        held_GMM[group][np.ix_(common, common)] += cell.edge_MM[np.ix_(local, local)] / size_G[group]
    share_MM = held_GMM.max(0)
    # A share is a sum of 1/n here: without the margin, 3 of 10 cells would be less than 0.3.
    target_E, source_E = np.nonzero((share_MM > 0) & (share_MM >= min_share - 1e-9))
    value_CE = np.zeros((len(cells), len(target_E)))
    for c, (cell, (local, common)) in enumerate(zip(cells, places, strict=True)):
        weight_MM = np.zeros((m, m))
        weight_MM[np.ix_(common, common)] = (cell.weight_MM * cell.edge_MM)[np.ix_(local, local)]
        value_CE[c] = weight_MM[target_E, source_E]
    found = sampling.of(value_CE)
    rows = [
        Edge(
            nodes[s].id,
            nodes[t].id,
            float(found.mean[e]),
            float(min(1.0, share_MM[t, s])),
            float(found.sd[e]),
            float(found.low[e]),
            float(found.high[e]),
        )
        for e, (t, s) in enumerate(zip(target_E.tolist(), source_E.tolist(), strict=True))
    ]
    return sorted(rows, key=lambda edge: (edge.source, edge.target))


def consensus_genes(cells: Sequence[dict[str, tuple[float, float]]], sampling: Sampling) -> list[GeneEffect]:
    """Gene effects over cells, strongest first. Each cell maps its genes to (effect, rank)."""
    names = sorted({gene for cell in cells for gene in cell})
    column = {gene: j for j, gene in enumerate(names)}
    effect_CG = np.zeros((len(cells), len(names)))
    rank_CG = np.full((len(cells), len(names)), np.nan)
    for c, cell in enumerate(cells):
        for gene, (effect, rank) in cell.items():
            effect_CG[c, column[gene]], rank_CG[c, column[gene]] = effect, rank
    held_CG, found = ~np.isnan(rank_CG), sampling.of(effect_CG)
    rank_G, share_G = np.nanmean(rank_CG, 0), sampling.share(held_CG)
    rows = [
        GeneEffect(
            gene,
            float(found.mean[j]),
            float(rank_G[j]),
            int(held_CG[:, j].sum()),
            float(found.sd[j]),
            float(share_G[j]),
            float(found.low[j]),
            float(found.high[j]),
        )
        for gene, j in column.items()
    ]
    return sorted(rows, key=lambda row: (-row.effect, row.gene))


def _score(key: str, found: Sequence[float], sampling: Sampling) -> float:
    """What is in the target's unit is subtracted where the circuits are; shares are means over all cells."""
    in_units = key == "value" or key.endswith("_effect")
    return float(sampling.weight_C @ np.array(found)) if in_units else float(np.mean(found))


def statistics_circuit(
    scope: Scope,
    cells: Sequence[Merged],
    sampling: Sampling,
    target: Target,
    min_share: float,
    provenance: dict[str, Any],
) -> Circuit:
    """A circuit whose numbers are statistics over cells."""
    nodes = _nodes(cells, min_share, sampling)
    edges = _edges(cells, nodes, min_share, sampling)
    linked = {edge.source for edge in edges} | {edge.target for edge in edges} | {"target", "bias"}
    value = sampling.of(np.array([[cell.value] for cell in cells]))
    scores = {key: _score(key, [cell.scores[key] for cell in cells], sampling) for key in cells[0].scores}
    return Circuit(
        scope=scope,
        target=target._replace(position=None, value=float(value.mean[0])),
        genes=tuple(consensus_genes([cell.genes for cell in cells], sampling)),
        nodes=tuple(node for node in nodes if node.id in linked),
        edges=tuple(edges),
        scores=scores | {"value_sd": float(value.sd[0])},
        accounting={"max_relative_error": max(cell.max_relative_error for cell in cells)},
        provenance=provenance,
        n_cells=len(cells),
    )


def combine(
    cells: Sequence[Merged], target: Target, min_share: float, seed: int, provenance: dict[str, Any]
) -> Circuit:
    """The consensus of the merged circuits of cells that were traced for one target."""
    sampling = one_group(len(cells), seed)
    return statistics_circuit("consensus", cells, sampling, target, min_share, provenance)


def combine_circuits(
    circuits: Sequence[Circuit], min_share: float, seed: int, provenance: dict[str, Any]
) -> Circuit:
    """The consensus of single-cell circuits, as traced or as read from files."""
    return combine([merged_circuit(one) for one in circuits], circuits[0].target, min_share, seed, provenance)
