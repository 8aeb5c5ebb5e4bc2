"""Other features than transcoders': each set is what it says, and all are measured on one scale."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.rivals.rivals import GRADIENT, RivalConfig, compare_rivals
from scx_core.evidence.rivals.stand_ins import (
    NAMES,
    Fitting,
    neuron_set,
    outputs_set,
    random_set,
    rival_tracers,
)
from scx_core.evidence.rivals.sufficiency import SharedCells, SufficiencySettings
from scx_core.evidence.rivals.tables import rival_tables, sentences
from scx_core.evidence.smallest.circuit_search import SearchConfig
from scx_core.evidence.smallest.smallest_circuit import split_cells
from scx_core.language import mlp_io
from scx_core.validation.baselines import read_sides
from tests.tiny import random_set as random_transcoders
from tests.tiny import tiny_language, tiny_table

LABEL, OTHER = "Dendritic", "CD19+ B"
CFG = RivalConfig(
    wanted=0.6, search_cells=3, gradient_cells=2, unseen_cells=3, reference_cells=8, knocked=2, genes=4,
    fit_cells=12, atlas_cells=12, test_cells=4, types=2,
)  # fmt: skip


def table():
    made = tiny_table(80)
    names = (
        "name",
        "organism",
        "fingerprint",
        "n_cells",
        "n_genes",
        "symbols",
        "labels",
        "types",
        "rows",
        "cell_ids",
    )
    return SimpleNamespace(
        **{name: getattr(made, name) for name in names},
        values_kind="counts",
        donors=None,
        answer_of={label: label for label in made.types},
        answers=made.labels,
    )


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"), parallel=False, act="relu")
    coders = random_transcoders(lm, "jumprelu", skip=True)
    rare = tuple(replace(one, threshold_F=one.threshold_F + 0.8) for one in coders.layers)
    return make_tracer(lm, replace(coders, layers=rare), table())


@pytest.fixture(scope="module")
def found(tracer):
    sae = replace(random_transcoders(tracer.lm, "jumprelu", skip=False, seed=2), reads="output")
    return compare_rivals(tracer, [LABEL, OTHER], sae=sae, cfg=CFG)


def io_of(tracer, rows=(0,)):
    cell = tracer.encode(rows)[0]
    ids = torch.tensor([cell.ids])
    return mlp_io(tracer.lm, ids, torch.ones_like(ids))


def test_the_neurons_of_a_relu_mlp_are_the_mlp(tracer):
    io = io_of(tracer)
    for coder, x_BTd, y_BTd in zip(neuron_set(tracer.lm).layers, io.inputs, io.outputs, strict=True):
        torch.testing.assert_close(coder(x_BTd), y_BTd)
    neurons = rival_tracers(tracer, None, Fitting(12, 0))["neurons"]
    circuit = neurons.cell(4, label=LABEL)
    assert circuit.accounting["max_relative_error"] < 1e-9
    assert not [node for node in circuit.nodes if node.kind == "error" and abs(node.effect) > 1e-9]


def test_what_another_activation_adds_is_error_and_a_gated_mlp_is_refused(tmp_path):
    lm = tiny_language(tmp_path / "gelu", act="gelu")
    gelu = make_tracer(lm, neuron_set(lm), table())
    circuit = gelu.cell(4, label=LABEL)
    assert circuit.accounting["max_relative_error"] < 1e-9
    assert [node for node in circuit.nodes if node.kind == "error" and abs(node.effect) > 1e-9]
    with pytest.raises(ScxError, match="are gated"):
        neuron_set(tiny_language(tmp_path / "llama", family="llama"))


def test_random_directions_fire_like_the_features_and_their_decoders_cannot_be_bettered(tracer):
    """The residual of least squares has nothing left along any feature, input or constant."""
    lm, rows = tracer.lm, np.arange(12)
    drawn = random_set(lm, tracer.transcoders, tracer.table, rows, seed=0)
    parts = [[], []]
    for read in read_sides(lm, tracer.table, rows, 4, lambda *_: None):
        for part, side in zip(parts, (read.inputs, read.outputs), strict=True):
            part.append(side)
    for k, (coder, own) in enumerate(zip(drawn.layers, tracer.transcoders.layers, strict=True)):
        x_Nd, y_Nd = (torch.cat([batch[k] for batch in part]) for part in parts)
        z_NF = coder.encode(x_Nd)
        rate_F, wanted_F = ((one.encode(x_Nd) > 0).double().mean(0) for one in (coder, own))
        seldom_F = wanted_F < 0.25  # a direction is positive in about half of the tokens, and no oftener
        assert int(seldom_F.sum()) > 10
        assert float((rate_F - wanted_F)[seldom_F].abs().mean()) < 0.02  # set without position 0
        torch.testing.assert_close(
            coder.W_enc_Fd.norm(dim=1), torch.ones(len(coder.W_enc_Fd)), check_dtype=False
        )
        left_Nd = y_Nd - coder(x_Nd)
        assert float(left_Nd.norm() / y_Nd.norm()) < 0.9
        for regressor in (z_NF, x_Nd, torch.ones_like(x_Nd[:, :1])):
            along = regressor.T @ left_Nd / (regressor.norm() * left_Nd.norm())
            assert float(along.abs().max()) < 1e-3


def test_the_scale_is_zero_with_mean_outputs_and_one_for_the_model(tracer):
    """Neurons of a ReLU MLP are linear in its output: without any the share is 0, with all it is 1."""
    cells = split_cells(tracer, LABEL, 3, 3, 8, 0)
    settings = SufficiencySettings(0.6, 0.01, 2, SearchConfig(exchanges=0), 0)
    shared = SharedCells(tracer, tracer.plan(LABEL), cells, settings)
    tracers = rival_tracers(tracer, None, Fitting(12, 0))
    one = shared.sufficient(tracers["neurons"])
    assert one.alone.mean == pytest.approx(0.0, abs=1e-6) and one.whole.mean == pytest.approx(1.0, abs=1e-6)
    none = shared.sufficient(tracers["linear"])
    assert none.size is None and none.share == none.whole == none.alone
    outputs = outputs_set(tracer.lm)
    for coder, x_BTd, y_BTd in zip(outputs.layers, *io_of(tracer)[:2], strict=True):
        torch.testing.assert_close(coder(x_BTd), y_BTd)


def test_every_set_has_its_figures_and_transcoders_their_rivals(tracer, found):
    assert [one.name for one in found.sets] == list(NAMES)
    by = {one.name: one for one in found.sets}
    assert by["neurons"].ce_recovered.mean == pytest.approx(1.0, abs=1e-6)
    assert by["linear"].meaningful is None and by["linear"].n_features == 0
    assert all(one.meaningful is not None for name, one in by.items() if name != "linear")
    for held in found.types:
        assert [one.name for one in held.sets] == [*NAMES, GRADIENT]
        assert 0 < held.chance < 1 and held.listed
        for one in held.sets:
            assert (one.ahead is None) == (one.name == "transcoders") and len(one.genes) <= 4
            assert -1 <= one.gap.mean <= 1 and one.gap.low <= one.gap.mean <= one.gap.high
            if one.ahead is not None:
                assert one.ahead.mean == pytest.approx(held.of("transcoders").gap.mean - one.gap.mean)
                assert one.q >= one.p
            assert (one.sufficient is None) == (one.name == GRADIENT)
    result = json.loads(json.dumps(found.to_json()))
    none = result | {"types": [held | {"faint": ["too little"]} for held in result["types"]]}
    assert ", faint" in rival_tables(none) and "sizes say nothing" in sentences(none)[0]
    result["types"][0]["faint"], result["types"][1]["faint"] = [], ["too little"]
    assert "of 1 types that are not faint" in sentences(result)[0]
    text = rival_tables(result)
    assert text.count(OTHER) == 4 and "SAEs: transcoders need" in text
    assert len(sentences(result)) == len(NAMES)
    assert compare_rivals(tracer, [OTHER], cfg=CFG).types[0].sets[0].gap == found.types[1].sets[0].gap


def test_without_saes_their_column_is_missing_and_unknown_types_are_named(tracer):
    assert list(rival_tracers(tracer, None, Fitting(12, 0))) == [name for name in NAMES if name != "sae"]
    with pytest.raises(ScxError, match="no cell of the type 'Neutrophil'"):
        compare_rivals(tracer, ["Neutrophil"], cfg=CFG)
