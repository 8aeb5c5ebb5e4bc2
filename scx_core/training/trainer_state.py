"""All layers in training: one forward pass of the model serves them all; state to and from a checkpoint.

Nothing here is random except by (seed, step), so weights, Adam's moments and the layers' memories are the
whole state.
Legend: L layers, T tokens of a batch (padding left out), d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.training.activations import activations
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.grad_accumulation import layer_step
from scx_core.training.layer_trainer import Report, Trainee
from scx_core.training.micro_batch import Micro
from scx_core.training.plan import Plan
from scx_core.training.profiler import phase
from scx_core.training.schedule import features_of_step, learning_rate
from scx_core.training.tokens import Cells, Texts, cells_of_step
from scx_core.transcoders.module import TranscoderSet, from_tensors

START_CELLS = 64  # cells that scales and first weights are taken from
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class StepReport(NamedTuple):
    """One optimisation step: tokens read, the loss summed over layers, and lists over layers."""

    tokens: int
    loss: float
    fvu: list[float]
    l0: list[float]
    dead: list[float]


class Session:
    """The layers in training here (all of them, or those numbered `own`) and their optimiser."""

    def __init__(
        self,
        lm: Language,
        texts: Texts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        trainees: list[Trainee],
        plan: Plan | None = None,
    ):
        self.lm, self.texts, self.cfg, self.train, self.trainees = lm, texts, cfg, train, trainees
        self.plan = plan or Plan()
        self.own = self.plan.own(lm.facts.n_layers)
        weights = [tensor for trainee in trainees for tensor in trainee.weights.values()]
        self.optimizer = torch.optim.Adam(weights, lr=train.learning_rate, foreach=True)

    @classmethod
    def fresh(
        cls,
        lm: Language,
        texts: Texts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        plan: Plan | None = None,
    ) -> Session:
        """At the first step."""
        plan = plan or Plan()
        return cls(lm, texts, cfg, train, cls.trainees_from(lm, texts, cfg, train, plan), plan)

    @classmethod
    def trainees_from(
        cls, lm: Language, texts: Texts, cfg: TranscoderConfig, train: TrainConfig, plan: Plan
    ) -> list[Trainee]:
        """First weights from the activations of the first cells of the first epoch, or of as many of them as
        fit into the memory."""
        cells = cells_of_step(0, texts.n_cells, START_CELLS, train.seed)
        size = train.cells_per_batch
        # They wait in the computer's memory: a card that has room for a step may have none for all of them.
        samples = [
            [(x_Td.cpu(), y_Td.cpu()) for x_Td, y_Td in activations(lm, texts, some, cfg.reads, plan)]
            for some in (cells[start : start + size] for start in range(0, len(cells), size))
        ]
        trainees = []
        for layer, parts in zip(plan.own(lm.facts.n_layers), zip(*samples, strict=True), strict=True):
            fresh = partial(_fresh, cfg, train, parts, layer, lm.device, len(cells))
            trainees.append(Micro().run(fresh, len(cells)))
            # Other cards may round otherwise.
            plan.partners.led([*trainees[-1].weights.values(), *trainees[-1].memory.values()])
        return trainees

    @classmethod
    def restored(
        cls,
        lm: Language,
        texts: Texts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        saved: dict,
        plan: Plan | None = None,
    ) -> Session:
        """As `tensors()` wrote it, whoever did: one process or several."""
        plan = plan or Plan()
        own = plan.own(lm.facts.n_layers)
        saved = {name: t for name, t in saved.items() if name.split(".")[0] in set(map(str, own))}
        # Adam keeps its step count on the CPU, wherever the weights are.
        saved = {name: t if name.endswith(".step") else t.to(lm.device) for name, t in saved.items()}
        trainees = []
        for layer in own:
            part = {kind: _under(saved, f"{layer}.{kind}.") for kind in ("weights", "memory")}
            trainees.append(Trainee(cfg, train, part["weights"], part["memory"]))
        session = cls(lm, texts, cfg, train, trainees, plan)
        for layer, trainee in zip(own, trainees, strict=True):
            for name, tensor in trainee.weights.items():
                moments = _under(saved, f"{layer}.adam.{name}.")
                if moments:
                    session.optimizer.state[tensor] = moments
        return session

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed session needs, by name; of a team of processes rank 0 gets it."""
        out: dict[str, torch.Tensor] = {}
        for layer, trainee in zip(self.own, self.trainees, strict=True):
            out |= {f"{layer}.weights.{name}": tensor for name, tensor in trainee.weights.items()}
            out |= {f"{layer}.memory.{name}": tensor for name, tensor in trainee.memory.items()}
            for name, tensor in trainee.weights.items():
                state = self.optimizer.state.get(tensor, {})
                out |= {
                    f"{layer}.adam.{name}.{moment}": state[moment] for moment in MOMENTS if moment in state
                }
        return self._for_leader(out)

    def _for_leader(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        team = self.plan.team
        if self.plan.shared_layers:
            return team.collected(tensors)
        return tensors if team.leads else {}

    def read(self, cells: Cells, texts: Texts | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What each layer here is given and shall put out, [T, d]; of `texts` that it does not train on."""
        return activations(self.lm, self.texts if texts is None else texts, cells, self.cfg.reads, self.plan)

    def step(self, step: int) -> StepReport:
        """One optimisation step. Raises ScxError naming the layer when a loss is not a number; the weights
        are as before then."""
        cells = cells_of_step(step, self.texts.n_cells, self.train.cells_per_batch, self.train.seed)
        k = features_of_step(self.cfg, self.train, step)
        self.optimizer.zero_grad(set_to_none=True)
        weight_T = self.texts.weights(self.lm, cells, self.train.answer_weight)
        with self.plan.products(self.lm.device):
            reports = self.gradients(cells, k, weight_T)
        for layer, report in enumerate(reports):
            _check_finite(float(report.objective), step, layer)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.train, step)
        with phase("optimiser"):
            for trainee in self.trainees:
                trainee.project_gradient()
            self.optimizer.step()
            for trainee in self.trainees:
                trainee.after_step()
        return StepReport(
            len(weight_T),
            sum(report.loss for report in reports),
            *([getattr(report, name) for report in reports] for name in ("fvu", "l0", "dead")),
        )

    def gradients(self, cells: Cells, k: int, weight_T: torch.Tensor) -> list[Report]:
        """Gradients from some cells, of which `weight_T` weighs the tokens, and what all layers report."""
        part = self.plan.partners.part(len(cells))
        mine, tokens = cells[part], self.texts.tokens_of(cells, part)
        rows = []
        # Layer by layer, so that only one layer's graph is alive at a time.
        layers = zip(self.trainees, self.read(mine), strict=True)
        for trainee, (x_Td, y_Td) in layers:
            report = layer_step(trainee, self.plan, x_Td, y_Td, k, weight_T[tokens], len(mine), len(weight_T))
            rows.append([float(value) for value in report])
        all_rows = self.plan.report(torch.tensor(rows, dtype=torch.float64, device=self.lm.device)).tolist()
        return [Report(torch.tensor(row[0]), *row[1:]) for row in all_rows]

    def coders(self, cuts: Sequence[float | None] | None = None) -> TranscoderSet | None:
        """The transcoders as they are now, for raw activations, gated as `Trainee.folded` says. Where several
        processes share out the layers, rank 0 gets them all."""
        cuts = cuts or [None] * len(self.trainees)
        layers = [trainee.folded(cut) for trainee, cut in zip(self.trainees, cuts, strict=True)]
        coders = TranscoderSet(tuple(layers), reads=self.cfg.reads)
        return self._all_layers(coders) if self.plan.shared_layers else coders

    def _all_layers(self, own: TranscoderSet) -> TranscoderSet | None:
        """The layers that the processes share out, together, on rank 0."""
        named = zip(self.own, own.tensors(), strict=True)
        tensors = {f"{layer}.{name}": t for layer, coder in named for name, t in coder.items()}
        if not (found := self._for_leader(tensors)):
            return None
        first, device = own.layers[0], self.lm.device
        layers = (
            from_tensors(_under(found, f"{layer}."), first.kind, first.k).to(device)
            for layer in range(self.lm.facts.n_layers)
        )
        return TranscoderSet(tuple(layers), reads=own.reads)


@contextmanager
def fast_attention(lm: Language) -> Iterator[None]:
    """Fused attention inside. A model is loaded with the slow one, which shows its patterns to the tracer;
    the outputs agree to float32 rounding. Nothing changes for a family that has no other."""
    if not lm.facts.family.fused_attention:
        yield
        return
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)


def _fresh(
    cfg: TranscoderConfig,
    train: TrainConfig,
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    layer: int,
    device: torch.device,
    of_cells: int,
    cells: int,
) -> Trainee:
    """A layer's first weights, from the tokens of about `cells` of the cells sampled."""
    x_Td, y_Td = (torch.cat(side) for side in zip(*parts, strict=True))
    tokens = max(1, len(x_Td) * cells // of_cells)
    return Trainee.from_data(cfg, train, x_Td[:tokens].to(device), y_Td[:tokens].to(device), layer)


def _check_finite(loss: float, step: int, layer: int) -> None:
    if loss != loss or abs(loss) == float("inf"):
        raise ScxError(
            f"The loss of layer {layer} is {loss} at step {step}; the weights were left as they are.",
            "The last checkpoint is kept. Start a run with a lower learning rate, or check the model.",
        )


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
