"""Greedy paths (method §7): exact accounts, contributions against interventions, both residual forms."""

from __future__ import annotations

import json
from collections import defaultdict

import networkx as nx
import pytest
import torch

from scx_core.attribution.endpoints import Ref, parse_ref
from scx_core.attribution.residual_stream import streams
from scx_core.circuits import TraceConfig, make_tracer
from scx_core.circuits.paths import PathConfig, trace_paths
from scx_core.circuits.traced_prompt import prompt_of_row
from scx_core.errors import ScxError
from tests.identities.plain import Plain
from tests.tiny import random_set, renamed_table, tiny_language

FORMS = [(parallel, skip) for parallel in (True, False) for skip in (False, True)]
NAMES = ["parallel", "parallel skip", "sequential", "sequential skip"]
LABEL = "CD4+/CD25 T Reg"


def make(folder, parallel: bool, skip: bool, dtype: str = "float64"):
    lm = tiny_language(folder, parallel=parallel, layers=3, dtype=dtype)
    return make_tracer(lm, random_set(lm, "jumprelu", skip=skip), renamed_table())


@pytest.fixture(scope="module", params=FORMS, ids=NAMES)
def tracer(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("model"), *request.param)


@pytest.fixture(scope="module")
def prompt(tracer):
    return prompt_of_row(tracer, 2, LABEL, trace=TraceConfig(target="contrast"))


def a_feature(prompt, layer: int = 2, nth: int = 20) -> Ref:
    f = prompt.frozen.layers[layer]
    return Ref("feature", layer, int(f.position_N[nth]), int(f.feature_N[nth]))


def test_the_stream_of_the_frozen_model_is_the_models_own(tracer, prompt):
    plain = Plain(tracer.lm, tracer.transcoders, prompt.frozen.ids)
    seen = []
    blocks = tracer.lm.model.gpt_neox.layers
    handles = [block.register_forward_pre_hook(lambda _m, args: seen.append(args[0][0])) for block in blocks]
    with torch.no_grad():
        tracer.lm.model(plain.ids)
    for handle in handles:
        handle.remove()
    for stream, into_Td in zip(streams(prompt.frozen), seen, strict=True):
        torch.testing.assert_close(stream.into_Td, into_Td, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cfg", [PathConfig(1, 1), PathConfig(5, 3), PathConfig(40, 12)], ids=str)
def test_every_step_and_the_whole_add_up(tracer, prompt, cfg):
    several = prompt_of_row(tracer, 2, LABEL, trace=TraceConfig(target="answer"))
    assert len(several.target.position_R) > 2
    for at, start in ((prompt, Ref("target")), (prompt, a_feature(prompt)), (several, Ref("target"))):
        found = trace_paths(at, start, cfg)
        account = found.account()
        assert account.max_relative_error <= 1e-9
        parts = account.explained + account.pruned + account.error + account.bias
        assert parts == pytest.approx(account.value, rel=1e-9)
        kept, children = defaultdict(float), defaultdict(int)
        for step in found.steps[1:]:
            kept[step.parent] += step.contribution
            children[step.depth] += 1
        assert max(children.values()) <= cfg.branches and max(children) <= cfg.depth
        for i, step in enumerate(found.steps):
            assert step.kept == pytest.approx(kept[i], rel=1e-9, abs=1e-12)
            assert step.open == (step.depth == cfg.depth and step.kind != "embedding")


def test_the_start_is_the_models_own_number(tracer, prompt):
    plain = Plain(tracer.lm, tracer.transcoders, prompt.frozen.ids)
    plan = tracer.plan(LABEL, kind="contrast")
    value = sum(weight * float(plain.logits_TV[-1, token]) for token, weight in plan.coefficients.items())
    assert trace_paths(prompt).account().value == pytest.approx(value, rel=1e-9)
    feature = a_feature(prompt)
    pre = plain.run()[0][feature.layer][feature.position, feature.feature]
    assert trace_paths(prompt, feature).account().value == pytest.approx(float(pre), rel=1e-6)


def test_without_pruning_and_depth_limit_only_errors_and_biases_are_unexplained(prompt):
    """A start low enough that all of its paths can be kept."""
    start = a_feature(prompt, layer=1, nth=3)
    account = trace_paths(prompt, start, PathConfig(branches=20_000, depth=20)).account()
    assert account.open == 0.0
    assert account.pruned == pytest.approx(0.0, abs=1e-9 * abs(account.value))


def test_first_steps_are_the_models_own_writes(tracer, prompt):
    """A candidate of the target is what a feature, a head or the embedding writes, read by the target."""
    plain = Plain(tracer.lm, tracer.transcoders, prompt.frozen.ids)
    facts, read_d = tracer.lm.facts, prompt.target.gradient_Rd[0]
    stream = streams(prompt.frozen)
    found = trace_paths(prompt, cfg=PathConfig(branches=60, depth=1))
    kinds = set()
    for step in found.steps[1:]:
        kinds.add(step.kind)
        if step.kind == "feature":
            write_d = plain.z[step.layer][-1, step.feature] * plain.coders[step.layer].W_dec_Fd[step.feature]
            assert step.activation == pytest.approx(float(plain.z[step.layer][-1, step.feature]), rel=1e-9)
        elif step.kind == "head":
            block = plain.model.layers[step.layer]
            key = (step.layer, "input_layernorm")
            x_Td = plain._norm(block.input_layernorm, key, stream[step.layer].into_Td)
            qkv = block.attention.query_key_value(x_Td).view(len(x_Td), facts.n_heads, 3 * facts.head_width)
            value_k = qkv[step.position, step.head, 2 * facts.head_width :]
            columns = slice(step.head * facts.head_width, (step.head + 1) * facts.head_width)
            weight = plain.patterns[step.layer][step.head, -1, step.position]
            assert step.activation == pytest.approx(float(weight), rel=1e-9)
            write_d = weight * block.attention.dense.weight[:, columns] @ value_k
        elif step.kind == "embedding":
            write_d = plain.embedding_Td[-1]
        else:
            coder = plain.coders[step.layer]
            key = (step.layer, "post_attention_layernorm")
            reads_Td = stream[step.layer].mlp_reads_Td
            norm = plain.model.layers[step.layer].post_attention_layernorm
            shift_d = norm.bias  # goes to the biases
            write_d = coder.W_skip_dd @ (plain._norm(norm, key, reads_Td)[-1] - shift_d)
        assert step.contribution == pytest.approx(float(write_d @ read_d), rel=1e-8, abs=1e-10)
    assert {"feature", "head"} <= kinds


def test_a_step_through_a_feature_is_its_share_of_the_whole(tracer, prompt):
    """Chain rule: under a feature step, contributions are those of the feature alone, scaled."""
    cfg = PathConfig(branches=3000, depth=2)
    deep = trace_paths(prompt, cfg=cfg).steps
    features = [i for i, step in enumerate(deep) if step.kind == "feature" and step.depth == 1]
    first = max(features, key=lambda i: abs(deep[i].contribution))
    alone = trace_paths(prompt, parse_ref(deep[first].id, prompt.frozen), cfg)
    scale = deep[first].contribution / alone.account().value
    parts = {step.id: step.contribution for step in alone.steps if step.depth == 1}
    under = [step for step in deep if step.parent == first]
    assert len(under) > 3
    for step in under:
        assert step.contribution == pytest.approx(scale * parts[step.id], rel=1e-6)


def test_heads_of_the_same_block_feed_a_feature_only_in_a_sequential_model(tracer, prompt):
    found = trace_paths(prompt, a_feature(prompt), PathConfig(branches=5000, depth=1))
    heads = {step.layer for step in found.steps if step.kind == "head"}
    assert heads == ({0, 1} if tracer.rep.parallel else {0, 1, 2})
    assert {step.layer for step in found.steps[1:] if step.kind == "feature"} <= {0, 1}


def test_merged_paths_keep_the_account(prompt):
    found = trace_paths(prompt, cfg=PathConfig(branches=40, depth=6))
    graph, account = found.subgraph(), found.account()
    assert len(graph) < len(found.steps), "some steps are shared"
    assert nx.is_directed_acyclic_graph(graph)
    nodes = dict(graph.nodes(data=True))
    assert nodes["target"]["contribution"] == pytest.approx(account.value)
    for name, node in nodes.items():
        if node["kind"] != "embedding":
            into = sum(weight for _, _, weight in graph.in_edges(name, data="weight"))
            parts = into + node["pruned"] + node["error"] + node["bias"] + node["open"]
            assert parts == pytest.approx(node["contribution"], rel=1e-9, abs=1e-12)
    assert sum(node["open"] for node in nodes.values()) == pytest.approx(account.open)


def test_paths_in_words(tracer, prompt):
    found = trace_paths(prompt, cfg=PathConfig(branches=60, depth=8))
    chains = found.chains()
    sizes = [abs(chain[-1].contribution) for chain in chains]
    assert sizes == sorted(sizes, reverse=True)
    assert all(chain[0].id == "target" for chain in chains)
    explained = sum(chain[-1].contribution for chain in chains)
    assert explained == pytest.approx(found.account().explained, rel=1e-9)
    genes = found.genes()
    ends = [s for s in found.steps if s.kind == "embedding"]
    assert genes["contribution"].sum() == pytest.approx(sum(s.contribution for s in ends if s.gene))
    cell = tracer.encode([2])[0]
    assert {s.gene for s in ends if s.gene} <= set(cell.genes)
    assert all(s.gene == cell.gene_at()[s.position] for s in ends if s.position < len(cell.ids))
    data = json.loads(json.dumps(found.to_json()))
    assert len(data["steps"]) == len(found.frame()) == len(found.steps)
    assert data["account"]["value"] == found.account().value and data["provenance"]["cell"]["row"] == 2


def test_the_same_input_gives_the_same_paths(prompt):
    cfg = PathConfig(branches=20, depth=5)
    assert trace_paths(prompt, cfg=cfg).steps == trace_paths(prompt, cfg=cfg).steps


def test_single_precision_accounts_to_its_own_rounding(tmp_path):
    prompt = prompt_of_row(make(tmp_path, True, True, "float32"), 2, LABEL)
    account = trace_paths(prompt, cfg=PathConfig(branches=30, depth=6)).account()
    parts = account.explained + account.pruned + account.error + account.bias
    assert parts == pytest.approx(account.value, rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_other_families_account_as_well(tmp_path, family):
    """Grouped-query attention, norms without centring, norms behind the branches, capped logits."""
    lm = tiny_language(tmp_path, family=family, layers=3, dtype="float64")
    tracer = make_tracer(lm, random_set(lm, "topk", skip=True), renamed_table())
    account = trace_paths(prompt_of_row(tracer, 2, LABEL), cfg=PathConfig(branches=30, depth=7)).account()
    assert account.max_relative_error <= 1e-9
    parts = account.explained + account.pruned + account.error + account.bias
    assert parts == pytest.approx(account.value, rel=1e-9)


def test_mistakes_are_named(prompt):
    with pytest.raises(ScxError, match="not active"):
        trace_paths(prompt, Ref("feature", 0, 0, 10**6))
    with pytest.raises(ScxError, match="at least 1"):
        PathConfig(branches=0)
