"""Counts of what was chosen as the largest say so; few donors are told how many are needed."""

from __future__ import annotations

import pytest

from scx_core.circuits.words.wording import CHOSEN, statistics_sentences
from tests.figures.fakes import consensus_circuit


def said(scope: str = "consensus", **record) -> list[str]:
    families = {
        name: {"tested": n, "found": n - 1} for name, n in (("genes", 151), ("features", 83), ("edges", 1908))
    }
    stated = {"families": families, "units": [30], "unit": "cells", "note": "over cells", "smallest_p": 1e-9}
    circuit = consensus_circuit(6)._replace(scope=scope, provenance={"statistics": stated | record})
    return statistics_sentences(circuit)


@pytest.mark.parametrize("scope", ["consensus", "difference"])
def test_features_and_edges_were_chosen_in_these_cells_and_genes_were_not(scope):
    genes, others = said(scope)[:2]
    assert CHOSEN == "chosen as the largest in these same cells; not a test on new cells"
    assert CHOSEN not in genes and genes.startswith("150 of 151 genes")
    assert others.startswith("82 of 83 features and 1,907 of 1,908 edges") and CHOSEN in others
    assert " ".join(said(scope)).count(CHOSEN) == 1, "said once"


def test_what_random_halves_give_stands_beside_each_of_the_two():
    halves = {"mean": 0.25, "tested": 80, "splits": 4, "any": 1, "most": 1}
    families = {
        "features": {"tested": 83, "found": 82, "null_split": halves},
        "edges": {"tested": 9, "found": 8, "null_split": halves | {"mean": 1.5, "tested": 7, "most": 5}},
    }
    (words,) = [
        line for line in said(families=families | {"genes": {"tested": 2, "found": 1}}) if CHOSEN in line
    ]
    assert "0.25 of 80 features (none in 3 of 4 splits, at most 1)" in words
    assert "1.5 of 7 edges (none in 3 of 4 splits, at most 5)" in words


@pytest.mark.parametrize(("donors", "least_t"), [([2], 1920.0), ([2, 2], 1920.0), ([3], 60.0)])
def test_few_donors_are_told_how_many_are_needed(donors, least_t):
    words = said(units=donors, unit="donors", least_t=least_t)[-1]
    n = " and ".join(map(str, donors))
    assert words.startswith(f"{n} donors cannot tell an effect from 0")
    assert "at least 6" in words
    assert "e+0" not in words
    assert not [line for line in said(units=[6], unit="donors", least_t=9.0) if "donors cannot" in line]
