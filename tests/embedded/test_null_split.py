"""Two random halves of one real type do not differ, by the rule that finds two types to differ."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.attribution.target import finished_target
from scx_core.cells import open_cells
from scx_core.circuits import ConsensusConfig, TraceConfig, make_tracer
from scx_core.circuits.difference import difference
from scx_core.language import load_language
from scx_core.statistics.hypothesis_tests import Q
from scx_core.statistics.resampling import Sampling, two_groups
from scx_core.transcoders import load_set


def drawn_weights(sampling: Sampling) -> np.ndarray:
    """The weight of each cell in each draw of a difference of means, [B, C]: the former rule."""
    drawn_BC = sampling.count_BU[:, sampling.unit_C].astype(float)
    for g in range(sampling.n_groups):
        here = sampling.group_C == g
        drawn_BC[:, here] *= (-1) ** g / drawn_BC[:, here].sum(1, keepdims=True)
    return drawn_BC


@pytest.mark.slow
def test_halves_of_a_real_type_do_not_differ_where_they_did():
    tracer = make_tracer(load_language("embedded", "cpu"), load_set("embedded"), open_cells("embedded"))
    label, cfg = "Dendritic", ConsensusConfig(cells=24)
    plan = tracer.plan(label)
    cells = tracer.merged(
        np.random.default_rng(1).permutation(tracer.draw(label, cfg)), plan, TraceConfig(), cfg
    )
    target = finished_target(tracer.lm, plan, None, 0.0)
    options = {"same_set": True, "paired": False, "min_share": cfg.min_share, "seed": 0, "provenance": {}}
    found = difference(("a", "b"), cells[:12], cells[12:], (target, target), **options).difference
    for rows in (found.genes, [node for node in found.nodes if node.q is not None], found.edges):
        assert len(rows) > 20
        assert np.mean([row.q < Q for row in rows]) <= 0.05
    names = sorted({gene for cell in cells for gene in cell.genes})
    effect_CG = np.array([[cell.genes.get(name, (0.0, 0))[0] for name in names] for cell in cells])
    low, high = np.percentile(drawn_weights(two_groups(12, 12, 0)) @ effect_CG, [2.5, 97.5], axis=0)
    assert ((low > 0) | (high < 0)).mean() > 0.03, (
        "the rule of before: an interval for each gene that leaves out 0"
    )
