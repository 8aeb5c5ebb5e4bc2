"""Which heads carry an edge, and which a whole circuit: tables for people (edge_heads.py computes them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch

from scx_core.attribution.backward import total_effects
from scx_core.attribution.edge_heads import (
    Pair,
    Split,
    attended,
    edge_weights,
    head_totals,
    last_heads,
    split_edges,
)
from scx_core.attribution.endpoints import attention_top, parse_ref, place_of
from scx_core.circuits.circuit import Circuit
from scx_core.circuits.feature_names import name_in
from scx_core.circuits.traced_prompt import TracedPrompt, prompt_of_circuit
from scx_core.circuits.tracer import Tracer
from scx_core.errors import ScxError

ATTENDED = 5  # positions that a head attends to, named


class AttendedPosition(NamedTuple):
    """A position that a head attends to: its token, the gene that the token belongs to, the weight."""

    position: int
    token: str
    gene: str | None
    weight: float

    @property
    def name(self) -> str:
        """The gene, or the token in quotes."""
        return self.gene or repr(self.token.strip() or self.token)


class HeadPart(NamedTuple):
    """What one head carries of an edge.

    `last`: over all paths that pass this head last, through however many others before. `contribution`: over
    paths that pass no other, `attention` · `ov`. `attention` is the weight from the target's position to the
    source's, `rank` its place among all that the head attends to from there (1 = most), `looks` the strongest
    of them. `ov` is what the head would carry at an attention of 1.
    """

    layer: int
    head: int
    last: float
    contribution: float
    attention: float
    ov: float
    rank: int
    looks: tuple[AttendedPosition, ...]


class EdgeHeads(NamedTuple):
    """An edge split by path length and head: `weight` = `direct` + Σ contributions + `more`, and by the head
    that a path passes last: `weight` = `direct` + Σ last.

    `direct`: through residual stream and skip terms alone. `one_head`: Σ contributions of all heads, of
    which `heads` holds those with the largest |last|. `more`: through two heads and more. In units of the
    target: pre-activation of a feature, logits of the trace's target. Genes are those of the ends'
    positions, names those that an atlas gives ends that are features.
    """

    source: str
    target: str
    weight: float
    direct: float
    one_head: float
    more: float
    heads: tuple[HeadPart, ...]
    source_gene: str | None = None
    target_gene: str | None = None
    source_name: str | None = None
    target_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        heads = [
            part._asdict() | {"looks": [position._asdict() for position in part.looks]} for part in self.heads
        ]
        return self._asdict() | {"heads": heads}

    def frame(self) -> pd.DataFrame:
        """One row a head, strongest first: layer, head, last, contribution, attention, ov, rank, looks_at."""
        rows = [part._asdict() | {"looks_at": _named(part.looks)} for part in self.heads]
        columns = ["layer", "head", "last", "contribution", "attention", "ov", "rank", "looks_at"]
        return pd.DataFrame(rows, columns=columns)


class CircuitHeads(NamedTuple):
    """Which heads carry a circuit, over its kept edges, in logits of its target (see `HeadTotals`).

    `heads`: layer, head, signed sum, sum of absolute values, its share of `whole`; largest first.
    `direct`, `one_head`, `more`: sums of absolute values by path length; they can exceed `whole`, the sum
    of the edges' own, as parts of an edge may oppose each other.
    """

    heads: tuple[tuple[int, int, float, float, float], ...]
    n_edges: int
    whole: float
    direct: float
    one_head: float
    more: float

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        return self._asdict() | {"heads": self.frame().to_dict("records")}

    def frame(self) -> pd.DataFrame:
        """One row a head: layer, head, through, size, share."""
        return pd.DataFrame(list(self.heads), columns=["layer", "head", "through", "size", "share"])


def circuit_edge_heads(
    tracer: Tracer, circuit: Circuit, edges: Sequence[tuple[str, str]], heads: int = 10
) -> list[EdgeHeads]:
    """`edge_heads` of the cell and target of a single-cell circuit; the edges need not be kept in it."""
    return edge_heads(prompt_of_circuit(tracer, circuit), edges, heads)


def edge_heads(prompt: TracedPrompt, edges: Sequence[tuple[str, str]], heads: int = 10) -> list[EdgeHeads]:
    """Split edges (source id, target id) of one cell's graph by head, naming the largest `heads` by |last|.

    Ids are those of the circuit's JSON; the edges need not be in the circuit. Raises ScxError for an unknown
    id, a feature that is not active, and ends that can have no edge.
    """
    if not edges:
        return []
    pairs = _pairs(prompt, edges)
    weight_E = edge_weights(prompt.frozen, pairs, prompt.target)
    split = split_edges(prompt.frozen, pairs, weight_E, prompt.target)
    last_ELH = last_heads(prompt.frozen, pairs, prompt.target)
    return [_named_edge(prompt, split, last_ELH[e], e, pair, heads) for e, pair in enumerate(pairs)]


def strongest_edges(circuit: Circuit, n: int) -> list[tuple[str, str]]:
    """The `n` strongest kept edges of one cell's circuit between two positions, which heads have carried.

    Strength is |weight| in the unit of the circuit's target: times effect over activation of the feature that
    the edge ends at.
    """
    nodes, found = {node.id: node for node in circuit.nodes}, []
    reads = {branch.position for branch in circuit.target.branches}  # none but of a whole answer
    for edge in circuit.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        here = {target.position} | (reads if target.kind == "target" else set())
        if source.position is not None and source.position not in here:
            slope = 1.0 if target.kind == "target" else target.effect / (target.activation or 1.0)
            found.append((-abs(edge.weight * slope), edge.source, edge.target))
    return [(source, target) for _, source, target in sorted(found)[:n]]


def circuit_heads(tracer: Tracer, circuit: Circuit) -> CircuitHeads:
    """What every head carries of the kept edges of a single-cell circuit; bias edges are left out."""
    prompt = prompt_of_circuit(tracer, circuit)
    edges = [edge for edge in circuit.edges if edge.source != "bias"]
    if not edges:
        raise ScxError("This circuit has no edges.", "Trace it with a larger share of nodes and edges.")
    pairs = _pairs(prompt, [(edge.source, edge.target) for edge in edges])
    weight_E = prompt.target.gradient_Rd.new_tensor([edge.weight for edge in edges])
    split = split_edges(prompt.frozen, pairs, weight_E, prompt.target)
    # ∂target/∂pre-activation of each edge's target over all paths, [E]: effect over value
    frozen = prompt.frozen
    effects = total_effects(frozen, prompt.target, prompt.target_bias)
    slopes = []
    for _, target in pairs:
        if target.kind == "target":
            slopes.append(1.0)
            continue
        place = place_of(frozen, target)
        effect, value = effects.features[target.layer][place], frozen.layers[target.layer].value_N[place]
        slopes.append(float(effect / value))
    totals = head_totals(split, prompt.target.gradient_Rd.new_tensor(slopes))
    size_LH = totals.size_LH
    order = torch.argsort(size_LH.flatten(), descending=True, stable=True).tolist()
    n_heads = size_LH.shape[1]
    rows = []
    for layer, head in (divmod(i, n_heads) for i in order):
        size = float(size_LH[layer, head])
        rows.append((layer, head, float(totals.through_LH[layer, head]), size, size / totals.whole))
    parts = (totals.direct[1], totals.one_head[1], totals.more[1])
    return CircuitHeads(tuple(rows), len(edges), totals.whole, *parts)


def _named_edge(
    prompt: TracedPrompt, split: Split, last_LH: torch.Tensor, e: int, pair: Pair, heads: int
) -> EdgeHeads:
    frozen, head_LH, target = prompt.frozen, split.head_ELH[e], pair.target
    if target.kind == "target":
        target = target._replace(
            layer=prompt.target.layer, position=_reads_most(prompt, pair.source.position)
        )
    top = attention_top(frozen.replacement, target.layer)
    order = torch.argsort(last_LH.abs().flatten(), descending=True, stable=True).tolist()
    places = [divmod(i, head_LH.shape[1]) for i in order]
    parts = []
    for layer, head in [place for place in places if pair.source.layer < place[0] < top][:heads]:
        seen = attended(frozen, layer, head, target.position, pair.source.position, ATTENDED)
        looks = tuple(
            AttendedPosition(s, prompt.tokens[s], prompt.genes[s], weight)
            for s, weight in zip(seen.positions, seen.weights, strict=True)
        )
        part, weight, ov = (
            float(tensor[e, layer, head]) for tensor in (split.head_ELH, split.attention_ELH, split.ov_ELH)
        )
        parts.append(HeadPart(layer, head, float(last_LH[layer, head]), part, weight, ov, seen.rank, looks))
    whole, direct, more = (float(tensor[e]) for tensor in (split.weight_E, split.direct_E, split.more_E))
    one_head = float(head_LH.sum())
    genes = (prompt.genes[pair.source.position], prompt.genes[target.position])
    names = (
        name_in(prompt.names, end.layer, end.feature) if end.kind == "feature" else None
        for end in (pair.source, target)
    )
    ends = (pair.source.id, pair.target.id)
    return EdgeHeads(*ends, whole, direct, one_head, more, tuple(parts), *genes, *names)


def _reads_most(prompt: TracedPrompt, source: int) -> int:
    """The position at which the target reads most, of those that can see position `source`."""
    seen = (prompt.target.position_R >= source).nonzero()[:, 0]
    return int(prompt.target.position_R[seen[prompt.target.gradient_Rd[seen].norm(dim=1).argmax()]])


def _pairs(prompt: TracedPrompt, edges: Sequence[tuple[str, str]]) -> list[Pair]:
    return [
        Pair(parse_ref(source, prompt.frozen), parse_ref(target, prompt.frozen)) for source, target in edges
    ]


def _named(looks: Sequence[AttendedPosition]) -> str:
    """What a head attends to, in a line: "CD79A 41%, CD74 12%"."""
    return ", ".join(f"{position.name} {position.weight:.0%}" for position in looks)
