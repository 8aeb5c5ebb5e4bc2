"""A model whose weights are held in bfloat16 and that computes in float32, one part's weights at a time.

Large checkpoints are released in bfloat16, and in float32 they would take twice the memory of a card. Sums
in bfloat16 are off by a hundredth, which no account of a circuit survives. So each part's weights are
converted while it runs (bfloat16 → float32 is exact): activations, gradients and edges are float32. Under
autocast, as in training, matrix products take the weights as they are held, and all else stays float32.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch


def wide(weight: torch.Tensor) -> torch.Tensor:
    """A weight as it is computed with: float32 where it is held in bfloat16, else itself."""
    return weight.float() if weight.dtype == torch.bfloat16 else weight


def _embedded(plain: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    return plain(*args, **kwargs).float()  # rows are picked first: the table itself is large


def _in_float32(module: torch.nn.Module, plain: Any, *args: Any, **kwargs: Any) -> Any:
    held = dict(module._parameters)
    matrices = [w for w in held.values() if w is not None and w.dim() > 1]
    if any(torch.is_autocast_enabled(w.device.type) for w in matrices):
        return plain(*args, **kwargs)
    for name, weight in held.items():
        module._parameters[name] = None if weight is None else wide(weight)  # type: ignore[assignment]
    try:
        return plain(*args, **kwargs)
    finally:
        module._parameters.update(held)


def compute_in_float32(model: torch.nn.Module) -> None:
    """Let a model that is held in bfloat16 compute in float32, for good. Weights stay as they are."""
    for module in model.modules():
        weights = [weight for weight in module._parameters.values() if weight is not None]
        if all(weight.dtype != torch.bfloat16 for weight in weights):
            continue
        if isinstance(module, torch.nn.Embedding):
            module.forward = partial(_embedded, module.forward)  # type: ignore[method-assign]
        else:
            module.forward = partial(_in_float32, module, module.forward)  # type: ignore[method-assign]
