"""AuxK: a loss teaches dead features the remaining error, and their bias rises until they fire.

After arXiv 2406.04093, with Softplus in place of the gate.

Legend: T tokens, d width, D dead features.
"""

from __future__ import annotations

import torch

from scx_core.training.ops.sparse import decode_soft

# Dead features a token that the auxiliary loss lets explain the error. Few, so that each of them learns an
# activation that is worth selecting.
AUX_FEATURES = 4
BIAS_STEP = 0.05  # of the threshold, each step


def auxk_loss(
    x_Td: torch.Tensor,
    error_Td: torch.Tensor,
    W_enc_Dd: torch.Tensor,
    b_enc_D: torch.Tensor,
    W_dec_Dd: torch.Tensor,
    *,
    whole: tuple[float | torch.Tensor, int] | None = None,
) -> torch.Tensor:
    """How badly the dead features alone explain the remaining error, relative to that error.

    Softplus instead of a gate: a dead feature's pre-activation is negative nearly everywhere, and a gate
    would send no gradient to its encoder row. With it the encoder learns which tokens to fire on. Its
    scale is the share of the error that each of the features used would have to carry. `whole` is ‖error‖²
    and the number of tokens of the whole batch, where this is a part of it: the losses of the parts add up.
    """
    n_aux = min(AUX_FEATURES, len(b_enc_D))
    squares = error_Td.square()
    total, mean = squares.sum(), squares.sum(1).mean()
    if whole is not None:
        sums = (whole[0], whole[0] / whole[1])
        total, mean = (torch.as_tensor(of, dtype=total.dtype, device=total.device) for of in sums)
    scale = mean.sqrt().clamp(min=1e-8) / n_aux**0.5
    missing_Td = error_Td - decode_soft(x_Td, n_aux, scale, W_enc_Dd, b_enc_D, W_dec_Dd)
    return missing_Td.square().sum() / total.clamp(min=1e-12)


@torch.no_grad()
def raise_bias(b_enc_F: torch.Tensor, dead_F: torch.Tensor, threshold: float | torch.Tensor) -> None:
    """Raise the bias of dead features by a small share of the selection's threshold.

    After some steps such a feature is selected on the tokens that its encoder row fits best, and from then on
    the reconstruction itself teaches it; until then nothing else of it changes.
    """
    b_enc_F += BIAS_STEP * threshold * dead_F
