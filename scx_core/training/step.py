"""The training step: gradients of some layers from the tokens of a batch, in one part or in several.

The whole batch at once is the step with one part. What couples tokens is found over all parts and processes:
the threshold of BatchTopK (the k-th largest of everyone's candidates), the size of the error that AuxK is
measured by, and how often each feature fires. Several parts so give what one gives, to the order of float32
sums. A cross-layer set is a decoder layout: all its layers share one step, as their errors depend on each
other; any other layer has a step of its own.
Legend: T tokens of this process, F features, d width, D width of W_dec, N candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from scx_core.language import linear
from scx_core.metrics import fvu, l0, squares_about_mean, squares_from_sums
from scx_core.training.layer_trainer import GUESS, Code, LayerTrainer, normalised, sum_of_squares
from scx_core.training.objective.auxk import auxk_loss
from scx_core.training.ops.sparse import GUESSES, above, first_true, nth_largest, number
from scx_core.training.plan import StepPlan, slices
from scx_core.training.profiler import phase

Pair = tuple[torch.Tensor, torch.Tensor]  # a layer's inputs and outputs, [T, d] each


Number = float | torch.Tensor


class LayerReport(NamedTuple):
    """One step of one layer: `objective` is minimised (`loss` is without AuxK)."""

    objective: float
    loss: float
    fvu: float
    l0: float
    dead: float


# The numbers of a LayerReport; on a card scalars that nobody waits for yet.
LayerNumbers = tuple[Number, Number, Number, Number, Number]


def read_once(reports: Sequence[LayerNumbers], device: torch.device) -> torch.Tensor:
    """All numbers of some layers on the device, float64 [layers, 5]: a card is asked for them once."""
    rows = [torch.as_tensor(n, dtype=torch.float64, device=device) for report in reports for n in report]
    return torch.stack(rows).view(len(reports), -1)


class TrainingStep:
    """A step of `layers` on this process' tokens of `cells` cells; `n_tokens` is the number of everyone's."""

    def __init__(self, layers: Sequence[LayerTrainer], plan: StepPlan, cells: int, n_tokens: int) -> None:
        self.layers, self.micro, self.team = layers, plan.micro, plan.partners
        self.cells, self.n = cells, n_tokens
        self.thresholds: list[Number | None] | None = None  # of BatchTopK, where tokens lie in several parts

    def run(self, raw: Iterable[Pair], k: int, weight_T: torch.Tensor) -> list[LayerNumbers]:
        """Gradients (everyone's sum) into the weights, and each layer's memory updated, from its raw inputs
        and outputs. `weight_T` weighs the tokens' errors, 1 on average over everyone's.

        Each process halves its parts by itself, between messages: a step begun anew would meet the others'
        later ones. Raises ScxError when not even one cell fits into the memory.
        """
        pairs = [normalised(t.memory, *pair) for t, pair in zip(self.layers, raw, strict=True)]
        if self.team.size > 1:
            self.thresholds = self._thresholds(pairs, k)
        totals = self.micro.run(partial(self._backward, pairs, k, weight_T), self.cells)
        errors = [t.errors[0] if len(t.errors) == 1 else torch.cat(t.errors) for t in totals]
        return [self._finish(i, pairs[i], totals[i], errors[i:], k) for i in range(len(totals))]

    def _backward(self, pairs: Sequence[Pair], k: int, weight_T: torch.Tensor, cells: int) -> list[_Total]:
        """Backward through each part of about `cells` cells, all layers together."""
        if cells < self.cells and self.thresholds is None:  # one part selects among its own pre-activations
            self.thresholds = self._thresholds(pairs, k)
        thresholds = self.thresholds or [None] * len(self.layers)
        for layer in self.layers:
            for weight in layer.weights.values():
                weight.grad = None
        totals = [_Total() for _ in self.layers]
        for part in self.parts(len(weight_T), cells):
            codes = [
                t.code(x_Td[part], k, at)
                for t, (x_Td, _), at in zip(self.layers, pairs, thresholds, strict=True)
            ]
            writes = writes_to_layers([code.write_TD for code in codes], pairs[0][1].shape[1])
            losses = []
            for t, (x_Td, y_Td), code, write_Td, total in zip(
                self.layers, pairs, codes, writes, totals, strict=True
            ):
                error_Td = y_Td[part] - t.output(x_Td[part], write_Td)
                share = len(error_Td) / self.n
                losses.append(share * (t.error_term(error_Td, y_Td[part], weight_T[part]) + code.penalty))
                total.add(losses[-1].detach(), error_Td.detach(), code, share)
            with phase("backward"):
                torch.stack(losses).sum().backward()
        return totals

    def _finish(
        self, i: int, pair: Pair, total: _Total, errors: Sequence[torch.Tensor], k: int
    ) -> LayerNumbers:
        """A layer's AuxK, memory and report, once the `errors` [T, d] of its own output and of the later ones
        that it writes to are known: dead features learn all of them."""
        layer, dead_F, (x_Td, y_Td), error_Td = self.layers[i], self.layers[i].dead_F, pair, errors[0]
        missing_TD = error_Td if len(errors) == 1 else torch.cat([*errors], 1)
        loss, cut, fires_F, square = number(total.loss), total.threshold, total.fires_F, None
        one_part = len(total.errors) == 1
        if self.team.size == 1 and (one_part or len(self.layers) > 1):
            error = sum_of_squares(error_Td) if one_part else error_Td.square().sum()
            unexplained = fvu(error, squares_about_mean(y_Td))
        else:
            squares = [t.square().sum().double() for t in (missing_TD, error_Td, y_Td)]
            numbers = [torch.as_tensor(n, dtype=torch.float64, device=y_Td.device) for n in (loss, cut)]
            sums = torch.cat([torch.stack([*numbers, *squares]), y_Td.double().sum(0), fires_F.double()])
            loss, cut, square, error, y_square = self.team.total(sums)[:5].tolist()
            y_sum_d, fires_F = sums[5:].split([y_Td.shape[1], len(fires_F)])
            unexplained = fvu(error, squares_from_sums(self.n, y_sum_d, y_square))
        auxk = self._auxk(layer, x_Td, missing_TD, dead_F, square)
        self.team.sum_gradients(list(layer.weights.values()))
        threshold = cut if self.thresholds is None else self.thresholds[i]
        layer.remember(fires_F, self.n, None if layer.cfg.kind == "relu" else threshold, k)
        if fires_F.is_cuda:
            return loss + auxk, loss, unexplained, fires_F.sum() / self.n, dead_F.float().mean()
        n_active, dead = l0(fires_F, self.n), float(dead_F.float().mean())
        return loss + auxk, loss, float(unexplained), n_active, dead

    def _auxk(
        self,
        layer: LayerTrainer,
        x_Td: torch.Tensor,
        missing_TD: torch.Tensor,
        dead_F: torch.Tensor,
        square: float | None,
    ) -> Number:
        """Add the gradients of the auxiliary loss of dead features; its value on this process' tokens.
        `square`: everyone's ‖missing‖², where these are a part of everyone's tokens."""
        n_dead = int(dead_F.sum()) if layer.n_dead is None else layer.n_dead
        if not layer.train.revive or not n_dead:
            return 0.0
        index_D = first_true(dead_F, n_dead)
        weights = [layer.weights[name] for name in ("W_enc", "b_enc", "W_dec")]

        def gradients(cells: int) -> tuple[Number, list[torch.Tensor]]:
            """Of the dead features' rows alone."""
            rows = [weight.detach()[index_D].requires_grad_() for weight in weights]
            value: Number = 0.0
            whole, grads = None, [torch.zeros_like(row) for row in rows]
            if square is not None or cells < self.cells:
                whole = number(missing_TD.square().sum()) if square is None else square, self.n
            for part in self.parts(len(x_Td), cells):
                loss = layer.train.revive * auxk_loss(x_Td[part], missing_TD[part], *rows, whole=whole)
                with phase("backward"):
                    found = torch.autograd.grad(loss, rows)
                grads = [old + new for old, new in zip(grads, found, strict=True)]
                value += number(loss)
            return value, grads

        value, grads = self.micro.run(gradients, self.cells)
        for weight, grad in zip(weights, grads, strict=True):
            assert weight.grad is not None  # the reconstruction has one for every weight
            weight.grad.index_add_(0, index_D, grad)
        return value

    def _thresholds(self, pairs: Sequence[Pair], k: int) -> list[Number | None] | None:
        """Each layer's threshold of BatchTopK over everyone's tokens; None for the other kinds."""
        if self.layers[0].cfg.kind != "batchtopk":
            return None
        return [self._threshold(t, x_Td, k) for t, (x_Td, _) in zip(self.layers, pairs, strict=True)]

    def _threshold(self, layer: LayerTrainer, x_Td: torch.Tensor, k: int) -> Number:
        n_keep = min(k, len(layer.weights["b_enc"])) * self.n
        guess = max(0.0, GUESS * float(layer.memory["cut"]))
        for floor in [share * guess for share in GUESSES] if guess else [0.0]:
            find = partial(self._candidates, layer, x_Td, n_keep, floor)
            values_N = self.team.gathered(self.micro.run(find, self.cells))
            if len(values_N) >= n_keep:
                return nth_largest(values_N, n_keep)
        return float(values_N.min()) if len(values_N) else 0.0

    @torch.no_grad()
    def _candidates(
        self, layer: LayerTrainer, x_Td: torch.Tensor, n_keep: int, floor: float, cells: int
    ) -> torch.Tensor:
        """This process' pre-activations above the floor, at most the `n_keep` largest of them."""
        w, values_N = layer.weights, x_Td.new_zeros(0)
        for part in self.parts(len(x_Td), cells):
            with phase("encode"):
                pre_TF = linear(x_Td[part], w["W_enc"], w["b_enc"])
            with phase("select"):
                values_N = torch.cat([values_N, above(pre_TF, floor)[1]])
                if len(values_N) > n_keep:
                    values_N = values_N.topk(n_keep, sorted=False).values
        return values_N

    def parts(self, n_tokens: int, cells: int) -> list[slice]:
        """The tokens in pieces of about so many cells."""
        return list(slices(n_tokens, -(-self.cells // cells)))


class _Total:
    """What the parts of a batch add to a layer's report: loss and mean threshold (each by the part's share of
    the tokens), how often each feature fires, and the errors [T, d]."""

    def __init__(self) -> None:
        self.loss, self.fires_F = torch.zeros(()), torch.zeros(())
        self.threshold: Number = 0.0
        self.errors: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, error_Td: torch.Tensor, code: Code, share: float) -> None:
        """One more part."""
        first = not self.errors
        self.loss = loss.double() if first else self.loss + loss
        self.threshold += 0.0 if code.threshold is None else share * code.threshold
        self.fires_F = code.fires_F if first else self.fires_F + code.fires_F
        self.errors.append(error_Td)


def writes_to_layers(writes: Sequence[torch.Tensor], d: int) -> list[torch.Tensor]:
    """What reaches each layer [T, d], of what every layer writes for itself and the later ones [T, D]."""
    if len(writes) == 1:
        return [writes[0]]
    parts = [write_TD.split(d, 1) for write_TD in writes]
    return [
        torch.stack([parts[m][target - m] for m in range(target + 1)]).sum(0) for target in range(len(writes))
    ]
