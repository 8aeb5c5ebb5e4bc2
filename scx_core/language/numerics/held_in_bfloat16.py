"""A model whose weights are held in bfloat16 and that computes in float32, one part's weights at a time.

Large checkpoints are released in bfloat16, and in float32 they would take twice the memory of a card. Sums
in bfloat16 are off by a hundredth, which no account of a circuit survives. So each part's weights are
converted while it runs (bfloat16 → float32 is exact): activations, gradients and edges are float32. Under
autocast, as in training, matrix products take the weights as they are held, and all else stays float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


def wide(weight: torch.Tensor) -> torch.Tensor:
    """A weight as it is computed with: float32 where it is held in bfloat16, else itself."""
    return weight.float() if weight.dtype == torch.bfloat16 else weight


@cache
def _in_float32(kind: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """This kind of module, whose weights are wide while it runs. A class and not a method hung into the
    module, which would hold it in a circle: its weights would stay until Python's collector comes by."""

    class InFloat32(kind):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            held = dict(self._parameters)
            matrices = [w for w in held.values() if w is not None and w.dim() > 1]
            if any(torch.is_autocast_enabled(w.device.type) for w in matrices):
                return super().forward(*args, **kwargs)
            for name, weight in held.items():
                self._parameters[name] = None if weight is None else wide(weight)
            try:
                return super().forward(*args, **kwargs)
            finally:
                self._parameters.update(held)

    class Embedded(kind):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().forward(*args, **kwargs).float()  # rows are picked first: the table is large

    made: type[torch.nn.Module] = Embedded if issubclass(kind, torch.nn.Embedding) else InFloat32
    made.__name__, made.__qualname__ = kind.__name__, kind.__qualname__  # whoever reads names finds its own
    return made


def compute_in_float32(model: torch.nn.Module) -> None:
    """Let a model that is held in bfloat16 compute in float32, for good. Weights stay as they are."""
    for module in model.modules():
        weights = [weight for weight in module._parameters.values() if weight is not None]
        if any(weight.dtype == torch.bfloat16 for weight in weights):
            module.__class__ = _in_float32(type(module))  # type: ignore[arg-type]
