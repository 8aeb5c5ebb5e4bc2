"""A cross-layer set: each layer's features read that layer's MLP input and write for it and all later MLPs.

ŷ[l] = Σ over m ≤ l of z[m] W_dec[m→l] + b_dec[l] (+ W_skip[l] x[l]). Layer m's own part is a `Transcoder`;
what its features write further up lies in `cross[m]`. Without these terms it is the per-layer set.
Legend: L layers, T tokens, S later layers, F features, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from scx_core.errors import ScxError
from scx_core.language.hooks import Stand_in
from scx_core.language.numerics.onednn import linear
from scx_core.transcoders.module import Active, Form, Transcoder, TranscoderSet, active_of

CROSS = "W_cross"  # the name of a layer's cross terms among its weights


@dataclass(frozen=True, eq=False)
class CrossLayerSet(TranscoderSet):
    """`cross[m]` [L − 1 − m, F, d]: what the features of layer m write to the MLPs of layers m + 1, m + 2 …

    Raises ScxError when a layer's terms have another shape.
    """

    cross: tuple[torch.Tensor, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.layers)
        wanted = [(n - 1 - m, self.n_features, self.width) for m in range(n)]
        found = [tuple(W_SFd.shape) for W_SFd in self.cross]
        if found != wanted:
            raise ScxError(
                f"The cross terms of the set have the shapes {found}, expected {wanted}.",
                "Layer m writes to each of the layers after it: [later layers, features, width].",
            )

    @property
    def form(self) -> Form:
        """What the set is, whatever its gate."""
        return "cross-layer"

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrossLayerSet:
        """The set on another device or in another precision."""
        layers = tuple(layer.to(device, dtype) for layer in self.layers)
        return replace(self, layers=layers, cross=tuple(W.to(device=device, dtype=dtype) for W in self.cross))

    def stand_ins(self) -> dict[int, Stand_in]:
        """Layer → callable, for `language.replaced_mlps`. They belong together: a layer gets what the
        features of earlier ones wrote in the same forward pass, so that all layers must be replaced."""
        going = _Pass(self)

        def stand_in(layer: int, x_Td: torch.Tensor) -> torch.Tensor:
            return going.reach(layer, x_Td)[1]

        return {layer: partial(stand_in, layer) for layer in range(len(self.layers))}

    def coded(
        self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As in `TranscoderSet.coded`; all features see the model's own MLP inputs."""
        going = _Pass(self)
        for layer, x_Td in enumerate(inputs):
            yield going.reach(layer, x_Td)

    def coded_by_pairs(
        self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
    ) -> Iterator[tuple[Active, torch.Tensor]]:
        """As in `TranscoderSet.coded_by_pairs`."""
        for z_TF, guess_Td in self.coded(inputs, outputs):
            yield active_of(z_TF), guess_Td

    def tensors(self) -> list[dict[str, torch.Tensor]]:
        """The weights of every layer."""
        own = super().tensors()
        return [weights | {CROSS: W_SFd} for weights, W_SFd in zip(own, self.cross, strict=True)]

    def with_tensors(self, weights: Sequence[Mapping[str, torch.Tensor]]) -> CrossLayerSet:
        """The set with other weights; the gates' kind stays, and what was known of the old weights goes."""
        own = super().with_tensors(weights)
        return CrossLayerSet(own.layers, cross=tuple(layer[CROSS] for layer in weights))


class _Pass:
    """One way through the layers: what earlier features still have to write, [..., d] a later layer."""

    def __init__(self, coders: CrossLayerSet) -> None:
        self._coders = coders
        self._waiting: dict[int, torch.Tensor] = {}

    def reach(self, layer: int, x_Td: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [..., F] of this layer, and the stand-in for its MLP's output [..., d]."""
        if layer == 0:
            self._waiting.clear()  # of the pass before
        coder: Transcoder = self._coders.layers[layer]
        z_TF = coder.encode(x_Td)
        y_Td = coder.reconstruct(x_Td, z_TF)
        if layer in self._waiting:
            y_Td = y_Td + self._waiting.pop(layer)
        for target, W_Fd in enumerate(self._coders.cross[layer], start=layer + 1):
            write_Td = linear(z_TF, W_Fd.T)
            before = self._waiting.get(target)
            self._waiting[target] = write_Td if before is None else before + write_Td
        return z_TF, y_Td
