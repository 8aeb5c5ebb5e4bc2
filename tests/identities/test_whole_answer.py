"""The whole answer as a target: the real log-odds of a label, and the laws of method §5, against autograd.

Everything that is expected here comes from Hugging Face's own forward passes over plain sequences of tokens,
and from autograd through them; no code of the tracer.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.attribution.edge_heads import Pair, last_heads, split_edges
from scx_core.attribution.endpoints import Ref
from scx_core.attribution.local_replacement_model import freeze
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import answer_form, plan_target, target_row
from scx_core.circuits.head_tables import edge_weights
from scx_core.circuits.trace import trace_graph
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.interventions import Intervention
from scx_core.language import answers_of
from tests.identities.autograd import Frozen, weighed
from tests.tiny import LABELS, random_set, tiny_cells, tiny_language

LABEL = "CD4+/CD25 T Reg"
CASES = [
    ({"parallel": True}, "jumprelu", True),
    ({"parallel": False}, "relu", True),
    ({"family": "gpt2"}, "topk", False),
    ({"family": "gemma2"}, "relu", True),
]
ACCOUNTING = {"float64": 1e-9, "float32": 1e-4}
EDGES = {"float64": 1e-9, "float32": 1e-4}
NODES = 24

TREE = 1e-7  # relative, of answers read together against one by one


def log_probability(lm, ids, answer):
    """log p of each token of an answer behind a prompt, by one plain forward pass, [n]."""
    with torch.no_grad():
        logits_TV = lm.model(torch.tensor([[*ids, *answer]])).logits[0].double()
    logp_JV = logits_TV.log_softmax(-1)[len(ids) - 1 : -1]
    return logp_JV[torch.arange(len(answer)), torch.tensor(answer)]


def log_odds_of(logits_JV, answers, label, rivals, rest):
    """The log-odds as a function of the logits that decide the label's tokens; what rivals do behind the
    token where they leave is given (`rest`)."""
    logp_JV, own = logits_JV.log_softmax(-1), answers[label]
    scores = []
    for name in rivals:
        at = next(j for j, token in enumerate(answers[name]) if token != own[j])
        path = [logp_JV[j, own[j]] for j in range(at)] + [logp_JV[at, answers[name][at]]]
        scores.append(sum(path) + rest[name])
    whole = sum(logp_JV[j, token] for j, token in enumerate(own))
    return whole - torch.stack(scores).logsumexp(0)


class Traced:
    """A traced prompt, the naive model, and the gradient of the real log-odds in the logits, [J, V]."""

    def __init__(self, folder, model, kind, skip, dtype, against=None) -> None:
        self.lm = tiny_language(folder, layers=3, dtype=dtype, **model)
        coders = random_set(self.lm, kind, skip).to(dtype=self.lm.dtype)
        self.cell, self.rep = tiny_cells(self.lm)[0], replacement(self.lm, coders)
        self.plan = plan_target(self.lm, LABELS, LABEL, lead=" ", against=against, kind="answer")
        self.graph = trace_graph(self.rep, self.cell, self.plan, NODES)
        answers = answers_of(self.lm, LABELS, " ")
        own = answers[LABEL]
        score = {name: log_probability(self.lm, self.cell.ids, answers[name]) for name in LABELS}
        rest = {}
        for name in self.plan.against:
            at = next(j for j, token in enumerate(answers[name]) if token != own[j])
            rest[name] = score[name][at + 1 :].sum()
        self.other = Frozen(self.lm.model, self.rep.transcoders.layers, self.graph.frozen.ids)
        logits_JV = self.other.logits_TV[-len(own) :].detach().double().requires_grad_()
        odds = log_odds_of(logits_JV, answers, LABEL, self.plan.against, rest)
        odds.backward()
        self.weight_JV = logits_JV.grad.to(self.lm.dtype)
        total = {name: score[name].sum() for name in LABELS}
        rivals = torch.stack([total[name] for name in self.plan.against])
        self.log_odds = float(total[LABEL] - rivals.logsumexp(0))
        self.shares = rivals.softmax(0).tolist()
        self.dtype = dtype

    def near(self, found, wanted) -> None:
        largest = float(wanted.abs().max())
        assert largest > 0
        assert float((found.double() - wanted.double()).abs().max()) <= EDGES[self.dtype] * largest


@pytest.fixture(
    scope="module",
    params=[(case, "float64") for case in CASES] + [(case, "float32") for case in CASES[::3]],
    ids=lambda param: f"{param[0][0].get('family') or param[0][0]}-{param[1]}",
)
def traced(request, tmp_path_factory):
    case, dtype = request.param
    return Traced(tmp_path_factory.mktemp("model"), *case, dtype)


def test_the_value_is_the_real_log_odds_of_whole_sequences(traced):
    limit = 1e-9 if traced.dtype == "float64" else 1e-4
    assert traced.graph.value == pytest.approx(traced.log_odds, rel=limit)
    form = traced.graph.form
    assert list(form.share_K) == pytest.approx(traced.shares, rel=limit)
    assert len(form.branches) > 2, "the trie branches at several tokens"
    at = [branch.position for branch in form.branches]
    assert at == sorted(set(at)) and at[-1] == traced.graph.frozen.n_positions - 1


def test_accounting(traced):
    table, effects = traced.graph.table, traced.graph.effects
    assert table.max_relative_error() <= ACCOUNTING[traced.dtype]
    total = float(effects.token_T.double().sum() + effects.error_LT.double().sum()) + effects.bias
    assert total == pytest.approx(traced.graph.value, rel=ACCOUNTING[traced.dtype])


def test_every_edge_and_every_total_effect_is_autograds(traced):
    table, chosen = traced.graph.table, traced.graph.chosen
    at = (chosen.layer_C, chosen.position_C, chosen.feature_C)
    (row,) = traced.other.rows([], traced.weight_JV)
    traced.near(table.feature_RC[-1], row.z[at])
    traced.near(table.error_RLT[-1], row.error)
    traced.near(table.token_RT[-1], row.token)
    rest, rest_abs = row.z.sum() - row.z[at].sum(), row.z.abs().sum() - row.z[at].abs().sum()
    assert float(table.rest_R[-1]) == pytest.approx(float(rest), abs=EDGES[traced.dtype] * float(rest_abs))
    assert float(table.rest_abs_R[-1]) == pytest.approx(float(rest_abs), rel=EDGES[traced.dtype])
    wanted = traced.other.total_effects(traced.weight_JV)
    traced.near(traced.graph.effects.token_T, wanted.token)
    traced.near(traced.graph.effects.error_LT, wanted.error)
    for k, layer in enumerate(traced.graph.frozen.layers):
        traced.near(traced.graph.effects.features[k], wanted.z[k][layer.position_N, layer.feature_N])


def test_removing_a_source_changes_the_target_by_its_edge(traced):
    graph, other = traced.graph, traced.other

    def value(leaves):
        return weighed(traced.weight_JV, other.run_everywhere(leaves)[1])

    base, largest = value(other.leaves), graph.table.feature_RC[-1].abs().max()
    for c in range(0, NODES, 5):
        k, t, i = (int(x[c]) for x in (graph.chosen.layer_C, graph.chosen.position_C, graph.chosen.feature_C))
        leaves = other.leaves._replace(z=[z_TF.clone() for z_TF in other.leaves.z])
        leaves.z[k][t, i] = 0.0
        edge = float(graph.table.feature_RC[-1, c])
        scale = max(float(largest), float(base.abs()))
        assert float(base - value(leaves)) == pytest.approx(edge, abs=EDGES[traced.dtype] * scale)


def test_heads_split_the_edges_into_a_target_of_several_positions(traced):
    graph = traced.graph
    length = graph.frozen.n_positions
    sources = [Ref("embedding", position=t) for t in (0, 5, length - 2)]
    sources += [Ref("error", layer, t) for layer in range(3) for t in (3, length - 3, length - 1)]
    pairs = [Pair(source, Ref("target")) for source in sources]
    weight_E = edge_weights(graph.frozen, pairs, graph.target)
    table = graph.table
    for pair, weight in zip(pairs, weight_E, strict=True):
        source = pair.source
        known = table.token_RT[-1, source.position]
        if source.kind == "error":
            known = table.error_RLT[-1, source.layer, source.position]
        scale = float(table.error_RLT[-1].abs().max())
        assert float(weight) == pytest.approx(float(known), abs=EDGES[traced.dtype] * scale)
    split = split_edges(graph.frozen, pairs, weight_E, graph.target)
    last_ELH = last_heads(graph.frozen, pairs, graph.target)
    scale = float(weight_E.abs().max())
    sums = split.direct_E + last_ELH.sum((1, 2))
    assert float((sums - weight_E).abs().max()) <= 10 * EDGES[traced.dtype] * scale
    assert bool((split.attention_ELH >= 0).all()) and bool((split.attention_ELH <= 1 + 1e-6).all())


def test_one_competitor_at_its_only_branch_is_the_difference_of_two_logits(tmp_path):
    """A against B, which part at one token and then differ in how sure their rest is."""
    one = Traced(tmp_path, {"parallel": True}, "relu", False, "float64", against=["CD4+/CD45RO+ Memory"])
    branches = one.graph.form.branches
    own, rival = one.plan.whole.answer_J, one.plan.whole.rivals_K[0]
    assert branches[0].coefficients == {own[rival.at]: pytest.approx(1.0), rival.token: pytest.approx(-1.0)}
    assert branches[0].expected == 0.0
    assert all(branch.expected == pytest.approx(1.0) for branch in branches[1:])
    assert one.graph.value == pytest.approx(one.log_odds, rel=1e-9)


def test_the_rest_of_competitors_is_measured_once_or_when_it_is_asked_for(tmp_path):
    lm = tiny_language(tmp_path, layers=2, dtype="float64")
    rep, cell = replacement(lm, random_set(lm, "relu", False)), tiny_cells(lm)[1]
    plan = plan_target(lm, LABELS, LABEL, lead=" ", kind="answer")
    frozen = freeze(rep, plan.prompt_ids(cell), plan.n_logits)
    answers = answers_of(lm, LABELS, " ")
    width = max(map(len, answers.values()))
    score_KW = np.zeros((len(plan.against), width))
    for k, name in enumerate(plan.against):
        score_KW[k, : len(answers[name])] = log_probability(lm, cell.ids, answers[name])
    given, asked = answer_form(frozen, plan.in_cell(score_KW)), answer_form(frozen, plan)
    # All answers are read as one tree: other lengths of rows, and other rounding of the attention.
    assert given.value == pytest.approx(asked.value, rel=TREE)
    rows, bias, value = target_row(frozen, plan)
    assert len(rows.position_R) == len(given.branches) and value == asked.value
    stream = bias + float((rows.gradient_Rd * _final(lm, frozen.ids)[rows.position_R]).sum())
    assert stream == pytest.approx(value, rel=1e-9)


def _final(lm, ids):
    seen = {}
    hook = lm.final_norm.register_forward_pre_hook(lambda _m, args: seen.update(h=args[0][0]))
    with torch.no_grad():
        lm.model(torch.tensor([list(ids)]))
    hook.remove()
    return seen["h"]


def test_an_intervention_measures_the_real_log_odds(tmp_path):
    """Errors kept and all features kept: the model itself, so its own log-odds; nothing is linear there."""
    lm = tiny_language(tmp_path, layers=2, dtype="float64")
    coders, cells = random_set(lm, "relu", False).to(dtype=lm.dtype), tiny_cells(lm)
    plan = plan_target(lm, LABELS, LABEL, lead=" ", kind="answer")
    cfg = InterventionConfig(keep_errors=True)
    tried = Intervention(lm, coders, plan, cells[:2], reference_of(lm, coders, plan, cells[2:], cfg), cfg)
    answers = answers_of(lm, LABELS, " ")
    for cell, full in zip(cells[:2], tried.full_B, strict=True):
        score = {name: log_probability(lm, cell.ids, answers[name]).sum() for name in LABELS}
        rivals = torch.stack([score[name] for name in plan.against])
        assert full == pytest.approx(float(score[LABEL] - rivals.logsumexp(0)), rel=TREE)
    everything = np.stack(np.meshgrid(range(2), range(coders.n_features), indexing="ij"), -1).reshape(-1, 2)
    np.testing.assert_allclose(tried.values([everything])[0], tried.full_B, rtol=1e-9)
    gains = tried.gains(everything)
    np.testing.assert_allclose(gains.value_B, tried.full_B, rtol=1e-9)
