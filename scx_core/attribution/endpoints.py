"""Both ends of edges: node ids of a circuit's JSON as places of a frozen prompt, and the ends' vectors.

A target's gradient goes down, what a source writes goes up, each at its own position, through residual stream
and skip terms but through no attention head. Where they meet at an attention layer, one head can join them:
this is what splitting an edge by head needs (edge_heads.py).
Legend: R targets (reads), S sources (writes), L layers, T positions, d residual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import torch

from scx_core.attribution.local_replacement_model import FrozenPrompt, feature_reads, mlp_read, skip_back
from scx_core.attribution.replacement_model import Replacement
from scx_core.attribution.residual_stream import GradientRows
from scx_core.errors import ScxError
from scx_core.language import linear

RefKind = Literal["feature", "error", "embedding", "target"]
_SHAPES: dict[str, tuple[RefKind, int]] = {"f": ("feature", 3), "e": ("error", 2), "t": ("embedding", 1)}
REMEDY = (
    "Ids are f:layer:position:feature, e:layer:position, t:position and target, as in the JSON of a cell."
)


class Ref(NamedTuple):
    """One node of a prompt's graph. A feature has a layer, position and number; the target has none, but may
    stand for one of its rows (see `GradientRows`)."""

    kind: RefKind
    layer: int = -1
    position: int = -1
    feature: int = -1
    row: int = 0

    @property
    def id(self) -> str:
        """The id in the JSON."""
        if self.kind == "feature":
            return f"f:{self.layer}:{self.position}:{self.feature}"
        if self.kind == "error":
            return f"e:{self.layer}:{self.position}"
        return f"t:{self.position}" if self.kind == "embedding" else "target"


def parse_ref(text: str, frozen: FrozenPrompt) -> Ref:
    """The node that an id names. Raises ScxError for an id of another form or outside this prompt."""
    if text == "target":
        return Ref("target")
    letter, *rest = text.split(":")
    kind, n = _SHAPES.get(letter, ("target", -1))
    if len(rest) != n or not all(part.isdecimal() for part in rest):
        raise ScxError(f"{text[:80]!r} is not the id of a node that gives or takes input here.", REMEDY)
    numbers = [int(part) for part in rest]
    if kind == "embedding":
        ref = Ref(kind, position=numbers[0])
    elif kind == "error":
        ref = Ref(kind, numbers[0], numbers[1])
    else:
        ref = Ref(kind, *numbers)
    if ref.position >= frozen.n_positions or ref.layer >= len(frozen.layers):
        raise ScxError(
            f"{text[:80]} lies outside the prompt.",
            f"It has positions 0 to {frozen.n_positions - 1} and layers 0 to {len(frozen.layers) - 1}.",
        )
    return ref


def place_of(frozen: FrozenPrompt, ref: Ref) -> int:
    """Index of a feature among the active ones of its layer. Raises ScxError when it is not active there."""
    layer = frozen.layers[ref.layer]
    found = ((layer.position_N == ref.position) & (layer.feature_N == ref.feature)).nonzero()[:, 0]
    if not len(found):
        raise ScxError(
            f"Feature {ref.feature} of layer {ref.layer} is not active at position {ref.position}.",
            "Choose a feature of this cell's circuit.",
        )
    return int(found[0])


Level = TypeVar("Level", int, torch.Tensor)


class EdgeTargets(NamedTuple):
    """Targets of edges. `gradient_Rd` acts on the stream in front of the norm, 1/σ included.

    `level_R` is the block whose MLP reads (L for a target of logits); blocks below it lie on the way.
    """

    level_R: torch.Tensor
    position_R: torch.Tensor
    gradient_Rd: torch.Tensor


class EdgeSources(NamedTuple):
    """Sources of edges. `level_S` is the first block that sees what they write: 0 for a token."""

    level_S: torch.Tensor
    position_S: torch.Tensor
    source_Sd: torch.Tensor


def reads_of(frozen: FrozenPrompt, ref: Ref) -> tuple[torch.Tensor, torch.Tensor]:
    """What a feature reads at its position: the gradient of its pre-activation [d], and its bias."""
    device = frozen.embedding_Td.device
    at = (torch.tensor([number], device=device) for number in (ref.feature, ref.position))
    gradient_1d, bias_1 = feature_reads(frozen.replacement.layers[ref.layer], frozen.layers[ref.layer], *at)
    return gradient_1d[0], bias_1[0]


def targets_of(frozen: FrozenPrompt, refs: Sequence[Ref], target: GradientRows) -> EdgeTargets:
    """Gradients of features (of their pre-activation) and of the trace's target: of its row number
    `ref.row`, where it reads at several positions."""
    rows = []
    at_R = target.position_R.tolist()
    places = [
        (target.layer, at_R[ref.row]) if ref.kind == "target" else (ref.layer, ref.position) for ref in refs
    ]
    for ref in refs:
        if ref.kind == "target":
            rows.append(target.gradient_Rd[ref.row])
        else:
            rows.append(reads_of(frozen, ref)[0])
    level, position = torch.tensor(places, device=target.gradient_Rd.device).unbind(1)
    return EdgeTargets(level, position, torch.stack(rows))


def sources_of(frozen: FrozenPrompt, refs: Sequence[Ref]) -> EdgeSources:
    """Source vectors of active features, errors and token embeddings."""
    frozen.replacement.transcoders.need_own_decoders("Edges by head")
    rows = []
    for ref in refs:
        if ref.kind == "embedding":
            rows.append(frozen.embedding_Td[ref.position])
        elif ref.kind == "error":
            rows.append(frozen.layers[ref.layer].error_Td[ref.position])
        else:
            layer = frozen.layers[ref.layer]
            place_1 = torch.tensor([place_of(frozen, ref)], device=layer.value_N.device)
            write_1d = (
                frozen.replacement.layers[ref.layer].dec_Fd[[ref.feature]] * layer.value_N[place_1, None]
            )
            rows.append(mlp_read(layer, write_1d, layer.position_N[place_1])[0])
    device = frozen.embedding_Td.device
    level = torch.tensor([ref.layer + 1 for ref in refs], device=device)  # a token has layer -1
    return EdgeSources(level, torch.tensor([ref.position for ref in refs], device=device), torch.stack(rows))


def attention_top(rep: Replacement, level: Level) -> Level:
    """Attention layers below this number may feed a read of block `level`: its own if it is sequential."""
    return level if rep.parallel else level + 1 * (level < len(rep.layers))


def gradients_by_layer(frozen: FrozenPrompt, reads: EdgeTargets) -> list[torch.Tensor]:
    """[R, d] per layer: what reads the output of that layer's attention. Only valid below `attention_top`."""
    rep, n = frozen.replacement, len(frozen.layers)
    carried_Rd, out = reads.gradient_Rd, [reads.gradient_Rd] * n
    for k in range(n - 1, -1, -1):
        skipped_Rd = carried_Rd
        if rep.layers[k].skip_dd is not None:
            through_Rd = skip_back(rep.layers[k], frozen.layers[k], carried_Rd, reads.position_R)
            skipped_Rd = carried_Rd + through_Rd * (reads.level_R > k)[:, None]
        out[k] = carried_Rd if rep.parallel else skipped_Rd
        carried_Rd = skipped_Rd
    return out


def sources_by_layer(frozen: FrozenPrompt, writes: EdgeSources) -> list[torch.Tensor]:
    """[S, d] per layer: what stands in the stream into that block; the last entry is the final stream."""
    carried_Sd, out, position_S = writes.source_Sd, [], writes.position_S
    for k, (maps, layer) in enumerate(zip(frozen.replacement.layers, frozen.layers, strict=True)):
        out.append(carried_Sd)
        if maps.skip_dd is not None:
            scaled_Sd = carried_Sd * layer.mlp_scale_T[position_S, None]
            skip_Sd = mlp_read(layer, linear(scaled_Sd, maps.skip_dd), position_S)
            carried_Sd = carried_Sd + skip_Sd * (writes.level_S <= k)[:, None]
    return [*out, carried_Sd]
