"""The last steps of a training: all layers together, for what the model says with every MLP replaced.

Layer-by-layer training sees each MLP's own inputs only; with all of them replaced, errors of one layer reach
the next. A few steps on KL(p_orig ‖ p_transcoder) plus the reconstruction mend much of it (method §3; the
idea is that of arXiv 2503.17272). Gates stay where they were calibrated; the rest of the weights is tuned.
Legend: B cells, T positions, N tokens that have a next one, V vocabulary, d width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from scx_core.errors import ScxError
from scx_core.language import Language, forward, mlp_io, replaced_mlps
from scx_core.transcoders.cross_layer import CROSS
from scx_core.transcoders.module import TranscoderSet
from scx_core.transcoders.tokens import Cells, Texts

TUNED = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip", CROSS)
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
PREFIX = "tune."
FALL = 0.7  # share of the steps, at the end, over which the rate falls to 0


def rate_of_step(step: int, steps: int) -> float:
    """Share of the peak learning rate: flat, then linear to 0."""
    return min(1.0, (steps - step) / max(1.0, FALL * steps))


class TuneReport(NamedTuple):
    """One step: weighted KL in nats a token, the layers' mean FVU on their own inputs, and tokens read."""

    kl: float
    fvu: float
    tokens: int


class FineTune:
    """The layers as parameters of one optimiser: they and Adam's moments are the whole state.

    `rate` is relative: a tensor's learning rate is `rate` times the root mean square of its weights.
    """

    def __init__(self, lm: Language, coders: TranscoderSet, rate: float) -> None:
        self.lm, self.before = lm, coders
        self.weights = [
            {name: t.detach().clone().requires_grad_(name in TUNED) for name, t in layer.items()}
            for layer in coders.tensors()
        ]
        groups = []
        for layer in self.weights:
            for name, t in layer.items():
                if name in TUNED and t.numel():  # the last layer has no later ones
                    size = float(t.detach().square().mean().sqrt())
                    groups.append({"params": [t], "lr": rate * size, "peak": rate * size})
        self.optimizer = torch.optim.Adam(groups, foreach=True)

    @classmethod
    def restored(
        cls,
        lm: Language,
        coders: TranscoderSet,
        rate: float,
        saved: Mapping[str, torch.Tensor],
    ) -> FineTune:
        """As `tensors()` wrote it; `coders` are those that it began with."""
        tune = cls(lm, coders, rate)
        with torch.no_grad():
            for layer, weights in enumerate(tune.weights):
                for name, tensor in weights.items():
                    tensor.copy_(saved[f"{PREFIX}{layer}.{name}"])
                    moments = {
                        moment: saved[key].to(tensor.device if moment != "step" else "cpu")
                        for moment in MOMENTS
                        if (key := f"{PREFIX}{layer}.adam.{name}.{moment}") in saved
                    }
                    if moments:
                        tune.optimizer.state[tensor] = moments
        return tune

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed fine-tune needs, by name."""
        out: dict[str, torch.Tensor] = {}
        for layer, weights in enumerate(self.weights):
            for name, tensor in weights.items():
                out[f"{PREFIX}{layer}.{name}"] = tensor
                for moment, value in self.optimizer.state.get(tensor, {}).items():
                    out[f"{PREFIX}{layer}.adam.{name}.{moment}"] = value
        return out

    def coders(self) -> TranscoderSet:
        """The transcoders as they are now; gradients flow into the weights."""
        return self.before.with_tensors(self.weights)

    def finished(self) -> TranscoderSet:
        """The transcoders as they are now, without gradients."""
        return self.before.with_tensors(
            [{name: t.detach() for name, t in layer.items()} for layer in self.weights]
        )

    def step(self, texts: Texts, cells: Cells, share: float, answer_weight: float = 1.0) -> TuneReport:
        """One step at `share` of the peak learning rate; `answer_weight` as in training. Raises ScxError when
        the loss is not a number, or the memory does not suffice: all layers are held at once here."""
        try:
            return self._step(texts, cells, share, answer_weight)
        except torch.OutOfMemoryError as error:
            raise ScxError(
                "The last steps, with all layers together, do not fit into the device's memory.",
                "The last checkpoint is kept. Start a run with fewer cells in a step, or without these steps "
                "(finetune_steps 0).",
            ) from error

    def _step(self, texts: Texts, cells: Cells, share: float, answer_weight: float) -> TuneReport:
        batch = texts.batch(self.lm, cells)
        real_BT, keep_BT = texts.counted(batch.mask_BT, cells), batch.mask_BT[:, :-1].bool()
        io = mlp_io(self.lm, *batch, logits=True)
        assert io.logits_BTV is not None  # asked for
        target_NV = io.logits_BTV[:, :-1][keep_BT].float().log_softmax(-1)
        weight_BT = torch.zeros(real_BT.shape, device=real_BT.device)
        weight_BT[real_BT] = texts.weights(self.lm, cells, answer_weight)
        weight_N = weight_BT[:, :-1][keep_BT]
        coders = self.coders()
        inputs, outputs = ([side[real_BT].float() for side in sides] for sides in (io.inputs, io.outputs))
        with torch.enable_grad():
            with replaced_mlps(self.lm, coders.stand_ins()):
                coded_NV = forward(self.lm, *batch)[:, :-1][keep_BT].float().log_softmax(-1)
            kl_N = (target_NV.exp() * (target_NV - coded_NV)).sum(-1)
            kl = (weight_N * kl_N).sum() / weight_N.sum()
            coded = zip(coders.coded(inputs, outputs), outputs, strict=True)
            fvu = torch.stack([_fvu(guess_Td, y_Td) for (_, guess_Td), y_Td in coded]).mean()
            # The two are of different size, and of another in every model: both get the same weight.
            loss = kl + fvu * (kl.detach() / fvu.detach().clamp(min=1e-12))
            if not bool(torch.isfinite(loss)):
                raise ScxError(
                    "The loss of the last steps, with all layers together, is not a number.",
                    "The last checkpoint is kept. Start a run with fewer of these steps, or with none.",
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.optimizer.step()
        return TuneReport(kl.item(), fvu.item(), int(real_BT.sum()))


def _fvu(guess_Td: torch.Tensor, y_Td: torch.Tensor) -> torch.Tensor:
    return (y_Td - guess_Td).square().sum() / (y_Td - y_Td.mean(0)).square().sum()
