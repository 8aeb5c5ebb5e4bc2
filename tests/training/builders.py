"""Tiny layers in training, and steps of them."""

import torch

from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.layer_trainer import LayerTrainer
from scx_core.training.plan import StepPlan
from scx_core.training.step import LayerReport, TrainingStep

T, D = 200, 8
EVEN = torch.ones(T)
CFG, TRAIN = TranscoderConfig(expansion=4, k=3), TrainConfig(dead_after=500)


def data(seed: int = 0):
    """Inputs with a mean and a scale far from 0 and 1, and a non-linear function of them."""
    generator = torch.Generator().manual_seed(seed)
    x_Td = 5 + 7 * torch.randn(T, D, generator=generator)
    mix_dd = torch.randn(D, D, generator=generator)
    return x_Td, 30 * torch.nn.functional.gelu((x_Td - 5) @ mix_dd / 7) - 4


def layer_trainer(cfg: TranscoderConfig = CFG, train: TrainConfig = TRAIN) -> LayerTrainer:
    fresh = LayerTrainer.from_data(cfg, train, *data(), layer=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in fresh.weights.values():
            tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    return fresh


def layer_step(
    layer: LayerTrainer, x_Td, y_Td, k: int, weight_T, plan: StepPlan | None = None, cells: int = 1
) -> LayerReport:
    """A step of one layer: its gradients are in its weights then."""
    step = TrainingStep([layer], plan or StepPlan(), cells, len(x_Td))
    return step.run([(x_Td, y_Td)], k, weight_T)[0]
