"""Taps: reading MLPs changes nothing, writing changes what it should, padding does not matter."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from scx_core.language import (
    OnOutput,
    captured_blocks,
    captured_mlps,
    fast_attention,
    forward,
    hidden_from,
    mlp_io,
    positions,
    replaced_mlps,
)
from scx_core.sentences import pad_left
from tests.tiny import tiny_cells, tiny_language


@pytest.fixture(scope="module", params=["parallel", "sequential"])
def lm(request, tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"), parallel=request.param == "parallel")


@pytest.fixture(scope="module")
def batch(lm):
    padded = pad_left([cell.ids for cell in tiny_cells(lm)], lm.pad_id)
    return torch.from_numpy(padded.ids_BT), torch.from_numpy(padded.mask_BT)


def alone(lm, cell) -> torch.Tensor:
    """Logits [T, V] of one cell without padding, without taps."""
    with torch.no_grad():
        return lm.model(torch.tensor([cell.ids])).logits[0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_padding_changes_nothing(tmp_path, dtype):
    lm = tiny_language(tmp_path, dtype=dtype)
    cells = tiny_cells(lm)
    padded = pad_left([cell.ids for cell in cells], lm.pad_id)
    assert padded.mask_BT.min() == 0
    with torch.no_grad():
        logits_BTV = forward(lm, torch.from_numpy(padded.ids_BT), torch.from_numpy(padded.mask_BT))
    near = {"float32": 1e-4, "float64": 1e-6, "bfloat16": 0.2}[dtype]
    for b, cell in enumerate(cells):
        apart = (logits_BTV[b, -len(cell.ids) :] - alone(lm, cell)).abs().max()
        assert float(apart) < near


def test_positions_start_at_the_first_real_token():
    mask_BT = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert positions(mask_BT).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_capture_holds_what_each_mlp_read_and_wrote(lm, batch):
    io = mlp_io(lm, *batch, logits=True)
    with torch.no_grad():
        assert torch.equal(io.logits_BTV, forward(lm, *batch))
    for k in range(lm.facts.n_layers):
        with torch.no_grad():
            again_BTd = lm.part(k, "mlp")(io.inputs[k])
        assert torch.allclose(again_BTd, io.outputs[k], atol=1e-12)
    assert mlp_io(lm, *batch).logits_BTV is None


def test_first_mlp_reads_what_its_block_form_says(lm, batch):
    """Parallel: the norm of the embeddings alone. Sequential: attention's output comes in between."""
    io = mlp_io(lm, *batch)
    with torch.no_grad():
        embedded_BTd = lm.model.get_input_embeddings()(batch[0])
        normed_BTd = lm.part(0, "mlp_norm")(embedded_BTd)
    real = batch[1].bool()
    same = torch.allclose(io.inputs[0][real], normed_BTd[real], atol=1e-12)
    assert same == (lm.facts.residual == "parallel")


def test_an_mlp_in_its_own_place_changes_nothing(lm, batch):
    stand_ins = {}
    for k in range(lm.facts.n_layers):
        mlp = lm.part(k, "mlp")
        stand_ins[k] = lambda x, mlp=mlp: mlp.dense_4h_to_h(mlp.act(mlp.dense_h_to_4h(x)))
    with torch.no_grad():
        plain_BTV = forward(lm, *batch)
        with replaced_mlps(lm, stand_ins):
            assert torch.equal(forward(lm, *batch), plain_BTV)


def test_zeros_equal_a_model_whose_mlp_weights_are_zero(lm, batch, tmp_path):
    other = tiny_language(tmp_path, parallel=lm.facts.residual == "parallel")
    mlp = other.part(1, "mlp")
    mlp.dense_4h_to_h.weight.zero_()
    mlp.dense_4h_to_h.bias.zero_()
    with torch.no_grad(), replaced_mlps(lm, {1: torch.zeros_like}):
        logits_BTV = forward(lm, *batch)
    with torch.no_grad():
        assert torch.equal(logits_BTV, forward(other, *batch))
        assert not torch.allclose(logits_BTV, forward(lm, *batch))


def test_taps_are_gone_afterwards_even_after_an_error(lm, batch):
    with torch.no_grad():
        before_BTV = forward(lm, *batch)
    with pytest.raises(KeyError), replaced_mlps(lm, {0: torch.zeros_like}), captured_mlps(lm):
        raise KeyError
    with torch.no_grad():
        assert torch.equal(forward(lm, *batch), before_BTV)
    assert not any(lm.part(k, "mlp")._forward_hooks for k in range(lm.facts.n_layers))


class Ran(Exception):
    """An MLP ran that was replaced."""


def test_a_replaced_mlp_does_not_run_unless_its_output_is_asked_for(lm, batch):
    def fail(*_):
        raise Ran

    handle = lm.part(0, "mlp_out").register_forward_pre_hook(fail)
    try:
        with torch.no_grad(), replaced_mlps(lm, {0: torch.zeros_like}):
            forward(lm, *batch)
            with replaced_mlps(lm, {0: torch.ones_like}):  # one in another
                forward(lm, *batch)
            forward(lm, *batch)
        with torch.no_grad(), pytest.raises(Ran), replaced_mlps(lm, {0: OnOutput(torch.zeros_like)}):
            forward(lm, *batch)
        with torch.no_grad(), pytest.raises(Ran):
            forward(lm, *batch)
    finally:
        handle.remove()


@pytest.mark.parametrize("fused", [False, True])
def test_a_pass_from_a_layer_on_is_the_whole_pass_with_that_layer_replaced(lm, batch, fused):
    real = batch[1].bool()
    with torch.no_grad(), fast_attention(lm) if fused else nullcontext():
        with captured_blocks(lm) as calls:
            forward(lm, *batch)
        for layer in range(lm.facts.n_layers):
            with replaced_mlps(lm, {layer: torch.ones_like}):
                later_BTd = hidden_from(lm, calls, layer)
                whole_BTV = forward(lm, *batch)
            later_BTV = lm.model.get_output_embeddings()(later_BTd)
            assert torch.equal(later_BTV[real], whole_BTV[real])


def test_fused_attention_says_the_same_with_padding_in_float64(lm, batch):
    real = batch[1].bool()
    assert not real.all()
    with torch.no_grad():
        eager_BTV = forward(lm, *batch)
        with fast_attention(lm):
            torch.testing.assert_close(forward(lm, *batch)[real], eager_BTV[real], atol=1e-6, rtol=1e-6)


def test_a_pass_for_mlps_alone_ends_at_the_last_one_asked_for(lm, batch):
    whole = mlp_io(lm, *batch, logits=True)
    for layers in (None, [0], range(lm.facts.n_layers)):
        asked = range(lm.facts.n_layers) if layers is None else layers
        some = mlp_io(lm, *batch, layers=layers)
        for layer in asked:
            assert torch.equal(some.inputs[layer], whole.inputs[layer])
            assert torch.equal(some.outputs[layer], whole.outputs[layer])

    def fail(*_):
        raise Ran

    handle = lm.part(1, "attn").register_forward_pre_hook(fail)
    try:
        mlp_io(lm, *batch, layers=[0])
        if lm.facts.residual == "parallel":
            mlp_io(lm, *batch, layers=[1])
        else:
            with pytest.raises(Ran):
                mlp_io(lm, *batch, layers=[1])
        with pytest.raises(Ran):
            forward(lm, *batch)
    finally:
        handle.remove()
