"""The last steps of a training: all layers together, for what the model says with every MLP replaced.

Layer-by-layer training sees each MLP's own inputs only; with all of them replaced, errors of one layer reach
the next. A few steps on KL(p_orig ‖ p_transcoder) plus the reconstruction mend much of it (method §3; the
idea is that of arXiv 2503.17272). Gates stay where they were calibrated; the rest of the weights is tuned,
but for the encoders of relu: it has no gate that holds how many features they activate.
Legend: B cells, T positions, N tokens that have a next one, V vocabulary, d width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import psutil
import torch
from torch.utils.checkpoint import checkpoint

from scx_core.errors import ScxError
from scx_core.language import Language, OnOutput, captured_mlps, mlp_io
from scx_core.language.hooks import Stand_in
from scx_core.metrics import fvu, kl_divergence, squares_about_mean, squares_from_sums
from scx_core.runs.micro_batch import MicroBatch
from scx_core.training.evaluation import hidden_states
from scx_core.training.objective.losses import CHUNK_LOGITS, log_probs
from scx_core.training.optimiser import MOMENTS, adam, moments_from
from scx_core.training.plan import USABLE, training_batch
from scx_core.training.processes.distributed import ALONE, Team
from scx_core.training.tokens import Cells, TokenTexts
from scx_core.transcoders.cross_layer import CROSS
from scx_core.transcoders.module import TranscoderSet

ENCODER = ("W_enc", "b_enc")
TUNED = (*ENCODER, "W_dec", "b_dec", "W_skip", CROSS)
PREFIX = "tune."
FALL = 0.7  # share of the steps, at the end, over which the rate falls to 0
LEAST_FVU = 1e-12
# From so many bytes on, what layers would keep for the way back is not kept: they are run again there.
KEPT = 4e9
# Float32 values a token that are alive at the peak: for each feature of a layer (pre-activations, gates,
# gradients, twice); for each unit of width of a layer (attention, norms, what its MLP reads and writes); for
# each token of the vocabulary (logits of both models, their logarithms and gradients).
FEATURE_VALUES, WIDTH_VALUES, LOGIT_VALUES = 8, 14, 5
# Bytes a weight: tuned weight, gradient and two moments; what the layers were before, with theirs; the set.
TUNING_BYTES = 16 + 12 + 4
LARGE_WEIGHTS = 10**8  # from which on Adam goes through them one after another
REMEDY = (
    "The last checkpoint is kept. The last steps hold all layers at once. Start a run without them "
    "(finetune_steps 0), with shorter sentences, or with fewer features (expansion)."
)


def kept_bytes(lm: Language, n_features: int, tokens: float) -> float:
    """What all layers would keep of so many tokens for the way back."""
    n, d = lm.facts.n_layers, lm.facts.width
    each = n * (FEATURE_VALUES * n_features + WIDTH_VALUES * d) + LOGIT_VALUES * lm.unembedding.shape[0]
    return 4.0 * tokens * each


def bytes_of_cells(lm: Language, n_features: int, tokens: float) -> float:
    """What so many tokens at once take in the steps of all layers together."""
    whole = kept_bytes(lm, n_features, tokens)
    if whole <= KEPT:
        return whole
    values = FEATURE_VALUES * n_features + WIDTH_VALUES * lm.facts.width * lm.facts.n_layers
    return 4.0 * (tokens * values + LOGIT_VALUES * CHUNK_LOGITS)


def cells_of_tuning(lm: Language, coders: TranscoderSet, texts: TokenTexts, cells: int) -> int | None:
    """How many cells of a step go through at once on a processor: as many as its memory has room for beside
    weights and moments; None for all of them, and on a card, where the step before said it."""
    if lm.device.type != "cpu":
        return None
    tokens = len(texts.ids) / texts.n_cells
    weights = sum(t.numel() for layer in coders.tensors() for t in layer.values())
    free = USABLE * psutil.virtual_memory().total - TUNING_BYTES * weights
    size = min(cells, texts.n_cells)
    while size > 1 and bytes_of_cells(lm, coders.n_features, size * tokens) > free:
        size = -(-size // 2)
    return None if size >= min(cells, texts.n_cells) else size


def rate_of_step(step: int, steps: int) -> float:
    """Share of the peak learning rate: flat, then linear to 0."""
    return min(1.0, (steps - step) / max(1.0, FALL * steps))


class TuneReport(NamedTuple):
    """One step: weighted KL in nats a token, the layers' mean FVU on their own inputs, and tokens read."""

    kl: float
    fvu: float
    tokens: int


class _Losses(NamedTuple):
    """Weighted KL and mean FVU, with gradients to the weights; counted tokens."""

    kl: torch.Tensor
    fvu: torch.Tensor
    tokens: int


class _Whole(NamedTuple):
    """What the parts of a batch share: the sum of the tokens' weights, and each layer's Σ‖y − ȳ‖²."""

    weight: torch.Tensor
    squares: list[torch.Tensor]


class _Gradients(NamedTuple):
    """Of both losses, apart: how they are balanced is known when all parts are through. `figures`: KL, FVU
    and counted tokens, in float64."""

    of_kl: list[torch.Tensor]
    of_fvu: list[torch.Tensor]
    figures: torch.Tensor


class FineTune:
    """The layers as parameters of one optimiser: they and Adam's moments are the whole state.

    `rate` is relative: a tensor's learning rate is `rate` times the root mean square of its weights. `micro`
    bounds how many cells go through at once, and a `team` shares out those of a step, with the result of the
    whole step.
    """

    def __init__(
        self,
        lm: Language,
        coders: TranscoderSet,
        rate: float,
        micro: MicroBatch | None = None,
        team: Team = ALONE,
    ) -> None:
        self.lm, self.before, self.micro, self.team = lm, coders, micro or training_batch(), team
        tuned = [name for name in TUNED if coders.kind != "relu" or name not in ENCODER]
        self.weights = [
            {name: t.detach().clone().requires_grad_(name in tuned) for name, t in layer.items()}
            for layer in coders.tensors()
        ]
        # Other cards may round otherwise.
        team.led([tensor for layer in self.weights for tensor in layer.values() if tensor.numel()])
        groups = []
        for layer in self.weights:
            for name, t in layer.items():
                if name in tuned and t.numel():  # the last layer has no later ones
                    size = float(t.detach().square().mean().sqrt())
                    groups.append({"params": [t], "lr": rate * size, "peak": rate * size})
        count = sum(t.numel() for layer in self.weights for t in layer.values() if t.requires_grad)
        self.optimizer = adam(groups, lm.device, foreach=count < LARGE_WEIGHTS)

    @classmethod
    def restored(
        cls,
        lm: Language,
        coders: TranscoderSet,
        rate: float,
        saved: Mapping[str, torch.Tensor],
        micro: MicroBatch | None = None,
        team: Team = ALONE,
    ) -> FineTune:
        """As `tensors()` wrote it, whoever did; `coders` are those that it began with."""
        tune = cls(lm, coders, rate, micro, team)
        with torch.no_grad():
            for layer, weights in enumerate(tune.weights):
                for name, tensor in weights.items():
                    tensor.copy_(saved[f"{PREFIX}{layer}.{name}"])
                    key = f"{PREFIX}{layer}.adam.{name}."
                    own = {moment: saved[key + moment] for moment in MOMENTS if key + moment in saved}
                    moments = moments_from(own, tensor.device)
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

    def step(self, texts: TokenTexts, cells: Cells, share: float, answer_weight: float = 1.0) -> TuneReport:
        """One step at `share` of the peak learning rate; `answer_weight` as in training. Raises ScxError when
        the loss is not a number, or not even one cell at a time fits into the memory."""
        weight_T = texts.weights(self.lm, cells, answer_weight)

        def attempt(size: int) -> TuneReport:
            self.optimizer.zero_grad(set_to_none=True)
            if size < len(cells):
                return self._in_parts(texts, cells, weight_T, size)
            losses = self._losses(texts, cells, weight_T)
            _balanced(losses.kl, losses.fvu).backward()
            return TuneReport(losses.kl.item(), losses.fvu.item(), losses.tokens)

        if self.team.size > 1:
            report = self._with_others(texts, cells, weight_T)
        else:
            report = self.micro.run(attempt, len(cells), REMEDY)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.optimizer.step()
        return report

    def _losses(
        self, texts: TokenTexts, cells: Cells, weight_T: torch.Tensor, whole: _Whole | None = None
    ) -> _Losses:
        """Both losses of some cells, whose counted tokens have the weights `weight_T`; their shares in those
        of a `whole` batch, where they are a part of it."""
        batch = texts.batch(self.lm, cells)
        real_BT, keep_BT = texts.counted(batch.mask_BT, cells), batch.mask_BT[:, :-1].bool()
        with captured_mlps(self.lm) as io, torch.no_grad():
            target_Nd = hidden_states(self.lm, *batch, keep_BT, {})
        weight_N = _weights_of_next(real_BT, weight_T)[keep_BT]
        again = kept_bytes(self.lm, self.before.n_features, batch.mask_BT.numel()) > KEPT
        again = again and self.before.form != "cross-layer"  # whose layers hand on to each other
        at_N = real_BT.flatten().nonzero()[:, 0]  # once for all layers
        inputs, outputs = (
            [side.flatten(0, 1)[at_N].float() for side in sides] for sides in (io.inputs, io.outputs)
        )
        squares = [squares_about_mean(y_Td) for y_Td in outputs] if whole is None else whole.squares
        weight = weight_N.sum() if whole is None else whole.weight
        with torch.enable_grad():
            coders = self.coders()
            stand_ins = {k: _run_again(f) if again else f for k, f in coders.stand_ins().items()}
            coded_Nd = hidden_states(self.lm, *batch, keep_BT, stand_ins)
            kl = self._kl(target_Nd, coded_Nd, weight_N, again) / weight
            if again:
                reads = inputs if coders.reads == "input" else outputs
                guesses = (_run_again(coder)(x_Td) for coder, x_Td in zip(coders.layers, reads, strict=True))
            else:
                guesses = (guess_Td for _, guess_Td in coders.coded(inputs, outputs))
            each = [
                fvu((y_Td - guess_Td).square().sum(), of)
                for guess_Td, y_Td, of in zip(guesses, outputs, squares, strict=True)
            ]
            return _Losses(kl, torch.stack(each).mean(), int(real_BT.sum()))

    def _kl(
        self, target_Nd: torch.Tensor, coded_Nd: torch.Tensor, weight_N: torch.Tensor, again: bool
    ) -> torch.Tensor:
        """Σ weight × KL of the predictions from hidden states; `again`: a chunk of tokens at a time, whose
        logits are made once more on the way back."""

        def some(target_Nd: torch.Tensor, coded_Nd: torch.Tensor, weight_N: torch.Tensor) -> torch.Tensor:
            return (weight_N * kl_divergence(*(log_probs(self.lm, t) for t in (target_Nd, coded_Nd)))).sum()

        if not again:
            return some(target_Nd, coded_Nd, weight_N)
        size = max(1, CHUNK_LOGITS // self.lm.unembedding.shape[0])
        parts = zip(*(t.split(size) for t in (target_Nd, coded_Nd, weight_N)), strict=True)
        return torch.stack([checkpoint(some, *part, use_reentrant=False) for part in parts]).sum()

    def _in_parts(self, texts: TokenTexts, cells: Cells, weight_T: torch.Tensor, size: int) -> TuneReport:
        """Gradients of the whole batch, `size` cells at a time."""
        whole = _whole(self._sums(texts, cells, weight_T, size), len(self.weights))
        return self._take(self._gradients(texts, cells, weight_T, whole, size))

    def _with_others(self, texts: TokenTexts, cells: Cells, weight_T: torch.Tensor) -> TuneReport:
        """The same of everyone's cells. Each process finds a size that fits by itself, between messages."""
        part = self.team.part(len(cells))
        mine, own_T = cells[part], weight_T[texts.tokens_of(cells, part)]
        sums = self.micro.run(partial(self._sums, texts, mine, own_T), len(mine), REMEDY)
        whole = _whole(self.team.total(sums), len(self.weights))
        found = self.micro.run(partial(self._gradients, texts, mine, own_T, whole), len(mine), REMEDY)
        for tensor in (*found.of_kl, *found.of_fvu, found.figures):
            self.team.total(tensor)
        return self._take(found)

    def _sums(self, texts: TokenTexts, cells: Cells, weight_T: torch.Tensor, size: int) -> torch.Tensor:
        """What a whole batch is measured by, float64: the sum of weights, the number of tokens, and for each
        layer Σ y [d] and Σ‖y‖². One more forward pass."""
        rows = []
        for part in _parts(len(cells), size):
            batch = texts.batch(self.lm, cells[part])
            real_BT, keep_BT = texts.counted(batch.mask_BT, cells[part]), batch.mask_BT[:, :-1].bool()
            of_next = _weights_of_next(real_BT, weight_T[texts.tokens_of(cells, part)])
            outputs = [y_BTd[real_BT].double() for y_BTd in mlp_io(self.lm, *batch).outputs]
            layers = [torch.cat([y_Td.sum(0), y_Td.square().sum()[None]]) for y_Td in outputs]
            counts = torch.stack([of_next[keep_BT].sum().double(), real_BT.sum().double()])
            rows.append(torch.cat([counts, *layers]))
        return torch.stack(rows).sum(0)

    def _gradients(
        self, texts: TokenTexts, cells: Cells, weight_T: torch.Tensor, whole: _Whole, size: int
    ) -> _Gradients:
        """What some cells add to the gradients of the whole batch, `size` of them at a time."""
        weights = self._tuned()
        of_kl, of_fvu = ([torch.zeros_like(t) for t in weights] for _ in range(2))
        figures = torch.zeros(3, dtype=torch.float64)
        for part in _parts(len(cells), size):
            losses = self._losses(texts, cells[part], weight_T[texts.tokens_of(cells, part)], whole)
            for total, loss in zip((of_kl, of_fvu), losses[:2], strict=True):
                grads = torch.autograd.grad(loss, weights, allow_unused=True)
                for into, grad in zip(total, grads, strict=True):
                    if grad is not None:
                        into += grad
            figures += torch.tensor([losses.kl.item(), losses.fvu.item(), losses.tokens])
        return _Gradients(of_kl, of_fvu, figures)

    def _take(self, found: _Gradients) -> TuneReport:
        """The gradients of the whole batch into the weights. Raises ScxError when they are not numbers."""
        kl, fvu, tokens = found.figures.tolist()
        _balanced(found.figures[0], found.figures[1])
        for weight, of_kl, of_fvu in zip(self._tuned(), *found[:2], strict=True):
            weight.grad = of_kl.add_(of_fvu, alpha=kl / max(fvu, LEAST_FVU))
        return TuneReport(kl, fvu, int(tokens))

    def _tuned(self) -> list[torch.Tensor]:
        return [t for layer in self.weights for t in layer.values() if t.requires_grad and t.numel()]


def _run_again(stand_in: Stand_in) -> Stand_in:
    """The same, which keeps its input alone for the way back and is run again there."""
    if isinstance(stand_in, OnOutput):
        return OnOutput(_run_again(stand_in.stand_in))
    return partial(checkpoint, stand_in, use_reentrant=False)


def _whole(sums: torch.Tensor, layers: int) -> _Whole:
    """From the sums of a whole batch."""
    weight, tokens = sums[0].float(), sums[1]
    per_layer = sums[2:].view(layers, -1)
    squares = squares_from_sums(tokens, per_layer[:, :-1], per_layer[:, -1])
    return _Whole(weight, list(squares.float()))


def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def _weights_of_next(real_BT: torch.Tensor, weight_T: torch.Tensor) -> torch.Tensor:
    """Weights of the positions that may have a next one [B, T − 1]; 0 where a token does not count."""
    weight_BT = torch.zeros(real_BT.shape, device=real_BT.device)
    weight_BT[real_BT] = weight_T
    return weight_BT[:, :-1]


def _balanced(kl: torch.Tensor, fvu: torch.Tensor) -> torch.Tensor:
    """The two are of different size, and of another in every model: both get the same weight. Raises ScxError
    when they are not numbers."""
    loss = kl + fvu * (kl.detach() / fvu.detach().clamp(min=LEAST_FVU))
    if not bool(torch.isfinite(loss)):
        raise ScxError(
            "The loss of the last steps, with all layers together, is not a number.",
            "The last checkpoint is kept. Start a run with fewer of these steps, or with none.",
        )
    return loss
