"""One layer in training: folding, revival of dead features, unit rows."""

from dataclasses import replace

import pytest
import torch

from scx_core.training.layer_trainer import LayerTrainer, normalised
from scx_core.training.objective.auxk import auxk_loss
from scx_core.training.trainer import _threshold_at
from tests.training.builders import CFG, EVEN, LAYER_TRAIN, D, T, data, layer_step, layer_trainer


@pytest.mark.parametrize("kind", ["batchtopk", "topk", "jumprelu", "relu"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_folded_weights_do_on_raw_activations_what_training_does_on_normalised_ones(kind, normalise, skip):
    cfg = replace(CFG, kind=kind, normalise=normalise, skip=skip)
    layer, (x_Td, y_Td) = layer_trainer(cfg), data(1)
    inner_x, _ = normalised(layer.memory, x_Td, y_Td)
    w = layer.weights
    pre_TF = inner_x @ w["W_enc"].T + w["b_enc"]
    if kind == "batchtopk":
        gate_TF = pre_TF > 0.1
    elif kind == "jumprelu":
        gate_TF = pre_TF > 0.1 * w["log_threshold"].exp()
    elif kind == "topk":
        gate_TF = torch.zeros_like(pre_TF, dtype=torch.bool).scatter(1, pre_TF.topk(3, 1).indices, True)
    else:
        gate_TF = torch.ones_like(pre_TF, dtype=torch.bool)
    inner_y = (pre_TF * gate_TF).relu() @ w["W_dec"] + w["b_dec"]
    if skip:
        inner_y = inner_y + inner_x @ w["W_skip"].T
    wanted = inner_y * layer.memory["scale_y"] + layer.memory["mean_y"]
    coder = layer.folded(0.1)
    assert coder.kind == {"batchtopk": "jumprelu"}.get(kind, kind)
    assert torch.allclose(coder(x_Td), wanted, rtol=1e-4, atol=1e-3 * float(y_Td.std()))


def test_normalised_activations_have_unit_size():
    x_Td, y_Td = normalised(layer_trainer().memory, *data())
    for part_Td in (x_Td, y_Td):
        assert part_Td.mean(0).abs().max() < 1e-5
        assert part_Td.square().sum(1).mean() == pytest.approx(1, rel=1e-4)


def test_revival_gradient_reaches_encoder_and_bias_of_dead_features_only():
    layer = layer_trainer()
    dead_F = torch.zeros(4 * D, dtype=torch.bool)
    dead_F[[3, 11]] = True
    with torch.no_grad():
        layer.weights["b_enc"][dead_F] = -0.5  # silent on every token
    layer.memory["unseen"][dead_F] = LAYER_TRAIN.dead_after + 1
    grads = {}
    for weight in (0.0, 1.0):
        layer.train = replace(LAYER_TRAIN, revive=weight)
        for tensor in layer.weights.values():
            tensor.grad = None
        layer.memory["unseen"][dead_F] = LAYER_TRAIN.dead_after + 1
        report = layer_step(layer, *data(), 3, EVEN)
        grads[weight] = {name: tensor.grad.clone() for name, tensor in layer.weights.items()}
        assert report.dead == pytest.approx(2 / (4 * D))
    for name in ("W_enc", "b_enc", "W_dec"):
        assert not grads[0.0][name][dead_F].any()
        assert (grads[1.0][name][dead_F].abs().reshape(2, -1).sum(1) > 1e-6).all()
        assert torch.equal(grads[0.0][name][~dead_F], grads[1.0][name][~dead_F])


def test_auxk_loss_is_lower_for_features_that_point_at_the_error():
    generator = torch.Generator().manual_seed(0)
    x_Td, error_Td = torch.randn(50, D, generator=generator), torch.randn(50, D, generator=generator)
    W_enc_Dd = x_Td[:10] / x_Td[:10].square().sum(1, keepdim=True)
    towards = torch.nn.functional.normalize(error_Td[:10], dim=1)
    losses = [float(auxk_loss(x_Td, error_Td, W_enc_Dd, torch.zeros(10) - 0.5, s * towards)) for s in (1, -1)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("kind", ["batchtopk", "topk"])
def test_a_silent_features_bias_rises_until_it_fires(kind):
    layer, (x_Td, y_Td) = layer_trainer(replace(CFG, kind=kind)), data()
    with torch.no_grad():
        layer.weights["b_enc"][5] = -3.0
    layer_step(layer, x_Td, y_Td, 3, EVEN)
    assert layer.memory["unseen"][5] == T
    for _ in range(600):
        layer.after_step()
        layer_step(layer, x_Td, y_Td, 3, EVEN)
        if layer.memory["unseen"][5] == 0:
            break
    assert layer.memory["unseen"][5] == 0 and -3.0 < float(layer.weights["b_enc"][5]) < 1.0

    asleep = layer_trainer(train=replace(LAYER_TRAIN, revive=0.0))
    asleep.memory["unseen"][5] = LAYER_TRAIN.dead_after + 1
    before = asleep.weights["b_enc"].clone()
    asleep.after_step()
    assert torch.equal(asleep.weights["b_enc"], before)


def test_only_dead_features_are_lifted():
    layer = layer_trainer()
    layer.memory["cut"] = torch.tensor(0.5)
    layer.memory["unseen"][[2, 7]] = LAYER_TRAIN.dead_after + 1
    before = layer.weights["b_enc"].clone()
    layer.after_step()
    assert (layer.weights["b_enc"] - before).nonzero()[:, 0].tolist() == [2, 7]


def test_decoder_rows_have_unit_length_and_no_gradient_along_themselves():
    layer = LayerTrainer.from_data(CFG, LAYER_TRAIN, *data(), layer=0)
    assert torch.allclose(layer.weights["W_dec"].norm(dim=1), torch.ones(4 * D), atol=1e-5)
    layer_step(layer, *data(), 3, EVEN)
    layer.project_gradient()
    W_dec = layer.weights["W_dec"]
    assert (W_dec.grad * W_dec).sum(1).abs().max() < 1e-5 * W_dec.grad.norm(dim=1).max()
    with torch.no_grad():
        W_dec *= 3
    layer.after_step()
    assert torch.allclose(W_dec.norm(dim=1), torch.ones(4 * D), atol=1e-5)


def test_loss_terms_are_those_of_the_method():
    x_Td, y_Td = data()
    weight_T = torch.linspace(0.5, 1.5, T)
    for error, wanted in (
        ("squared", lambda e, y: (e.square().sum(1) * weight_T).mean()),
        ("relative", lambda e, y: (e.square() / y.norm(dim=1, keepdim=True) * weight_T[:, None]).mean()),
    ):
        layer = layer_trainer(replace(CFG, kind="relu", normalise=False, l1=0.01, error=error))
        z_TF = layer.folded().encode(x_Td)
        loss = wanted(y_Td - layer.folded()(x_Td), y_Td) + 0.01 * z_TF.sum(1).mean()
        assert layer_step(layer, x_Td, y_Td, 3, weight_T).loss == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize("kind", ["batchtopk", "topk", "jumprelu", "relu"])
def test_a_fresh_layer_of_similar_tokens_does_not_write_their_output_many_times_over(kind):
    x_Td, y_Td = data()
    alike = torch.arange(len(x_Td)) % 5  # as the prompt's words are in every cell
    x_Td, y_Td = x_Td[alike] + 0.01 * x_Td, y_Td[alike] + 0.01 * y_Td
    layer = LayerTrainer.from_data(replace(CFG, kind=kind), LAYER_TRAIN, x_Td, y_Td, layer=0)
    report = layer_step(layer, x_Td, y_Td, 4 * CFG.k, torch.ones(len(x_Td)))
    assert report.fvu < 1.0


def test_a_calibrated_level_lies_in_a_gap_and_never_among_values_that_are_the_same_to_rounding():
    repeated = 2.0 + torch.arange(4) * 1e-7
    rest = torch.linspace(1.0, 3.0, 999)
    values = torch.cat([rest[(rest - 2).abs() > 1e-3], repeated])
    values = values[torch.randperm(len(values))]
    above = int((values > 2.0005).sum())
    for wanted in range(above, above + 5):
        passed = int((values > _threshold_at(values, wanted)).sum())
        assert abs(passed - wanted) <= 3 and passed not in range(above + 1, above + 4)
    assert _threshold_at(values, len(values)) == 0.0 and _threshold_at(repeated, 2) == pytest.approx(2.0)


@pytest.mark.parametrize("n", [10, 1000, 300_000])
def test_a_calibrated_level_leaves_as_many_as_wanted(n):
    values = torch.randn(n, generator=torch.Generator().manual_seed(0)).abs()
    for wanted in (n // 10, n // 2, n - 1):
        passed = int((values > _threshold_at(values, wanted)).sum())
        assert abs(passed - wanted) <= max(1, 0.005 * wanted)
