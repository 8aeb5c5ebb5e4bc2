"""Claims hold where the test says so, and carry both sides' names."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from scx_core.circuits.difference import difference
from scx_core.circuits.stability import TieStability, jaccard, tie_stability, with_ties
from scx_core.claims.of_circuits import consensus_claims, difference_claims, tie_claims
from scx_core.sentences import Ties
from tests.statistics.test_resampling import TARGET, cells


def found_between(shift: float):
    options = {"same_set": True, "paired": False, "min_share": 0.3, "seed": 0, "provenance": {}}
    first, second = cells(12, 0, shift, 60), cells(12, 1, 0.0, 60)
    return difference(("NK", "B"), first, second, (TARGET, TARGET), **options)


def test_a_difference_that_is_there_holds_and_one_that_is_not_does_not():
    claims = difference_claims(found_between(3.0))
    assert [claim.holds for claim in claims[:13]] == [True] * 13
    assert claims[0].baseline < 0.05 < claims[0].figure
    assert all("more to the answer in NK than in B" in claim.sentence for claim in claims[3:13])
    for claim in claims[3:13]:
        assert claim.interval[0] <= claim.figure <= claim.interval[1]
    nothing = difference_claims(found_between(0.0))
    assert not any(claim.holds for claim in nothing)
    json.dumps([claim.to_json() for claim in claims], allow_nan=False)


def test_a_consensus_says_which_genes_are_told_from_nothing():
    first = found_between(3.0).first
    claims = consensus_claims(first)
    assert [claim.holds for claim in claims] == [*[True] * 11, False]
    assert "donors" in claims[-1].sentence
    weak = first._replace(genes=tuple(gene._replace(q=0.2) for gene in first.genes))
    assert not any(claim.holds for claim in consensus_claims(weak))


def test_ties_are_beside_halves_of_the_cells():
    ties = Ties(0.27, 0.26, 0.28, 0.95, 700)
    stable = TieStability({10: (0.95, 0.9)}, {10: (0.7, 0.6)}, {}, 30)
    member, top = tie_claims(ties, stable)
    assert not member.holds
    assert (top.figure, top.baseline, top.holds) == (0.95, 0.7, True)
    assert not tie_claims(ties, stable._replace(jaccard={10: (0.6, 0.5)}))[1].holds
    assert jaccard(["A", "B"], ["B", "C"]) == 1 / 3


def test_tie_orders_are_traced(tracer):
    rows = np.flatnonzero(tracer.table.labels == "CD19+ B")[:3]
    found = tie_stability(tracer, "CD19+ B", rows, seeds=(0, 1), tops=(5,))
    assert found.n_cells == len(rows)
    assert with_ties(tracer, 7).lm.sentence_config == replace(tracer.lm.sentence_config, tie_seed=7)
    assert 0 <= found.jaccard[5][1] <= found.jaccard[5][0] <= 1
    again = tie_stability(tracer, "CD19+ B", rows, seeds=(0, 0), tops=(5,))
    assert again.jaccard[5] == (1.0, 1.0)
