"""Known markers of a circuit are counted beside those of rankings without a model, and never shown alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from scx_core.cells import known_markers, shared_markers
from scx_core.cells.differential import moments, pooled
from scx_core.circuits import ConsensusConfig, make_tracer
from scx_core.circuits.marker_counts import KEY, MarkerCounts, count_words, counts_of
from scx_core.figures import View, sentence_html, simplify
from scx_core.sentences import gene_sentences
from tests.figures.fakes import B_CELL, consensus_circuit
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "CD19+ B"
COUNTS = MarkerCounts(LABEL, 10, 33, 7, 4, 6, 30, 95, 605, 6, 3, 6)


def test_the_counts_are_those_of_three_rankings(tmp_path):
    lm, table = tiny_language(tmp_path), tiny_table(40)
    found = make_tracer(lm, random_set(lm, "jumprelu", skip=True), table).consensus(
        LABEL, cfg=ConsensusConfig(cells=5)
    )
    counts, known = counts_of(found), known_markers(LABEL).genes
    assert (counts.cells, counts.type_cells, counts.other_cells, counts.listed) == (5, 8, 32, len(known))
    top = [gene.gene for gene in found.genes if gene.effect > 0][:10]
    assert counts.circuit == len(known & set(top))
    assert counts.circuit_shared == len(shared_markers(LABEL) & set(top)) <= counts.circuit
    x_CG = table.rows(np.arange(40)).toarray()
    x_CG = np.log1p(1e4 * x_CG / x_CG.sum(1, keepdims=True))
    mine = table.labels == LABEL
    score_G = np.nan_to_num(ttest_ind(x_CG[mine], x_CG[~mine], equal_var=False).statistic)
    by_t = table.symbols[np.argsort(-score_G, kind="stable")[:10]][np.sort(score_G)[::-1][:10] > 0]
    assert counts.differential_expression == len(known & set(by_t))
    n_genes, rows = lm.sentence_config.n_genes, found.provenance["cells"]
    sentences = gene_sentences(table, rows, n_genes, lm.sentence_config.tie_seed)
    place = {
        gene: np.mean([s.index(gene) + 1 if gene in s else n_genes + 1 for s in sentences])
        for gene in {gene for s in sentences for gene in s}
    }
    highest = sorted(place, key=lambda gene: (round(place[gene], 9), gene))[:10]
    assert counts.highest_expression == len(known & set(highest))


def test_groups_pooled_are_the_group():
    table = tiny_table(40)
    parts = [moments(table, np.arange(a, b)) for a, b in ((0, 7), (7, 25), (25, 40))]
    whole = moments(table, np.arange(40))
    for one, other in zip(pooled(parts), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_counts_of_an_older_file_are_read_and_say_nothing_of_shared_ones():
    older = dict(list(COUNTS._asdict().items())[:-3])
    found = counts_of(consensus_circuit()._replace(provenance={KEY: older}))
    assert found.circuit == 7 and found.circuit_shared is None and "other types" not in count_words(found)


def test_where_markers_are_marked_their_rivals_counts_stand():
    circuit = consensus_circuit()
    words = "7 of the circuit, 4 by differential expression, 6 of the highest expressed"
    assert words in count_words(COUNTS)
    assert "of these 6, 3 and 6 mark other types as well; 10 genes a ranking, so no interval" in count_words(
        COUNTS
    )
    bare = simplify(circuit, View(), markers=frozenset(B_CELL))
    assert not any("differential" in note for note in bare.notes)
    counted = circuit._replace(provenance=circuit.provenance | {KEY: COUNTS._asdict()})
    drawing = simplify(counted, View(), markers=frozenset(B_CELL))
    assert any(words in note and "n = 30; 95 against 605" in note for note in drawing.notes)
    assert words in sentence_html(counted, markers=frozenset(B_CELL))
    assert words not in sentence_html(counted), "no star, no counts"


@pytest.mark.parametrize(
    "held",
    [
        None,
        "7",
        {},
        COUNTS._asdict() | {"circuit_shared": "7"},
        COUNTS._asdict() | {"circuit": "7"},
        COUNTS._asdict() | {"cells": -1},
        {"circuit": 7},
    ],
)
def test_counts_from_a_file_are_looked_at(held):
    circuit = consensus_circuit()
    assert counts_of(circuit._replace(provenance={KEY: held})) is None
