"""The embedded default traced on real cells: accounting on fifty, edges against an implementation apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.cells import open_cells
from scx_core.circuits import ConsensusConfig, TraceConfig, make_tracer
from scx_core.circuits.trace import Graph, trace_graph
from scx_core.language import load_language, predicted, score_labels
from scx_core.transcoders import load_set
from tests.identities.autograd import Frozen

CELLS = 50


@pytest.fixture(scope="module")
def tracer():
    return make_tracer(load_language("embedded", "cpu"), load_set("embedded"), open_cells("embedded"))


def graph_of(tracer, row: int, nodes: int) -> Graph:
    """One cell against all other types, explained as what it is labelled."""
    plan = tracer.plan(str(tracer.table.labels[row]), kind="contrast")
    return trace_graph(tracer.rep, tracer.encode([row])[0], plan, nodes)


def rows_of(tracer, n: int, seed: int) -> np.ndarray:
    """Cells of all types."""
    known = np.flatnonzero(np.isin(tracer.table.labels, tracer.labels))
    return np.sort(np.random.default_rng(seed).choice(known, n, replace=False))


@pytest.mark.slow
def test_accounting_on_fifty_cells(tracer):
    rows = rows_of(tracer, CELLS, seed=0)
    assert len(set(tracer.table.labels[rows].tolist())) >= 8
    for row in rows:
        graph = graph_of(tracer, int(row), 256)
        assert len(graph.table.value_R) == 257
        assert graph.table.max_relative_error() <= 1e-4
        effects = graph.effects
        total = float(effects.token_T.double().sum() + effects.error_LT.double().sum()) + effects.bias
        assert total == pytest.approx(graph.value, rel=1e-4, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("at", range(3))
def test_edges_agree_with_autograd_on_real_cells(tracer, at):
    """Every row of the table over every source, to 1e-4 of the largest edge of its kind."""
    row = int(rows_of(tracer, 3, seed=1)[at])
    graph = graph_of(tracer, row, 48)
    other = Frozen(tracer.lm.model, tracer.rep.transcoders.layers, graph.frozen.ids)
    weight_V = torch.zeros_like(other.logits_V)
    for token, weight in graph.plan.coefficients.items():
        weight_V[token] = weight
    chosen, table = graph.chosen, graph.table
    place = (chosen.layer_C, chosen.position_C, chosen.feature_C)
    wanted = list(zip(*(part.tolist() for part in place), strict=True))
    kept = [(r.z[place], r.error, r.token, r.bias, r.z.abs().sum()) for r in other.rows(wanted, weight_V)]
    feature_RC, error_RLT, token_RT = (torch.stack([row[i] for row in kept]) for i in range(3))
    bias_R = torch.tensor([row[3] for row in kept])
    every_R = torch.stack([row[4] for row in kept])
    rest_abs_R = every_R - feature_RC.abs().sum(1)
    pairs = [
        (table.feature_RC, feature_RC, feature_RC),
        (table.error_RLT, error_RLT, error_RLT),
        (table.token_RT, token_RT, token_RT),
        (table.bias_R, bias_R, bias_R),
        (table.rest_abs_R, rest_abs_R, every_R),
    ]
    for found, own, against in pairs:
        assert float((found - own).abs().max()) <= 1e-4 * float(against.abs().max())
    effects, total = graph.effects, other.total_effects(weight_V)
    assert float((effects.token_T - total.token).abs().max()) <= 1e-4 * float(total.token.abs().max())


@pytest.mark.parametrize("part", [0, 1])
def test_called_is_what_validation_counts_for_all_types(tracer, part):
    """The consensus of each type says how many of its cells the model calls so: as `validate` scores them."""
    assert len(tracer.labels) == 10
    trace, cfg = TraceConfig(nodes=8), ConsensusConfig(cells=4, nodes=8)
    for label in tracer.labels[part::2]:
        rows = tracer.draw(label, cfg)
        scores_BK = score_labels(tracer.lm, tracer.encode(rows), tracer.labels, tracer.lead)
        share = predicted(scores_BK, tracer.labels).count(label) / len(rows)
        found = tracer.consensus(label, trace=trace, cfg=cfg)
        assert found.scores["called"] == share
        assert set(found.target.against) == set(tracer.labels) - {label} and found.target.left_out == ()
