"""The laws of method §4 and §5 for every kind of target: what a log-probability's graph accounts for."""

from __future__ import annotations

import pytest
import torch

from scx_core.attribution.local_replacement_model import freeze
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import (
    feature_gradient,
    find_token,
    last_active,
    plan_feature,
    plan_target,
    target_gradient,
    vocabulary_weights,
)
from scx_core.circuits import TraceConfig, make_tracer
from scx_core.circuits.trace import trace_graph
from scx_core.errors import ScxError
from tests.identities.plain import Plain
from tests.identities.test_tracer_laws import LIMIT
from tests.tiny import LABELS, random_set, renamed_table, tiny_cells, tiny_language

LABEL = "CD4+/CD25 T Reg"
TARGETS = [("logit", None), ("logprob", None), ("token", "FOX")]


def make(folder, *, parallel=True, kind="relu", skip=False, dtype="float64"):
    lm = tiny_language(folder, parallel=parallel, layers=3, dtype=dtype)
    coders = random_set(lm, kind, skip)
    return lm, coders, tiny_cells(lm)[0], replacement(lm, coders)


def planned(lm, kind, token=None, label=LABEL):
    return plan_target(lm, LABELS, label, lead=" ", kind=kind, token=token)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize(("kind", "token"), TARGETS)
def test_accounting_holds_for_every_kind(tmp_path, kind, token, parallel, dtype):
    lm, _, cell, rep = make(tmp_path, parallel=parallel, kind="jumprelu", skip=True, dtype=dtype)
    graph = trace_graph(rep, cell, planned(lm, kind, token), 40)
    assert graph.table.max_relative_error() <= LIMIT[dtype]
    effects = graph.effects
    total = float(effects.token_T.double().sum() + effects.error_LT.double().sum()) + effects.bias
    assert total == pytest.approx(graph.value, rel=LIMIT[dtype])


def test_the_value_is_the_models_own_log_probability(tmp_path):
    lm, _, cell, rep = make(tmp_path)
    plan = planned(lm, "logprob")
    with torch.no_grad():
        logits_V = lm.model(torch.tensor([plan.prompt_ids(cell)])).logits[0, -1]
    graph = trace_graph(rep, cell, plan, 40)
    assert graph.value == pytest.approx(float(logits_V.log_softmax(-1)[plan.token]), rel=1e-9)
    assert graph.value < 0


@pytest.mark.parametrize("parallel", [True, False])
def test_the_read_vector_is_the_gradient_of_the_log_probability(tmp_path, parallel):
    """Through log-softmax, unembedding and the last norm with its 1/σ held, by autograd."""
    lm, _, cell, rep = make(tmp_path, parallel=parallel)
    plan = planned(lm, "logprob")
    frozen = freeze(rep, plan.prompt_ids(cell))
    read_d, bias, value = target_gradient(frozen, plan)
    seen = {}
    hook = lm.final_norm.register_forward_pre_hook(lambda _m, args: seen.update(h=args[0][0, -1]))
    with torch.no_grad():
        lm.model(torch.tensor([plan.prompt_ids(cell)]))
    hook.remove()
    h_d = seen["h"].clone().requires_grad_(True)
    norm = lm.final_norm
    scale = (h_d.detach().var(unbiased=False) + norm.eps).rsqrt()
    x_d = (h_d - h_d.mean()) * scale * norm.weight + norm.bias
    logp = (x_d @ lm.unembedding.T).log_softmax(-1)[plan.token]
    logp.backward()
    torch.testing.assert_close(read_d, h_d.grad, rtol=1e-9, atol=1e-12)
    assert value == pytest.approx(logp.item(), rel=1e-9)
    assert float(read_d @ seen["h"]) + bias == pytest.approx(value, rel=1e-9)


def _linear(frozen, plan, logits_TV):
    weight_V, constant = vocabulary_weights(frozen, plan)
    return float(weight_V @ logits_TV[-1]) + constant


@pytest.mark.parametrize(("kind", "token"), TARGETS)
def test_edges_into_the_target_are_interventions_under_freeze(tmp_path, kind, token):
    lm, coders, cell, rep = make(tmp_path, parallel=False, skip=True)
    plan = planned(lm, kind, token)
    graph = trace_graph(rep, cell, plan, 40)
    plain = Plain(lm, coders, graph.frozen.ids)
    base = _linear(graph.frozen, plan, plain.run()[1])
    assert base == pytest.approx(graph.value, rel=1e-9)
    row_S = graph.table.feature_RC[-1]
    for c in range(0, len(row_S), 7):
        k, t, i = (int(x[c]) for x in (graph.chosen.layer_C, graph.chosen.position_C, graph.chosen.feature_C))
        z = [z_TF.clone() for z_TF in plain.z]
        z[k][t, i] = 0.0
        change = base - _linear(graph.frozen, plan, plain.run(z=z)[1])
        assert change == pytest.approx(float(row_S[c]), abs=1e-9 * float(row_S.abs().max()))


def test_a_tokens_effect_is_the_slope_of_the_real_log_probability(tmp_path):
    """The real log-softmax of the responding model, differentiated as one embedding is scaled."""
    lm, coders, cell, rep = make(tmp_path)
    plan = planned(lm, "logprob")
    graph = trace_graph(rep, cell, plan, 40)
    plain = Plain(lm, coders, graph.frozen.ids)
    for t in (0, 5, 11):

        def logp(step, t=t):
            embedding = plain.embedding_Td.clone()
            embedding[t] *= 1 + step
            logits_TV = plain.run(embedding_Td=embedding, respond=True)[1]
            return float(logits_TV[-1].log_softmax(-1)[plan.token])

        slope = (logp(1e-5) - logp(-1e-5)) / 2e-5
        assert slope == pytest.approx(float(graph.effects.token_T[t]), rel=1e-5, abs=1e-8)


def test_a_token_is_named_by_number_or_text(tmp_path):
    lm, _, cell, rep = make(tmp_path)
    number = lm.tokenizer(" FOX")["input_ids"]
    assert len(number) == 1 and len(lm.tokenizer("FOX")["input_ids"]) == 2, "found with a space in front"
    by_text, by_number = planned(lm, "token", "FOX"), planned(lm, "token", number[0])
    assert by_text == by_number == planned(lm, "token", str(number[0]))
    assert "FOX" in by_text.label and LABEL in by_text.label and by_text.answer == ""
    assert by_text.forced == planned(lm, "contrast").forced
    frozen = freeze(rep, by_text.prompt_ids(cell))
    value = target_gradient(frozen, by_text)[2]
    assert value == pytest.approx(float(frozen.logits_V[number[0]] - frozen.logits_V.mean()), rel=1e-9)


@pytest.mark.parametrize(
    ("token", "words"),
    [(None, "no token is given"), ("", "no token is given"), ("99999", "no token 99999"), (-1, "no token")],
)
def test_a_token_that_is_none_is_named(tmp_path, token, words):
    lm = tiny_language(tmp_path)
    with pytest.raises(ScxError, match=words):
        planned(lm, "token", token)


def test_a_text_of_several_tokens_is_shown_cut_into_them(tmp_path):
    lm = tiny_language(tmp_path)
    with pytest.raises(ScxError, match="tokens of this model: “") as found:
        find_token(lm, "XYZXYZXYZ")
    assert "Give the text of one of them" in str(found.value)


@pytest.mark.parametrize("parallel", [True, False])
def test_a_features_read_vector_gives_its_pre_activation(tmp_path, parallel):
    lm, coders, cell, rep = make(tmp_path, parallel=parallel, kind="topk")
    frozen = freeze(rep, cell.ids)
    seen = {}
    hook = lm.part(1, "mlp_norm").register_forward_pre_hook(lambda _m, args: seen.update(h=args[0][0]))
    plain = Plain(lm, coders, cell.ids)
    hook.remove()
    held = frozen.layers[1]
    for n in (0, len(held.feature_N) // 2, len(held.feature_N) - 1):
        t, i = int(held.position_N[n]), int(held.feature_N[n])
        read_d, bias, value = feature_gradient(frozen, 1, t, i)
        assert value == pytest.approx(float(plain.z[1][t, i]), rel=1e-9), "a positive TopK value is its own z"
        assert float(read_d @ seen["h"][t]) + bias == pytest.approx(value, rel=1e-9)
        assert last_active(frozen, 1, i) == max(held.position_N[held.feature_N == i].tolist())


def test_a_feature_that_is_silent_or_absent_is_named(tmp_path):
    _, _, cell, rep = make(tmp_path)
    frozen = freeze(rep, cell.ids)
    held = frozen.layers[0]
    silent = next(i for i in range(48) if i not in set(held.feature_N[held.position_N == 0].tolist()))
    with pytest.raises(ScxError, match="not active at token 0"):
        feature_gradient(frozen, 0, 0, silent)
    never = [i for i in range(48) if i not in set(held.feature_N.tolist())]
    for i in never[:1]:
        with pytest.raises(ScxError, match="not active in this prompt"):
            last_active(frozen, 0, i)
    with pytest.raises(ScxError, match="no layer 3"):
        plan_feature(rep, 3, 0)
    with pytest.raises(ScxError, match="no feature 48"):
        plan_feature(rep, 0, 48)
    plan = plan_feature(rep, 2, 7, 4)
    assert (plan.kind, plan.layer, plan.feature, plan.position, plan.token) == ("feature", 2, 7, 4, None)
    assert plan.prompt_ids(cell) == cell.ids


def test_the_tracer_takes_every_kind_from_its_settings(tmp_path):
    lm = tiny_language(tmp_path, dtype="float32")
    tracer = make_tracer(lm, random_set(lm, "relu", skip=False), renamed_table())
    found = tracer.cell(3, label=LABEL, cfg=TraceConfig(target="logprob"))
    assert found.target.kind == "logprob" and found.target.unit == "nats"
    assert found.scores["probability"] == pytest.approx(2.718281828459045**found.target.value, rel=1e-5)
    assert found.scores["called"] in (0.0, 1.0)
    parts = ("gene_effect", "prompt_effect", "error_effect", "bias_effect")
    assert sum(found.scores[part] for part in parts) == pytest.approx(found.target.value, abs=1e-4)
    token = tracer.cell(3, label=LABEL, cfg=TraceConfig(target="token", token="FOX"))
    assert token.target.kind == "token" and token.provenance["config"]["trace"]["token"] == "FOX"
    likeliest = int(torch.argmax(freeze(tracer.rep, token.token_ids).logits_V))
    best = tracer.cell(3, label=LABEL, cfg=TraceConfig(target="token", token=str(likeliest)))
    assert (
        best.scores["called"] == float(tracer.predict([3]) == [LABEL])
        and best.scores["probability"] >= token.scores["probability"]
    )
