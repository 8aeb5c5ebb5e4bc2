"""All layers in training: one forward pass of the model serves them all; state to and from a checkpoint.

Nothing here is random except by (seed, step), so weights, Adam's moments and the layers' memories are the
whole state. A cross-layer set is a layout of the decoders: W_dec of layer m is [F, (L − m) d], what a
feature writes to layer m, m + 1 … side by side, each in its target's normalised units. The whole row has unit
norm, so that pre-activations of different features can be compared and a penalty cannot be dodged. Rows start
with zeros for later layers: as the per-layer set, which learns what earlier ones can do for later ones.
Legend: L layers, B cells, T tokens of a batch (padding left out), N counted places, S later layers,
F features, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from types import ModuleType
from typing import NamedTuple

import torch

from scx_core.errors import ScxError
from scx_core.language import Language, MlpIO, mlp_io
from scx_core.language.numerics.operations import operations
from scx_core.runs.progress import Progress, silent
from scx_core.training.config import TrainConfig, TranscoderConfig, features_of_step, learning_rate
from scx_core.training.layer_trainer import LayerTrainer, count_dead
from scx_core.training.ops.sparse import row_kernels
from scx_core.training.optimiser import MOMENTS, adam, moments_from
from scx_core.training.plan import StepPlan, training_batch
from scx_core.training.profiler import phase
from scx_core.training.step import LayerReport, TrainingStep, read_once
from scx_core.training.tokens import Cells, TokenTexts, cells_of_step
from scx_core.transcoders.cross_layer import CrossLayerSet
from scx_core.transcoders.module import Reads, TranscoderSet, from_tensors

START_CELLS = 64  # cells that scales and first weights are taken from, at most
START_WORK = 3e12  # operations of the model that they may take on a processor: half a minute


class StepReport(NamedTuple):
    """One optimisation step: tokens read, the loss summed over layers, and lists over layers."""

    tokens: int
    loss: float
    fvu: list[float]
    l0: list[float]
    dead: list[float]


class TrainerState:
    """The layers in training here (all of them, or those numbered `own`) and their optimiser."""

    def __init__(
        self,
        lm: Language,
        texts: TokenTexts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        layers: list[LayerTrainer],
        plan: StepPlan | None = None,
    ):
        self.lm, self.texts, self.cfg, self.train, self.layers = lm, texts, cfg, train, layers
        self.plan = plan or StepPlan()
        self.own = self.plan.own(lm.facts.n_layers)
        weights = [tensor for trainer in layers for tensor in trainer.weights.values()]
        self.optimizer = adam(weights, lm.device, lr=train.learning_rate)

    @classmethod
    def fresh(
        cls,
        lm: Language,
        texts: TokenTexts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        plan: StepPlan | None = None,
        progress: Progress = silent,
    ) -> TrainerState:
        """At the first step."""
        plan = plan or StepPlan()
        return cls(lm, texts, cfg, train, cls.first_layers(lm, texts, cfg, train, plan, progress), plan)

    @classmethod
    def first_layers(
        cls,
        lm: Language,
        texts: TokenTexts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        plan: StepPlan,
        progress: Progress = silent,
    ) -> list[LayerTrainer]:
        """First weights from the activations of the first cells of the first epoch (`start_cells`), or of as
        many of them as fit into the memory; of a cross-layer set with room in W_dec for the later layers."""
        cells = cells_of_step(0, texts.n_cells, start_cells(lm, texts), train.seed)
        size, samples = train.cells_per_batch, []
        for start in range(0, len(cells), size):
            progress(start, len(cells), "first weights: reading cells")
            read = activations(lm, texts, cells[start : start + size], cfg.reads, plan)
            # They wait in the computer's memory: a card that has room for a step may have none for all.
            samples.append([(x_Td.cpu(), y_Td.cpu()) for x_Td, y_Td in read])
        layers: list[LayerTrainer] = []
        own = plan.own(lm.facts.n_layers)
        for layer, parts in zip(own, zip(*samples, strict=True), strict=True):
            progress(len(layers), len(own), "first weights: layers")
            fresh = partial(_fresh, cfg, train, parts, layer, lm.device, len(cells))
            layers.append(training_batch().run(fresh, len(cells)))
            # Other cards may round otherwise.
            plan.partners.led([*layers[-1].weights.values(), *layers[-1].memory.values()])
        if cfg.form == "cross-layer":
            for later, trainer in enumerate(reversed(layers)):
                W_dec = trainer.weights["W_dec"].detach()
                rest = W_dec.new_zeros(len(W_dec), later * W_dec.shape[1])
                trainer.weights["W_dec"] = torch.cat([W_dec, rest], 1).requires_grad_(True)
        return layers

    @classmethod
    def restored(
        cls,
        lm: Language,
        texts: TokenTexts,
        cfg: TranscoderConfig,
        train: TrainConfig,
        saved: dict,
        plan: StepPlan | None = None,
    ) -> TrainerState:
        """As `tensors()` wrote it, whoever did: one process or several."""
        plan = plan or StepPlan()
        own = plan.own(lm.facts.n_layers)
        saved = {name: t for name, t in saved.items() if name.split(".")[0] in set(map(str, own))}
        saved = {name: t if ".adam." in name else t.to(lm.device) for name, t in saved.items()}
        layers = []
        for layer in own:
            part = {kind: _under(saved, f"{layer}.{kind}.") for kind in ("weights", "memory")}
            layers.append(LayerTrainer(cfg, train, part["weights"], part["memory"]))
        state = cls(lm, texts, cfg, train, layers, plan)
        for layer, trainer in zip(own, layers, strict=True):
            for name, tensor in trainer.weights.items():
                if moments := moments_from(_under(saved, f"{layer}.adam.{name}."), lm.device):
                    state.optimizer.state[tensor] = moments
        return state

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed state needs, by name; of a team of processes rank 0 gets it."""
        out: dict[str, torch.Tensor] = {}
        for layer, trainer in zip(self.own, self.layers, strict=True):
            out |= {f"{layer}.weights.{name}": tensor for name, tensor in trainer.weights.items()}
            out |= {f"{layer}.memory.{name}": tensor for name, tensor in trainer.memory.items()}
            for name, tensor in trainer.weights.items():
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

    def read(
        self, cells: Cells, texts: TokenTexts | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
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
            _check_finite(report.objective, step, layer)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.train, step)
        with phase("optimiser"):
            self._update()
        return StepReport(
            len(weight_T),
            sum(report.loss for report in reports),
            *([getattr(report, name) for report in reports] for name in ("fvu", "l0", "dead")),
        )

    def _update(self) -> None:
        """A step of Adam on every weight, and what follows it. Large weights on a processor are read and
        written once for all of it."""
        if self.layers and (kernels := row_kernels(self.layers[0].weights["W_dec"])) is not None:
            for trainer in self.layers:
                for name, weight in trainer.weights.items():
                    self._adam(kernels, weight, unit=name == "W_dec")
                trainer.after_step(unit_rows=True)
            return
        for trainer in self.layers:
            trainer.project_gradient()
        self.optimizer.step()
        for trainer in self.layers:
            trainer.after_step()

    @torch.no_grad()
    def _adam(self, kernels: ModuleType, weight: torch.Tensor, unit: bool) -> None:
        if weight.grad is None:
            return
        group, state = self.optimizer.param_groups[0], self.optimizer.state[weight]
        if not state:
            moments = {name: torch.zeros_like(weight) for name in MOMENTS[:2]}
            state |= moments | {"step": torch.zeros(())}
        state["step"] += 1
        numbers = int(state["step"]), float(group["lr"]), group["betas"], group["eps"]
        kernels.adam(weight, weight.grad, *(state[name] for name in MOMENTS[:2]), *numbers, unit)

    def gradients(self, cells: Cells, k: int, weight_T: torch.Tensor) -> list[LayerReport]:
        """Gradients from some cells, of which `weight_T` weighs the tokens, and what all layers report."""
        part = self.plan.partners.part(len(cells))
        mine, tokens = cells[part], self.texts.tokens_of(cells, part)
        activations, rows = self.read(mine), []
        count_dead(self.layers)
        # Step by step, so that the graphs of one step's layers alone are alive.
        together = len(self.layers) if self.cfg.form == "cross-layer" else 1
        for first in range(0, len(self.layers), together):
            some = self.layers[first : first + together]
            step = TrainingStep(some, self.plan, len(mine), len(weight_T))
            rows += step.run(islice(activations, together), k, weight_T[tokens])
        all_rows = self.plan.report(read_once(rows, self.lm.device)).tolist()
        return [LayerReport(*row) for row in all_rows]

    def coders(self, thresholds: Sequence[float | None] | None = None) -> TranscoderSet | None:
        """The transcoders as they are now, for raw activations, gated as `LayerTrainer.folded` says. Where
        several processes share out the layers, rank 0 gets them all."""
        thresholds = thresholds or [None] * len(self.layers)
        layers = tuple(trainer.folded(at) for trainer, at in zip(self.layers, thresholds, strict=True))
        if self.cfg.form == "cross-layer":
            return CrossLayerSet(layers, cross=tuple(self._cross(m) for m in range(len(layers))))
        coders = TranscoderSet(layers, reads=self.cfg.reads)
        return self._all_layers(coders) if self.plan.shared_layers else coders

    @torch.no_grad()
    def _cross(self, layer: int) -> torch.Tensor:
        """What layer `layer` writes to later ones, in raw units [S, F, d]."""
        W_FD, d = self.layers[layer].weights["W_dec"].detach(), self.lm.facts.width
        later = W_FD.split(d, 1)[1:]
        scaled = [
            W_Fd * trainer.memory["scale_y"]
            for W_Fd, trainer in zip(later, self.layers[layer + 1 :], strict=True)
        ]
        return torch.stack(scaled) if scaled else W_FD.new_zeros(0, len(W_FD), d)

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


def _fresh(
    cfg: TranscoderConfig,
    train: TrainConfig,
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    layer: int,
    device: torch.device,
    of_cells: int,
    cells: int,
) -> LayerTrainer:
    """A layer's first weights, from the tokens of about `cells` of the cells sampled."""
    x_Td, y_Td = (torch.cat(side) for side in zip(*parts, strict=True))
    tokens = max(1, len(x_Td) * cells // of_cells)
    return LayerTrainer.from_data(cfg, train, x_Td[:tokens].to(device), y_Td[:tokens].to(device), layer)


def _check_finite(loss: float, step: int, layer: int) -> None:
    if loss != loss or abs(loss) == float("inf"):
        raise ScxError(
            f"The loss of layer {layer} is {loss} at step {step}; the weights were left as they are.",
            "The last checkpoint is kept. Start a run with a lower learning rate, or check the model.",
        )


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def start_cells(lm: Language, texts: TokenTexts) -> int:
    """Cells that first weights are taken from: `START_CELLS`; on a processor no more than `START_WORK`
    operations allow."""
    if lm.device.type == "cuda":
        return START_CELLS
    tokens = len(texts.ids) / texts.n_cells
    a_cell = operations(lm, tokens).blocks(lm.facts.n_layers) * tokens
    return min(START_CELLS, max(1, int(START_WORK / a_cell)))


class _Part(NamedTuple):
    """A forward pass, and the places of its counted tokens (None: all)."""

    io: MlpIO
    at_N: torch.Tensor | None


def activations(
    lm: Language, texts: TokenTexts, cells: Cells, reads: Reads = "input", plan: StepPlan | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What each layer's transcoder is given (the MLP's input; for an SAE its output) and the MLP's output,
    float32 [T, d], counted tokens only; of the plan's own layers, from a forward pass a micro-batch."""
    plan = plan or StepPlan()
    own = plan.own(lm.facts.n_layers)

    def read(size: int) -> list[_Part]:
        return [
            _read(lm, texts, cells[start : start + size], plan, own) for start in range(0, len(cells), size)
        ]

    parts = plan.micro.run(read, len(cells))
    for layer in own:
        y_Td = _joined([_rows(io.outputs[layer], at_N) for io, at_N in parts])
        if reads == "output":
            yield y_Td, y_Td
        else:
            yield _joined([_rows(io.inputs[layer], at_N) for io, at_N in parts]), y_Td


def _read(lm: Language, texts: TokenTexts, cells: Cells, plan: StepPlan, own: list[int]) -> _Part:
    ids_BT, mask_BT = texts.batch(lm, cells)
    with phase("model"), plan.cast(lm):
        io, counted_BT = mlp_io(lm, ids_BT, mask_BT, layers=own), texts.counted(mask_BT, cells)
    return _Part(io, None if bool(counted_BT.all()) else counted_BT.flatten().nonzero()[:, 0])


def _rows(x_BTd: torch.Tensor, at_N: torch.Tensor | None) -> torch.Tensor:
    """The tokens at some places of a batch (None: all of them), float32 [T, d]."""
    x_Td = x_BTd.flatten(0, 1)
    return (x_Td if at_N is None else x_Td.index_select(0, at_N)).float()


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
