"""Edges of a traced cell against plain autograd in float64, at any size.

Independent of the tracer's maps: the frozen stream is written out with the model's own weights (GPT-NeoX), as
`h + dense(pattern · value(norm(h)))` with the patterns and 1/σ of the trace, in float64, the weights of one
block at a time; autograd gives a row's gradient on the stream behind every block, and its product with what a
source writes is the edge.
Legend: T positions, H heads, k head width, d residual width, L layers, E edges.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.circuits.trace import Graph

EACH = 5  # edges of one row


class EdgeChecks(NamedTuple):
    """`edges`: how many were compared. `max_error`: the largest |edge − autograd|, relative to the largest
    |edge| of its row; `max_own_error`: relative to the edge itself, over those above 1e-3 of the largest."""

    edges: int
    rows: int
    max_error: float
    max_own_error: float


def edge_checks(graph: Graph, n: int = 50, seed: int = 0) -> EdgeChecks:
    """Compare `n` edges between features, drawn with the seed."""
    rng = np.random.default_rng(seed)
    layer_C, weight_RS = graph.chosen.layer_C.cpu().numpy(), graph.weight_RS
    rows = [int(r) for r in rng.permutation(np.flatnonzero(layer_C > layer_C.min()))]
    error, own, done, used = 0.0, 0.0, 0, 0
    for r in rows:
        if done >= n:
            break
        below = np.flatnonzero(layer_C < layer_C[r])
        seen = below[weight_RS[r, below] != 0]
        if not len(seen):
            continue
        some = rng.choice(seen, min(EACH, len(seen), n - done), replace=False)
        wanted_E, ours_E = _by_autograd(graph, r, some), weight_RS[r, some].astype(np.float64)
        largest = float(np.abs(weight_RS[r]).max())
        apart_E = np.abs(wanted_E - ours_E)
        error = max(error, float(apart_E.max()) / largest)
        large_E = np.abs(wanted_E) > 1e-3 * largest
        if large_E.any():
            own = max(own, float((apart_E[large_E] / np.abs(wanted_E[large_E])).max()))
        done, used = done + len(some), used + 1
    return EdgeChecks(done, used, error, own)


def _by_autograd(graph: Graph, row: int, columns: np.ndarray) -> np.ndarray:
    """Edges into the pre-activation of a chosen feature from others, [E]."""
    frozen, chosen = graph.frozen, graph.chosen
    layer, position, feature = (
        int(part[row]) for part in (chosen.layer_C, chosen.position_C, chosen.feature_C)
    )
    model: Any = frozen.replacement.lm.model.gpt_neox
    lowest = int(chosen.layer_C[torch.from_numpy(columns)].min())
    T, d = frozen.embedding_Td.shape
    streams = {lowest: torch.zeros(T, d, dtype=torch.float64, requires_grad=True)}
    with torch.enable_grad():
        for k in range(lowest + 1, layer):
            # the stream behind block k; what its features add is a source, and constant
            streams[k] = streams[k - 1] + _attention(frozen, model.layers[k], k, streams[k - 1])
            streams[k].retain_grad()
        norm = model.layers[layer].post_attention_layernorm
        scale = frozen.layers[layer].mlp_scale_T[position].double()
        top_d = streams[layer - 1][position]
        read_d = (top_d - top_d.mean()) * scale * norm.weight.double()
        coder = frozen.replacement.transcoders.layers
        (read_d @ coder[layer].W_enc_Fd[feature].double()).backward()
    found = []
    for c in columns.tolist():
        k, t, i = (int(part[c]) for part in (chosen.layer_C, chosen.position_C, chosen.feature_C))
        gradient_Td = streams[k].grad
        assert gradient_Td is not None  # every block behind a source lies on the way
        value = frozen.layers[k].value_N[chosen.index_C[c]].double()
        found.append(float(gradient_Td[t] @ coder[k].W_dec_Fd[i].double() * value))
    return np.array(found)


def _attention(frozen: Any, block: Any, k: int, h_Td: torch.Tensor) -> torch.Tensor:
    facts, layer = frozen.replacement.lm.facts, frozen.layers[k]
    norm, width = block.input_layernorm, facts.head_width
    centred_Td = h_Td - h_Td.mean(-1, keepdim=True)
    x_Td = centred_Td * layer.attn_scale_T.double()[:, None] * norm.weight.double()
    weight = block.attention.query_key_value.weight.view(facts.n_heads, 3, width, -1)[:, 2]
    value_HTk = torch.einsum("td,hkd->htk", x_Td, weight.double())
    mixed_Td = (layer.pattern_HTT.double() @ value_HTk).transpose(0, 1).flatten(1)
    return mixed_Td @ block.attention.dense.weight.double().T
