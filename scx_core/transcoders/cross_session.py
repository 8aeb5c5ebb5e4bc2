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
from scx_core.transcoders.config import TrainConfig, TranscoderConfig
from scx_core.transcoders.cross_layer import CrossLayerSet
from scx_core.transcoders.phases import phase
from scx_core.transcoders.plan import Plan
from scx_core.transcoders.session import Session
from scx_core.transcoders.tokens import Cells, Texts
from scx_core.transcoders.trainee import Coded, Report, Trainee, normalised


def session_of(cfg: TranscoderConfig) -> type[Session]:
    """What trains a set of this form."""
    return CrossSession if cfg.form == "cross-layer" else Session


class CrossSession(Session):
    """A session whose layers are trained on their errors together: in one process, a whole batch at once."""

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
        if plan is not None and plan.team.size > 1:
            raise ScxError(
                "Cross-layer transcoders are trained in one process: their layers need each other's errors.",
                "Start this run without torchrun.",
            )
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
        """Gradients of the sum over layers; every layer's graph is alive at once."""
        trainees = self.trainees
        pairs = [normalised(t.memory, *pair) for t, pair in zip(trainees, self.read(cells), strict=True)]
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
