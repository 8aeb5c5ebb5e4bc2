"""The embedded default behaves as its card says: accuracy, stand-ins, accounting, known markers, size."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest
from scipy.stats import ttest_ind

from scx_core.build.pipeline import EMBEDDED_NAME
from scx_core.build.recipe import RecipeConfig
from scx_core.cells import Split, foreign_markers, known_markers, open_cells
from scx_core.circuits import ConsensusConfig, TraceConfig, make_tracer
from scx_core.circuits.marker_counts import counts_of
from scx_core.cli.training import demo
from scx_core.language import EMBEDDED, load_language
from scx_core.runs import from_dict
from scx_core.transcoders import EMBEDDED_SETS, load_set
from scx_core.validation import validate
from scx_core.validation.result import validation_beside

MODELS = EMBEDDED.parent
FOUR = ("CD19+ B", "CD56+ NK", "CD14+ Monocyte", "Dendritic")


@pytest.fixture(scope="module")
def tracer():
    return make_tracer(load_language("embedded", "cpu"), load_set("embedded"), open_cells("embedded"))


def test_only_safetensors_json_and_text_under_25_mb():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".yaml", ".md", ".parquet"}


@pytest.mark.slow
def test_the_stand_ins_measure_as_the_card_says(tracer):
    split = Split.from_json(tracer.lm.settings["split"])
    found = validate(tracer.lm, tracer.transcoders, tracer.table, split.held_out, per_layer=False)
    assert found.label_accuracy_orig >= 0.74
    assert found.ce_recovered >= 0.99
    assert found.kl <= 0.03
    assert found.l0 <= 16
    assert found.dead <= 0.05
    assert found.label_agreement >= 0.95
    shipped = json.loads((EMBEDDED_SETS["embedded"] / "validation.json").read_text())
    for key in ("ce_orig", "ce_transcoder", "ce_zero", "ce_mean", "l0", "fvu", "dead"):
        assert getattr(found, key) == pytest.approx(shipped[key], rel=0.01, abs=1e-3), key


def test_its_features_are_needed():
    """Linear maps and the set without its features fail where the set does not: what the recipe was chosen
    for (docs/recipes.md)."""
    shipped = json.loads((EMBEDDED_SETS["embedded"] / "validation.json").read_text())
    rows = {row["key"]: row for row in shipped["baselines"]}
    assert set(rows) == {"linear", "token_linear", "features_mean", "skip"}
    for row in rows.values():
        assert row["ce_recovered"] <= 0.9
        assert row["label_agreement"] <= 0.85
    assert rows["features_mean"]["intervals"]["label_accuracy"]["high"] < shipped["label_accuracy_transcoder"]
    assert shipped["ce_recovered"] >= 0.99 and shipped["label_agreement"] >= 0.95


def test_the_paper_preset_is_there_with_its_own_figures():
    shipped = json.loads((EMBEDDED_SETS["embedded-paper"] / "validation.json").read_text())
    assert load_set("embedded-paper").kind == "relu"
    assert 0 < shipped["ce_recovered"] <= 1


@pytest.mark.parametrize("label", FOUR)
def test_accounting_on_real_cells(tracer, label):
    row = int(tracer.draw(label, ConsensusConfig(cells=2))[0])
    circuit = tracer.cell(row, label=label)
    assert circuit.accounting["max_relative_error"] <= 1e-4
    parts = ("gene_effect", "prompt_effect", "error_effect", "bias_effect")
    assert sum(circuit.scores[part] for part in parts) == pytest.approx(circuit.target.value, abs=1e-3)
    whole = tracer.cell(row, label=label, cfg=TraceConfig(node_share=1.0))
    behind = len(tracer.encode([row])[0].ids)
    given = [node.effect for node in whole.nodes if node.kind == "embedding" and node.position >= behind]
    assert bool(given) == (whole.target.kind == "answer")  # one token decides: none stands before it
    assert circuit.scores["answer_effect"] == pytest.approx(sum(given), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("label", FOUR)
def test_marker_counts_stand_beside_those_of_rankings_without_a_model(tracer, label):
    """Markers are found, and so they are without any model: the circuit carries all three counts."""
    found = tracer.consensus(label, cfg=ConsensusConfig(cells=25))
    top = [gene.gene for gene in found.genes[:10]]
    assert all(gene.effect > 0 for gene in found.genes[:10])
    own = [gene for gene in top if gene in known_markers(label).genes]
    foreign = foreign_markers(top, label, among=tracer.table.types)
    assert len(own) >= 4, top
    assert len(foreign) <= 2, (top, foreign)
    counts = counts_of(found)
    assert counts.circuit == len(own) and counts.cells == 25
    x_CG = tracer.table.rows(np.arange(tracer.table.n_cells)).toarray()
    mine = tracer.table.labels == label
    score_G = np.nan_to_num(ttest_ind(x_CG[mine], x_CG[~mine], equal_var=False).statistic)
    by_t = tracer.table.symbols[np.argsort(-score_G, kind="stable")[:10]]
    assert counts.differential_expression == len(set(by_t) & known_markers(label).genes)
    assert (counts.type_cells, counts.other_cells) == (mine.sum(), (~mine).sum())


@pytest.mark.parametrize("name", ["embedded", "embedded-paper"])
def test_the_shipped_validation_is_about_the_shipped_files(tracer, name):
    coders = load_set(name)
    marks = {"data": tracer.table, "model": tracer.lm, "transcoders": coders}
    assert validation_beside(coders.folder, {key: thing.fingerprint for key, thing in marks.items()})


@pytest.mark.parametrize(
    ("data", "name"), [("embedded", "scX embedded PBMC"), ("planted", "scX planted (simulated)")]
)
def test_what_ships_is_called_by_its_name_whatever_its_build_was(data, name):
    assert load_language(data, "cpu").name == name
    assert load_set(data).meta["model_name"] == name
    config = demo._config(Namespace(data=data, name="build-7"))
    assert (config.name or EMBEDDED_NAME) == name
    assert config.recipe == from_dict(
        RecipeConfig, json.loads((MODELS / data / "scx.json").read_text())["recipe"]
    )
