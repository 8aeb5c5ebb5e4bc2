"""Rankings beside each other: each against another implementation, and the joint knock-out measured again."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scx_core.cells.differential import differential_genes, moments, t_scores, wilcoxon_scores
from scx_core.circuits import make_tracer
from scx_core.claims.of_effects import ranking_claims
from scx_core.errors import ScxError
from scx_core.evidence.rankings import rankings
from scx_core.evidence.rankings.rankers import gradient_times_input, linear_tracer, mean_places, rank_matched
from scx_core.evidence.rankings.rankings import (
    Ranked,
    RankingConfig,
    rank_genes_of,
    ranking_tables,
    split_halves,
)
from scx_core.runs.files import to_json_text
from scx_core.statistics.hypothesis_tests import p_values
from scx_core.statistics.resampling import MeanInterval, mean_interval, one_group
from scx_core.validation.baselines import linear_maps
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "Dendritic"
CFG = RankingConfig(genes=3, cells=3, measured=4, least=6, draws=2)
NAMES = ("name", "organism", "fingerprint", "n_cells", "n_genes", "symbols", "labels", "types", "rows")


def table_of(n_cells: int = 60, donors: np.ndarray | None = None) -> SimpleNamespace:
    table = tiny_table(n_cells)
    return SimpleNamespace(
        **{name: getattr(table, name) for name in NAMES},
        cell_ids=table.cell_ids,
        values_kind="counts",
        donors=donors,
        answer_of={label: label for label in table.types},
        answers=table.labels,
    )


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), table_of())


@pytest.fixture(scope="module")
def found(tracer):
    return rank_genes_of(tracer, [LABEL, "CD19+ B"], CFG)


@pytest.mark.parametrize("method", ["t-test", "wilcoxon"])
def test_differential_expression_is_scanpys(method):
    anndata, sc = pytest.importorskip("anndata"), pytest.importorskip("scanpy")
    table = table_of()
    counts = table.rows(np.arange(table.n_cells)).toarray()
    data = anndata.AnnData(np.log1p(1e4 * counts / counts.sum(1, keepdims=True)))
    data.obs["type"] = [str(label) for label in table.labels]
    sc.tl.rank_genes_groups(data, "type", groups=[LABEL], reference="rest", method=method)
    theirs = data.uns["rank_genes_groups"]
    score_G = np.zeros(table.n_genes)
    score_G[theirs["names"][LABEL].astype(int)] = np.nan_to_num(theirs["scores"][LABEL])
    own, others = (np.flatnonzero((table.labels == LABEL) == wanted) for wanted in (True, False))
    ours = (
        t_scores(moments(table, own), moments(table, others))
        if method == "t-test"
        else wilcoxon_scores(table, own, others)
    )
    np.testing.assert_allclose(ours, score_G, rtol=2e-3, atol=2e-3)
    assert method == "wilcoxon" or differential_genes(table, LABEL, 3) == [
        str(table.symbols[g]) for g in np.argsort(-score_G, kind="stable")[:3]
    ]


def test_no_cell_and_no_donor_is_on_both_sides():
    table = table_of(60, np.array([f"donor{row % 7}" for row in range(60)], dtype=object))
    first, second, left_out = split_halves(table, CFG)
    assert set(first) == set(table.types) and not left_out
    for label in first:
        assert len(first[label]) and len(second[label])
        assert set(table.labels[np.concatenate([first[label], second[label]])]) == {label}
        assert not set(table.donors[first[label]]) & set(table.donors[second[label]])
    assert split_halves(table, RankingConfig(least=13))[2] == dict.fromkeys(table.types, 12)


def test_whole_donors_are_drawn():
    """Cells that only repeat their donor: the interval is that of so few donors, not of so many cells."""
    donors = np.repeat(np.array(list("abcd"), dtype=object), 25)
    value_C = np.repeat([0.0, 1.0, 2.0, 3.0], 25)
    by_donor, by_cell = one_group(100, 0, donors), one_group(100, 0)
    assert (by_donor.kind, by_donor.units_G, by_cell.kind, by_cell.units_G) == (
        "donors",
        (4,),
        "cells",
        (100,),
    )
    wide, narrow = mean_interval(value_C, by_donor), mean_interval(value_C, by_cell)
    assert wide.mean == pytest.approx(1.5) and narrow.mean == pytest.approx(1.5)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    p_donor, p_cell = (float(p_values(one, value_C[:, None])[0]) for one in (by_donor, by_cell))
    assert p_donor > 0.05 > p_cell


@pytest.mark.parametrize("kind", ["contrast", "answer"])
def test_gradient_times_input_is_the_derivative_along_each_genes_embedding(tracer, kind):
    """Against a finite difference: the embeddings of one gene's tokens, 1% longer and 1% shorter."""
    lm, plan = tracer.lm, tracer.plan(LABEL, kind=kind)
    cells = tracer.encode([0, 3])
    found = gradient_times_input(lm, plan, cells)
    from scx_core.evidence.interventions import rest_of, target_values

    for cell, effects in zip(cells, found, strict=True):
        ids = torch.tensor([plan.prompt_ids(cell)])
        x_Td = lm.model.get_input_embeddings()(ids)
        span = cell.spans[1]
        values = []
        for step in (1e-2, -1e-2):
            moved = x_Td.clone()
            moved[:, span.start : span.end] *= 1 + step
            with torch.no_grad():
                logits_1JV = lm.model(inputs_embeds=moved).logits[:, -plan.n_logits :]
            values.append(float(target_values(logits_1JV, plan, rest_of(lm, plan, [cell]))[0]))
        assert effects[span.gene] == pytest.approx((values[0] - values[1]) / 2e-2, rel=2e-3, abs=1e-4)
        assert set(effects) == set(cell.genes)


def test_linear_maps_are_traced_as_transcoders_without_features(tracer):
    """The set is the fitted maps, and frozen attribution through it has nothing but paths through them."""
    rows = np.arange(12)
    maps = linear_maps(tracer.lm, tracer.table, rows)
    linear = linear_tracer(tracer, rows)
    coders = linear.transcoders
    x_Nd = torch.randn(5, coders.width, dtype=tracer.lm.dtype, generator=torch.Generator().manual_seed(0))
    for coder, one in zip(coders.layers, maps, strict=True):
        torch.testing.assert_close(coder(x_Nd), one(x_Nd))
        assert not len(coder.active(x_Nd).value_N)
    circuit = linear.cell(3, label=LABEL)
    assert not [node for node in circuit.nodes if node.kind == "feature"]
    assert circuit.accounting["max_relative_error"] < 1e-6


def test_random_genes_stand_where_the_circuits_do():
    places = {f"g{place}": float(place) for place in range(1, 101)}
    drawn = rank_matched(places, ["g1", "g50", "g100"], np.random.default_rng(0), near=6)
    assert len(set(drawn)) == 3 and not {"g1", "g50", "g100"} & set(drawn)
    for gene, wanted in zip(drawn, (1, 50, 100), strict=True):
        assert abs(places[gene] - wanted) <= 6
    assert mean_places([["a", "b"], ["b"]], 4) == {"a": 3.0, "b": 1.5}


def test_a_joint_knock_out_is_what_the_model_says_to_the_shortened_sentence(tracer, found):
    """Drops measured again by plain forward passes over the texts, answer by answer."""
    held = found.types[0]
    one = held.of("circuit")
    _, second, _ = split_halves(tracer.table, CFG)
    rows = second[LABEL][: CFG.measured]
    assert (held.label, held.n, held.n_ranked) == (LABEL, 4, 6)
    drops = []
    for row in rows:
        odds = []
        for without in (set(), set(one.genes)):
            counts = tracer.table.rows([row]).toarray()[0]
            order = tracer.encode([row])[0].genes if not without else None
            if order is None:
                from scx_core.sentences import gene_sentences

                cfg = tracer.lm.sentence_config
                everything = gene_sentences(tracer.table, [row], int((counts > 0).sum()), cfg.tie_seed)[0]
                order = [gene for gene in everything if gene not in without][: cfg.n_genes]
            odds.append(_log_odds(tracer, order, held.answer))
        drops.append(odds[0] - odds[1])
    assert one.drop.mean == pytest.approx(np.mean(drops), abs=1e-5)
    assert one.drop.low <= one.drop.mean <= one.drop.high


def _log_odds(tracer, genes: list[str], answer: str) -> float:
    lm = tracer.lm
    before, after = lm.prompt.parts(num_genes=lm.sentence_config.n_genes, organism=tracer.table.organism)
    scores = []
    for label in tracer.labels:
        prompt = lm.tokenizer(before + " ".join(genes) + after, add_special_tokens=False)["input_ids"]
        said = lm.tokenizer(f"{tracer.lead}{label}.", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logp = lm.model(torch.tensor([prompt + said])).logits[0].log_softmax(-1)
        scores.append(sum(float(logp[len(prompt) - 1 + i, token]) for i, token in enumerate(said)))
    own = tracer.labels.index(answer)
    others = torch.tensor([score for k, score in enumerate(scores) if k != own])
    return scores[own] - float(others.logsumexp(0))


def test_every_ranking_has_its_figures_and_the_circuit_its_rivals(tracer, found):
    for held in found.types:
        names = [one.name for one in held.rankings]
        assert names[0] == "circuit" and {
            "gradient",
            "linear",
            "attention",
            "rollout",
            "pca",
            "t-test",
            "expression",
            "random",
        } <= set(names)
        for one in held.rankings:
            assert len(one.genes) <= 3 and np.isfinite(one.drop).all()
            assert (one.ahead is None) == (one.name == "circuit") == (one.q is None)
            if one.ahead is not None:
                assert one.ahead.mean == pytest.approx(held.of("circuit").drop.mean - one.drop.mean)
                assert one.q >= one.p
        assert held.of("circuit").markers is not None and held.of("random").markers is None
    again = rank_genes_of(tracer, [LABEL, "CD19+ B"], CFG)
    assert again.to_json() == found.to_json()
    text = ranking_tables(found.to_json())
    assert "gradient × input" in text and "Known markers among the 3 strongest genes" in text
    assert ranking_tables(found.to_json(), as_markdown=True).count("| Dendritic |") == 6


def test_what_cannot_be_ranked_is_said(tracer):
    with pytest.raises(ScxError, match="12 cells: too few"):
        rank_genes_of(tracer, [LABEL], RankingConfig(least=13))
    with pytest.raises(ScxError, match="no cell of the type 'Neutrophil'"):
        rank_genes_of(tracer, ["Neutrophil"], CFG)


def test_every_claim_has_its_rival_and_holds_only_where_the_circuit_is_ahead(found):
    claims = ranking_claims(found)
    knocked = [claim for claim in claims if claim.interval is not None]
    assert len(knocked) == sum(len(held.rankings) - 1 for held in found.types)
    for claim in knocked:
        held = next(one for one in found.types if one.answer in claim.sentence)
        rival = next(one for one in held.rankings if one.words == claim.beside)
        assert (claim.figure, claim.baseline) == (held.of("circuit").drop.mean, rival.drop.mean)
        assert claim.holds == (rival.q < 0.05 and rival.ahead.mean > 0) and claim.n == held.n
    counted = [claim for claim in claims if claim.interval is None]
    assert len(counted) == 4 and all(claim.holds == (claim.figure > claim.baseline) for claim in counted)
    certain = MeanInterval(1.0, 0.9, 1.1)
    ahead = Ranked("t-test", "DE", (), None, 0.0, certain, certain, 0.001, 0.01)
    assert (ahead.verdict, ahead._replace(q=0.2).verdict) == ("circuit", "same")
    assert ahead._replace(ahead=MeanInterval(-1.0, -1.1, -0.9)).verdict == "rival"


def test_each_type_is_kept_as_it_ends_and_not_measured_again(tracer, monkeypatch, tmp_path):
    """Stopped, or out of memory, in the second type: the first is there."""
    saved = replace(tracer, transcoders=replace(tracer.transcoders, fingerprint="a saved set"))
    kept = {"cfg": CFG, "kept": True, "runs": tmp_path}
    asked, measure = [], rankings._type_rankings

    def one(*parts):
        asked.append(parts[2])
        if len(asked) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return measure(*parts)

    monkeypatch.setattr(rankings, "_type_rankings", one)
    types = [LABEL, "CD19+ B"]
    with pytest.raises(torch.OutOfMemoryError):
        rank_genes_of(saved, types, **kept)
    again = rank_genes_of(saved, types, **kept)
    assert asked == [LABEL, "CD19+ B", "CD19+ B"]
    plain = rank_genes_of(saved, types, CFG)
    assert to_json_text(again.to_json()) == to_json_text(plain.to_json())
    rank_genes_of(saved, [LABEL], **kept, again=True)
    rank_genes_of(saved, [LABEL], **(kept | {"cfg": replace(CFG, genes=2)}))
    assert asked[5:] == [LABEL, LABEL]
