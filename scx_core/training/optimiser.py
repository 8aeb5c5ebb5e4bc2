"""Adam as the device does it best: on a card one kernel for all that happens to a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def adam(
    groups: Sequence[Any], device: torch.device, foreach: bool = True, **options: Any
) -> torch.optim.Adam:
    """Adam over weights or groups of them on the device; `foreach`: on a processor, all weights together."""
    way: dict[str, Any] = {"fused": True} if device.type == "cuda" else {"foreach": foreach}
    return torch.optim.Adam(groups, **way, **options)


def moments_from(saved: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """What Adam keeps of one weight, of what was saved under the names in `MOMENTS`. It keeps its step count
    on the CPU, but for a card, which counts for itself."""
    counts = device if device.type == "cuda" else torch.device("cpu")
    return {name: saved[name].to(counts if name == "step" else device) for name in MOMENTS if name in saved}
