"""Feature-pair attribution: the part that depends on the cell times the part that does not (method §7).

An edge from feature i to feature j over one way (directly, or through one head) is
    z_i · A · (1/σ of every norm on the way) · connection,
where the activation z_i, the attention weight A (1 for the direct way) and the scales are this cell's, and
the connection W_dec[i] · … · W_enc[j] is the same in every cell (connections.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from scx_core.attribution.edge_heads import Pair, check_pairs, edge_weights
from scx_core.attribution.node_ids import Ref, place_of
from scx_core.attribution.virtual_weights import heads_into
from scx_core.circuits.traced_prompt import Scene
from scx_core.errors import ScxError


class Way(NamedTuple):
    """One way of a pair: contribution = activation · attention · scale · connection.

    `layer` and `head` are None for the direct way. `scale` is the product of the frozen 1/σ on it.
    """

    layer: int | None
    head: int | None
    attention: float
    scale: float
    connection: float
    contribution: float


class PairAttribution(NamedTuple):
    """An edge between two features: `weight` = Σ contributions of all ways + `rest`.

    `activation` is the source's z. `ways` are the largest; `by_ways` sums all of them. `rest` is what goes
    through two heads and more, or through a skip term.
    """

    source: str
    target: str
    weight: float
    activation: float
    ways: tuple[Way, ...]
    by_ways: float
    rest: float

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        return self._asdict() | {"ways": [way._asdict() for way in self.ways]}


@torch.no_grad()
def pair_attribution(scene: Scene, source: Ref, target: Ref, ways: int = 10) -> PairAttribution:
    """Split the edge between two active features. Raises ScxError for other ends or no possible edge."""
    if source.kind != "feature" or target.kind != "feature":
        raise ScxError(f"{source.id} and {target.id} are not both features.", "Choose two features.")
    frozen, pair = scene.frozen, Pair(source, target)
    check_pairs([pair], scene.target)
    weight = float(edge_weights(frozen, [pair], scene.target)[0])
    found = _ways(scene, source, target)
    z = float(frozen.layers[source.layer].value_N[place_of(frozen, source)])
    found = [way._replace(contribution=z * way.attention * way.scale * way.connection) for way in found]
    found.sort(key=lambda way: -abs(way.contribution))
    by_ways = sum(way.contribution for way in found)
    return PairAttribution(source.id, target.id, weight, z, tuple(found[:ways]), by_ways, weight - by_ways)


def _ways(scene: Scene, source: Ref, target: Ref) -> list[Way]:
    """All ways with their factors; contributions are still to be made."""
    frozen, rep = scene.frozen, scene.frozen.replacement
    dec_d = rep.layers[source.layer].dec_Fd[source.feature]
    behind = frozen.layers[source.layer].mlp_out_scale_T
    scale = float(frozen.layers[target.layer].mlp_scale_T[target.position])
    scale *= 1.0 if behind is None else float(behind[source.position])
    out = []
    if source.position == target.position:
        connection = float(dec_d @ rep.layers[target.layer].enc_Fd[target.feature])
        out.append(Way(None, None, 1.0, scale, connection, 0.0))
    heads = heads_into(rep, target.layer, target.feature)
    columns = zip(
        heads.layer_J.tolist(), heads.head_J.tolist(), (heads.read_Jd @ dec_d).tolist(), strict=True
    )
    for layer, head, connection in columns:
        if layer <= source.layer:
            continue
        f = frozen.layers[layer]
        through = float(f.attn_scale_T[source.position])
        through *= 1.0 if f.attn_out_scale_T is None else float(f.attn_out_scale_T[target.position])
        attention = float(f.pattern_HTT[head, target.position, source.position])
        out.append(Way(layer, head, attention, scale * through, connection, 0.0))
    return out
