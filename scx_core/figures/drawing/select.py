"""Which part of a circuit a person sees: tokens merged into genes, then the strongest of everything.

1. Merge: all tokens of a gene are one group, the prompt's tokens one, a feature that fires at several
   tokens of the same gene one, the errors of a layer one, the biases one. Effects, influences and edges
   of merged nodes add up, as nodes of one layer do not feed each other.
2. Strength of an edge = share of its target's absolute input × influence of the target (method §6).
3. Keep the strongest genes, features and edges; every kept node keeps its strongest way up; what then
   leads nowhere is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from scx_core.circuits.circuit import Circuit, Node
from scx_core.circuits.feature_names import BOS
from scx_core.errors import ScxError

from .drawing import View

Pair = tuple[str, str]


class Group(NamedTuple):
    """Nodes that are drawn as one. `kind` is the node kind, with the embeddings split in gene and prompt."""

    id: str
    kind: str
    layer: int | None
    gene: str | None
    members: tuple[Node, ...]
    influence: float
    effect: float
    share: float


class Flow(NamedTuple):
    """The summed edge between two groups. `input_share`: of the target's absolute input without biases. `q`:
    that of the edge, None where it is the sum of several."""

    source: str
    target: str
    weight: float
    input_share: float
    strength: float
    share: float
    sd: float
    q: float | None = None


class Selection(NamedTuple):
    """What is drawn, strongest flows first, and how much is not."""

    groups: dict[str, Group]
    flows: tuple[Flow, ...]
    hidden_genes: int
    hidden_features: int
    hidden_edges: int


def select(circuit: Circuit, view: View) -> Selection:
    """The part of `circuit` that `view` asks for. Raises ScxError when edges name unknown nodes."""
    groups, owner = merge_nodes(circuit.nodes)
    flows = merge_edges(circuit, groups, owner)
    shown = _shown_groups(groups.values(), circuit, view)
    candidates = [f for f in flows if f.source in shown and f.target in shown]
    kept = _strongest(candidates, groups, view)
    kept, reached = _without_dead_ends(kept, groups)
    n_genes = sum(group.kind == "gene" for group in reached.values())
    n_features = sum(group.kind == "feature" for group in reached.values())
    return Selection(
        reached,
        tuple(sorted(kept, key=lambda f: (-f.strength, f.source, f.target))),
        max(0, len(set(circuit.sentence) | {effect.gene for effect in circuit.genes}) - n_genes),
        sum(group.kind == "feature" for group in groups.values()) - n_features,
        sum(groups[f.source].kind in ("gene", "prompt", BOS, "feature") for f in flows)
        - sum(reached[f.source].kind in ("gene", "prompt", BOS, "feature") for f in kept),
    )


def merge_nodes(nodes: Iterable[Node]) -> tuple[dict[str, Group], dict[str, str]]:
    """Groups by id, and the group of each node id."""
    members: dict[str, list[Node]] = defaultdict(list)
    owner: dict[str, str] = {}
    for node in nodes:
        owner[node.id] = _group_id(node)
        members[owner[node.id]].append(node)
    return {key: _group(key, rows) for key, rows in members.items()}, owner


def boxes_of(circuit: Circuit, layer: int, feature: int) -> frozenset[str]:
    """Ids of the boxes that a feature is drawn in: one at each gene where it fires, in a cell's circuit."""
    return frozenset(
        _group_id(node)
        for node in circuit.nodes
        if node.kind == "feature" and (node.layer, node.feature) == (layer, feature)
    )


def _group_id(node: Node) -> str:
    if node.kind == "embedding" and node.name_kind == BOS:
        return BOS
    if node.kind == "embedding":
        return "prompt" if node.gene is None else f"gene {node.gene}"
    if node.kind == "feature" and (node.position is None or node.feature is None):
        return f"feature {node.id}"  # of many cells, or a supernode: one box already
    if node.kind == "feature":
        place = node.position if node.gene is None else node.gene
        return f"feature {node.layer} {node.feature} {place}"
    if node.kind == "error":
        return f"error {node.layer}"
    return "bias" if node.kind == "bias" else f"target {node.id}"


def _group(key: str, members: list[Node]) -> Group:
    first = members[0]
    kind: str = first.kind if first.kind != "embedding" else ("prompt" if first.gene is None else "gene")
    kind = BOS if key == BOS else kind
    return Group(
        key,
        kind,
        first.layer,
        first.gene,
        tuple(members),
        sum(node.influence for node in members),
        sum(node.effect for node in members),
        max(node.share for node in members),
    )


def merge_edges(circuit: Circuit, groups: dict[str, Group], owner: dict[str, str]) -> list[Flow]:
    """One flow per pair of groups. Raises ScxError when an edge names a node that is not there."""
    weight: dict[Pair, float] = defaultdict(float)
    share: dict[Pair, float] = defaultdict(float)
    variance: dict[Pair, float] = defaultdict(float)
    tested: dict[Pair, list[float | None]] = defaultdict(list)
    for edge in circuit.edges:
        for end in (edge.source, edge.target):
            if end not in owner:
                raise ScxError(
                    f"An edge of the circuit names the node {end!r}, which it does not hold.",
                    "Trace the circuit again.",
                )
        pair = owner[edge.source], owner[edge.target]
        weight[pair] += edge.weight
        share[pair] = max(share[pair], edge.share)
        variance[pair] += edge.sd**2
        tested[pair].append(edge.q)
    total: dict[str, float] = defaultdict(float)
    for (source, target), value in weight.items():
        total[target] += 0.0 if groups[source].kind == "bias" else abs(value)
    return [
        _flow(pair, value, total[pair[1]], groups[pair[1]], share[pair], variance[pair] ** 0.5)._replace(
            q=tested[pair][0] if len(tested[pair]) == 1 else None
        )
        for pair, value in weight.items()
        if pair[0] != pair[1]
    ]


def _flow(pair: Pair, weight: float, total: float, target: Group, share: float, sd: float) -> Flow:
    input_share = min(1.0, abs(weight) / total) if total > 0 else 0.0
    influence = 1.0 if target.kind == "target" else min(1.0, max(0.0, target.influence))
    return Flow(*pair, weight, input_share, input_share * influence, share, sd)


def _shown_groups(groups: Iterable[Group], circuit: Circuit, view: View) -> set[str]:
    """Ids of the groups that `view` has room for: the strongest by absolute effect and by influence."""
    max_genes, max_features, _ = view.limits
    effects = {effect.gene: effect.effect for effect in circuit.genes}
    rows = [group for group in groups if group.share >= view.min_cell_share]
    genes = sorted(
        (g for g in rows if g.kind == "gene"), key=lambda g: (-abs(effects.get(g.gene or "", g.effect)), g.id)
    )
    features = sorted(
        (g for g in rows if g.kind == "feature"), key=lambda g: (-g.influence, -abs(g.effect), g.id)
    )
    always = {"prompt", BOS, "target"} | ({"error"} if view.show_errors else set())
    always |= {"bias"} if view.show_bias else set()
    picked = [*genes[:max_genes], *features[:max_features], *(g for g in rows if g.kind in always)]
    return {group.id for group in picked}


def _strongest(flows: list[Flow], groups: dict[str, Group], view: View) -> list[Flow]:
    """The strongest flows, and in any case the strongest one out of each node and into each feature."""
    by_strength = sorted(flows, key=lambda f: (-f.strength, -f.input_share, f.source, f.target))
    kept = {
        (f.source, f.target): f
        for f in by_strength[: view.limits[2]]
        if f.input_share >= view.min_edge_share and f.share >= view.min_cell_share
    }
    has_way_up: set[str] = set()
    has_input: set[str] = set()
    for flow in by_strength:
        needed = flow.source not in has_way_up
        needed |= groups[flow.target].kind == "feature" and flow.target not in has_input
        if needed:
            kept[flow.source, flow.target] = flow
        has_way_up.add(flow.source)
        has_input.add(flow.target)
    return list(kept.values())


def _without_dead_ends(flows: list[Flow], groups: dict[str, Group]) -> tuple[list[Flow], dict[str, Group]]:
    """Drop what has no way up to a target; targets always stay."""
    alive = {group.id for group in groups.values() if group.kind == "target"}
    while True:
        grown = alive | {flow.source for flow in flows if flow.target in alive}
        if grown == alive:
            break
        alive = grown
    kept = [flow for flow in flows if flow.target in alive]
    return kept, {key: group for key, group in groups.items() if key in alive}
