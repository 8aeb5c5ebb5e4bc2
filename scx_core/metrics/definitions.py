"""The definitions themselves, of features, of losses and of variance.

FVU is of sums, and the sum of squares about the mean can be had in three ways, for what is at hand: whole
tensors, batches that come one after the other, sums that several processes add up. They agree to rounding
(tests/metrics holds them to 1e-6).
Legend: T, N tokens, F features, V vocabulary, C cells, d width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# The ancestor's rule: a feature lives when log10 of its firing frequency is above this.
LIVE_LOG10 = -4.0


def active(z_TF: torch.Tensor) -> torch.Tensor:
    """Which features are active, bool, of activations behind the gate: those that are not 0. A JumpReLU
    threshold below 0 lets negative ones through: they write to the stream as any other does."""
    return z_TF != 0


def l0(fires: Any, n_tokens: float) -> float:
    """Mean active features a token, of how often each feature (tensor or array of any shape) is active on
    `n_tokens` tokens; nan without tokens."""
    return float(fires.sum()) / float(n_tokens) if n_tokens else float("nan")


def dead(fires_F: torch.Tensor | np.ndarray) -> Any:
    """Features that were never active on the tokens that were counted, bool [F]."""
    return fires_F == 0


def live(fires_F: torch.Tensor | np.ndarray, n_tokens: float) -> Any:
    """Features that are active more often than once in 10,000 tokens (10^`LIVE_LOG10`), bool [F]. A feature
    may be neither dead nor live: active once in a million tokens."""
    return fires_F > 10.0**LIVE_LOG10 * n_tokens


def cross_entropy(log_p_NV: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """−log p of each target token [N], of log-probabilities."""
    return -log_p_NV.gather(-1, target_N[..., None])[..., 0]


def kl_divergence(
    log_p_NV: torch.Tensor,
    log_q_NV: torch.Tensor,
    p_NV: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """KL(p ‖ q) = Σ p (log p − log q) at each token [N], of log-probabilities: p the original model's, q
    those with its MLPs replaced.

    `p_NV` is exp(log p) where it is at hand. `out` [N, V], which may be q's own tensor, takes what lies
    between, and spares the memory of it; without gradients then.
    """
    p_NV = log_p_NV.exp() if p_NV is None else p_NV
    if out is None:
        return (p_NV * (log_p_NV - log_q_NV)).sum(-1)
    return torch.sub(log_p_NV, log_q_NV, out=out).mul_(p_NV).sum(-1)


def ce_recovered(ce_zero: Any, ce_stand_in: Any, ce_orig: Any) -> Any:
    """Share of the loss that a stand-in wins back, (CE zero − CE stand-in) / (CE zero − CE original).

    1 is perfect, 0 as bad as no MLP, negative worse, never clipped; nan where removing the MLPs changes
    nothing. Of numbers, or of arrays entry by entry. With another baseline's loss for CE zero it is what is
    won back of the loss that this baseline leaves.
    """
    zero, stand_in, orig = (np.asarray(value, dtype=np.float64) for value in (ce_zero, ce_stand_in, ce_orig))
    lost = zero - orig
    share = np.divide(zero - stand_in, lost, out=np.full(np.shape(lost), np.nan), where=lost != 0)
    return float(share) if share.ndim == 0 else share


def agreement(label_C: Any, reference_C: Any) -> float:
    """Share of cells that two lists of labels (or of their numbers) name alike: with the original model's it
    is the label agreement, with the data set's the accuracy; nan without cells."""
    same_C = np.asarray(label_C) == np.asarray(reference_C)
    return float(same_C.mean()) if same_C.size else float("nan")


def fvu(error: Any, squares: Any) -> Any:
    """Fraction of variance unexplained, of Σ‖y − ŷ‖² and Σ‖y − ȳ‖² over the same tokens; nan where the
    outputs do not vary. Numbers, or tensors (with gradients) entry by entry."""
    if isinstance(error, torch.Tensor) or isinstance(squares, torch.Tensor):
        return error / squares  # 0 / 0 is nan
    return error / squares if squares > 0 else float("nan")


def squares_about_mean(y_Td: torch.Tensor) -> torch.Tensor:
    """Σ‖y − ȳ‖² of all tokens at once: the definition."""
    return (y_Td - y_Td.mean(0)).square().sum()


def squares_from_sums(n: Any, sum_d: torch.Tensor, square: Any) -> Any:
    """Σ‖y − ȳ‖² = Σ‖y‖² − ‖Σ y‖² / n, of sums that add up over parts and processes: `n` tokens, Σ y [..., d],
    Σ‖y‖² [...]. In float64, as the difference loses digits where the mean is far from 0."""
    return square - sum_d.square().sum(-1) / n


class RunningVariance:
    """Mean vector and Σ‖y − ȳ‖², by merging batches in float64 (Chan et al. 1983).

    Sums of squares minus squared sums would lose all digits where the mean is far from 0.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean_d: torch.Tensor | float = 0.0
        self.squares = 0.0

    def add(self, y_Td: torch.Tensor) -> None:
        """Take in one batch."""
        y_Td = y_Td.double()
        n, mean_d = len(y_Td), y_Td.mean(0)
        total = self.count + n
        apart_d = mean_d - self.mean_d
        self.squares += float(squares_about_mean(y_Td))
        self.squares += float(apart_d.square().sum()) * self.count * n / total
        self.mean_d = self.mean_d + apart_d * (n / total)
        self.count = total
