"""A feature as the target is the row that the feature has as a node, in every block form."""

from __future__ import annotations

import pytest
import torch

from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_feature, plan_target
from scx_core.circuits import TraceConfig, make_tracer
from scx_core.circuits.trace import trace_graph
from scx_core.errors import ScxError
from tests.tiny import LABELS, random_set, renamed_table, tiny_cells, tiny_language


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_a_features_row_and_its_graph_agree(tmp_path, parallel, skip):
    lm = tiny_language(tmp_path, parallel=parallel, layers=3, dtype="float64")
    rep = replacement(lm, random_set(lm, "jumprelu", skip))
    cell = tiny_cells(lm)[0]
    whole = trace_graph(rep, cell, plan_target(lm, LABELS, "Dendritic", lead=" ", kind="contrast"), 10_000)
    place = {
        key: c
        for c, key in enumerate(
            zip(
                *(
                    x.tolist()
                    for x in (whole.chosen.layer_C, whole.chosen.position_C, whole.chosen.feature_C)
                ),
                strict=True,
            )
        )
    }
    checked = 0
    for layer in range(3):
        rows = [key for key in place if key[0] == layer and key[1] < len(cell.ids)]
        for _, position, feature in rows[:: max(1, len(rows) // 3)]:
            graph = trace_graph(rep, cell, plan_feature(rep, layer, feature, position), 10_000)
            row = place[layer, position, feature]
            assert graph.table.max_relative_error() <= 1e-9
            assert graph.value == pytest.approx(float(whole.table.value_R[row]), rel=1e-12)
            total = graph.effects.token_T.sum() + graph.effects.error_LT.sum() + graph.effects.bias
            assert float(total) == pytest.approx(graph.value, rel=1e-9)
            torch.testing.assert_close(graph.table.token_RT[-1], whole.table.token_RT[row, : len(cell.ids)])
            for c in range(len(graph.chosen.layer_C)):
                key = tuple(
                    int(x[c]) for x in (graph.chosen.layer_C, graph.chosen.position_C, graph.chosen.feature_C)
                )
                if key in place:
                    other = float(whole.table.feature_RC[row, place[key]])
                    assert float(graph.table.feature_RC[-1, c]) == pytest.approx(other, abs=1e-12)
                    checked += other != 0
    assert checked > 20


def test_the_tracer_explains_a_feature(tmp_path):
    lm = tiny_language(tmp_path, layers=3)
    tracer = make_tracer(lm, random_set(lm, "relu", skip=False), renamed_table())
    node = next(n for n in tracer.cell(3, label="Dendritic").nodes if n.kind == "feature" and n.layer == 2)
    found = tracer.feature(3, node.layer, node.feature, cfg=TraceConfig(nodes=60))
    assert (found.target.kind, found.target.layer, found.target.feature) == ("feature", 2, node.feature)
    assert found.node("target").position == found.target.position
    assert {n.layer for n in found.nodes if n.kind == "feature"} <= {0, 1}
    assert found.accounting["max_relative_error"] < 1e-4
    assert found.edges
    with pytest.raises(ScxError, match="no layer 9"):
        tracer.feature(3, 9, 0)
