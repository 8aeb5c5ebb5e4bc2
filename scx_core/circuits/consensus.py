"""The circuit of a cell type: what is common to the circuits of many cells (method §8).

First each cell's circuit has its positions merged: a feature is (layer, number), a token becomes its gene (or
the prompt), errors are one node a layer; edges between the same merged nodes are added up. Then all means run
over all cells, with 0 where a cell's circuit does not hold the node or edge; intervals are of 95%,
Student's t over donors, over cells the inverted permutation test with a bootstrap-t (resampling.py); p and q
test each mean (hypothesis_tests.py).
Legend: C cells, G genes, M merged nodes, E edges, R features by place (see ByPlace).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node, Scope, Target
from scx_core.circuits.feature_names import BOS, FROM_CIRCUIT, ByPlace, added_up, named_nodes
from scx_core.language.patterns import KEPT
from scx_core.runs.options import option
from scx_core.statistics.hypothesis_tests import (
    Q,
    family,
    least_t,
    null_split,
    p_values,
    q_values,
    smallest_p,
    test_name,
)
from scx_core.statistics.resampling import Sampling, interval_words, one_group


class Merged(NamedTuple):
    """`nodes`: what a merged node is, by id (no position, no numbers). `value_M3`: activation, influence,
    effect, summed over positions. `weight_MM[target, source]` are signed edges, `edge_MM` where there is one.
    `active`: each feature's activation by place, at every token of the prompt; `stands`: the part of it that
    is in the circuit; `added`: what the tokens of each place add to that over all paths. `genes`: gene →
    (effect, rank in the sentence). `rival_shares`: as in `Target`. `patterns`: how the cell's attention
    patterns were held (language/patterns.py)."""

    nodes: dict[str, Node]
    value_M3: np.ndarray
    weight_MM: np.ndarray
    edge_MM: np.ndarray
    active: ByPlace
    stands: ByPlace
    added: ByPlace
    genes: dict[str, tuple[float, float]]
    value: float
    scores: dict[str, float]
    max_relative_error: float
    rival_shares: tuple[float, ...] = ()
    patterns: str = KEPT


def merged_node(node: Node) -> Node:
    """The node without its position; a gene's tokens share one id, so do the tokens of the prompt.
    The token of beginning is no word of the prompt: it keeps a node of its own."""
    if node.kind == "feature":
        return Node(f"f:{node.layer}:{node.feature}", "feature", node.layer, None, node.feature)
    if node.kind == "error":
        return Node(f"e:{node.layer}", "error", node.layer)
    if node.kind == "embedding" and node.name_kind == BOS:
        return Node(BOS, "embedding", name=node.name, name_kind=BOS)
    if node.kind == "embedding":
        return Node(f"gene:{node.gene}" if node.gene else "prompt", "embedding", gene=node.gene)
    return Node(node.id, node.kind)


def merge(nodes: Iterable[Node], edges: tuple[np.ndarray, np.ndarray, np.ndarray], **rest) -> Merged:
    """Merge nodes; edges are three arrays: index of the target node, of the source node, weight."""
    kept: dict[str, Node] = {}
    place: list[int] = []
    number: dict[str, int] = {}
    values: list[tuple[float, float, float]] = []
    for node in nodes:
        one = merged_node(node)
        kept.setdefault(one.id, one)
        place.append(number.setdefault(one.id, len(number)))
        values.append((node.activation or 0.0, node.influence, node.effect))
    at = np.array(place, dtype=np.int64)
    value_M3 = np.zeros((len(kept), 3))
    np.add.at(value_M3, at, np.array(values).reshape(-1, 3))
    weight_MM = np.zeros((len(kept), len(kept)))
    edge_MM = np.zeros((len(kept), len(kept)), dtype=bool)
    target, source, weight = edges
    np.add.at(weight_MM, (at[target], at[source]), weight)
    edge_MM[at[target], at[source]] = True
    return Merged(kept, value_M3, weight_MM, edge_MM, **rest)


@dataclass(frozen=True)
class ConsensusConfig:
    """How the circuit of a cell type is made from many cells."""

    cells: int = option(30, "Cells of the type, drawn with the seed", minimum=2)
    min_share: float = option(
        0.3, "Keep features and edges that this share of the cells holds", minimum=0.0, maximum=1.0
    )
    nodes: int = option(192, "Features a cell that may become nodes", minimum=1)
    choice: str = option(
        "effect",
        "They are those with the largest total effect (faster), or with the most influence; the features "
        "that many cells share are nearly the same",
        choices=("effect", "influence"),
    )
    seed: int = option(0, "Seed that draws the cells and the bootstrap", minimum=0)
    method: str = option(
        "auto",
        "Each cell's whole circuit (circuits); or gene and feature effects of all cells first, then edges "
        "only between features that enough cells share, each cell kept on disk (two-steps); auto: two-steps "
        "from about 100 million parameters on",
        choices=("auto", "circuits", "two-steps"),
    )


_ORDER = {"feature": 0, "error": 1, "embedding": 2, "bias": 3, "target": 4}
_FAMILIES = {"feature": "features", "embedding": "tokens", "error": "errors"}


class _Tests:
    """p and q of one family after another, and the record of them that goes into the provenance."""

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling, self.seed = sampling, seed
        self.families: dict[str, dict[str, Any]] = {}

    def of(self, name: str, value_CX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p and q of every column, tested as one family. Of two groups, random halves of the first beside."""
        p_X = p_values(self.sampling, value_CX, self.seed)
        q_X = q_values(p_X)
        self.families[name] = {"tested": len(p_X), "found": int((q_X < Q).sum())}
        if self.sampling.n_groups == 2:
            first_C = self.sampling.group_C == 0
            donors = self.sampling.unit_C[first_C] if self.sampling.kind == "donors" else None
            split = null_split(value_CX[first_C], self.seed, donors)
            self.families[name]["null_split"] = split.to_json() if split else None
        return p_X, q_X

    def record(self) -> dict[str, Any]:
        """What was tested, on which units, by which rule."""
        sampling = self.sampling
        return {
            "unit": sampling.kind,
            "units": list(sampling.units_G),
            "note": sampling.note,
            "interval": interval_words(sampling.kind),
            "tested": "both means are equal" if sampling.n_groups == 2 else "the mean is 0",
            "test": test_name(sampling),
            "smallest_p": smallest_p(sampling),
            "least_t": least_t(sampling, self.families.get("genes", {}).get("tested", 0)),
            "called_below_q": Q,
            "families": self.families,
        }


def _nodes(cells: Sequence[Merged], min_share: float, sampling: Sampling, tests: _Tests) -> list[Node]:
    """The nodes that enough cells hold, in a stable order. Features are one family of tests, tokens and
    errors two others."""
    about: dict[str, Node] = {}
    for cell in cells:
        for name, node in cell.nodes.items():
            about.setdefault(name, node)
    names = list(about)
    column = {name: j for j, name in enumerate(names)}
    value_CM3 = np.zeros((len(cells), len(names), 3))
    held_CM = np.zeros((len(cells), len(names)), dtype=bool)
    for c, cell in enumerate(cells):
        own = [column[name] for name in cell.nodes]
        value_CM3[c, own], held_CM[c, own] = cell.value_M3, True
    share_M, mean_M3 = sampling.share(held_CM), np.tensordot(sampling.weight_C, value_CM3, 1)
    p_M, q_M = np.full(len(names), np.nan), np.full(len(names), np.nan)
    enough_M = family(held_CM, sampling, min_share)
    for kind, of in _FAMILIES.items():
        at = np.flatnonzero(enough_M & [about[name].kind == kind for name in names])
        p_M[at], q_M[at] = tests.of(of, value_CM3[:, at, 2])
    # Of all names most are features of few cells, which are not shown.
    shown_N = [
        j
        for name, j in column.items()
        if about[name].kind not in ("feature", "embedding") or share_M[j] >= min_share
    ]
    effect, out = sampling.of(value_CM3[:, shown_N, 2]), []
    for n, j in enumerate(shown_N):
        node = about[names[j]]
        out.append(
            node._replace(
                activation=float(mean_M3[j, 0]),
                influence=float(value_CM3[:, j, 1].mean()),
                effect=float(mean_M3[j, 2]),
                share=float(share_M[j]),
                sd=float(effect.sd[n]),
                n_cells=int(held_CM[:, j].sum()),
                low=float(effect.low[n]),
                high=float(effect.high[n]),
                p=_known(p_M[j]),
                q=_known(q_M[j]),
            )
        )
    features = [node.id for node in out if node.kind == "feature"]
    sums = (added_up([getattr(c, key) for c in cells], features) for key in ("active", "stands", "added"))
    named = named_nodes(out, *sums)
    return sorted(named, key=lambda node: (_ORDER[node.kind], node.layer or 0, -node.influence, node.id))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _edges(
    cells: Sequence[Merged], nodes: Sequence[Node], min_share: float, sampling: Sampling, tests: _Tests
) -> list[Edge]:
    """The edges between these nodes that enough cells hold, by source and target; one family of tests."""
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
    shown_MM = (share_MM > 0) & (share_MM >= min_share - 1e-9)
    n_MM = np.tensordot(size_G, held_GMM, 1)
    target_E, source_E = np.nonzero(n_MM >= max(1.0, min_share * size_G.min()) - 1e-9)
    value_CE = np.zeros((len(cells), len(target_E)))
    for c, (cell, (local, common)) in enumerate(zip(cells, places, strict=True)):
        weight_MM = np.zeros((m, m))
        weight_MM[np.ix_(common, common)] = (cell.weight_MM * cell.edge_MM)[np.ix_(local, local)]
        value_CE[c] = weight_MM[target_E, source_E]
    p_E, q_E = tests.of("edges", value_CE)
    shown_E = shown_MM[target_E, source_E]
    target_E, source_E, p_E, q_E = target_E[shown_E], source_E[shown_E], p_E[shown_E], q_E[shown_E]
    found = sampling.of(value_CE[:, shown_E])
    rows = [
        Edge(
            nodes[s].id,
            nodes[t].id,
            float(found.mean[e]),
            float(min(1.0, share_MM[t, s])),
            float(found.sd[e]),
            float(found.low[e]),
            float(found.high[e]),
            float(p_E[e]),
            float(q_E[e]),
        )
        for e, (t, s) in enumerate(zip(target_E.tolist(), source_E.tolist(), strict=True))
    ]
    return sorted(rows, key=lambda edge: (edge.source, edge.target))


def consensus_genes(
    cells: Sequence[dict[str, tuple[float, float]]], sampling: Sampling, tests: _Tests | None = None
) -> list[GeneEffect]:
    """Gene effects over cells, strongest first. Each cell maps its genes to (effect, rank). All genes that
    any cell holds are one family of tests."""
    names = sorted({gene for cell in cells for gene in cell})
    column = {gene: j for j, gene in enumerate(names)}
    effect_CG = np.zeros((len(cells), len(names)))
    rank_CG = np.full((len(cells), len(names)), np.nan)
    for c, cell in enumerate(cells):
        for gene, (effect, rank) in cell.items():
            effect_CG[c, column[gene]], rank_CG[c, column[gene]] = effect, rank
    held_CG, found = ~np.isnan(rank_CG), sampling.of(effect_CG)
    rank_G, share_G = np.nanmean(rank_CG, 0), sampling.share(held_CG)
    p_G, q_G = (tests or _Tests(sampling, 0)).of("genes", effect_CG)
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
            p=float(p_G[j]),
            q=float(q_G[j]),
        )
        for gene, j in column.items()
    ]
    return sorted(rows, key=lambda row: (-row.effect, row.gene))


def _score(key: str, found: Sequence[float], sampling: Sampling) -> float:
    """What is in the target's unit is subtracted where the circuits are; shares are means over all cells."""
    in_units = key == "value" or key.endswith("_effect")
    return float(sampling.weight_C @ np.array(found)) if in_units else float(np.mean(found))


def patterns_said(patterns_C: Sequence[str]) -> dict[str, str]:
    """For a provenance: how long prompts' attention patterns were held, and in how many cells where not in
    all; nothing where all were kept, as nearly all are."""
    n_of = Counter(way for way in patterns_C if way != KEPT)
    if not n_of:
        return {}
    if n_of.total() == len(patterns_C) and len(n_of) == 1:
        return {"attention_patterns": patterns_C[0]}
    ways = (f"{way} in {n} of {len(patterns_C)} cells" for way, n in sorted(n_of.items()))
    return {"attention_patterns": ", ".join(ways)}


def statistics_circuit(
    scope: Scope,
    cells: Sequence[Merged],
    sampling: Sampling,
    target: Target,
    min_share: float,
    seed: int,
    provenance: dict[str, Any],
) -> Circuit:
    """A circuit whose numbers are statistics over cells; `provenance["statistics"]` says what was tested."""
    tests = _Tests(sampling, seed)
    genes = consensus_genes([cell.genes for cell in cells], sampling, tests)
    nodes = _nodes(cells, min_share, sampling, tests)
    edges = _edges(cells, nodes, min_share, sampling, tests)
    linked = {edge.source for edge in edges} | {edge.target for edge in edges} | {"target", "bias"}
    value = sampling.of(np.array([[cell.value] for cell in cells]))
    scores = {key: _score(key, [cell.scores[key] for cell in cells], sampling) for key in cells[0].scores}
    # the mean share of each competitor over cells; none where the cells' targets know none
    shares = [cell.rival_shares for cell in cells]
    same = len({len(one) for one in shares}) == 1
    return Circuit(
        scope=scope,
        target=target._replace(
            position=None,
            value=float(value.mean[0]),
            rival_shares=(tuple(np.mean(shares, 0).tolist()) if same else ()),
            branches=(),
        ),
        genes=tuple(genes),
        nodes=tuple(node for node in nodes if node.id in linked),
        edges=tuple(edges),
        scores=scores | {"value_sd": float(value.sd[0])},
        accounting={"max_relative_error": max(cell.max_relative_error for cell in cells)},
        provenance=provenance
        | {"statistics": tests.record(), "names": FROM_CIRCUIT}
        | patterns_said([cell.patterns for cell in cells]),
        n_cells=len(cells),
    )


def combine(
    cells: Sequence[Merged],
    target: Target,
    min_share: float,
    seed: int,
    provenance: dict[str, Any],
    donors: Sequence[str] | None = None,
) -> Circuit:
    """The consensus of the merged circuits of cells that were traced for one target; `donors` of the cells,
    where they are known."""
    sampling = one_group(len(cells), seed, donors)
    return statistics_circuit("consensus", cells, sampling, target, min_share, seed, provenance)
