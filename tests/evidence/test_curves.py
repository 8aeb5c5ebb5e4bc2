"""Sufficiency and necessity curves on a tiny random model: what is reported was measured, areas are areas."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.circuits import ConsensusConfig, make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.curve_tables import curve_tables
from scx_core.evidence.curves import (
    CurvesConfig,
    area_weights,
    curves_of,
    full_order,
    sizes_of,
    with_q,
)
from scx_core.evidence.interventions import Intervention
from scx_core.evidence.smallest.faithfulness import matched_orders, matched_sets
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "Dendritic"
CFG = CurvesConfig(circuit_cells=4, measured=4, reference_cells=6, draws=2, orders=1)


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(40))


@pytest.fixture(scope="module")
def found(tracer):
    return curves_of(tracer, LABEL, cfg=CFG)


def _tried(tracer, rows, kind="place"):
    plan, cfg = tracer.plan(LABEL), InterventionConfig(reference=kind, rows=3)
    coders = tracer.rep.transcoders
    reference = reference_of(tracer.lm, coders, plan, tracer.encode(rows["reference"]), cfg)
    return Intervention(tracer.lm, coders, plan, tracer.encode(rows["measured"]), reference, cfg)


def _all(tracer):
    shape = (len(tracer.rep.transcoders.layers), tracer.rep.transcoders.n_features)
    return {(layer, feature) for layer in range(shape[0]) for feature in range(shape[1])}


@pytest.mark.parametrize("residual", [True, False])
def test_removing_a_set_is_keeping_all_others(tracer, found, tmp_path, residual):
    """In both block forms: where blocks are parallel, MLP 0 is not computed anew."""
    if residual:
        used = tracer
    else:
        lm = tiny_language(tmp_path, parallel=False)
        used = make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(40))
    tried = _tried(used, found.cells)
    gone = [(0, 3), (0, 7), (1, 2), (1, 5)]
    others = np.array(sorted(_all(used) - set(gone)))
    without = tried.values([np.array(gone)], removed=True)
    assert without == pytest.approx(tried.values([others]), abs=1e-4)
    assert np.abs(without - tried.full_B).max() > 1e-4


@pytest.mark.parametrize("reference", ["mean", "zero"])
def test_what_is_reported_can_be_measured_again(tracer, found, reference):
    tried = _tried(tracer, found.cells, {"mean": "place", "zero": "zero"}[reference])
    whole = (tried.full_B - tried.empty_B).sum()
    for way in ("sufficiency", "necessity"):
        point = found.of(way, reference).points[-1]
        assert point.size == found.n_circuit
        value_B = tried.values([np.array(found.nodes)], removed=way == "necessity")[0]
        kept = (value_B - tried.empty_B) if way == "sufficiency" else (tried.full_B - value_B)
        assert point.share == pytest.approx(kept.sum() / whole, abs=1e-6)
    assert found.logits[reference]["full"] == pytest.approx(tried.full_B.mean())


def test_areas_are_the_trapezoids_of_their_points(found):
    for curve in found.curves:
        x = np.log2([1, *(1 + point.size for point in curve.points)])
        for name, area in (("share", curve.area.mean), ("random", curve.random.mean)):
            y = [0.0, *(getattr(point, name) for point in curve.points)]
            assert area == pytest.approx(np.trapezoid(y, x) / x[-1], abs=1e-9)
        assert curve.ahead.mean == pytest.approx(curve.area.mean - curve.random.mean)
        assert curve.area.low <= curve.area.mean <= curve.area.high
        assert 0 < curve.p <= curve.q <= 1
    assert area_weights([1, 3, 7]).sum() == pytest.approx(1 - 1 / 6)  # the value at 0 is 0


def test_cpr_and_cmd_are_mibs_areas(found):
    """By numpy's trapezoids over the fractions; an order that keeps everything has CPR 0.999 and CMD 0."""
    from scx_core.evidence.curves import MIB_FRACTIONS

    for one in found.fractions:
        if one.order != "random":  # there the mean of |1 − f| is not |1 − mean f|
            assert one.cpr.mean == pytest.approx(np.trapezoid(one.share, MIB_FRACTIONS), abs=1e-9)
            missed = np.abs(1 - np.array(one.share))
            assert one.cmd.mean == pytest.approx(np.trapezoid(missed, MIB_FRACTIONS), abs=1e-9)
        assert one.share[-1] == pytest.approx(1.0)
        assert one.cmd.low <= one.cmd.mean <= one.cmd.high


def test_no_cell_has_two_roles(tracer, found):
    groups = [set(rows) for rows in found.cells.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
    labels = tracer.table.labels
    assert {labels[row] for row in found.cells["circuit"] + found.cells["measured"]} == {LABEL}


def test_a_circuit_is_not_measured_where_it_was_made(tracer):
    circuit = tracer.consensus(LABEL, cfg=ConsensusConfig(cells=4))
    with pytest.raises(ScxError, match="was made from cell"):
        curves_of(tracer, LABEL, circuit.provenance["cells"], circuit=circuit, cfg=CFG)


def test_the_full_order_begins_with_the_circuit_and_holds_all(tracer, found):
    size = tracer.rep.transcoders.n_features
    node_M = np.array([layer * size + feature for layer, feature in found.nodes])
    order_X = full_order(tracer, tracer.plan(LABEL), found.cells["circuit"], node_M)
    assert order_X[: len(node_M)].tolist() == node_M.tolist()
    assert sorted(order_X.tolist()) == list(range(found.n_features))


def test_random_orders_match_node_by_node():
    mass_X = np.concatenate([np.geomspace(1, 100, 40), np.geomspace(1, 100, 40)])
    members = np.array([41, 3, 60])
    orders = matched_orders(members, mass_X, 2, 5, 0)
    assert (orders // 40 == members // 40).all()
    assert not np.isin(orders, members).any()
    sets = matched_sets(members, mass_X, 2, 5, 0)
    assert [sorted(order) for order in orders.tolist()] == [one.tolist() for one in sets]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 78, 500])
def test_sizes_end_with_all(n):
    for growth in (1.5, 2.0, 3.0):
        sizes = sizes_of(n, growth)
        assert sizes[0] == 1 and sizes[-1] == n and sizes == sorted(set(sizes))


def test_the_tables_say_what_the_json_says(found):
    data = json.loads(json.dumps(with_q([found])[0].to_json()))
    for as_markdown in (False, True):
        text = curve_tables([data], as_markdown)
        assert LABEL in text and "CPR" in text and "necessity" in text
        assert f"{data['curves'][0]['area']['mean']:.2f}".replace("-", "−") in text
