"""JumpReLU's slopes, and the controller that holds a wanted number of active features."""

from dataclasses import replace

import pytest
import torch

from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.layer_trainer import LayerTrainer
from scx_core.training.objective.jumprelu import WIDTH, ActiveCount, JumpReLU, control_penalty
from tests.training.builders import EVEN, D, T, data, layer_step

CFG = TranscoderConfig(expansion=8, kind="jumprelu", target_l0=4.0)


def test_slopes_are_those_of_the_rectangle():
    pre_TF = torch.tensor([[0.95, 0.5], [1.04, 3.0], [2.0, 2.1]], dtype=torch.float64, requires_grad=True)
    threshold_F = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    z_TF = JumpReLU.apply(pre_TF, threshold_F)
    assert z_TF.tolist() == [[0.0, 0.0], [1.04, 3.0], [2.0, 2.1]]
    weight_TF = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)
    (z_TF * weight_TF).sum().backward()
    assert pre_TF.grad.tolist() == [[0.0, 0.0], [3.0, 4.0], [5.0, 6.0]]
    # Inside the rectangle: 0.95 and 1.04 of feature 0, 2.1 of feature 1. Slope −θ/ε = −1/WIDTH each.
    assert threshold_F.grad.tolist() == pytest.approx([-(1.0 + 3.0) / WIDTH, -6.0 / WIDTH])
    threshold_F.grad = None
    count = ActiveCount.apply(pre_TF, threshold_F)
    assert float(count.detach()) == pytest.approx(4 / 3)
    count.backward()
    assert threshold_F.grad.tolist() == pytest.approx([-2 / WIDTH / 3, -1 / (2 * WIDTH) / 3])


def test_the_controller_raises_and_lowers_the_penalty():
    memory = {"penalty": torch.tensor(1.0), "l0": torch.tensor(0.0)}
    control_penalty(memory, 20.0, 10.0)
    assert memory["penalty"] > 1.0
    assert float(memory["l0"]) == 20.0
    for _ in range(200):
        control_penalty(memory, 5.0, 10.0)
    assert memory["penalty"] < 1.0
    assert float(memory["l0"]) == pytest.approx(5.0, rel=1e-3)


def fresh_data(seed: int):
    """New inputs of one and the same function."""
    x_Td = 5 + 7 * torch.randn(T, D, generator=torch.Generator().manual_seed(seed))
    mix_dd = torch.randn(D, D, generator=torch.Generator().manual_seed(0))
    return x_Td, 30 * torch.nn.functional.gelu((x_Td - 5) @ mix_dd / 7) - 4


@pytest.mark.parametrize("kind", ["jumprelu", "relu"])
def test_a_target_is_held_within_ten_percent(kind):
    train = TrainConfig(learning_rate=3e-3)
    layer = LayerTrainer.from_data(replace(CFG, kind=kind, l1=1e-3), train, *fresh_data(0), layer=0)
    optimizer = torch.optim.Adam(layer.weights.values(), lr=3e-3)
    counts = []
    for step in range(900):
        report = layer_step(layer, *fresh_data(step), 4, EVEN)
        optimizer.step()
        layer.after_step()
        counts.append(report.l0)
    assert sum(counts[-150:]) / 150 == pytest.approx(4.0, rel=0.1)
    x_Td, y_Td = fresh_data(10_000)
    error_Td = y_Td - layer.folded()(x_Td)
    assert float(error_Td.square().sum() / (y_Td - y_Td.mean(0)).square().sum()) < 0.6, "it learns"


def test_thresholds_start_where_the_target_is_met():
    layer = LayerTrainer.from_data(CFG, TrainConfig(), *data(), layer=0)
    coder = layer.folded()
    active = float((coder.encode(data()[0]) > 0).sum()) / T
    assert active == pytest.approx(4.0, rel=0.05)
    assert coder.threshold_F.shape == (8 * D,)
