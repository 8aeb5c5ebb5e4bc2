"""TopK as JumpReLU: for the layouts that have no k.

Legend: T tokens, d width, F features, N the largest pre-activations.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from scx_core.transcoders.module import Transcoder

CHUNK = 4096  # tokens at a time: their pre-activations are all in memory


@torch.no_grad()
def calibrated(coder: Transcoder, x_Td: torch.Tensor) -> Transcoder:
    """A TopK transcoder as JumpReLU, with one threshold that lets k features a token pass on average on x.

    TopK has k for each token: the two agree on average and not token by token.
    """
    wanted = min(coder.k or 0, coder.n_features) * len(x_Td)
    largest_N = x_Td.new_empty(0, dtype=coder.W_enc_Fd.dtype)
    for part_Td in x_Td.split(CHUNK):
        positive_N = coder.pre(part_Td.to(coder.W_enc_Fd.device)).flatten()
        largest_N = torch.cat([largest_N.to(positive_N.device), positive_N[positive_N > 0]])
        largest_N = largest_N.topk(min(wanted + 1, len(largest_N)), sorted=False).values
    cut = 0.0
    if len(largest_N) > wanted:
        # Between the last that passes and the first that is one too many: a product of other shape rounds
        # otherwise, and a cut on a value itself would let it pass or not by chance.
        cut = float(largest_N.topk(min(2, len(largest_N)), largest=False).values.double().mean())
    threshold_F = torch.full_like(coder.b_enc_F, cut)
    return replace(coder, kind="jumprelu", k=None, threshold_F=threshold_F)


def as_relu(coder: Transcoder) -> Transcoder:
    """TopK that lets every feature pass is ReLU, exactly; any other transcoder comes back as it is."""
    everything = coder.kind == "topk" and (coder.k or 0) >= coder.n_features
    return replace(coder, kind="relu", k=None) if everything else coder
