"""The circuit of a cell type: what is common to the circuits of many cells (method §8).

Positions are dropped: a feature is (layer, number), a token becomes its gene, errors are one node a layer.
All means run over all cells, with 0 where a cell's circuit does not hold the node or edge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node

BOOTSTRAPS = 1000


class _Sums(NamedTuple):
    """Per cell and key: sums over positions. Keys are the ids of the consensus."""

    nodes: list[dict[str, np.ndarray]]
    edges: list[dict[tuple[str, str], float]]
    about: dict[str, Node]
    reads: dict[str, dict[str, float]]


def _consensus_id(node: Node) -> str:
    if node.kind == "feature":
        return f"f:{node.layer}:{node.feature}"
    if node.kind == "error":
        return f"e:{node.layer}"
    if node.kind == "embedding":
        return f"gene:{node.gene}" if node.gene else "prompt"
    return node.id


def _add_cell(sums: _Sums, circuit: Circuit) -> None:
    """Sum one cell's nodes (activation, influence, effect) and edges over positions."""
    ids = {node.id: _consensus_id(node) for node in circuit.nodes}
    nodes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
    edges: dict[tuple[str, str], float] = defaultdict(float)
    for node in circuit.nodes:
        key = ids[node.id]
        nodes[key] += (node.activation or 0.0, node.influence, node.effect)
        sums.about.setdefault(key, node)
        if node.kind == "feature" and node.gene:
            sums.reads[key][node.gene] += node.activation or 0.0
    for edge in circuit.edges:
        edges[ids[edge.source], ids[edge.target]] += edge.weight
    sums.nodes.append(dict(nodes))
    sums.edges.append(dict(edges))


def _consensus_nodes(sums: _Sums, min_share: float) -> list[Node]:
    n = len(sums.nodes)
    out = []
    for key, first in sums.about.items():
        held = [cell[key] for cell in sums.nodes if key in cell]
        share = len(held) / n
        if share < min_share and first.kind in ("feature", "embedding"):
            continue
        values = np.zeros((n, 3))
        values[: len(held)] = held
        mean, sd = values.mean(0), float(values[:, 2].std(ddof=1)) if n > 1 else 0.0
        genes = sums.reads.get(key) or {}
        gene = max(genes, key=lambda g: (genes[g], g)) if genes else None
        if first.kind == "embedding":
            gene = first.gene
        out.append(
            Node(
                key,
                first.kind,
                first.layer,
                None,
                first.feature,
                gene,
                None,
                float(mean[0]),
                float(mean[1]),
                float(mean[2]),
                share,
                sd,
                len(held),
            )
        )
    order = {"feature": 0, "error": 1, "embedding": 2, "bias": 3, "target": 4}
    return sorted(out, key=lambda node: (order[node.kind], node.layer or 0, -node.influence, node.id))


def _consensus_edges(sums: _Sums, nodes: Iterable[Node], min_share: float) -> list[Edge]:
    n, alive = len(sums.edges), {node.id for node in nodes}
    weights: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in sums.edges:
        for key, weight in cell.items():
            if key[0] in alive and key[1] in alive:
                weights[key].append(weight)
    out = []
    for (source, target), held in sorted(weights.items()):
        if len(held) / n >= min_share:
            values = np.array(held + [0.0] * (n - len(held)))
            out.append(
                Edge(
                    source,
                    target,
                    float(values.mean()),
                    len(held) / n,
                    float(values.std(ddof=1)) if n > 1 else 0.0,
                )
            )
    return out


def consensus_genes(cells: list[dict[str, tuple[float, float]]], seed: int) -> list[GeneEffect]:
    """Gene effects over cells, strongest first. Each cell maps its genes to (effect, rank).

    The interval is a percentile bootstrap over cells, drawn with `seed`.
    """
    names = sorted({gene for cell in cells for gene in cell})
    column = {gene: j for j, gene in enumerate(names)}
    effect_CG = np.zeros((len(cells), len(names)))
    rank_CG = np.full((len(cells), len(names)), np.nan)
    for c, cell in enumerate(cells):
        for gene, (effect, rank) in cell.items():
            effect_CG[c, column[gene]], rank_CG[c, column[gene]] = effect, rank
    draws = np.random.default_rng(seed).multinomial(len(cells), [1 / len(cells)] * len(cells), BOOTSTRAPS)
    low, high = np.percentile(draws @ effect_CG / len(cells), [2.5, 97.5], axis=0)
    held = (~np.isnan(rank_CG)).sum(0)
    mean, rank = effect_CG.mean(0), np.nanmean(rank_CG, 0)
    sd = effect_CG.std(0, ddof=1) if len(cells) > 1 else np.zeros(len(names))
    rows = [
        GeneEffect(
            gene,
            float(mean[j]),
            float(rank[j]),
            int(held[j]),
            float(sd[j]),
            float(held[j] / len(cells)),
            float(low[j]),
            float(high[j]),
        )
        for gene, j in column.items()
    ]
    return sorted(rows, key=lambda row: (-row.effect, row.gene))


def combine(circuits: list[Circuit], min_share: float, seed: int, provenance: dict[str, Any]) -> Circuit:
    """The consensus of single-cell circuits of one target."""
    sums = _Sums([], [], {}, defaultdict(lambda: defaultdict(float)))
    for circuit in circuits:
        _add_cell(sums, circuit)
    nodes = _consensus_nodes(sums, min_share)
    edges = _consensus_edges(sums, nodes, min_share)
    linked = {edge.source for edge in edges} | {edge.target for edge in edges} | {"target", "bias"}
    values = np.array([circuit.target.value for circuit in circuits])
    scores = {key: float(np.mean([c.scores[key] for c in circuits])) for key in circuits[0].scores}
    return Circuit(
        scope="consensus",
        target=circuits[0].target._replace(position=None, value=float(values.mean())),
        genes=tuple(consensus_genes([{g.gene: (g.effect, g.rank) for g in c.genes} for c in circuits], seed)),
        nodes=tuple(node for node in nodes if node.id in linked),
        edges=tuple(edges),
        scores=scores | {"value_sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0},
        accounting={"max_relative_error": max(c.accounting["max_relative_error"] for c in circuits)},
        provenance=provenance,
        n_cells=len(circuits),
    )
