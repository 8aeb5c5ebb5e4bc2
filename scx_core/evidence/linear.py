"""A linear map in the place of every MLP, by least squares: the stand-in without features.

It has the form of a transcoder with a skip term and no active feature, so that everything that traces
transcoders traces it too. Legend: B cells, T positions, N tokens, d residual width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scx_core.language import Language, mlp_io
from scx_core.sentences import EncodedCell, pad_left
from scx_core.transcoders import Transcoder, TranscoderSet

RIDGE = 1e-6  # of the mean variance of the inputs
BATCH = 16


@torch.no_grad()
def linear_set(lm: Language, cells: Sequence[EncodedCell]) -> TranscoderSet:
    """y ≈ W x + b for every MLP, fitted over all tokens of these cells; no token is kept."""
    d, layers = lm.facts.width, lm.facts.n_layers
    options = {"dtype": torch.float64, "device": lm.device}
    xx = torch.zeros(layers, d + 1, d + 1, **options)
    xy = torch.zeros(layers, d + 1, d, **options)
    for start in range(0, len(cells), BATCH):
        padded = pad_left([cell.ids for cell in cells[start : start + BATCH]], lm.pad_id)
        ids_BT, mask_BT = (torch.from_numpy(part).to(lm.device) for part in padded)
        io = mlp_io(lm, ids_BT, mask_BT)
        for layer, (x_BTd, y_BTd) in enumerate(zip(io.inputs, io.outputs, strict=True)):
            x_Nd = x_BTd[mask_BT.bool()].double()
            x_Nd1 = torch.cat([x_Nd, x_Nd.new_ones(len(x_Nd), 1)], 1)
            xx[layer] += x_Nd1.T @ x_Nd1
            xy[layer] += x_Nd1.T @ y_BTd[mask_BT.bool()].double()
    damping = torch.eye(d + 1, **options) * RIDGE
    damping[-1, -1] = 0.0
    made = []
    for layer in range(layers):
        scale = xx[layer].diagonal()[:-1].mean()
        map_d1d = torch.linalg.solve(xx[layer] + damping * scale, xy[layer]).to(lm.dtype)
        none = torch.zeros(1, d, dtype=lm.dtype, device=lm.device)
        closed = torch.full((1,), -1.0, dtype=lm.dtype, device=lm.device)
        made.append(Transcoder(none, closed, none, map_d1d[-1], map_d1d[:-1].T.contiguous()))
    return TranscoderSet(tuple(made), {"name": "linear maps"})
