"""What a validation measures on one batch of held-out texts, and the sums that it goes into.

All sums are float64 (counts int64), so that a result does not depend on the batch size beyond rounding. The
vocabulary's logits never exist for more than a chunk of tokens.
Legend: B cells, T positions, N counted positions, C token classes (`cells_C`: cells), d residual width,
F features, V vocabulary, K conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from scx_core.language import (
    Language,
    captured_blocks,
    captured_mlps,
    hidden_from,
    replaced_mlps,
)
from scx_core.language.answer_tree import read_tree
from scx_core.language.hooks import Stand_in
from scx_core.metrics import RunningVariance, dead, fvu, live
from scx_core.sentences import GENE, PROMPT, TOKEN_CLASSES
from scx_core.training.objective.losses import token_losses
from scx_core.training.ops.sparse import times_of
from scx_core.transcoders import TranscoderSet
from scx_core.transcoders.module import Active, active_of
from scx_core.validation.baselines import Baseline
from scx_core.validation.held_out import Texts
from scx_core.validation.label_agreement import ORIGINAL, TRANSCODER, Answers


class ClassMeans:
    """Mean of a token-wise quantity by token class and over all tokens."""

    def __init__(self) -> None:
        self.sum_C = np.zeros(len(TOKEN_CLASSES))
        self.count_C = np.zeros(len(TOKEN_CLASSES), dtype=np.int64)

    def add(self, value_N: torch.Tensor, class_N: torch.Tensor) -> None:
        """Take in one batch."""
        kinds = class_N.cpu().numpy()
        self.sum_C += np.bincount(kinds, value_N.double().cpu().numpy(), len(TOKEN_CLASSES))
        self.count_C += np.bincount(kinds, minlength=len(TOKEN_CLASSES))

    @property
    def total(self) -> float:
        """Mean over all tokens."""
        return float(self.sum_C.sum() / self.count_C.sum()) if self.count_C.sum() else float("nan")

    def of(self, kind: int) -> float:
        """Mean over one class; nan when it is empty."""
        return float(self.sum_C[kind] / self.count_C[kind]) if self.count_C[kind] else float("nan")


class LayerStream:
    """What one layer's transcoder does on the original model's activations."""

    def __init__(self) -> None:
        self.spread = RunningVariance()
        self.error = 0.0
        self.l0 = ClassMeans()
        self.fired_F: torch.Tensor | int = 0
        self.mass_CF: torch.Tensor | float = 0.0

    def add(
        self,
        y_Nd: torch.Tensor,
        guess_Nd: torch.Tensor,
        z_NF: torch.Tensor,
        class_N: torch.Tensor,
        first_N: torch.Tensor,
    ) -> None:
        """Take in one batch: MLP outputs, their reconstruction and the features' activations.

        Activation mass leaves position 0 out: in models of the Pythia kind it is an attention sink with huge
        activations whatever the text, and would hide what the other positions do.
        """
        self.add_pairs(y_Nd, guess_Nd, active_of(z_NF), z_NF.shape[1], class_N, first_N)

    def add_pairs(
        self,
        y_Nd: torch.Tensor,
        guess_Nd: torch.Tensor,
        pairs: Active,
        n_features: int,
        class_N: torch.Tensor,
        first_N: torch.Tensor,
    ) -> None:
        """The same, of the active features alone: a few of a thousand are."""
        self.spread.add(y_Nd)
        self.error += float((y_Nd.double() - guess_Nd.double()).square().sum())
        self.l0.add(times_of(pairs.position_N, len(y_Nd)), class_N)
        self.fired_F = self.fired_F + times_of(pairs.feature_N, n_features)
        size_N = pairs.value_N.abs().double() * ~first_N[pairs.position_N]
        place_N = class_N[pairs.position_N] * n_features + pairs.feature_N
        mass_CF = times_of(place_N, len(TOKEN_CLASSES) * n_features, size_N).view(-1, n_features)
        self.mass_CF = self.mass_CF + mass_CF

    @property
    def fvu(self) -> float:
        """Σ‖y−ŷ‖² / Σ‖y−ȳ‖² over the whole set; nan when the outputs never vary."""
        return float(fvu(self.error, self.spread.squares))

    @property
    def dead_F(self) -> np.ndarray:
        """Features that were never active, bool [F]."""
        return dead(torch.as_tensor(self.fired_F)).cpu().numpy()

    @property
    def live_F(self) -> np.ndarray:
        """Features that are active more often than once in 10,000 tokens, bool [F]."""
        return live(torch.as_tensor(self.fired_F), self.spread.count).cpu().numpy()

    @property
    def prompt_mass(self) -> float:
        """Share of the activation mass on prompt words and punctuation, position 0 left out."""
        mass_CF = torch.as_tensor(self.mass_CF)
        return float(mass_CF[PROMPT].sum() / mass_CF.sum()) if float(mass_CF.sum()) > 0 else float("nan")

    @property
    def gene_features(self) -> float:
        """Share of the features that fire at all which have most of their mass on gene tokens."""
        mass_CF = torch.as_tensor(self.mass_CF)
        total_F = mass_CF.sum(0)
        fires_F = total_F > 0
        on_genes_F = mass_CF[GENE] > total_F / 2
        return float(on_genes_F[fires_F].double().mean()) if bool(fires_F.any()) else float("nan")


@torch.no_grad()
def hidden_states(
    lm: Language, texts: Texts, stand_ins: Mapping[int, Stand_in] | None = None
) -> torch.Tensor:
    """Hidden states after the last norm at the counted positions, [N, d], with MLPs replaced if wanted."""
    return all_hidden(lm, texts, stand_ins)[texts.real_BT]


@torch.no_grad()
def all_hidden(lm: Language, texts: Texts, stand_ins: Mapping[int, Stand_in] | None = None) -> torch.Tensor:
    """The same at every position of the prompts and of the answers' tree, [B, T, d]."""
    with replaced_mlps(lm, stand_ins or {}):
        return read_tree(lm, texts.read)


# Conditions whose hidden states wait for their losses together: so many, or more up to so many numbers.
AT_ONCE, HELD = 8, 32_000_000


class Losses:
    """Cross-entropy and KL by condition, and the same with one layer replaced at a time.

    `cells` holds each cell's own sums of some of them, for intervals over cells: "orig", "zero",
    "transcoder" and the baselines' keys (cross-entropy), the last two with " kl" behind, and "tokens".
    """

    def __init__(self, n_layers: int, baselines: Sequence[str] = ()) -> None:
        self.ce = {name: ClassMeans() for name in ("orig", "transcoder", "zero", "mean", *baselines)}
        self.kl = {name: ClassMeans() for name in ("transcoder", *baselines)}
        self.layer_ce = [ClassMeans() for _ in range(n_layers)]
        self.layer_zero = [ClassMeans() for _ in range(n_layers)]
        self.layer_kl = [ClassMeans() for _ in range(n_layers)]
        self.layers_orig = ClassMeans()  # on the cells that the layers alone are measured on
        self._cells: dict[str, list[np.ndarray]] = {}

    def note(self, name: str, value_N: torch.Tensor, texts: Texts) -> None:
        """Take in the cells' own sums of one batch."""
        sums_B = np.bincount(texts.cell_N.cpu().numpy(), value_N.cpu().numpy(), len(texts.cells))
        self._cells.setdefault(name, []).append(sums_B)

    def cells_C(self, name: str) -> np.ndarray:
        """Each cell's own sum."""
        return np.concatenate(self._cells[name])


class _BatchLosses:
    """The conditions of one batch, whose losses are found some at a time: all need the reference's logits."""

    def __init__(self, lm: Language, texts: Texts, reference_Nd: torch.Tensor, losses: Losses) -> None:
        self.lm, self.texts, self.reference_Nd, self.losses = lm, texts, reference_Nd, losses
        self.waiting: list[tuple[torch.Tensor, ClassMeans, ClassMeans | None, str]] = []

    def add(
        self, hidden_Nd: torch.Tensor, ce: ClassMeans, kl: ClassMeans | None = None, name: str = ""
    ) -> None:
        """One condition more: its hidden states and where its losses go; `name` where each cell's own are
        kept too."""
        self.waiting.append((hidden_Nd, ce, kl, name))
        if len(self.waiting) >= max(AT_ONCE, HELD // hidden_Nd.numel()):
            self.finish()

    def finish(self) -> None:
        """Take in what waits."""
        texts, hidden = self.texts, [one[0] for one in self.waiting]
        divergent = [one[2] is not None for one in self.waiting]
        found = token_losses(self.lm, hidden, texts.target_N, self.reference_Nd, divergent)
        for (_, ce, kl, name), (ce_N, kl_N) in zip(self.waiting, found, strict=True):
            ce.add(ce_N, texts.target_class_N)
            if kl is not None:
                kl.add(kl_N, texts.target_class_N)
            if name:
                self.losses.note(name, ce_N, texts)
                if kl is not None:
                    self.losses.note(f"{name} kl", kl_N, texts)
        self.waiting = []


def add_batch(
    lm: Language,
    transcoders: TranscoderSet,
    texts: Texts,
    losses: Losses,
    layers: list[LayerStream],
    answers: Answers,
    baselines: Sequence[Baseline] = (),
) -> None:
    """Every measure of one batch that reads the answers.

    One forward pass of the original model serves its loss, its answers, the reference of every KL, and all
    that is asked of single transcoders on its activations; each stand-in has one pass for loss and answers.
    """

    def passed(name: str, stand_ins: Mapping[int, Stand_in]) -> torch.Tensor:
        hidden_BTd = all_hidden(lm, texts, stand_ins)
        answers.add(lm, texts, name, hidden_BTd, stand_ins)
        return hidden_BTd[texts.real_BT]

    answers.expect(texts)
    with captured_mlps(lm) as io:
        hidden_BTd = all_hidden(lm, texts)
    reference_Nd = hidden_BTd[texts.real_BT]
    inputs_BTd, outputs_BTd = list(io.inputs), list(io.outputs)
    answers.add(lm, texts, ORIGINAL, hidden_BTd, {})
    batch = _BatchLosses(lm, texts, reference_Nd, losses)
    losses.note("tokens", torch.ones(len(texts.target_N), dtype=torch.float64), texts)
    batch.add(reference_Nd, losses.ce["orig"], name="orig")
    replaced_Nd = passed(TRANSCODER, transcoders.stand_ins())
    batch.add(replaced_Nd, losses.ce["transcoder"], losses.kl["transcoder"], "transcoder")
    for baseline in baselines:
        hidden_Nd = passed(baseline.key, baseline.stand_ins)
        batch.add(hidden_Nd, losses.ce[baseline.key], losses.kl[baseline.key], baseline.key)
    real_BT = texts.real_BT
    inputs, outputs = ([side_BTd[real_BT] for side_BTd in sides] for sides in (inputs_BTd, outputs_BTd))
    n_features = transcoders.n_features
    for k, (pairs, guess_Nd) in enumerate(transcoders.coded_by_pairs(inputs, outputs)):
        layers[k].add_pairs(outputs[k], guess_Nd, pairs, n_features, texts.read_class_N, texts.first_N)
    batch.finish()


def add_layers_batch(lm: Language, transcoders: TranscoderSet, texts: Texts, losses: Losses) -> None:
    """The losses of one batch with one layer replaced at a time, by its transcoder and by zeros.

    In front of that layer nothing changes, so each of the two passes a layer begins there: all of them
    together are as many blocks as one whole pass a layer.
    """
    with captured_mlps(lm) as io, captured_blocks(lm) as calls:
        reference_Nd = hidden_states(lm, texts)
    inputs_BTd, outputs_BTd = list(io.inputs), list(io.outputs)
    batch = _BatchLosses(lm, texts, reference_Nd, losses)
    batch.add(reference_Nd, losses.layers_orig)
    real_BT = texts.real_BT
    inputs, outputs = ([side_BTd[real_BT] for side_BTd in sides] for sides in (inputs_BTd, outputs_BTd))
    for k, (_, guess_Nd) in enumerate(transcoders.coded_by_pairs(inputs, outputs)):
        guess_BTd = torch.zeros_like(outputs_BTd[k])
        guess_BTd[real_BT] = guess_Nd.to(guess_BTd.dtype)
        for stand_in, ce, kl in (
            (_constant(guess_BTd), losses.layer_ce[k], losses.layer_kl[k]),
            (torch.zeros_like, losses.layer_zero[k], None),
        ):
            with replaced_mlps(lm, {k: stand_in}):
                hidden_Nd = hidden_from(lm, calls, k)[real_BT]
            batch.add(hidden_Nd, ce, kl)
    batch.finish()


def add_constant_batch(lm: Language, texts: Texts, losses: Losses, mean_Ld: Sequence[torch.Tensor]) -> None:
    """The losses of one batch when every MLP writes zeros, and when it writes its mean output, whatever it
    reads."""
    zero_Nd = hidden_states(lm, texts, dict.fromkeys(range(len(mean_Ld)), torch.zeros_like))
    mean_Nd = hidden_states(lm, texts, {k: _constant(mean_d) for k, mean_d in enumerate(mean_Ld)})
    batch = _BatchLosses(lm, texts, zero_Nd, losses)
    batch.add(zero_Nd, losses.ce["zero"], name="zero")
    batch.add(mean_Nd, losses.ce["mean"])
    batch.finish()


def _constant(y: torch.Tensor) -> Stand_in:
    """A stand-in that writes `y` ([d] or [B, T, d]) whatever it reads."""
    return lambda x_BTd: y.to(x_BTd.dtype).expand_as(x_BTd)
