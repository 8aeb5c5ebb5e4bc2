"""In which precision a card multiplies float32 matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def rounded_products(device: torch.device) -> Iterator[None]:
    """Inside, a card takes the factors of float32 matrix products as TensorFloat-32 (10 bits of mantissa;
    sums stay float32), several times as fast. For figures that are means over many tokens; what is traced,
    and what is added up to the last digit, keeps full products. A processor knows no such thing."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
