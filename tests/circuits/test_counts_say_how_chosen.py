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
    genes, features, edges = said(scope)[:3]
    assert CHOSEN == "chosen as the largest in these same cells; not a test on new cells"
    assert CHOSEN not in genes
    assert features.startswith("82 of 83 features") and CHOSEN in features
    assert edges.startswith("1,907 of 1,908 edges") and CHOSEN in edges


@pytest.mark.parametrize(("donors", "least_t"), [([2], 1920.0), ([2, 2], 1920.0), ([3], 60.0)])
def test_few_donors_are_told_how_many_are_needed(donors, least_t):
    words = said(units=donors, unit="donors", least_t=least_t)[-1]
    n = " and ".join(map(str, donors))
    assert words.startswith(f"{n} donors cannot tell an effect from 0")
    assert "at least 6" in words
    assert "e+0" not in words
    assert not [line for line in said(units=[6], unit="donors", least_t=9.0) if "donors cannot" in line]
