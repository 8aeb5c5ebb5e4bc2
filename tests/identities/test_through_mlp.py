"""SAEs traced through the MLPs whose output they read: the laws of method §5 hold with the gates frozen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scx_core.attribution.endpoints import Ref, reads_of
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_target
from scx_core.attribution.virtual_weights import feature_inputs
from scx_core.circuits.trace import trace_graph
from scx_core.errors import ScxError
from scx_core.language import mlp_io
from scx_core.language.weights import mlp_weights
from scx_core.transcoders.through_mlp import through_mlp
from tests.tiny import LABELS, random_set, tiny_cells, tiny_language

CASES = [
    {"parallel": False, "act": "relu"},
    {"parallel": True, "act": "gelu"},
    {"family": "gpt2"},
    {"family": "gemma2"},
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.get("family") or case["act"])
def traced(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("model"), request.param)


def make(folder, case):
    lm = tiny_language(folder, layers=3, dtype="float64", **case)
    saes = replace(random_set(lm, "jumprelu", False), reads="output")
    cell, plan = tiny_cells(lm)[0], plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
    coders = through_mlp(lm, saes)
    return lm, saes, coders, trace_graph(replacement(lm, coders), cell, plan, 40)


def test_its_features_are_the_saes_and_the_mlp_is_the_models(traced):
    lm, saes, coders, graph = traced
    ids = torch.tensor([graph.frozen.ids])
    io = mlp_io(lm, ids, torch.ones_like(ids))
    for k, (coder, sae, x_BTd, y_BTd) in enumerate(zip(coders.layers, saes.layers, *io[:2], strict=True)):
        mlp = mlp_weights(lm, k)
        torch.testing.assert_close(mlp(x_BTd), y_BTd)
        read_BTH = x_BTd @ mlp.W_in_Hd.T + mlp.b_in_H
        torch.testing.assert_close(mlp.gates(x_BTd) * read_BTH, mlp.neurons(x_BTd))
        torch.testing.assert_close(coder.encode(x_BTd), sae.encode(y_BTd))
        torch.testing.assert_close(coder(x_BTd), sae(y_BTd))
        few = torch.tensor([4, 1])
        torch.testing.assert_close(coder.only(few).encode(x_BTd), sae.encode(y_BTd)[..., few])


def test_every_row_adds_up_and_so_do_total_effects(traced):
    *_, graph = traced
    assert int((graph.chosen.layer_C > 0).sum()) > 5
    assert graph.table.max_relative_error() <= 1e-9
    effects = graph.effects
    total = effects.token_T.sum() + effects.error_LT.sum() + effects.bias
    assert float(total) == pytest.approx(graph.value, rel=1e-9)


def test_what_a_feature_reads_is_the_derivative_through_the_models_own_mlp(tmp_path):
    """In a ReLU MLP frozen gates are the derivative itself: autograd through the module must agree."""
    lm, _, coders, graph = make(tmp_path, CASES[0])
    frozen, at = graph.frozen, int(torch.nonzero(graph.chosen.layer_C > 0)[0, 0])
    layer, position, feature = (
        int(part[at]) for part in (graph.chosen.layer_C, graph.chosen.position_C, graph.chosen.feature_C)
    )
    ids = torch.tensor([frozen.ids])
    x_d = mlp_io(lm, ids, torch.ones_like(ids)).inputs[layer][0, position].clone().requires_grad_()
    coder = coders.layers[layer]
    pre = lm.part(layer, "mlp")(x_d) @ coder.W_enc_Fd[feature] + coder.b_enc_F[feature]
    (slope_d,) = torch.autograd.grad(pre, x_d)
    norm = replacement(lm, coders).layers[layer].mlp_norm
    ref = Ref("feature", layer, position, feature)
    gradient_d, _ = reads_of(frozen, ref)
    wanted_d = norm.fold(slope_d[None])[0] * frozen.layers[layer].mlp_scale_T[position]
    torch.testing.assert_close(gradient_d, wanted_d)


def test_without_a_prompt_there_are_no_weights_into_them(traced):
    *_, coders, graph = traced
    with pytest.raises(ScxError, match="reads what MLPs write"):
        feature_inputs(graph.frozen.replacement, 1, 0, 5)
    with pytest.raises(ScxError, match="reads the MLPs' inputs already"):
        through_mlp(graph.frozen.replacement.lm, coders)
