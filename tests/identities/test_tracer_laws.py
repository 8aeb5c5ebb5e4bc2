"""The laws of method §5 on random models with non-zero biases: accounting, intervention, total effects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.attribution import backward
from scx_core.attribution.backward import total_effects
from scx_core.attribution.local_replacement_model import freeze
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_target, target_row
from scx_core.circuits.circuit import Circuit
from scx_core.circuits.trace import TraceConfig, finish, trace_graph
from tests.identities.plain import Plain
from tests.tiny import LABELS, random_cross_set, random_set, tiny_cells, tiny_language

KINDS = ("relu", "topk", "jumprelu")
LIMIT = {"float32": 1e-4, "float64": 1e-9}


SETS = [(p, k, s) for p in (True, False) for k in (*KINDS, "cross-layer relu") for s in (False, True)]


@pytest.fixture(params=SETS, ids=str)
def traced(request, tmp_path):
    parallel, kind, skip = request.param
    return make(tmp_path, parallel=parallel, kind=kind, skip=skip, dtype="float64")


def make(folder, *, parallel, kind, skip, dtype, layers=3):
    lm = tiny_language(folder, parallel=parallel, layers=layers, dtype=dtype)
    make_set = random_cross_set if kind.startswith("cross-layer") else random_set
    coders = make_set(lm, kind.split()[-1], skip)
    cell = tiny_cells(lm)[0]
    plan = plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
    return lm, coders, cell, plan, trace_graph(replacement(lm, coders), cell, plan, 40)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parallel", [True, False])
def test_accounting_holds_at_the_precision_of_the_numbers(tmp_path, dtype, parallel):
    graph = make(tmp_path, parallel=parallel, kind="jumprelu", skip=True, dtype=dtype)[-1]
    assert graph.table.max_relative_error() <= LIMIT[dtype]
    assert len(graph.table.value_R) == 41


def test_accounting_and_total_effects(traced):
    *_, graph = traced
    assert graph.table.max_relative_error() <= 1e-9
    effects = graph.effects
    total = effects.token_T.sum() + effects.error_LT.sum() + effects.bias
    assert float(total) == pytest.approx(graph.value, rel=1e-9)


def test_total_effects_are_the_same_some_features_at_a_time(traced, monkeypatch):
    *_, plan, graph = traced
    target, target_bias, _ = target_row(graph.frozen, plan)
    pieces = []

    def counted(*asked):
        pieces.append(len(found := blocks(*asked)))
        return found

    blocks = backward._blocks
    monkeypatch.setattr(backward, "_blocks", counted)
    whole = total_effects(graph.frozen, target, target_bias)
    assert set(pieces) == {1}
    monkeypatch.setattr(backward, "ROW_NUMBERS", 5 * graph.frozen.embedding_Td.shape[1])
    parts = total_effects(graph.frozen, target, target_bias)
    assert max(pieces) > 3
    for one, other in zip([*whole.features, whole.token_T], [*parts.features, parts.token_T], strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
    assert parts.bias == pytest.approx(whole.bias, rel=1e-10)


def test_target_row_is_the_models_own_logit_difference(traced):
    lm, coders, _cell, plan, graph = traced
    logits = Plain(lm, coders, graph.frozen.ids).logits_TV[-1]
    assert graph.value == pytest.approx(
        sum(w * float(logits[t]) for t, w in plan.coefficients.items()), rel=1e-9
    )


def _rows(graph, pres, logits, plan):
    chosen = graph.chosen
    rows = [
        float(pres[k][t, i])
        for k, t, i in zip(chosen.layer_C, chosen.position_C, chosen.feature_C, strict=True)
    ]
    return torch.tensor([*rows, sum(w * float(logits[-1, t]) for t, w in plan.coefficients.items())])


def test_edges_are_interventions_under_freeze(traced):
    """Setting a source to 0 changes every row by exactly its edge: features, errors, tokens."""
    lm, coders, _cell, plan, graph = traced
    plain = Plain(lm, coders, graph.frozen.ids)
    base = _rows(graph, *plain.run(), plan)
    torch.testing.assert_close(base.double(), graph.table.value_R.double(), rtol=1e-6, atol=1e-6)
    largest = float(graph.table.feature_RC.abs().max())
    rng = np.random.default_rng(0)
    for c in rng.choice(len(graph.chosen.layer_C), 8, replace=False):
        k, t, i = (int(x[c]) for x in (graph.chosen.layer_C, graph.chosen.position_C, graph.chosen.feature_C))
        z = [z_TF.clone() for z_TF in plain.z]
        z[k][t, i] = 0.0
        change = base - _rows(graph, *plain.run(z=z), plan)
        assert float((change - graph.table.feature_RC[:, c]).abs().max()) <= 1e-6 * largest
    for t in (0, 3, len(plain.ids[0]) - 1):
        error = [e.clone() for e in plain.error]
        error[1][t] = 0.0
        change = base - _rows(graph, *plain.run(error=error), plan)
        assert float((change - graph.table.error_RLT[:, 1, t]).abs().max()) <= 1e-6 * largest
        embedding = plain.embedding_Td.clone()
        embedding[t] = 0.0
        change = base - _rows(graph, *plain.run(embedding_Td=embedding), plan)
        assert float((change - graph.table.token_RT[:, t]).abs().max()) <= 1e-6 * largest


def test_total_effects_are_interventions_when_features_respond(traced):
    lm, coders, _cell, plan, graph = traced
    plain = Plain(lm, coders, graph.frozen.ids)
    logits = plain.run(respond=True)[1]
    base = sum(w * float(logits[-1, t]) for t, w in plan.coefficients.items())
    for t in (0, 5, 11):
        embedding = plain.embedding_Td.clone()
        embedding[t] = 0.0
        logits = plain.run(embedding_Td=embedding, respond=True)[1]
        change = base - sum(w * float(logits[-1, token]) for token, w in plan.coefficients.items())
        assert change == pytest.approx(float(graph.effects.token_T[t]), rel=1e-6, abs=1e-9)


def test_edges_agree_with_autograd(traced):
    """Independent way to the same numbers: gradient of a row with features held fixed, times the write."""
    lm, coders, _cell, plan, graph = traced
    plain = Plain(lm, coders, graph.frozen.ids)
    z = [z_TF.clone().requires_grad_() for z_TF in plain.z]
    with torch.enable_grad():
        pres, logits = plain.run(z=z)
        chosen = graph.chosen
        for r in (0, 7, 20, 39, 40):
            if r < 40:
                row = pres[chosen.layer_C[r]][chosen.position_C[r], chosen.feature_C[r]]
            else:
                row = sum(w * logits[-1, t] for t, w in plan.coefficients.items())
            gradients: tuple = (None,) * len(z)  # a row of layer 0 has no feature below it
            if row.requires_grad:
                gradients = torch.autograd.grad(row, z, retain_graph=True, allow_unused=True)
            for c in range(40):
                k, t, i = int(chosen.layer_C[c]), int(chosen.position_C[c]), int(chosen.feature_C[c])
                edge = 0.0 if gradients[k] is None else float(gradients[k][t, i] * plain.z[k][t, i])
                assert edge == pytest.approx(float(graph.table.feature_RC[r, c]), abs=1e-8)


def test_no_edge_between_features_of_one_layer_or_upwards(traced):
    *_, graph = traced
    layer_C = graph.chosen.layer_C
    not_below = layer_C[None, :] >= layer_C[:, None]
    assert float(graph.table.feature_RC[:-1][not_below].abs().max()) == 0.0


def test_batches_of_rows_do_not_change_edges(traced, monkeypatch):
    lm, coders, cell, plan, graph = traced
    monkeypatch.setattr("scx_core.attribution.node_selection.ROWS", 5)
    again = trace_graph(replacement(lm, coders), cell, plan, 40)
    torch.testing.assert_close(again.table.feature_RC, graph.table.feature_RC, rtol=1e-9, atol=1e-12)


def test_all_active_features_chosen_leave_no_rest(tmp_path):
    lm, coders, cell, plan, graph = make(
        tmp_path, parallel=True, kind="topk", skip=False, dtype="float64", layers=2
    )
    active = sum(len(layer.position_N) for layer in graph.frozen.layers)
    full = trace_graph(replacement(lm, coders), cell, plan, active)
    assert float(full.table.rest_abs_R.max()) == pytest.approx(0.0, abs=1e-9)
    assert full.share_RS.sum(1) == pytest.approx(np.ones(active + 1))


def test_a_stranger_recomputes_the_edges_from_the_json(tmp_path):
    """The file, the model and the transcoders are enough: ids, coefficients, (layer, position, feature)."""
    lm, coders, cell, _plan, graph = make(
        tmp_path, parallel=True, kind="jumprelu", skip=False, dtype="float64"
    )
    circuit = Circuit.from_json(finish(graph, cell, TraceConfig(), {}).to_json())
    plain = Plain(lm, coders, circuit.token_ids)
    nodes = {node.id: node for node in circuit.nodes}
    pres, logits = plain.run()
    checked = 0
    for edge in circuit.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        if source.kind != "feature":
            continue
        z = [z_TF.clone() for z_TF in plain.z]
        assert float(z[source.layer][source.position, source.feature]) == pytest.approx(
            source.activation, rel=1e-9
        )
        z[source.layer][source.position, source.feature] = 0.0
        new_pres, new_logits = plain.run(z=z)
        if target.kind == "target":
            value = sum(
                w * float((logits - new_logits)[target.position, t])
                for t, w in circuit.target.coefficients.items()
            )
        else:
            at = target.position, target.feature
            value = float((pres[target.layer] - new_pres[target.layer])[at])
        assert value == pytest.approx(edge.weight, abs=1e-8)
        checked += 1
    assert checked >= 5


def test_centred_logit_target(tmp_path):
    lm, coders, cell, _plan, _graph = make(tmp_path, parallel=True, kind="relu", skip=False, dtype="float64")
    plan = plan_target(lm, LABELS, "Dendritic", lead=" ", kind="logit")
    frozen = freeze(replacement(lm, coders), plan.prompt_ids(cell))
    target, bias, value = target_row(frozen, plan)
    effects = total_effects(frozen, target, bias)
    assert float(effects.token_T.sum() + effects.error_LT.sum()) + effects.bias == pytest.approx(
        value, rel=1e-9
    )
    own = next(iter(plan.coefficients))
    assert value == pytest.approx(float(frozen.logits_V[own] - frozen.logits_V.mean()), rel=1e-9)
