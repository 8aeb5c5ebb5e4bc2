"""Connection tables, and pairs of features, against naive loops over the model's own weights."""

from __future__ import annotations

import json

import pytest
import torch

from scx_core.attribution import virtual_weights as module
from scx_core.attribution.virtual_weights import (
    feature_inputs,
    feature_outputs,
    heads_from,
    heads_into,
    token_inputs,
    token_outputs,
)
from scx_core.circuits import make_tracer
from scx_core.circuits.connection_tables import TABLES, LinkConfig, feature_links, gene_starts
from scx_core.errors import ScxError
from tests.tiny import GENES, random_set, renamed_table, tiny_language

FEATURE = 11


@pytest.fixture(scope="module", params=[True, False], ids=["parallel", "sequential"])
def tracer(request, tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"), parallel=request.param, layers=3, dtype="float64")
    return make_tracer(lm, random_set(lm, "jumprelu", skip=False), renamed_table())


def through_norm(norm, read_d: torch.Tensor) -> torch.Tensor:
    """What a vector reads in front of a norm, its 1/σ aside."""
    return norm.weight * read_d - (norm.weight * read_d).mean()


def naive_reads(tracer, layer: int, feature: int = FEATURE) -> dict[tuple[int, int] | None, torch.Tensor]:
    """What the feature reads directly (None) and through each head, from the modules' own weights."""
    facts, blocks = tracer.lm.facts, tracer.lm.model.gpt_neox.layers
    row_d = tracer.transcoders.layers[layer].W_enc_Fd[feature]
    read_d = through_norm(blocks[layer].post_attention_layernorm, row_d)
    reads: dict[tuple[int, int] | None, torch.Tensor] = {None: read_d}
    for m in range(layer if facts.residual == "parallel" else layer + 1):
        attention, k = blocks[m].attention, facts.head_width
        for h in range(facts.n_heads):
            W_O = attention.dense.weight[:, h * k : (h + 1) * k]
            W_V = attention.query_key_value.weight.view(facts.n_heads, 3, k, -1)[h, 2]
            reads[m, h] = through_norm(blocks[m].input_layernorm, W_V.T @ (W_O.T @ read_d))
    return reads


def naive_features(tracer, layer: int) -> dict[tuple, float]:
    """Every connection from an earlier feature, by a loop: (source layer, feature, head or None) → weight."""
    reads, found = naive_reads(tracer, layer), {}
    for k, coder in enumerate(tracer.transcoders.layers[:layer]):
        for i in range(coder.n_features):
            for head, read_d in reads.items():
                if head is None or head[0] > k:
                    found[k, i, head] = float(coder.W_dec_Fd[i] @ read_d)
    return found


def table_of(top, width: int, heads=None) -> list[tuple]:
    rows = []
    for weight, row, column in zip(*(part.tolist() for part in top), strict=True):
        head = None if heads is None else (int(heads.layer_J[column]), int(heads.head_J[column]))
        rows.append(((row // width, row % width, head), weight))
    return rows


@pytest.mark.parametrize("block", [4096, 7])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_earlier_features(tracer, layer, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    wanted, width = naive_features(tracer, layer), tracer.transcoders.n_features
    found = feature_inputs(tracer.rep, layer, FEATURE, n=25)
    heads = heads_into(tracer.rep, layer, FEATURE)
    for direct, top in ((True, found.direct), (False, found.by_head)):
        rows = table_of(top, width, None if direct else heads)
        all_of_them = {key: weight for key, weight in wanted.items() if (key[2] is None) == direct}
        sizes = sorted(map(abs, all_of_them.values()), reverse=True)[:25]
        assert [abs(weight) for _, weight in rows] == pytest.approx(sizes, rel=1e-9)
        assert all(weight == pytest.approx(all_of_them[key], rel=1e-9) for key, weight in rows)


@pytest.mark.parametrize("block", [4096, 10])
def test_tokens_that_it_reads(tracer, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    tokens = list(range(3, 200, 2))
    W_E = tracer.lm.model.gpt_neox.embed_in.weight
    reads = naive_reads(tracer, 1)
    found, heads = token_inputs(tracer.rep, 1, FEATURE, tokens, n=12), heads_into(tracer.rep, 1, FEATURE)
    weights = sorted((abs(float(W_E[token] @ reads[None])) for token in tokens), reverse=True)
    assert found.direct.weight_N.abs().tolist() == pytest.approx(weights[:12], rel=1e-9)
    by_head = [abs(float(W_E[token] @ read_d)) for head, read_d in reads.items() if head for token in tokens]
    assert found.by_head.weight_N.abs().tolist() == pytest.approx(sorted(by_head)[::-1][:12], rel=1e-9)
    weight, row, column = (float(part[0]) for part in found.by_head)
    head = int(heads.layer_J[int(column)]), int(heads.head_J[int(column)])
    assert weight == pytest.approx(float(W_E[tokens[int(row)]] @ reads[head]), rel=1e-9)


def test_tokens_that_it_writes_to(tracer):
    norm, W_U = tracer.lm.final_norm, tracer.lm.unembedding
    dec_d = tracer.transcoders.layers[2].W_dec_Fd[FEATURE]
    wanted = [float(through_norm(norm, W_U[token]) @ dec_d) for token in range(len(W_U))]
    mean = sum(wanted) / len(wanted)
    found = token_outputs(tracer.rep, 2, FEATURE, n=9)
    sizes = sorted((abs(weight - mean) for weight in wanted), reverse=True)[:9]
    assert found.weight_N.abs().tolist() == pytest.approx(sizes, rel=1e-9)
    assert float(found.weight_N[0]) == pytest.approx(wanted[int(found.row_N[0])] - mean, rel=1e-9)


def test_tables_in_words(tracer):
    links = feature_links(tracer, 1, FEATURE, LinkConfig(top=6))
    data = json.loads(json.dumps(links.to_json()))
    # In parallel blocks no head stands between the MLPs of one block and the next.
    parallel = tracer.lm.facts.residual == "parallel"
    none = {"features_by_head", "feeds_by_head"} if parallel else set()
    for name in TABLES:
        sizes = [abs(link.weight) for link in getattr(links, name)]
        assert len(sizes) == (0 if name in none else 6) and sizes == sorted(sizes, reverse=True)
        assert len(data[name]) == len(sizes)
        assert all((link.head is None) == ("head" not in name) for link in getattr(links, name))
    assert all(link.genes and link.n_genes >= len(link.genes) for link in links.genes)
    assert {link.genes for link in links.tokens if link.genes} <= {
        genes[:4] for genes in gene_starts(tracer.lm, GENES.split()).values()
    }
    assert len(links.frame()) == 6 * (len(TABLES) - len(none))


def test_tokens_that_start_genes(tracer):
    symbols = GENES.split()
    starts = gene_starts(tracer.lm, symbols)
    assert sorted(gene for genes in starts.values() for gene in genes) == sorted(symbols)
    for token, genes in starts.items():
        word = tracer.lm.text(token).strip()
        assert word and all(gene.startswith(word) for gene in genes)


def test_mistakes_are_named(tracer):
    for layer, feature, words in ((9, 0, "no layer 9"), (0, 10**6, "no feature")):
        with pytest.raises(ScxError, match=words):
            feature_links(tracer, layer, feature)
    with pytest.raises(ScxError, match="at least 1"):
        LinkConfig(top=0)


@pytest.mark.parametrize("block", [4096, 7])
def test_later_features_are_the_same_connections_seen_from_below(tracer, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    rep, width = tracer.rep, tracer.transcoders.n_features
    found = feature_outputs(rep, 0, FEATURE, n=10_000)
    tables = {
        **dict(table_of(found.direct, width)),
        **dict(table_of(found.by_head, width, heads_from(rep, 0, FEATURE))),
    }
    seen = 0
    for layer in (1, 2):
        for feature in range(0, width, 5):
            above = feature_inputs(rep, layer, feature, n=10_000)
            heads = heads_into(rep, layer, feature)
            for (k, i, head), weight in [
                *table_of(above.direct, width),
                *table_of(above.by_head, width, heads),
            ]:
                if (k, i) == (0, FEATURE):
                    assert tables[layer, feature, head] == pytest.approx(weight, rel=1e-9)
                    seen += 1
    assert seen > 20
    assert len(feature_outputs(rep, 2, FEATURE, n=5).direct.weight_N) == 0
