"""One layer's step when its tokens lie in several parts: micro-batches, processes, or both.

Gives what `Trainee.step` gives on all tokens at once, to the order of float32 sums. What couples tokens is
found over all of them first: the cut of BatchTopK (the k-th largest of everyone's candidates), the size of
the error that revival is measured by, and how often each feature fires.
Legend: T tokens of this process, F features, d width, N candidates.
"""

from __future__ import annotations

from functools import partial

import torch

from scx_core.language import linear
from scx_core.metrics import fvu, l0, squares_from_sums
from scx_core.training.auxk import revival_loss
from scx_core.training.distributed import Team
from scx_core.training.layer_trainer import GUESS, Report, Trainee, normalised
from scx_core.training.micro_batch import Micro, slices
from scx_core.training.ops.sparse import GUESSES, above, nth_largest
from scx_core.training.plan import Plan
from scx_core.training.profiler import phase


def layer_step(
    trainee: Trainee,
    plan: Plan,
    x_Td: torch.Tensor,
    y_Td: torch.Tensor,
    k: int,
    weight_T: torch.Tensor,
    cells: int,
    n_tokens: int,
) -> Report:
    """One layer's gradients from the tokens of this process' `cells`; memory updated. `n_tokens` is the
    number of everyone's, over which `weight_T` is 1 on average.

    All at once where they fit and there is nobody else; else in parts. Raises ScxError when not one cell
    fits.
    """
    memory, team = dict(trainee.memory), plan.partners
    if team.size > 1:
        # Halves each part of it for itself: begun anew, its messages would meet the others' later ones.
        return SharedStep(trainee, team, plan.micro, cells, n_tokens).run(x_Td, y_Td, k, weight_T)
    threshold = trainee.weights.get("log_threshold")
    before = None if threshold is None else threshold.detach().clone()

    def attempt(size: int) -> Report:
        if size < cells:
            return SharedStep(trainee, team, plan.micro, cells, n_tokens).run(x_Td, y_Td, k, weight_T)
        report = trainee.step(x_Td, y_Td, k, weight_T)
        if bool(torch.isfinite(report.objective)):
            with phase("backward"):
                report.objective.backward()
        return report._replace(objective=report.objective.detach())

    def from_the_start(size: int) -> Report:
        trainee.memory = dict(memory)
        for weight in trainee.weights.values():
            weight.grad = None
        if threshold is not None and before is not None:
            threshold.data.copy_(before)
        return attempt(size)

    return plan.micro.run(from_the_start, cells)


class SharedStep:
    """A step of one layer on this process' tokens; `n` is the number of everyone's, `cells` of its own."""

    def __init__(self, trainee: Trainee, team: Team, micro: Micro, cells: int, n: int) -> None:
        self.trainee, self.team, self.micro, self.cells, self.n = trainee, team, micro, cells, n

    def run(self, x_Td: torch.Tensor, y_Td: torch.Tensor, k: int, weight_T: torch.Tensor) -> Report:
        """Gradients (everyone's sum) into the weights, memory updated. `weight_T` is 1 on average over all
        tokens."""
        trainee, n = self.trainee, self.n
        x_Td, y_Td = normalised(trainee.memory, x_Td, y_Td)
        level = self.level(x_Td, k) if trainee.cfg.kind == "batchtopk" else None
        dead_F = trainee.dead_F

        def main(cells: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self._gradients(x_Td, y_Td, k, weight_T, level, cells)

        error_Td, sums = self.micro.run(main, self.cells)
        self.team.total(sums)
        loss, cut, square, y_square = sums[:4].tolist()
        y_sum_d, fires_F = sums[4 : 4 + x_Td.shape[1]], sums[4 + x_Td.shape[1] :]
        self.revive(x_Td, error_Td, dead_F, square)
        self.team.sum_gradients(list(trainee.weights.values()))
        if trainee.cfg.kind != "relu":  # it has none
            level = cut if level is None else level
        trainee.remember(fires_F, n, level, k)
        unexplained = float(fvu(square, squares_from_sums(n, y_sum_d, y_square)))
        return Report(torch.tensor(loss), loss, unexplained, l0(fires_F, n), float(dead_F.float().mean()))

    def _gradients(
        self,
        x_Td: torch.Tensor,
        y_Td: torch.Tensor,
        k: int,
        weight_T: torch.Tensor,
        level: float | None,
        cells: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Backward through each part. The errors [T, d]; and sums of loss and cut, each a mean over tokens
        by its share, of ‖e‖², ‖y‖², y [d] and firings [F] in float64."""
        trainee = self.trainee
        for weight in trainee.weights.values():
            weight.grad = None
        error_Td = torch.empty_like(y_Td)
        fires_F = torch.zeros(len(trainee.weights["b_enc"]), dtype=torch.float64, device=x_Td.device)
        loss, cut = fires_F.new_zeros(()), fires_F.new_zeros(())
        for part in self.parts(len(x_Td), cells):
            code = trainee.coded(x_Td[part], y_Td[part], k, level)
            share = len(code.error_Td) / self.n
            objective = share * (trainee.error_term(code.error_Td, y_Td[part], weight_T[part]) + code.penalty)
            with phase("backward"):
                objective.backward()
            error_Td[part] = code.error_Td.detach()
            fires_F += code.fires_F
            loss += objective.detach()
            cut += share * (code.cut or 0.0)
        square, y_square = error_Td.square().sum().double(), y_Td.square().sum().double()
        sums = torch.cat([torch.stack([loss, cut, square, y_square]), y_Td.double().sum(0), fires_F])
        return error_Td, sums

    def revive(self, x_Td: torch.Tensor, error_Td: torch.Tensor, dead_F: torch.Tensor, square: float) -> None:
        """Add the gradients of the auxiliary loss of dead features, measured by everyone's error."""
        trainee = self.trainee
        if not trainee.train.revive or not bool(dead_F.any()):
            return
        names = ("W_enc", "b_enc", "W_dec")
        index_D = dead_F.nonzero()[:, 0]
        weights = [trainee.weights[name] for name in names]
        before = [weight.grad for weight in weights]

        def revive(cells: int) -> None:
            for weight, grad in zip(weights, before, strict=True):
                weight.grad = None if grad is None else grad.clone()
            for part in self.parts(len(x_Td), cells):
                rows = (weight[index_D] for weight in weights)
                loss = revival_loss(x_Td[part], error_Td[part], *rows, whole=(square, self.n))
                (trainee.train.revive * loss).backward()

        self.micro.run(revive, self.cells)

    def level(self, x_Td: torch.Tensor, k: int) -> float:
        """The cut of BatchTopK over everyone's tokens."""
        w = self.trainee.weights
        n_keep = min(k * self.n, len(w["b_enc"]) * self.n)
        guess = max(0.0, GUESS * float(self.trainee.memory["cut"]))
        for floor in [share * guess for share in GUESSES] if guess else [0.0]:
            find = partial(self._candidates, x_Td, n_keep, floor)
            values_N = self.team.gathered(self.micro.run(find, self.cells))
            if len(values_N) >= n_keep:
                return nth_largest(values_N, n_keep)
        return float(values_N.min()) if len(values_N) else 0.0

    @torch.no_grad()
    def _candidates(self, x_Td: torch.Tensor, n_keep: int, floor: float, cells: int) -> torch.Tensor:
        """This process' pre-activations above the floor, at most the `n_keep` largest of them."""
        w, values_N = self.trainee.weights, x_Td.new_zeros(0)
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
