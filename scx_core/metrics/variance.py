"""Share of the outputs' variance that a stand-in leaves unexplained: Σ‖y − ŷ‖² / Σ‖y − ȳ‖², of sums over all.

The lower sum can be had in three ways, for what is at hand: whole tensors, batches that come one after the
other, sums that several processes add up. They agree to rounding (tests/metrics holds them to 1e-6).
Legend: T tokens, d width.
"""

from __future__ import annotations

from typing import Any

import torch


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
