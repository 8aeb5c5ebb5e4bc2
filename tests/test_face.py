"""The notebook's face: what `import scx_core as scx` gives, its docstrings, AnnData in and out."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys

import anndata as ad
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import scx_core as scx
from scx_core.atlas import excess
from scx_core.atlas.judge.excess import points
from scx_core.cells import CellTable
from scx_core.circuits import Circuit
from scx_core.errors import ScxError
from tests.builders.small_anndata import two_types

MODULES = ("pp", "tl", "pl")
SECTIONS = ("Parameters", "Returns", "Raises", "References", "Examples")


def functions() -> list[tuple[str, str]]:
    """Every public function of the face."""
    found = []
    for name in MODULES:
        module = importlib.import_module(f"scx_core.{name}")
        found += [(name, key) for key in module.__all__ if inspect.isfunction(getattr(module, key))]
    return found


def test_the_import_is_light():
    """Nothing heavy is loaded before it is used."""
    heavy = ("torch", "pandas", "anndata", "matplotlib")
    words = f"import sys, scx_core; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", words], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_there_are_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        scx.nothing  # noqa: B018
    assert {"pp", "tl", "pl"} <= set(dir(scx))


@pytest.mark.parametrize(("module", "name"), functions(), ids=lambda word: word)
def test_a_function_is_documented_in_numpydoc_form(module, name):
    function = getattr(getattr(scx, module), name)
    text = inspect.getdoc(function) or ""
    lines = text.splitlines()
    missing = [s for s in SECTIONS if s not in lines or lines[lines.index(s) + 1] != "-" * len(s)]
    assert not missing, f"{module}.{name} lacks {missing}"
    before = text[: text.index("Returns\n")]
    for parameter in inspect.signature(function).parameters:
        assert parameter in before, f"{module}.{name} does not explain {parameter}"
    assert doctest.DocTestParser().get_examples(text), "no example"


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCX_RUNS", str(tmp_path / "runs"))
    found = doctest.testmod(getattr(scx, module), optionflags=doctest.ELLIPSIS)
    assert found.attempted >= 2 * sum(name == module for name, _ in functions())
    assert not found.failed


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    """Forty cells of two types whose genes are those of the embedded model's vocabulary; counts."""
    return two_types()


@pytest.fixture(scope="module")
def tracer(adata):
    """The cells with the embedded model, put together once."""
    return scx.tl.tracer(adata)


def test_an_anndata_object_is_opened_without_a_file(adata):
    table = scx.pp.read_cells(adata, label="cell_type")
    assert isinstance(table, CellTable) and table.n_cells == 40
    assert table.types == ["CD19+ B", "Dendritic"]
    assert scx.pp.read_cells(table) is table
    assert scx.pp.findings(adata).loc["label", "choice"] == "cell_type"
    with pytest.raises(ScxError, match="nowhere"):
        scx.pp.read_cells(adata, label="nowhere")


def test_sentences_are_ranked_by_expression(adata):
    texts = scx.pp.cell_sentences(adata, n_genes=20)
    assert list(texts.index) == list(adata.obs_names)
    genes = texts["cell0"].split()
    values = adata["cell0", genes].X.ravel()
    assert len(genes) == 20 and (np.diff(values) <= 0).all()
    assert (
        set(genes[:10]) == set(adata.var_names[np.argsort(-adata["cell0"].X.ravel())[:10]])
        or values[9] == values[10]
    )


def test_encode_writes_the_models_prompt(adata):
    (cell,) = scx.pp.encode(adata, [3])
    assert len(cell.class_T) == len(cell.ids) and cell.genes[0] in cell.text


def test_parts_of_a_split_do_not_overlap(adata):
    parts = scx.pp.split(adata, held_out=0.2, choose=0.1)
    rows = [*parts.train, *parts.choose, *parts.held_out]
    assert sorted(rows) == list(range(40)) and len(parts.held_out) == 8


def test_predictions_go_back_into_obs(adata, tracer):
    called = scx.tl.predict(tracer)
    assert list(called.index) == list(adata.obs_names)
    assert set(called) <= set(tracer.labels)
    again = adata.copy()
    again.obs["called"] = called
    assert again.obs["called"].notna().all()


def test_a_circuit_of_one_cell_from_memory(tracer):
    circuit = scx.tl.trace_cell(tracer, "cell3", nodes=32)
    assert isinstance(circuit, Circuit) and circuit.scope == "cell"
    assert circuit.provenance["cell"]["row"] == 3
    assert circuit == scx.tl.trace_cell(tracer, 3, nodes=32)
    table = scx.tl.gene_effects(circuit)
    assert set(table["gene"]) == {gene.gene for gene in circuit.genes}
    assert table["frozen_attribution"].abs().is_monotonic_decreasing


def test_a_consensus_a_difference_and_their_pictures(tracer, tmp_path):
    circuit = scx.tl.consensus(tracer, "CD19+ B", n_cells=3)
    assert circuit.n_cells == 3
    apart = scx.tl.difference(tracer, "CD19+ B", "Dendritic", n_cells=3)
    assert apart.names == ("CD19+ B", "Dendritic")
    for one in (circuit, apart.difference):
        assert isinstance(scx.pl.circuit(one), Axes) and isinstance(scx.pl.genes(one, n=5), Axes)
    page = scx.pl.circuit_page(circuit, height=300)
    assert page.startswith("<!") and 'height="300"' in page._repr_html_()
    assert "<iframe" not in scx.pl.cell_sentence(circuit)._repr_html_()
    assert [file.name for file in scx.pl.save(circuit, tmp_path / "circuit.json")] == ["circuit.json"]


def test_a_figure_goes_into_axes_of_ones_own_and_into_a_file(tracer, tmp_path):
    circuit = scx.tl.trace_cell(tracer, 3, nodes=32)
    left, right = Figure(figsize=(10, 5)).subplots(1, 2)
    assert scx.pl.circuit(circuit, ax=left, size="column") is left
    assert scx.pl.genes(circuit, ax=right) is right
    whole = scx.pl.genes(circuit)
    assert len(right.texts) == len(whole.texts) and len(right.patches) == len(whole.patches)
    shrunk = {text.get_text(): text.get_fontsize() for text in right.texts}
    scale = {shrunk[text.get_text()] / text.get_fontsize() for text in whole.texts}
    assert max(scale) - min(scale) < 1e-9  # all letters by the same factor
    scx.pl.genes(circuit, save=tmp_path / "genes.pdf")
    assert (tmp_path / "genes.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ScxError, match="Names end in"):
        scx.pl.circuit(circuit, save=tmp_path / "genes.doc")


def test_a_knock_out_has_an_interval_and_counts_its_cells(tracer, adata):
    gene = scx.pp.cell_sentences(adata, [0], n_genes=1).iloc[0]
    table = scx.tl.knock_out(tracer, "CD19+ B", genes=[gene], n_cells=4)
    row = table.loc[gene]
    assert 1 <= row["n_cells"] <= 4
    if row["n_cells"] > 1:
        assert row["gap_low"] <= row["gap"] <= row["gap_high"]


def test_unknown_settings_are_named(tracer):
    asked = [
        lambda: scx.tl.trace_cell(tracer, 0, nodse=3),
        lambda: scx.tl.smallest_circuit(tracer, "CD19+ B", nothing=1),
        lambda: scx.tl.atlas(tracer, nothing=1),
        lambda: scx.tl.train_transcoders("embedded", stesp=3),
        lambda: scx.tl.train_transcoders("embedded", preset="none"),
    ]
    for ask in asked:
        with pytest.raises(ScxError, match="nodse|nothing|stesp|none"):
            ask()
    with pytest.raises(ScxError, match="no cell 'nobody'"):
        scx.tl.trace_cell(tracer, "nobody")


def test_annotate_gives_a_new_object(adata):
    made = scx.tl.annotate(adata[:6].copy(), obs=[(1, 3)])
    assert made.obsm["scx_features"].shape[0] == 6
    assert made.obs["scx L1·3"].shape == (6,)
    assert "scx" not in adata.uns


def test_an_atlas_without_a_rival_is_not_drawn(tracer):
    made = scx.tl.atlas(tracer, n_cells=4, random=0, baseline=False, context=0)
    with pytest.raises(ScxError, match="random directions"):
        scx.pl.atlas(made)


def test_a_validation_says_that_cells_in_memory_may_be_a_copy(adata):
    """Which cells were trained on is known by the file's fingerprint, which a copy does not have."""
    found = scx.tl.validate(adata, n_cells=2, baselines=False)
    assert found.n_cells == 2 and "a copy of cells that were trained on" in found.split


def test_the_atlas_picture_has_a_row_a_verdict_with_its_excess(tracer):
    made = scx.tl.atlas(tracer, n_cells=6, random=2, baseline=False, context=0)
    axes = scx.pl.atlas(made)
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown and "dead" not in shown and "context" not in shown  # the first is no share of live ones
    table = excess(made).set_index(["layer", "measure"])
    assert [text.get_text() for text in axes.texts] == [points(table.loc[(-1, name)]) for name in shown]
