"""Rows are the same whether they go down by layer or all together, in pieces or in one, kept or made anew."""

from __future__ import annotations

import pytest
import torch

from scx_core.attribution import direct_edges, edges, node_selection, residual_stream
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_target
from scx_core.circuits.trace import trace_graph
from tests.tiny import LABELS, random_cross_set, random_set, tiny_cells, tiny_language

# what each limit is when models are large: nothing is kept, everything is cut into pieces
LARGE = {
    (residual_stream, "KEPT_BYTES"): 0,
    (residual_stream, "BLOCK_NUMBERS"): 500,
    (direct_edges, "PATHS"): 0.05,
    (direct_edges, "PIECE"): 3_000,
    (direct_edges, "LEAST_BLOCK"): 5,
    (node_selection, "WAVE_NUMBERS"): 20_000,
}


def _graph(folder, family, skip, nodes=70, cross=False):
    lm = tiny_language(folder, layers=4, dtype="float64", **family)
    cell = tiny_cells(lm)[0]
    plan = plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="answer")
    made = random_cross_set if cross else random_set
    return trace_graph(replacement(lm, made(lm, "relu", skip)), cell, plan, nodes)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("family", "skip", "cross"),
    [
        ({"parallel": True}, True, False),
        ({"parallel": False}, True, False),
        ({"family": "gemma2"}, False, False),
        ({"parallel": True}, False, True),
        ({"family": "gemma2"}, True, True),
    ],
    ids=["parallel", "sequential", "gemma2", "cross-layer", "gemma2, cross-layer"],
)
def test_waves_of_all_layers_give_the_rows_of_one_layer_at_a_time(
    tmp_path, monkeypatch, family, skip, cross, known
):
    plain = _graph(tmp_path, family, skip, cross=cross)
    for (module, name), value in LARGE.items():
        monkeypatch.setattr(module, name, value)
    if not known:
        monkeypatch.setattr(node_selection, "KEPT_EDGES", 0)
    made = _graph(tmp_path, family, skip, cross=cross)
    assert made.table.max_relative_error() < 1e-9
    assert made.chosen.layer_C.tolist() == plain.chosen.layer_C.tolist()
    assert made.chosen.index_C.tolist() == plain.chosen.index_C.tolist()
    for ours, theirs in zip(made.table, plain.table, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_rows_of_the_choice_are_not_made_again(tmp_path, monkeypatch):
    made, first, again = node_selection.direct_edges, [], []

    def counting(into):
        def counted(sources, batches, take):
            into.extend(len(rows.position_R) for rows in batches)
            return made(sources, batches, take)

        return counted

    monkeypatch.setattr(node_selection, "direct_edges", counting(first))
    monkeypatch.setattr(edges, "direct_edges", counting(again))
    graph = _graph(tmp_path, {"parallel": True}, False, nodes=300)
    assert sum(first) == 75
    assert sum(again) <= len(graph.chosen.layer_C) - 50
