"""The spot check of edges that `scx bench 410m --edges` makes: it agrees, and a wrong edge does not pass."""

from __future__ import annotations

import pytest

from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_target
from scx_core.bench.edge_checks import edge_checks
from scx_core.circuits.trace import trace_graph
from tests.tiny import LABELS, random_set, tiny_cells, tiny_language


def test_edges_agree_with_autograd_and_a_wrong_one_is_seen(tmp_path):
    lm = tiny_language(tmp_path, parallel=True, layers=4, dtype="float64")
    plan = plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
    graph = trace_graph(replacement(lm, random_set(lm, "relu", False)), tiny_cells(lm)[0], plan, 60)
    found = edge_checks(graph, 50)
    assert found.edges == 50 and found.rows > 5 and found.into_target == 1
    assert found.kinds.keys() == {"feature", "error", "token"} and found.kinds["error"] >= 10
    assert found.max_error < 1e-9
    n_features, n_errors = len(graph.chosen.layer_C), len(graph.frozen.layers) * len(graph.frozen.ids)
    kinds = [slice(n_features), slice(n_features, n_features + n_errors), slice(n_features + n_errors, None)]
    for columns in kinds:  # a wrong edge of any kind
        graph.weight_RS[:, columns] *= 1.01
        assert edge_checks(graph, 50).max_own_error == pytest.approx(0.01, rel=1e-6)
        graph.weight_RS[:, columns] /= 1.01
