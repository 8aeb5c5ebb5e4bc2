"""Float32 products on a processor by oneDNN, where PyTorch itself would call MKL.

PyTorch takes oneDNN for bfloat16 but MKL for float32, and MKL is held back on other processors than Intel's:
on an AMD EPYC (Zen 5) oneDNN's product of the same float32 numbers is 2.2 times as fast, with an error of the
same size. The operator is the one that PyTorch's own compiler emits for a linear map; where it is missing, or
the numbers are few or of another kind, PyTorch's usual way is taken. Nothing here is chosen by a stopwatch:
the same shapes take the same way on every run. The operator is private to PyTorch, so nobody gets it unasked:
SCX_ONEDNN=1 turns it on (the command line and the dashboard do, `scx_core.environment`), SCX_ONEDNN=0 off;
the two ways agree to float32 rounding. The left factor may be strided as it likes; of a right factor with
gaps between its rows oneDNN makes a product by plain loops, a thousand times as slow, so that one is left to
PyTorch.
Legend: M rows, K inputs, N outputs, B products.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.nn import functional as nnf

ROWS = 32  # fewer rows gain nothing
LEAST = 1 << 24  # multiplications that pay for a program, which oneDNN compiles for every shape (0.7 ms)
LEAST_OF_BATCH = 1 << 20  # and of each product of a batch, for its own call


def asked_for() -> bool:
    """Whether this process was told to use oneDNN (SCX_ONEDNN=1)."""
    return os.environ.get("SCX_ONEDNN") == "1"


def at_hand() -> bool:
    """Whether the processor and this PyTorch have the product."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _fits(x: torch.Tensor, weight_NK: torch.Tensor) -> bool:
    return x.numel() * len(weight_NK) >= LEAST and _suits(x, weight_NK)


def _suits(x: torch.Tensor, weight_NK: torch.Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == weight_NK.dtype == torch.float32
    if not plain or x.numel() < ROWS * max(1, x.shape[-1]) or not weight_NK.numel():
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return _dense(weight_NK) and at_hand()


def _dense(w_NK: torch.Tensor) -> bool:
    return w_NK.is_contiguous() or w_NK.T.is_contiguous()


def _product(x: torch.Tensor, weight_NK: torch.Tensor, bias_N: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight_NK, bias_N, "none", [], "")


def linear(x: torch.Tensor, weight_NK: torch.Tensor, bias_N: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., K] → x Wᵀ + b [..., N], as `torch.nn.functional.linear`, with gradients of first order;
    by oneDNN where that is asked for."""
    if not asked_for() or not _fits(x, weight_NK):
        return nnf.linear(x, weight_NK, bias_N)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight_NK, bias_N)):
        return _Linear.apply(x, weight_NK, bias_N)
    return _product(x, weight_NK, bias_N)


def mm(x_MK: torch.Tensor, w_KN: torch.Tensor, out_MN: torch.Tensor | None = None) -> torch.Tensor:
    """x W, as `torch.mm`, without gradients; in the buffer if one is given and PyTorch's way is taken, else
    in new memory."""
    if asked_for() and _fits(x_MK, w_KN.T):
        return _product(x_MK, w_KN.T, None)
    return torch.mm(x_MK, w_KN, out=out_MN)


def addmm_(sum_MN: torch.Tensor, x_MK: torch.Tensor, w_KN: torch.Tensor) -> None:
    """Add x W to a sum in place, without gradients."""
    if asked_for() and _fits(x_MK, w_KN.T):
        sum_MN += _product(x_MK, w_KN.T, None)
    else:
        sum_MN.addmm_(x_MK, w_KN)


def bmm(x_BMK: torch.Tensor, w_BKN: torch.Tensor, out_BMN: torch.Tensor | None = None) -> torch.Tensor:
    """Products of a batch, as `torch.bmm`, without gradients; large ones one after the other."""
    n_products, n_rows, n_inputs = x_BMK.shape
    each = n_rows * n_inputs * w_BKN.shape[2]
    large = each >= LEAST_OF_BATCH and each * n_products >= LEAST
    if not (large and asked_for() and _suits(x_BMK[0], w_BKN[0].T)):
        return torch.bmm(x_BMK, w_BKN, out=out_BMN)
    if out_BMN is None:
        out_BMN = x_BMK.new_empty(n_products, n_rows, w_BKN.shape[2])
    for out_MN, x_MK, w_KN in zip(out_BMN, x_BMK, w_BKN, strict=True):
        out_MN.copy_(_product(x_MK, w_KN.T, None))
    return out_BMN


class _Linear(torch.autograd.Function):
    """The product, and both of its gradients by products of the same kind."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, weight_NK: torch.Tensor, bias_N: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight_NK)
        return _product(x, weight_NK, bias_N)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, weight_NK = ctx.saved_tensors
        g_MN, x_MK = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(g.contiguous(), weight_NK.T.contiguous(), None) if of_x else None,
            _product(g_MN.T.contiguous(), x_MK.T.contiguous(), None) if of_weight else None,
            g_MN.sum(0) if of_bias else None,
        )


class OneDnnLinear(torch.nn.Linear):
    """A linear map of a model whose product is oneDNN's when no gradients are asked for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., K] → x Wᵀ + b [..., N]."""
        # With gradients the map stays PyTorch's: it may be differentiated twice, or under a transform.
        if torch.is_grad_enabled() or not _suits(x, self.weight):
            return super().forward(x)
        return _product(x, self.weight, self.bias)


def speed_up(model: torch.nn.Module) -> None:
    """Let the model's linear maps take this way when no gradients are asked for. Names, weights and what is
    saved of the model stay as they are. The class is changed, as a method that is hung into a module would
    hold it in a circle: a model that nobody needs kept its weights until Python's collector came by."""
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = OneDnnLinear
