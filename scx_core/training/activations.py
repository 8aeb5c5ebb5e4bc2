"""What the MLPs read and write on some cells: one forward pass of the model serves all layers.

Legend: B cells, T positions of a batch or counted tokens end to end, N of them, d width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from scx_core.language import Language, MlpIO, mlp_io
from scx_core.training.plan import Plan
from scx_core.training.profiler import phase
from scx_core.training.tokens import Cells, Texts
from scx_core.transcoders.module import Reads


class _Part(NamedTuple):
    """A forward pass, and the places of its counted tokens (None: all)."""

    io: MlpIO
    at_N: torch.Tensor | None


def activations(
    lm: Language, texts: Texts, cells: Cells, reads: Reads = "input", plan: Plan | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What each layer's transcoder is given (the MLP's input; for an SAE its output) and the MLP's output,
    float32 [T, d], counted tokens only; of the plan's own layers, from a forward pass a micro-batch."""
    plan = plan or Plan()
    own = plan.own(lm.facts.n_layers)

    def read(size: int) -> list[_Part]:
        return [
            _read(lm, texts, cells[start : start + size], plan, own) for start in range(0, len(cells), size)
        ]

    parts = plan.micro.run(read, len(cells))
    for layer in own:
        y_Td = _joined([_rows(io.outputs[layer], at_N) for io, at_N in parts])
        if reads == "output":
            yield y_Td, y_Td
        else:
            yield _joined([_rows(io.inputs[layer], at_N) for io, at_N in parts]), y_Td


def _read(lm: Language, texts: Texts, cells: Cells, plan: Plan, own: list[int]) -> _Part:
    ids_BT, mask_BT = texts.batch(lm, cells)
    with phase("model"), plan.cast(lm):
        io, counted_BT = mlp_io(lm, ids_BT, mask_BT, layers=own), texts.counted(mask_BT, cells)
    return _Part(io, None if bool(counted_BT.all()) else counted_BT.flatten().nonzero()[:, 0])


def _rows(x_BTd: torch.Tensor, at_N: torch.Tensor | None) -> torch.Tensor:
    """The tokens at some places of a batch (None: all of them), float32 [T, d]."""
    x_Td = x_BTd.flatten(0, 1)
    return (x_Td if at_N is None else x_Td.index_select(0, at_N)).float()


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
