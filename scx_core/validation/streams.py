"""Sums that grow batch by batch: means by token class, variance about an exact mean, firing of features.

All sums are float64 (counts int64), so that a result does not depend on the batch size beyond rounding.
Legend: N tokens of a batch, C token classes, d residual width, F features.
"""

from __future__ import annotations

import numpy as np
import torch

from scx_core.sentences import GENE, PROMPT, TOKEN_CLASSES

# The ancestor's rule: a feature lives when log10 of its firing frequency is above this.
LIVE_LOG10 = -4.0


class ClassMeans:
    """Mean of a token-wise quantity by token class and over all tokens."""

    def __init__(self) -> None:
        self.sum_C = np.zeros(len(TOKEN_CLASSES))
        self.count_C = np.zeros(len(TOKEN_CLASSES), dtype=np.int64)

    def add(self, value_N: torch.Tensor, class_N: torch.Tensor) -> None:
        """Take in one batch."""
        kinds = class_N.cpu().numpy()
        self.sum_C += np.bincount(kinds, value_N.double().cpu().numpy(), len(TOKEN_CLASSES))
        self.count_C += np.bincount(kinds, minlength=len(TOKEN_CLASSES))

    @property
    def total(self) -> float:
        """Mean over all tokens."""
        return float(self.sum_C.sum() / self.count_C.sum()) if self.count_C.sum() else float("nan")

    def of(self, kind: int) -> float:
        """Mean over one class; nan when it is empty."""
        return float(self.sum_C[kind] / self.count_C[kind]) if self.count_C[kind] else float("nan")


class Spread:
    """Mean vector and summed squared distance from it, by merging batches (Chan et al. 1983).

    Sums of squares minus squared sums would lose all digits where the mean is far from 0.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean_d: torch.Tensor | float = 0.0
        self.squares = 0.0

    def add(self, y_Nd: torch.Tensor) -> None:
        """Take in one batch."""
        y_Nd = y_Nd.double()
        n, mean_d = len(y_Nd), y_Nd.mean(0)
        total = self.count + n
        apart_d = mean_d - self.mean_d
        self.squares += float((y_Nd - mean_d).square().sum())
        self.squares += float(apart_d.square().sum()) * self.count * n / total
        self.mean_d = self.mean_d + apart_d * (n / total)
        self.count = total


class LayerStream:
    """What one layer's transcoder does on the original model's activations."""

    def __init__(self) -> None:
        self.spread = Spread()
        self.error = 0.0
        self.l0 = ClassMeans()
        self.fired_F: torch.Tensor | int = 0
        self.mass_CF: torch.Tensor | float = 0.0

    def add(
        self,
        y_Nd: torch.Tensor,
        guess_Nd: torch.Tensor,
        z_NF: torch.Tensor,
        class_N: torch.Tensor,
        first_N: torch.Tensor,
    ) -> None:
        """Take in one batch: MLP outputs, their reconstruction and the features' activations.

        Activation mass leaves position 0 out: in models of the Pythia kind it is an attention sink with huge
        activations whatever the text, and would hide what the other positions do.
        """
        self.spread.add(y_Nd)
        self.error += float((y_Nd.double() - guess_Nd.double()).square().sum())
        active_NF = z_NF != 0
        self.l0.add(active_NF.sum(1), class_N)
        self.fired_F = self.fired_F + active_NF.sum(0)
        kinds_NC = torch.nn.functional.one_hot(class_N, len(TOKEN_CLASSES)).to(z_NF.dtype) * ~first_N[:, None]
        self.mass_CF = self.mass_CF + (kinds_NC.T @ z_NF.abs()).double()

    @property
    def fvu(self) -> float:
        """Σ‖y−ŷ‖² / Σ‖y−ȳ‖² over the whole set; nan when the outputs never vary."""
        return self.error / self.spread.squares if self.spread.squares > 0 else float("nan")

    @property
    def dead_F(self) -> np.ndarray:
        """Features that were never active, bool [F]."""
        return (torch.as_tensor(self.fired_F) == 0).cpu().numpy()

    @property
    def live_F(self) -> np.ndarray:
        """Features whose firing frequency is above 10^`LIVE_LOG10`, bool [F]."""
        return (torch.as_tensor(self.fired_F) > 10.0**LIVE_LOG10 * self.spread.count).cpu().numpy()

    @property
    def prompt_mass(self) -> float:
        """Share of the activation mass on prompt words and punctuation, position 0 left out."""
        mass_CF = torch.as_tensor(self.mass_CF)
        return float(mass_CF[PROMPT].sum() / mass_CF.sum()) if float(mass_CF.sum()) > 0 else float("nan")

    @property
    def gene_features(self) -> float:
        """Share of the features that fire at all which have most of their mass on gene tokens."""
        mass_CF = torch.as_tensor(self.mass_CF)
        total_F = mass_CF.sum(0)
        fires_F = total_F > 0
        return (
            float((mass_CF[GENE] > total_F / 2)[fires_F].double().mean())
            if bool(fires_F.any())
            else float("nan")
        )
