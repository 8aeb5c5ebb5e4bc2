"""What is chosen without being told, the evidence given, and the choices that overrule it."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from scx_core.cells import CellChoices, CellTable, Finding, open_cells
from scx_core.cells.detection import columns, gene_symbols
from scx_core.cells.detection.gene_symbols import GeneColumns, kind_of_names, unique_names
from scx_core.cells.detection.values import describe_values
from scx_core.cells.matrix import MemoryMatrix
from scx_core.errors import ScxError
from scx_core.runs.options import options_of
from tests.cells.good_cells import GENES, good_cells


def found(table: CellTable, topic: str) -> Finding:
    return next(finding for finding in table.findings if finding.topic == topic)


def test_embedded() -> None:
    table = open_cells("embedded")
    assert (table.n_cells, table.n_genes, len(table.types)) == (700, 765, 10)
    assert (table.choices.values, table.choices.label, table.values_kind) == (
        "raw",
        "bulk_labels",
        "log-normalised",
    )
    assert table.cells_per_type().to_dict()["Dendritic"] == 240
    assert table.donors is None
    assert table.rows(range(700)).min() == 0
    assert table.fingerprint == open_cells("embedded").fingerprint


def test_every_finding_once() -> None:
    table = open_cells(good_cells())
    topics = [finding.topic for finding in table.findings]
    assert sorted(topics) == sorted(
        ["file", "cells", "symbols", "genes", "values", "label", "donor", "organism"]
    )
    assert all(finding.level in ("ok", "note", "warning") for finding in table.findings)


def test_choices_are_options_with_help() -> None:
    assert [option.name for option in options_of(CellChoices)][:3] == ["symbols", "values", "label"]
    assert all(option.help and option.optional for option in options_of(CellChoices))


def test_alternatives_can_be_chosen() -> None:
    adata = good_cells()
    adata.obs["state"] = [f"state {place % 5}" for place in range(adata.n_obs)]
    adata.layers["doubled"] = adata.X * 2
    adata.var["feature_name"] = [f"NAME{place}A" for place in range(adata.n_vars)]
    table = open_cells(adata)
    for topic in ("symbols", "values", "label", "donor"):
        for other in found(table, topic).alternatives:
            changed = open_cells(adata, CellChoices(**{topic: other}))
            assert getattr(changed.choices, topic) == other


def test_resolved_choices_open_the_same_table() -> None:
    table = open_cells(good_cells())
    again = open_cells(good_cells(), table.choices)
    assert again.choices == table.choices
    assert again.fingerprint == table.fingerprint


def test_fingerprint_follows_the_data_not_the_choices(tmp_path: Path) -> None:
    adata = good_cells()
    adata.obs["state"] = [f"state {place % 5}" for place in range(adata.n_obs)]
    first = open_cells(adata).fingerprint
    assert open_cells(adata, CellChoices(label="state")).fingerprint == first
    adata.X.data[0] += 1
    assert open_cells(adata).fingerprint != first


LAYOUTS = {
    "counts": lambda x: x,
    "log-normalised": lambda x: np.log1p(1e4 * x / x.sum(1, keepdims=True)),
    "normalised": lambda x: 1e4 * x / x.sum(1, keepdims=True),
    "non-integer counts": lambda x: x * np.random.default_rng(0).uniform(1, 30, x.shape),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_values_kinds(kind: str) -> None:
    x = LAYOUTS[kind](good_cells().X.toarray())
    assert describe_values(MemoryMatrix(x.astype(np.float32)), 40).kind == kind


@pytest.mark.parametrize("base", [2, 10])
def test_other_bases_of_the_logarithm(base: int) -> None:
    x = LAYOUTS["log-normalised"](good_cells().X.toarray()) / np.log(base)
    values = describe_values(MemoryMatrix(x.astype(np.float32)), 40)
    assert values.kind == "log-normalised"
    assert f"base {base}" in values.evidence


def test_averages_are_called_profiles() -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(0.5, 1, (12, 3000))
    adata = ad.AnnData((1e4 * x / x.sum(1, keepdims=True)).astype(np.float32))
    adata.var_names = [*GENES, *(f"ZNF{place}" for place in range(3000 - len(GENES)))]
    adata.obs["cell_type"] = [f"type {place}" for place in range(12)]
    table = open_cells(adata)
    assert table.values_kind == "averages"
    assert "profiles, not cells" in found(table, "values").evidence
    assert found(table, "values").level == "warning"
    assert (found(table, "cells").choice, table.unit) == ("12 profiles", "profile")
    assert "12 types, the smallest with 1 cell;" in found(table, "label").evidence


def test_counts_are_preferred_unless_they_hold_few_genes() -> None:
    adata = good_cells()
    adata.layers["counts"] = adata.X.copy()
    adata.X = sp.csr_matrix(LAYOUTS["log-normalised"](adata.X.toarray()), dtype=np.float32)
    assert open_cells(adata).choices.values == "layers/counts"
    adata.raw = adata.copy()
    few = adata[:, :20].copy()
    assert open_cells(few).choices.values == "raw"


def test_version_is_cut_off_ids_but_not_off_symbols() -> None:
    adata = good_cells()
    names = ["AC012345.1", "", *GENES[2:]]
    adata.var["gene_name"] = names
    adata.var_names = [f"ENSG{place:011d}.12" for place in range(adata.n_vars)]
    table = open_cells(adata)
    assert table.symbols[:2].tolist() == ["AC012345.1", "ENSG00000000001"]
    assert "1 genes have no symbol" in found(table, "genes").evidence


def test_ensembl_ids_can_be_insisted_on_with_a_warning() -> None:
    adata = good_cells()
    adata.var["gene_name"] = list(adata.var_names)
    adata.var_names = [f"ENSG{place:011d}" for place in range(adata.n_vars)]
    assert open_cells(adata).choices.symbols == "gene_name"
    assert found(open_cells(adata, CellChoices(symbols="index")), "symbols").level == "warning"


def test_symbols_of_heart_atlas_column() -> None:
    adata = good_cells()
    adata.var["gene_name-new"] = list(adata.var_names)
    adata.var_names = [f"ENSG{place:011d}" for place in range(adata.n_vars)]
    assert open_cells(adata).choices.symbols == "gene_name-new"


@pytest.mark.parametrize(
    ("change", "organism"),
    [
        (lambda a: a.obs.insert(0, "organism", "Mus musculus"), "Mus musculus"),
        (lambda a: a.uns.update(organism="mouse"), "Mus musculus"),
        (lambda a: a.var.insert(0, "feature_reference", "NCBITaxon:9606"), "Homo sapiens"),
        (lambda a: a.var.insert(0, "note", "x"), "Homo sapiens"),
    ],
)
def test_organism(change, organism: str) -> None:
    adata = good_cells()
    change(adata)
    assert open_cells(adata).organism == organism


def test_organism_by_name() -> None:
    assert open_cells(good_cells(), CellChoices(organism="mouse")).organism == "Mus musculus"


def test_labels_are_tidied_and_gaps_left_out() -> None:
    adata = good_cells()
    adata.obs["cell_type"] = [" B  cell\n", "NK cell", None, "unknown"] * 30
    table = open_cells(adata)
    assert table.types == ["B cell", "NK cell"]
    assert int((table.labels == "").sum()) == 60
    assert table.cells_per_type().to_dict() == {"B cell": 30, "NK cell": 30}


def test_clusters_are_a_last_resort_and_said_so() -> None:
    adata = good_cells()
    adata.obs = pd.DataFrame({"leiden": [float(place % 3) for place in range(120)]}, index=adata.obs_names)
    table = open_cells(adata)
    assert table.types == ["0", "1", "2"]
    assert found(table, "label").level == "warning"


def test_pools_are_said() -> None:
    adata = good_cells()
    adata.obs["n_cells_pooled"] = 10.0
    table = open_cells(adata)
    assert (found(table, "cells").choice, table.unit) == ("120 pools", "pool")
    assert "pool of 10 cells" in found(table, "cells").evidence


def test_without_labels_only_when_asked() -> None:
    adata = good_cells()
    adata.obs = adata.obs[["n_umi"]].copy()
    with pytest.raises(ScxError, match="no column of cell-type labels"):
        open_cells(adata)
    table = open_cells(adata, require_labels=False)
    assert set(table.labels) == {""}
    assert found(table, "label").level == "warning"


def test_kinds_of_names() -> None:
    assert kind_of_names(pd.Index(GENES)) == "symbol"
    assert kind_of_names(pd.Index(["ENSMUSG00000000001.4", "ENSMUSG00000000002.1"])) == "ensembl"
    assert kind_of_names(pd.Index(["AAACATACAACCAC-1", "s1_AAACATTGAGCTAC-1"])) == "barcode"
    assert kind_of_names(pd.Index(["NM_001.2", "NM_002.1"])) == "other-id"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_merging_sums_or_keeps_the_maximum(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=8))
    shape = (data.draw(st.integers(0, 4)), len(names))
    cell = st.integers(0, 3)
    x = np.array(
        data.draw(st.lists(cell, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])), dtype="f4"
    )
    x = x.reshape(shape)
    symbols, target = unique_names(np.array(names, dtype=object))
    assert symbols.tolist() == list(dict.fromkeys(names))
    for take_maximum in (False, True):
        join = np.max if take_maximum else np.sum
        wanted = [join(x[:, np.array(names) == name], axis=1) for name in symbols]
        for values in (0, 2**18):  # every block compiled, and none
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(gene_symbols, "WORTH_COMPILING", values)
                merged = GeneColumns(len(symbols), target, take_maximum).merge(sp.csr_matrix(x))
            np.testing.assert_array_equal(merged.toarray(), np.stack(wanted, axis=1))
            assert merged.has_canonical_format and merged.nnz == np.count_nonzero(merged.data)


def test_a_column_of_names_is_no_grouping_and_is_not_tidied_value_by_value(monkeypatch) -> None:
    names = pd.Series([f"cell {number}" for number in range(12_000)])
    assert "has 12,000 different values in 12,000 cells" in columns.label_problem(names)[0]
    monkeypatch.setattr(columns, "as_labels", lambda column: pytest.fail("each of its values was read"))
    assert "no grouping" in columns.label_problem(names)[0]


def lifelike(n_cells: int = 60, n_genes: int = 3000) -> np.ndarray:
    """Counts as droplets give them: a few genes far above the many, totals that spread threefold."""
    rng = np.random.default_rng(5)
    share = rng.pareto(0.9, n_genes) + 0.05
    total = rng.lognormal(8.3, 0.4, (n_cells, 1))
    return rng.poisson(rng.gamma(2, total * share / share.sum() / 2)).astype(np.float64)


def per(x: np.ndarray, total: float) -> np.ndarray:
    return total * x / x.sum(1, keepdims=True)


DISGUISED = {  # what is done to counts, the kind that is told, and what is said of it
    "counts": (lambda x: x, "counts", None),
    "round log1p": (lambda x: np.round(np.log1p(per(x, 1e4))), "log-normalised", "ties"),
    "round log2": (lambda x: np.round(np.log2(1 + per(x, 1e4))), "log-normalised", "ties"),
    "integer CPM": (
        lambda x: np.round(per(x, 1e6)),
        "normalised",
        "total is near (1,000|999),",
    ),
    "panel, round log1p": (lambda x: np.round(np.log1p(per(x[:, :60] + 1, 5e4))), "log-normalised", "ties"),
    "round square root": (lambda x: np.round(np.sqrt(per(x, 1e4))), "normalised", "square roots"),
    "coarse CP10k": (lambda x: np.round(per(x, 4e3)), "counts", "total is near"),
    "integer CP10k": (lambda x: np.round(per(x, 2e4)), "normalised", "total is near"),
    "square root": (lambda x: np.sqrt(per(x, 1e4)), "normalised", "order of the genes"),
    "square root of counts": (np.sqrt, "normalised", "order of the genes"),
    "times noise": (
        lambda x: x * np.random.default_rng(0).uniform(1, 30, x.shape),
        "non-integer counts",
        "told",
    ),
}


@pytest.mark.parametrize("case", DISGUISED)
def test_counts_in_disguise_are_told(case: str) -> None:
    change, kind, said = DISGUISED[case]
    values = describe_values(MemoryMatrix(change(lifelike()).astype(np.float32)), 40)
    assert values.kind == kind, values
    assert values.warning == "" if said is None else re.search(said, values.warning), values
    assert "corrected" not in values.warning
    if case.startswith("square"):
        assert "square roots" in values.evidence


def test_counts_sampled_down_to_one_depth_stay_counts() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.multinomial(1500, row / row.sum()) for row in lifelike()])
    values = describe_values(MemoryMatrix(x.astype(np.float32)), 40)
    assert values.kind == "counts" and "exactly 1,500" in values.warning


def test_a_small_panel_of_small_counts_is_no_logarithm() -> None:
    x = np.random.default_rng(0).poisson(0.4, (60, 300))
    assert describe_values(MemoryMatrix(x.astype(np.float32)), 40).warning == ""


def with_names(names: dict[int, str]) -> Finding:
    """What is said of genes some of which are renamed."""
    adata = good_cells()
    index = adata.var_names.to_numpy().astype(object)
    for place, name in names.items():
        index[place] = name
    adata.var_names = index
    return found(open_cells(adata), "genes")


def test_two_columns_of_a_gene_are_a_note_and_forty_a_warning() -> None:
    few = with_names({0: "XYZ1", 1: "XYZ1"})
    assert few.level == "note" and "'XYZ1' (2 columns)" in few.evidence
    many = with_names(dict.fromkeys(range(30, 42), "XYZ1"))
    assert many.level == "warning" and "'XYZ1' (12 columns)" in many.evidence and "ids" in many.evidence
    both = with_names({0: "XYZ2", 1: "XYZ2"} | dict.fromkeys(range(30, 33), "XYZ1"))
    assert both.level == "warning" and "'XYZ1' (3 columns)" in both.evidence


@pytest.mark.parametrize("name", ["UNKNOWN", "N/A", "None", "-", "Unknown_gene"])
def test_a_name_that_stands_for_none_is_no_gene_of_two_columns(name: str) -> None:
    said = with_names({0: name, 1: name})
    # either it is merged, with a warning, or the columns are no genes of this name at all
    assert said.level == "warning" or name.upper() not in said.evidence.upper()
