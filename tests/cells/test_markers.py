from __future__ import annotations

import re

import numpy as np
import pytest

from scx_core.cells import (
    all_markers,
    foreign_markers,
    known_markers,
    open_cells,
    shared_markers,
    types_with,
)  # fmt: skip
from scx_core.cells.markers import _file, spelling

SPELLINGS = {
    "B cell": ["CD19+ B", "B", "B cells", "bcells", "naive B cell"],
    "natural killer cell": ["CD56+ NK", "NK", "NK cell", "nk", "natural killer cell"],
    "CD14+ monocyte": ["CD14+ Monocyte", "CD14+ Mono", "CD14 Mono", "CD14 monocyte", "CD14+ Monocytes"],
    "FCGR3A+ monocyte": ["FCGR3A+ Mono", "CD16 Mono", "CD14-low, CD16-positive monocyte"],
    "dendritic cell": ["Dendritic", "DC", "dendritic cell"],
    "CD34+ progenitor": ["CD34+", "HSPC"],
    "cytotoxic CD8+ T cell": ["CD8+ Cytotoxic T"],
    "naive CD8+ T cell": ["CD8+/CD45RA+ Naive Cytotoxic"],
    "naive CD4+ T cell": ["CD4+/CD45RA+/CD25- Naive T", "Naive CD4 T"],
    "memory CD4+ T cell": ["CD4+/CD45RO+ Memory", "Memory CD4 T"],
    "regulatory T cell": ["CD4+/CD25 T Reg", "Treg"],
    "CD8+ T cell": ["CD8 T", "CD8-positive, alpha-beta T cell"],
    "platelet": ["Platelet", "Megakaryocytes"],
    "endothelial cell": ["Endothelial cell", "Endothelial", "endothelial_cell"],
    "lymphatic endothelial cell": ["Lymphatic Endothelial cell"],
    "ventricular cardiomyocyte": ["Ventricular Cardiomyocyte", "Ventricular_Cardiomyocyte"],
    "smooth muscle cell": ["Smooth muscle", "Smooth_muscle"],
    "mural cell": ["Mural cell"],
    "neural cell": ["Neural cell"],
}


@pytest.mark.parametrize("cell_type", SPELLINGS)
def test_spellings(cell_type: str) -> None:
    for label in [cell_type, *SPELLINGS[cell_type]]:
        found = known_markers(label)
        assert found is not None, label
        assert found.cell_type == cell_type


@pytest.mark.parametrize("label", ["", "?", "alpha cell", "<i>", "cell", "7"])
def test_unknown_labels_have_no_list(label: str) -> None:
    assert known_markers(label) is None


def test_no_spelling_means_two_types() -> None:
    seen: dict[str, str] = {}
    for entry in _file()["types"]:
        for name in {spelling(name) for name in (entry["cell_type"], *entry["aliases"])}:
            assert seen.setdefault(name, entry["cell_type"]) == entry["cell_type"]


def test_lists_are_symbols_with_citations() -> None:
    for found in all_markers():
        assert len(found.genes) >= 10
        assert all(re.fullmatch(r"[A-Z0-9][A-Z0-9-]+", gene) for gene in found.genes)
        assert found.citations
        assert all("doi:10." in citation for citation in found.citations)


def test_class_two_is_shared() -> None:
    assert {"B cell", "CD14+ monocyte", "conventional dendritic cell"} <= set(types_with("HLA-DRA"))
    among = ["CD19+ B", "CD56+ NK", "CD14+ Monocyte", "Dendritic"]
    assert "HLA-DRA" in shared_markers("CD19+ B", among)
    assert "CD79A" in known_markers("CD19+ B").genes - shared_markers("CD19+ B", among)
    assert foreign_markers(["CD79A", "HLA-DRA", "GNLY", "ACTB"], "CD19+ B", among) == ["GNLY"]


def test_lists_hold_in_the_embedded_cells() -> None:
    """At least four of five markers are higher in their own type than in the rest."""
    table = open_cells("embedded")
    x = table.rows(range(table.n_cells))
    for label in ("CD19+ B", "CD56+ NK", "CD14+ Monocyte", "Dendritic", "CD8+ Cytotoxic T"):
        genes = np.flatnonzero(np.isin(table.symbols, list(known_markers(label).genes)))
        mine = table.labels == label
        higher = x[mine].mean(0).A1[genes] > x[~mine].mean(0).A1[genes]
        assert len(genes) >= 10
        assert higher.mean() >= 0.75, label
