"""JumpReLU in training, and the controller that holds a wanted number of active features.

A feature passes where its pre-activation is above its own threshold θ. The step has no slope, so θ learns
from a stand-in: a rectangle of width ε around it (arXiv 2407.14435, eq. 11 and 12).
Legend: T tokens, F features.
"""

from __future__ import annotations

from typing import Any

import torch

WIDTH = 0.25  # ε as a share of the threshold
MEMORY = 0.95  # decay a step of the running mean of L0
PACE = 0.03  # how fast the penalty is moved: its log moves by at most this a step
LEAST = 1e-3  # active features a token that are counted at least, so that their logarithm is a number
SHIFT = 0.01  # the same of the thresholds


def _near(pre_TF: torch.Tensor, threshold_F: torch.Tensor) -> torch.Tensor:
    """1/ε inside the rectangle around the threshold, 0 elsewhere."""
    width_F = WIDTH * threshold_F
    return ((pre_TF - threshold_F).abs() < width_F / 2) / width_F


class JumpReLU(torch.autograd.Function):
    """z = pre where pre > θ, else 0. Slope of θ: −θ/ε inside the rectangle."""

    @staticmethod
    def forward(ctx: Any, pre_TF: torch.Tensor, threshold_F: torch.Tensor) -> torch.Tensor:
        """z [T, F]."""
        ctx.save_for_backward(pre_TF, threshold_F)
        return pre_TF * (pre_TF > threshold_F)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Slopes of the pre-activations (where they pass) and of θ."""
        (grad_TF,), (pre_TF, threshold_F) = grads, ctx.saved_tensors
        slope_F = -(threshold_F * _near(pre_TF, threshold_F) * grad_TF).sum(0)
        return grad_TF * (pre_TF > threshold_F), slope_F


class ActiveCount(torch.autograd.Function):
    """Active features a token, a number. Slope of θ: −1/ε inside the rectangle; the pre-activations get
    none."""

    @staticmethod
    def forward(ctx: Any, pre_TF: torch.Tensor, threshold_F: torch.Tensor) -> torch.Tensor:
        """A mean over tokens, a scalar."""
        ctx.save_for_backward(pre_TF, threshold_F)
        return (pre_TF > threshold_F).sum() / len(pre_TF)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        """The slope of θ."""
        (grad,), (pre_TF, threshold_F) = grads, ctx.saved_tensors
        return None, -grad * _near(pre_TF, threshold_F).sum(0) / len(pre_TF)


@torch.no_grad()
def control_penalty(
    memory: dict[str, torch.Tensor],
    l0: float | torch.Tensor,
    target: float,
    log_threshold_F: torch.Tensor | None = None,
) -> None:
    """After a step with `l0` active features a token: remember it, and move the penalty towards `target`.

    `memory` holds `penalty` (its factor on the loss) and `l0` (running mean, 0 before the first step), so
    that a resumed run goes on with both. What is held against the target is where L0 is heading: as far from
    this step's as this step's is from the mean of those before, since weights follow a penalty many steps
    later and the target would be passed by far. Thresholds are moved along, all together: the penalty alone
    cannot bring back features whose pre-activations have left the rectangle, as it has no slope there.
    """
    before, now = memory["l0"], l0.clamp(min=LEAST) if isinstance(l0, torch.Tensor) else max(l0, LEAST)
    memory["l0"] = torch.where(before > 0, MEMORY * before + (1 - MEMORY) * l0, before + l0)
    heading = now / memory["l0"].clamp(min=LEAST)
    error = (heading * now / target).log().clamp(-1, 1)
    memory["penalty"] = memory["penalty"] * (PACE * error).exp()
    if log_threshold_F is not None:
        log_threshold_F += SHIFT * error
