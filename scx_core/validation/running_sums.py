"""Sums that grow batch by batch: means by token class, variance about an exact mean, firing of features.

All sums are float64 (counts int64), so that a result does not depend on the batch size beyond rounding.
Legend: N tokens of a batch, C token classes, d residual width, F features.
"""

from __future__ import annotations

import numpy as np
import torch

from scx_core.metrics import Spread, active, dead, fvu, live
from scx_core.sentences import GENE, PROMPT, TOKEN_CLASSES


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
        active_NF = active(z_NF)
        self.l0.add(active_NF.sum(1), class_N)
        self.fired_F = self.fired_F + active_NF.sum(0)
        kinds_NC = torch.nn.functional.one_hot(class_N, len(TOKEN_CLASSES)).to(z_NF.dtype) * ~first_N[:, None]
        self.mass_CF = self.mass_CF + (kinds_NC.T @ z_NF.abs()).double()

    @property
    def fvu(self) -> float:
        """Σ‖y−ŷ‖² / Σ‖y−ȳ‖² over the whole set; nan when the outputs never vary."""
        return float(fvu(self.error, self.spread.squares))

    @property
    def dead_F(self) -> np.ndarray:
        """Features that were never active, bool [F]."""
        return dead(torch.as_tensor(self.fired_F)).cpu().numpy()

    @property
    def live_F(self) -> np.ndarray:
        """Features that are active more often than once in 10,000 tokens, bool [F]."""
        return live(torch.as_tensor(self.fired_F), self.spread.count).cpu().numpy()

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
