"""One step of the seed paper's path tracing: what a gradient reads, and how each part goes on (method §7).

A live path reads the stream at one position behind some blocks. That stream is the sum of the features,
heads and skip terms below it, the token embedding, the transcoders' errors and the biases; each of the first
three continues with a gradient of its own, at the frozen 1/σ. A skip term is a step of its own, one a
layer and position: linear, with no activation.
Legend: P live paths, M candidates, N active features, T positions, H heads, k head width, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.attribution.endpoints import Ref, attention_top, reads_of, targets_of
from scx_core.attribution.local_replacement_model import (
    FrozenLayer,
    FrozenPrompt,
    attn_read,
    feature_reads,
    mlp_read,
    skip_back,
)
from scx_core.attribution.replacement_model import LayerMaps
from scx_core.attribution.residual_stream import BlockStream, GradientRows

FEATURE, HEAD, SKIP, EMBEDDING = range(4)


class Live(NamedTuple):
    """Live paths. A path reads the stream behind the first `mlps_P` MLPs and `attns_P` attentions at its
    position: value = read · stream + bias."""

    step_P: torch.Tensor
    mlps_P: torch.Tensor
    attns_P: torch.Tensor
    position_P: torch.Tensor
    gradient_Pd: torch.Tensor
    bias_P: torch.Tensor


class Candidates(NamedTuple):
    """Possible next steps: which path they continue, what they are, what they contribute.

    `item_M` indexes the active features of the layer, or is a head. `position_M` is where the path goes on.
    """

    path_M: torch.Tensor
    kind_M: torch.Tensor
    layer_M: torch.Tensor
    item_M: torch.Tensor
    position_M: torch.Tensor
    contribution_M: torch.Tensor


class Expansion(NamedTuple):
    """All that the live paths read. `offered_P`: the sum of every candidate, also of those that were too
    small to be listed."""

    candidates: Candidates
    offered_P: torch.Tensor
    error_P: torch.Tensor
    bias_P: torch.Tensor


def _listed(
    kind: int,
    layer: int,
    path_M: torch.Tensor,
    item_M: torch.Tensor,
    position_M: torch.Tensor,
    contribution_M: torch.Tensor,
) -> Candidates:
    kind_M, layer_M = torch.full_like(path_M, kind), torch.full_like(path_M, layer)
    return Candidates(path_M, kind_M, layer_M, item_M, position_M, contribution_M)


def _features(frozen: FrozenPrompt, layer: int, live: Live, paths: torch.Tensor) -> Candidates:
    """Active features of a layer at the position of each path: z · (W_dec · v)."""
    f, maps = frozen.layers[layer], frozen.replacement.layers[layer]
    position_P = live.position_P[paths]
    first_P = torch.searchsorted(f.position_N, position_P)
    count_P = torch.searchsorted(f.position_N, position_P, right=True) - first_P
    row_M = torch.repeat_interleave(count_P)
    within_M = torch.arange(len(row_M), device=row_M.device) - (count_P.cumsum(0) - count_P)[row_M]
    item_M = first_P[row_M] + within_M
    gradient_Pd = mlp_read(f, live.gradient_Pd[paths], position_P)
    written_M = (maps.dec_Fd[f.feature_N[item_M]] * gradient_Pd[row_M]).sum(-1)
    return _listed(FEATURE, layer, paths[row_M], item_M, position_P[row_M], written_M * f.value_N[item_M])


def _heads(
    frozen: FrozenPrompt, stream: BlockStream, layer: int, live: Live, paths: torch.Tensor, most: int
) -> tuple[Candidates, torch.Tensor]:
    """Heads of a layer from every source position, A[t, s] · (value_s W_O · v): the `most` largest of each
    path, and the sum of all, [P]."""
    f, maps = frozen.layers[layer], frozen.replacement.layers[layer]
    position_P = live.position_P[paths]
    gradient_Pd = attn_read(f, live.gradient_Pd[paths], position_P)
    asked_HPk = torch.einsum("pd,hkd->hpk", gradient_Pd, maps.O_Hkd)
    value_HPT = asked_HPk @ stream.value_HTk.transpose(1, 2) + (maps.value_bias_Hd @ gradient_Pd.T)[..., None]
    part_PHT = (value_HPT * f.pattern_HTT[:, position_P]).transpose(0, 1)
    flat_PM = part_PHT.flatten(1)
    n = min(most, flat_PM.shape[1])
    index_PM = flat_PM.abs().topk(n).indices
    head_M, source_M = (x.flatten() for x in (index_PM // part_PHT.shape[2], index_PM % part_PHT.shape[2]))
    largest_M = flat_PM.gather(1, index_PM).flatten()
    path_M = paths.repeat_interleave(n)
    return _listed(HEAD, layer, path_M, head_M, source_M, largest_M), flat_PM.double().sum(1)


def _skip(
    frozen: FrozenPrompt, stream: BlockStream, layer: int, live: Live, paths: torch.Tensor
) -> Candidates:
    """The skip term of a layer at the position of each path."""
    position_P = live.position_P[paths]
    back_Pd = skip_back(
        frozen.replacement.layers[layer], frozen.layers[layer], live.gradient_Pd[paths], position_P
    )
    part_P = (back_Pd * stream.mlp_reads_Td[position_P]).sum(-1)
    return _listed(SKIP, layer, paths, torch.zeros_like(paths), position_P, part_P)


def expand(frozen: FrozenPrompt, stream: tuple[BlockStream, ...], live: Live, most: int) -> Expansion:
    """Everything that the live paths read: candidates, errors and biases."""
    n_paths = len(live.step_P)
    every = torch.arange(n_paths, device=live.step_P.device)
    token_P = (live.gradient_Pd * frozen.embedding_Td[live.position_P]).sum(-1)
    found = [_listed(EMBEDDING, -1, every, torch.zeros_like(every), live.position_P, token_P)]
    offered_P, error_P, bias_P = token_P.double().clone(), torch.zeros_like(token_P), live.bias_P.clone()
    for k, (maps, f) in enumerate(zip(frozen.replacement.layers, frozen.layers, strict=True)):
        paths = (live.mlps_P > k).nonzero()[:, 0]
        position_P, gradient_Pd = live.position_P[paths], live.gradient_Pd[paths]
        local = [_features(frozen, k, live, paths)]
        if maps.skip_dd is not None:
            local.append(_skip(frozen, stream[k], k, live, paths))
        for part in local:
            offered_P.index_add_(0, part.path_M, part.contribution_M.double())
        error_P[paths] += (gradient_Pd * f.error_Td[position_P]).sum(-1)
        bias_P[paths] += mlp_read(f, gradient_Pd, position_P) @ maps.dec_bias_d
        paths = (live.attns_P > k).nonzero()[:, 0]
        heads, sum_P = _heads(frozen, stream[k], k, live, paths, most)
        offered_P.index_add_(0, paths, sum_P)
        constant_P = attn_read(f, live.gradient_Pd[paths], live.position_P[paths]) @ maps.out_bias_d
        bias_P[paths] += constant_P
        found += [*local, heads]
    together = Candidates(*(torch.cat(column) for column in zip(*found, strict=True)))
    return Expansion(together, offered_P, error_P, bias_P)


def continued(frozen: FrozenPrompt, live: Live, kept: Candidates, steps: torch.Tensor) -> Live:
    """The live paths that kept steps continue with; `steps` are their numbers."""
    parts = []
    for k, (maps, f) in enumerate(zip(frozen.replacement.layers, frozen.layers, strict=True)):
        for kind in (FEATURE, HEAD, SKIP):
            rows = ((kept.layer_M == k) & (kept.kind_M == kind)).nonzero()[:, 0]
            if len(rows):
                part = Candidates(*(column[rows] for column in kept))
                from_Pd, at_P = live.gradient_Pd[part.path_M], live.position_P[part.path_M]
                if kind == FEATURE:
                    gradient_Pd, bias_P = _through_feature(maps, f, part, mlp_read(f, from_Pd, at_P))
                elif kind == HEAD:
                    gradient_Pd, bias_P = _through_head(maps, f, part, attn_read(f, from_Pd, at_P), at_P)
                else:
                    gradient_Pd = skip_back(maps, f, from_Pd, at_P)
                    bias_P = torch.zeros_like(part.contribution_M)
                behind = kind != HEAD and not frozen.replacement.parallel
                mlps_P = torch.full_like(at_P, k)
                parts.append(Live(steps[rows], mlps_P, mlps_P + behind, part.position_M, gradient_Pd, bias_P))
    if not parts:
        return Live(*(column[:0] for column in live))
    return Live(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _through_feature(
    maps: LayerMaps, f: FrozenLayer, part: Candidates, gradient_Pd: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """v' = W_enc (W_dec · v) / σ, and what the encoder's bias adds."""
    feature_P = f.feature_N[part.item_M]
    written_P = (maps.dec_Fd[feature_P] * gradient_Pd).sum(-1)
    read_Pd, bias_P = feature_reads(maps, f, feature_P, part.position_M)
    return read_Pd * written_P[:, None], bias_P * written_P


def _through_head(
    maps: LayerMaps, f: FrozenLayer, part: Candidates, gradient_Pd: torch.Tensor, at_P: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """v' = A · OVᵀ v / σ, and what the value's bias adds."""
    weight_P = f.pattern_HTT[part.item_M, at_P, part.position_M]
    asked_Pk = torch.einsum("pkd,pd->pk", maps.O_Hkd[part.item_M], gradient_Pd)
    back_Pd = torch.einsum("pk,pkd->pd", asked_Pk, maps.V_Hkd[part.item_M])
    scale_P = weight_P * f.attn_scale_T[part.position_M]
    return back_Pd * scale_P[:, None], (maps.value_bias_Hd[part.item_M] * gradient_Pd).sum(-1) * weight_P


def start_at(frozen: FrozenPrompt, ref: Ref, target: GradientRows, target_bias: float) -> Live:
    """The one live path of a feature's pre-activation, or those of the trace's target, one a row."""
    rows = range(len(target.position_R)) if ref.kind == "target" else range(1)
    reads = targets_of(frozen, [ref._replace(row=row) for row in rows], target)
    bias = target_bias if ref.kind == "target" else float(reads_of(frozen, ref)[1])
    bias_P = reads.gradient_Rd.new_zeros(len(rows))
    bias_P[0] = float(bias)
    attns = attention_top(frozen.replacement, reads.level_R)
    step = torch.zeros_like(reads.level_R)
    return Live(step, reads.level_R, attns, reads.position_R, reads.gradient_Rd, bias_P)
