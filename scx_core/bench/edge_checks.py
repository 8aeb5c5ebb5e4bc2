"""Edges of a traced cell against plain autograd in float64, at any size.

Independent of the tracer's maps: the frozen stream is written out with the model's own weights (GPT-NeoX), as
`h + dense(pattern · value(norm(h)))` with the patterns and 1/σ of the trace, in float64, the weights of one
block at a time; autograd gives a row's gradient on the stream behind every block, and its product with what a
source writes is the edge.
Legend: T positions, H heads, k head width, d residual width, L layers, E edges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.circuits.trace import Graph

# Edges of one row by what they come from; the target's row has as many.
EACH = {"feature": 3, "error": 1, "token": 1}


class EdgeChecks(NamedTuple):
    """`edges`: how many were compared, `kinds` of each kind of source, `rows`, `into_target`.
    `max_error`: the largest |edge − autograd|, relative to the largest |edge| of its row; `max_own_error`:
    relative to the edge itself, over those above 1e-3 of the largest."""

    edges: int
    kinds: dict[str, int]
    rows: int
    into_target: int
    max_error: float
    max_own_error: float


class Source(NamedTuple):
    """What writes `write_d` behind block `layer` (−1: in front of all) at a position."""

    layer: int
    position: int
    write_d: torch.Tensor


def edge_checks(graph: Graph, n: int = 50, seed: int = 0) -> EdgeChecks:
    """Compare `n` edges from features, errors and tokens into features and the target, as the seed draws."""
    rng = np.random.default_rng(seed)
    layer_C, weight_RS = graph.chosen.layer_C.cpu().numpy(), graph.weight_RS
    features = [int(r) for r in rng.permutation(np.flatnonzero(layer_C > layer_C.min()))]
    target = [len(layer_C)] if graph.plan.coefficients else []
    error, own, used, kinds = 0.0, 0.0, [], Counter[str]()
    for r in target + features:
        some = _drawn(graph, r, rng, n - kinds.total())
        if not some:
            continue
        columns = [column for _, column in some]
        wanted_E, ours_E = _by_autograd(graph, r, columns), weight_RS[r, columns].astype(np.float64)
        largest = float(np.abs(weight_RS[r]).max())
        apart_E = np.abs(wanted_E - ours_E)
        error = max(error, float(apart_E.max()) / largest)
        large_E = np.abs(wanted_E) > 1e-3 * largest
        if large_E.any():
            own = max(own, float((apart_E[large_E] / np.abs(wanted_E[large_E])).max()))
        kinds.update(kind for kind, _ in some)
        used.append(r)
    return EdgeChecks(kinds.total(), dict(kinds), len(used), sum(r in target for r in used), error, own)


def _drawn(graph: Graph, row: int, rng: np.random.Generator, most: int) -> list[tuple[str, int]]:
    """Columns of edges into a row that are not 0, with their kinds."""
    C, L, T = len(graph.chosen.layer_C), len(graph.frozen.layers), len(graph.frozen.ids)
    seen = np.flatnonzero(graph.weight_RS[row])
    of_kind = np.searchsorted([C, C + L * T], seen, side="right")
    found = []
    for number, (kind, each) in enumerate(EACH.items()):
        those = seen[of_kind == number]
        found += [(kind, int(c)) for c in rng.choice(those, min(each, len(those)), replace=False)]
    return found[:most]


def _source(graph: Graph, column: int) -> Source:
    frozen, chosen = graph.frozen, graph.chosen
    C, T = len(chosen.layer_C), len(frozen.ids)
    if column < C:
        k, t, i = (int(part[column]) for part in (chosen.layer_C, chosen.position_C, chosen.feature_C))
        value = frozen.layers[k].value_N[chosen.index_C[column]].double()
        return Source(k, t, frozen.replacement.transcoders.layers[k].W_dec_Fd[i].double() * value)
    k, t = divmod(column - C, T)
    if k < len(frozen.layers):
        return Source(k, t, frozen.layers[k].error_Td[t].double())
    return Source(-1, t, frozen.embedding_Td[t].double())


def _by_autograd(graph: Graph, row: int, columns: Sequence[int]) -> np.ndarray:
    """Edges into the pre-activation of a chosen feature, or into the target, [E]."""
    frozen, chosen = graph.frozen, graph.chosen
    model: Any = frozen.replacement.lm.model.gpt_neox
    sources, target = [_source(graph, column) for column in columns], row == len(chosen.layer_C)
    layer = len(frozen.layers) if target else int(chosen.layer_C[row])
    position = len(frozen.ids) - 1 if target else int(chosen.position_C[row])
    lowest = min(source.layer for source in sources)
    T, d = frozen.embedding_Td.shape
    streams = {lowest: torch.zeros(T, d, dtype=torch.float64, requires_grad=True)}
    with torch.enable_grad():
        # The stream behind block k; what its features add is a source, and constant. A parallel block's MLP
        # reads the stream in front of the block.
        for k in range(lowest + 1, layer):
            streams[k] = streams[k - 1] + _attention(frozen, model.layers[k], k, streams[k - 1])
            streams[k].retain_grad()
        top_d = streams[layer - 1][position]
        centred_d = top_d - top_d.mean()
        if target:
            weight_d = _unembedded(graph)
            read_d = (
                centred_d * frozen.final_scale_T[position].double() * model.final_layer_norm.weight.double()
            )
        else:
            norm = model.layers[layer].post_attention_layernorm
            read_d = centred_d * frozen.layers[layer].mlp_scale_T[position].double() * norm.weight.double()
            coder = frozen.replacement.transcoders.layers[layer]
            weight_d = coder.W_enc_Fd[int(chosen.feature_C[row])].double()
        (read_d @ weight_d).backward()
    found = []
    for one in sources:
        gradient_Td = streams[one.layer].grad
        assert gradient_Td is not None  # every block behind a source lies on the way
        found.append(float(gradient_Td[one.position] @ one.write_d))
    return np.array(found)


def _unembedded(graph: Graph) -> torch.Tensor:
    """The target's weights on the logits of the last position, through the unembedding."""
    W_Vd = graph.frozen.replacement.lm.unembedding
    found = graph.plan.vocabulary_mean * W_Vd.mean(0, dtype=torch.float64)
    for token, weight in graph.plan.coefficients.items():
        found = found + weight * W_Vd[token].double()
    return found


def _attention(frozen: Any, block: Any, k: int, h_Td: torch.Tensor) -> torch.Tensor:
    facts, layer = frozen.replacement.lm.facts, frozen.layers[k]
    norm, width = block.input_layernorm, facts.head_width
    centred_Td = h_Td - h_Td.mean(-1, keepdim=True)
    x_Td = centred_Td * layer.attn_scale_T.double()[:, None] * norm.weight.double()
    weight = block.attention.query_key_value.weight.view(facts.n_heads, 3, width, -1)[:, 2]
    value_HTk = torch.einsum("td,hkd->htk", x_Td, weight.double())
    mixed_Td = (layer.pattern_HTT.double() @ value_HTk).transpose(0, 1).flatten(1)
    return mixed_Td @ block.attention.dense.weight.double().T
