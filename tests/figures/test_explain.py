"""The five sentences are made from the numbers, whatever the names, and say what was not done."""

from __future__ import annotations

import pytest

from scx_core.circuits.circuit import MeasuredMean
from scx_core.figures.explain import explain, in_words
from scx_core.figures.table import gene_table
from tests.figures.fakes import cell_circuit, consensus_circuit, hostile_circuit


def test_the_strongest_genes_are_named_with_their_own_numbers():
    circuit = consensus_circuit(4)
    strongest = max(circuit.genes, key=lambda row: row.effect)
    words = explain(circuit)
    assert len(words) == 5 and strongest.gene in words[0] and f"{circuit.n_cells} cells" in words[0]
    assert "account of the frozen one" in words[4]


def test_what_was_measured_is_said_and_by_which_gene_the_model_loses_most():
    circuit = cell_circuit()
    first, second = circuit.genes[:2]
    genes = (first._replace(gap=MeasuredMean(0.5)), second._replace(gap=MeasuredMean(1.25)))
    words = explain(circuit._replace(genes=(*genes, *circuit.genes[2:])))[4]
    assert "2 genes were taken" in words and second.gene in words and "1.25" in words


def test_the_gene_that_is_lost_most_is_so_over_all_cells_with_its_interval():
    """Of 30 cells one gene is in 16: its mean over those is the larger one, over all cells the smaller."""
    circuit = consensus_circuit(30)
    rare, common, single = circuit.genes[:3]
    genes = (
        rare._replace(n_cells=16, share=16 / 30, gap=MeasuredMean(0.764, 0.5, 1.0, 16, 0.407, 0.25, 0.56)),
        common._replace(n_cells=28, share=28 / 30, gap=MeasuredMean(0.596, 0.3, 0.9, 28, 0.556, 0.3, 0.8)),
        single._replace(n_cells=1, share=1 / 30, gap=MeasuredMean(60.0, None, None, 1, 2.0, -2.0, 6.0)),
    )
    measured = circuit._replace(genes=(*genes, *circuit.genes[3:]))
    words = explain(measured)[4]
    assert f"most without {common.gene}: 0.556" in words and "[0.300, 0.800], n = 28 of 30" in words
    assert f"then {rare.gene}: 0.407" in words and "n = 16 of 30: the intervals overlap" in words
    assert "0.764" not in words and f"without {single.gene}" not in words
    assert "fewer than 3 cells are not ranked" in words
    assert gene_table(measured)["gene"].head(3).tolist() == [common.gene, rare.gene, single.gene]
    older = circuit._replace(genes=(rare._replace(share=0.5, gap=MeasuredMean(0.8, 0.5, 1.0, 15)),))
    assert "0.4" in explain(older)[4] and "no interval" in explain(older)[4]


def test_genes_that_are_not_told_from_0_are_not_named():
    circuit = consensus_circuit(3)
    unsure = tuple(row._replace(q=0.9) for row in circuit.genes)
    assert explain(circuit._replace(genes=unsure))[0].endswith("no gene's effect can be told from 0.")


def test_cells_of_few_donors_are_not_said_to_be_what_was_tested():
    record = {"families": {"genes": {"tested": 422, "found": 0}}, "unit": "donors", "units": [3]}
    record |= {"note": "over 3 donors", "least_t": 101.0, "smallest_p": 1e-9}
    circuit = consensus_circuit(30)._replace(provenance={"statistics": record})
    for words in (explain(circuit)[-1], " ".join(in_words(circuit))):
        assert words.count("Tests and intervals: over 3 donors.") == 1
        assert words.count("3 donors cannot tell an effect from 0") == 1
    by_cells = circuit._replace(provenance={"statistics": record | {"unit": "cells", "note": "over cells"}})
    assert "Tests and intervals" not in explain(by_cells)[-1]


def test_shares_that_are_not_explained_are_the_record_s_own():
    circuit = consensus_circuit(3)
    words = explain(circuit._replace(scores={"error_share": 0.25, "unexplored_share": 0.5}))[2]
    assert "25% of the influence starts at errors" in words and "50% of the influence is outside" in words
    assert "does not say" in explain(circuit._replace(scores={"gene_effect": 1.0}))[2]


@pytest.mark.parametrize("scope", ["cell", "consensus"])
def test_any_names_and_any_record_give_five_lines(scope):
    circuit = hostile_circuit(scope)
    for stated in (None, [], {"families": 3}, {"families": {"genes": {"found": "x", "tested": None}}}):
        words = explain(circuit._replace(provenance={"statistics": stated, "compared": ["\u202ea", "<b>"]}))
        assert len(words) == 5 and all(text and "\n" not in text and "\u202e" not in text for text in words)


@pytest.mark.parametrize("scope", ["consensus", "difference"])
def test_in_words_says_each_count_once(scope):
    family = {"tested": 30, "found": 4}
    stated = {
        "note": "over cells",
        "unit": "cells",
        "smallest_p": 1e-9,
        "units": [6],
        "families": {"genes": family},
    }
    circuit = consensus_circuit(6)._replace(
        scope=scope, provenance={"statistics": stated | {"least_t": None}}
    )
    found = in_words(circuit)
    assert sum("4 of 30 genes" in one for one in found) == 1 and len(set(found)) == len(found)
    assert found[4].startswith("Tested: nothing was taken")
    assert in_words(circuit._replace(provenance={})) == explain(circuit._replace(provenance={}))
