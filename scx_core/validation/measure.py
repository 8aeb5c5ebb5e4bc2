"""What is measured on one batch, and the sums that it goes into.

Legend: B cells, T positions, N counted positions, d residual width, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scx_core.language import Language, captured_mlps, predicted, replaced_mlps, score_labels
from scx_core.language.taps import Stand_in
from scx_core.transcoders import TranscoderSet
from scx_core.validation.losses import hidden_states, token_losses
from scx_core.validation.result import Confusion
from scx_core.validation.streams import ClassMeans, LayerStream
from scx_core.validation.texts import Texts


class Answers:
    """The label that the model gives each held-out cell, with its own MLPs and with transcoders instead."""

    def __init__(self, candidates: Sequence[str], lead: str) -> None:
        self.candidates, self.lead = tuple(candidates), lead
        n = len(self.candidates)
        self.original_KK = np.zeros((n, n), dtype=np.int64)
        self.replaced_KK = np.zeros((n, n), dtype=np.int64)
        self.same = 0

    def add(self, lm: Language, transcoders: TranscoderSet, texts: Texts) -> None:
        """Score the whole answer of every candidate for the cells of one batch, twice."""
        before = self._guess(lm, texts)
        with replaced_mlps(lm, transcoders.stand_ins()):
            after = self._guess(lm, texts)
        truth = np.array([self.candidates.index(label) for label in texts.labels])
        np.add.at(self.original_KK, (truth, before), 1)
        np.add.at(self.replaced_KK, (truth, after), 1)
        self.same += int((before == after).sum())

    def _guess(self, lm: Language, texts: Texts) -> np.ndarray:
        scores_BK = score_labels(lm, texts.cells, self.candidates, self.lead, batch=len(texts.cells))
        return np.array([self.candidates.index(label) for label in predicted(scores_BK, self.candidates)])

    @property
    def confusion(self) -> Confusion:
        """Both tables as plain numbers."""
        original, replaced = (
            tuple(map(tuple, table.tolist())) for table in (self.original_KK, self.replaced_KK)
        )
        return Confusion(self.candidates, original, replaced)


class Losses:
    """Cross-entropy by condition and KL, and the same with one layer replaced at a time."""

    def __init__(self, n_layers: int) -> None:
        self.ce = {name: ClassMeans() for name in ("orig", "transcoder", "zero", "mean")}
        self.kl = ClassMeans()
        self.layer_ce = [ClassMeans() for _ in range(n_layers)]
        self.layer_zero = [ClassMeans() for _ in range(n_layers)]
        self.layer_kl = [ClassMeans() for _ in range(n_layers)]


def add_batch(
    lm: Language,
    transcoders: TranscoderSet,
    texts: Texts,
    losses: Losses,
    layers: list[LayerStream],
    single: bool,
) -> None:
    """Every measure of one batch that needs no mean over the set.

    One forward pass of the original model serves its loss, the reference of every KL, and all that is asked
    of single transcoders; `single` adds two passes a layer, with only that layer replaced.
    """
    with captured_mlps(lm) as io:
        reference_Nd = hidden_states(lm, texts)
    _add_loss(lm, texts, reference_Nd, losses.ce["orig"])
    replaced_Nd = hidden_states(lm, texts, transcoders.stand_ins())
    _add_loss(lm, texts, replaced_Nd, losses.ce["transcoder"], losses.kl, reference_Nd)
    zero_Nd = hidden_states(lm, texts, dict.fromkeys(range(len(layers)), torch.zeros_like))
    _add_loss(lm, texts, zero_Nd, losses.ce["zero"])
    real_BT = texts.real_BT.bool()
    inputs, outputs = ([side_BTd[real_BT] for side_BTd in sides] for sides in (io.inputs, io.outputs))
    for k, (z_NF, guess_Nd) in enumerate(transcoders.coded(inputs, outputs)):
        stream, y_BTd = layers[k], io.outputs[k]
        stream.add(outputs[k], guess_Nd, z_NF, texts.read_class_N, texts.first_N)
        if not single:
            continue
        guess_BTd = torch.zeros_like(y_BTd)
        guess_BTd[real_BT] = guess_Nd.to(y_BTd.dtype)
        alone_Nd = hidden_states(lm, texts, {k: _constant(guess_BTd)})
        _add_loss(lm, texts, alone_Nd, losses.layer_ce[k], losses.layer_kl[k], reference_Nd)
        alone_Nd = hidden_states(lm, texts, {k: torch.zeros_like})
        _add_loss(lm, texts, alone_Nd, losses.layer_zero[k])


def add_mean_batch(lm: Language, texts: Texts, losses: Losses, mean_Ld: Sequence[torch.Tensor]) -> None:
    """The loss of one batch when every MLP writes its mean output, whatever it reads."""
    stand_ins = {k: _constant(mean_d) for k, mean_d in enumerate(mean_Ld)}
    _add_loss(lm, texts, hidden_states(lm, texts, stand_ins), losses.ce["mean"])


def _constant(y: torch.Tensor) -> Stand_in:
    """A stand-in that writes `y` ([d] or [B, T, d]) whatever it reads."""
    return lambda x_BTd: y.to(x_BTd.dtype).expand_as(x_BTd)


def _add_loss(
    lm: Language,
    texts: Texts,
    hidden_Nd: torch.Tensor,
    ce: ClassMeans,
    kl: ClassMeans | None = None,
    reference_Nd: torch.Tensor | None = None,
) -> None:
    ce_N, kl_N = token_losses(lm, hidden_Nd, texts.target_N, reference_Nd)
    ce.add(ce_N, texts.target_class_N)
    if kl is not None:
        kl.add(kl_N, texts.target_class_N)
