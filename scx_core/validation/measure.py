"""What is measured on one batch, and the sums that it goes into.

Legend: B cells, T positions, N counted positions, C all cells, d residual width, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from scx_core.language import Language, captured_mlps
from scx_core.language.hooks import Stand_in
from scx_core.transcoders import TranscoderSet
from scx_core.validation.baselines import Rival
from scx_core.validation.held_out_texts import Texts
from scx_core.validation.losses import hidden_states, token_losses
from scx_core.validation.running_sums import ClassMeans, LayerStream

AT_ONCE = 8  # conditions whose hidden states wait for their losses together


class Losses:
    """Cross-entropy and KL by condition, and the same with one layer replaced at a time.

    `cells` holds each cell's own sums of some of them, for intervals over cells: "orig", "zero",
    "transcoder" and the rivals' keys (cross-entropy), the last two with " kl" behind, and "tokens".
    """

    def __init__(self, n_layers: int, rivals: Sequence[str] = ()) -> None:
        self.ce = {name: ClassMeans() for name in ("orig", "transcoder", "zero", "mean", *rivals)}
        self.kl = {name: ClassMeans() for name in ("transcoder", *rivals)}
        self.layer_ce = [ClassMeans() for _ in range(n_layers)]
        self.layer_zero = [ClassMeans() for _ in range(n_layers)]
        self.layer_kl = [ClassMeans() for _ in range(n_layers)]
        self._cells: dict[str, list[np.ndarray]] = {}

    def note(self, name: str, value_N: torch.Tensor, texts: Texts) -> None:
        """Take in the cells' own sums of one batch."""
        sums_B = np.bincount(texts.cell_N.cpu().numpy(), value_N.cpu().numpy(), len(texts.cells))
        self._cells.setdefault(name, []).append(sums_B)

    def cells_C(self, name: str) -> np.ndarray:
        """Each cell's own sum."""
        return np.concatenate(self._cells[name])


class _Waiting(NamedTuple):
    """Hidden states, and where their losses go; `name` where each cell's own are kept too."""

    hidden_Nd: torch.Tensor
    ce: ClassMeans
    kl: ClassMeans | None = None
    name: str = ""


class _Batch:
    """The conditions of one batch, whose losses are found some at a time: all need the reference's logits."""

    def __init__(self, lm: Language, texts: Texts, reference_Nd: torch.Tensor, losses: Losses) -> None:
        self.lm, self.texts, self.reference_Nd, self.losses = lm, texts, reference_Nd, losses
        self.waiting: list[_Waiting] = []

    def add(
        self, hidden_Nd: torch.Tensor, ce: ClassMeans, kl: ClassMeans | None = None, name: str = ""
    ) -> None:
        """One condition more."""
        self.waiting.append(_Waiting(hidden_Nd, ce, kl, name))
        if len(self.waiting) >= AT_ONCE:
            self.finish()

    def finish(self) -> None:
        """Take in what waits."""
        texts = self.texts
        found = token_losses(
            self.lm, [one.hidden_Nd for one in self.waiting], texts.target_N, self.reference_Nd
        )
        for one, (ce_N, kl_N) in zip(self.waiting, found, strict=True):
            one.ce.add(ce_N, texts.target_class_N)
            if one.kl is not None:
                one.kl.add(kl_N, texts.target_class_N)
            if one.name:
                self.losses.note(one.name, ce_N, texts)
                if one.kl is not None:
                    self.losses.note(f"{one.name} kl", kl_N, texts)
        self.waiting = []


def add_batch(
    lm: Language,
    transcoders: TranscoderSet,
    texts: Texts,
    losses: Losses,
    layers: list[LayerStream],
    single: bool,
    rivals: Sequence[Rival] = (),
) -> None:
    """Every measure of one batch that needs no mean over the set.

    One forward pass of the original model serves its loss, the reference of every KL, and all that is asked
    of single transcoders; `single` adds two passes a layer, with only that layer replaced, each rival one.
    """
    with captured_mlps(lm) as io:
        reference_Nd = hidden_states(lm, texts)
    inputs_BTd, outputs_BTd = list(io.inputs), list(io.outputs)
    batch = _Batch(lm, texts, reference_Nd, losses)
    losses.note("tokens", torch.ones(len(texts.target_N), dtype=torch.float64), texts)
    batch.add(reference_Nd, losses.ce["orig"], name="orig")
    replaced_Nd = hidden_states(lm, texts, transcoders.stand_ins())
    batch.add(replaced_Nd, losses.ce["transcoder"], losses.kl["transcoder"], "transcoder")
    zero_Nd = hidden_states(lm, texts, dict.fromkeys(range(len(layers)), torch.zeros_like))
    batch.add(zero_Nd, losses.ce["zero"], name="zero")
    for rival in rivals:
        hidden_Nd = hidden_states(lm, texts, rival.stand_ins)
        batch.add(hidden_Nd, losses.ce[rival.key], losses.kl[rival.key], rival.key)
    real_BT = texts.real_BT.bool()
    inputs, outputs = ([side_BTd[real_BT] for side_BTd in sides] for sides in (inputs_BTd, outputs_BTd))
    for k, (z_NF, guess_Nd) in enumerate(transcoders.coded(inputs, outputs)):
        stream, y_BTd = layers[k], outputs_BTd[k]
        stream.add(outputs[k], guess_Nd, z_NF, texts.read_class_N, texts.first_N)
        if not single:
            continue
        guess_BTd = torch.zeros_like(y_BTd)
        guess_BTd[real_BT] = guess_Nd.to(y_BTd.dtype)
        alone_Nd = hidden_states(lm, texts, {k: _constant(guess_BTd)})
        batch.add(alone_Nd, losses.layer_ce[k], losses.layer_kl[k])
        batch.add(hidden_states(lm, texts, {k: torch.zeros_like}), losses.layer_zero[k])
    batch.finish()


def add_mean_batch(lm: Language, texts: Texts, losses: Losses, mean_Ld: Sequence[torch.Tensor]) -> None:
    """The loss of one batch when every MLP writes its mean output, whatever it reads."""
    stand_ins = {k: _constant(mean_d) for k, mean_d in enumerate(mean_Ld)}
    hidden_Nd = hidden_states(lm, texts, stand_ins)
    batch = _Batch(lm, texts, hidden_Nd, losses)
    batch.add(hidden_Nd, losses.ce["mean"])
    batch.finish()


def _constant(y: torch.Tensor) -> Stand_in:
    """A stand-in that writes `y` ([d] or [B, T, d]) whatever it reads."""
    return lambda x_BTd: y.to(x_BTd.dtype).expand_as(x_BTd)
