"""Cross-layer transcoders in training: loop, gates and the revival of dead features are those of every set.

Only the layers' errors depend on each other. In a trainee of layer m, W_dec is [F, (L − m) d]: what a
feature writes to layer m, m + 1 … side by side, in each target's normalised units. The whole row has unit
norm, so that pre-activations of different features can be compared and a penalty cannot be dodged. Rows
start with zeros for later layers: as the per-layer set, which then learns what earlier layers can do for
later ones.
Legend: L layers, T tokens, S later layers, F features, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.metrics import fvu, l0, squares_about_mean
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.distributed import ALONE
from scx_core.training.grad_accumulation import SharedStep
from scx_core.training.layer_trainer import Code, Coded, Report, Trainee, normalised
from scx_core.training.plan import Plan
from scx_core.training.profiler import phase
from scx_core.training.tokens import Cells, Texts
from scx_core.training.trainer_state import Session
from scx_core.transcoders.cross_layer import CrossLayerSet

Pair = tuple[torch.Tensor, torch.Tensor]  # a layer's normalised inputs and outputs, [T, d] each
THRESHOLD = "log_threshold"


def session_of(cfg: TranscoderConfig) -> type[Session]:
    """What trains a set of this form."""
    return CrossSession if cfg.form == "cross-layer" else Session


class _Sums:
    """What the parts of a batch add to a layer's report: loss, how often each feature fires, the cut."""

    def __init__(self) -> None:
        self.loss, self.cut, self.fires_F = 0.0, 0.0, torch.zeros(())

    def add(self, loss: torch.Tensor, code: Code, share: float) -> None:
        """One more part, of this share of the tokens (the loss is by its share already)."""
        self.loss += loss.item()
        self.fires_F = self.fires_F.to(code.fires_F.device) + code.fires_F
        self.cut += share * (code.cut or 0.0)


def check_team(cfg: TranscoderConfig, processes: int) -> None:
    """Raises ScxError where a set of this form cannot be trained by so many processes."""
    if processes > 1 and cfg.form == "cross-layer":
        raise ScxError(
            "Cross-layer transcoders are trained in one process: their layers need each other's errors.",
            "Set processes to 1, and start without torchrun.",
        )


class CrossSession(Session):
    """A session whose layers are trained on their errors together, in one process."""

    def __init__(
        self,
        lm: Language,
        texts: Texts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        trainees: list[Trainee],
        plan: Plan | None = None,
    ):
        """Raises ScxError for a team of processes."""
        if plan is not None:
            check_team(cfg, plan.team.size)
        super().__init__(lm, texts, cfg, train, trainees, plan)

    @classmethod
    def trainees_from(
        cls, lm: Language, texts: Texts, cfg: TranscoderConfig, train: TrainConfig, plan: Plan
    ) -> list[Trainee]:
        """Per-layer trainees, with room in W_dec for the later layers."""
        trainees = super().trainees_from(lm, texts, cfg, train, plan)
        for later, trainee in enumerate(reversed(trainees)):
            W_dec = trainee.weights["W_dec"].detach()
            rest = W_dec.new_zeros(len(W_dec), later * W_dec.shape[1])
            trainee.weights["W_dec"] = torch.cat([W_dec, rest], 1).requires_grad_(True)
        return trainees

    def gradients(self, cells: Cells, k: int, weight_T: torch.Tensor) -> list[Report]:
        """Gradients of the sum over layers; every layer's graph is alive at once, of as many cells as fit."""
        trainees = self.trainees
        pairs = [normalised(t.memory, *pair) for t, pair in zip(trainees, self.read(cells), strict=True)]
        memories = [dict(t.memory) for t in trainees]
        thresholds = [
            {n: w.detach().clone() for n, w in t.weights.items() if n == THRESHOLD} for t in trainees
        ]

        def attempt(size: int) -> list[Report]:
            for trainee, memory, threshold in zip(trainees, memories, thresholds, strict=True):
                trainee.memory = dict(memory)
                for name, weight in trainee.weights.items():
                    weight.grad = None
                    if name in threshold:  # the controller moves it
                        weight.data.copy_(threshold[name])
            if size >= len(cells):
                return self._at_once(pairs, k, weight_T)
            return self._in_parts(pairs, k, weight_T, len(cells), size)

        return self.plan.micro.run(attempt, len(cells))

    def _at_once(self, pairs: Sequence[Pair], k: int, weight_T: torch.Tensor) -> list[Report]:
        trainees = self.trainees
        codes = [t.code(x_Td, k) for t, (x_Td, _) in zip(trainees, pairs, strict=True)]
        writes = together([code.write_TD for code in codes], self.lm.facts.width)
        errors = [
            y_Td - t.output(x_Td, write_Td)
            for t, (x_Td, y_Td), write_Td in zip(trainees, pairs, writes, strict=True)
        ]
        reports = []
        for layer, (t, (x_Td, y_Td), code) in enumerate(zip(trainees, pairs, codes, strict=True)):
            coded = Coded(errors[layer], code.penalty, code.fires_F, code.cut)
            # A dead feature may learn the errors of all layers that it writes to.
            reports.append(t.report(x_Td, y_Td, coded, k, weight_T, errors[layer:]))
        objective = torch.stack([report.objective for report in reports]).sum()
        if bool(torch.isfinite(objective)):
            with phase("backward"):
                objective.backward()
        return [report._replace(objective=report.objective.detach()) for report in reports]

    def _in_parts(
        self, pairs: Sequence[Pair], k: int, weight_T: torch.Tensor, cells: int, size: int
    ) -> list[Report]:
        """The same from parts of the tokens, as in `SharedStep`: what couples them is found first."""
        trainees, n, batch = self.trainees, len(weight_T), self.cfg.kind == "batchtopk"
        steps = [SharedStep(t, ALONE, self.plan.micro, cells, n) for t in trainees]
        levels = [
            step.level(x_Td, k) if batch else None for step, (x_Td, _) in zip(steps, pairs, strict=True)
        ]
        errors = [torch.empty_like(y_Td) for _, y_Td in pairs]
        sums = [_Sums() for _ in trainees]
        for part in steps[0].parts(n, size):
            codes = [
                t.code(x_Td[part], k, at) for t, (x_Td, _), at in zip(trainees, pairs, levels, strict=True)
            ]
            writes = together([code.write_TD for code in codes], self.lm.facts.width)
            losses = []
            for layer, (t, (x_Td, y_Td), code) in enumerate(zip(trainees, pairs, codes, strict=True)):
                error_Td = y_Td[part] - t.output(x_Td[part], writes[layer])
                loss = t.error_term(error_Td, y_Td[part], weight_T[part]) + code.penalty
                share = len(error_Td) / n
                losses.append(loss * share)
                errors[layer][part] = error_Td.detach()
                sums[layer].add(losses[-1], code, share)
            with phase("backward"):
                torch.stack(losses).sum().backward()
        return [
            self._ended(steps[layer], pairs[layer], errors[layer:], sums[layer], levels[layer], k)
            for layer in range(len(trainees))
        ]

    def _ended(
        self,
        step: SharedStep,
        pair: Pair,
        missing: Sequence[torch.Tensor],
        sums: _Sums,
        level: float | None,
        k: int,
    ) -> Report:
        """A layer's revival, memory and report, once the errors [T, d] that it writes to are known."""
        trainee, (x_Td, y_Td), dead_F = step.trainee, pair, step.trainee.dead_F
        missing_TD = torch.cat([*missing], 1)
        step.revive(x_Td, missing_TD, dead_F, float(missing_TD.square().sum()))
        if trainee.cfg.kind != "relu" and level is None:
            level = sums.cut
        trainee.remember(sums.fires_F, step.n, level, k)
        unexplained = float(fvu(missing[0].square().sum(), squares_about_mean(y_Td)))
        l0_here, dead = l0(sums.fires_F, step.n), float(dead_F.float().mean())
        return Report(torch.tensor(sums.loss), sums.loss, unexplained, l0_here, dead)

    def coders(self, cuts: Sequence[float | None] | None = None) -> CrossLayerSet:
        """The set as it is now, for raw activations, gated as `Trainee.folded` says."""
        own = super().coders(cuts)
        assert own is not None  # there is one process
        return CrossLayerSet(own.layers, cross=tuple(self._cross(m) for m in range(len(self.trainees))))

    @torch.no_grad()
    def _cross(self, layer: int) -> torch.Tensor:
        """What layer `layer` writes to later ones, in raw units [S, F, d]."""
        W_FD, d = self.trainees[layer].weights["W_dec"].detach(), self.lm.facts.width
        later = W_FD.split(d, 1)[1:]
        scaled = [
            W_Fd * trainee.memory["scale_y"]
            for W_Fd, trainee in zip(later, self.trainees[layer + 1 :], strict=True)
        ]
        return torch.stack(scaled) if scaled else W_FD.new_zeros(0, len(W_FD), d)


def together(writes: Sequence[torch.Tensor], d: int) -> list[torch.Tensor]:
    """What reaches each layer [T, d], of what every layer writes for itself and the later ones [T, D]."""
    parts = [write_TD.split(d, 1) for write_TD in writes]
    return [
        torch.stack([parts[m][target - m] for m in range(target + 1)]).sum(0) for target in range(len(writes))
    ]
