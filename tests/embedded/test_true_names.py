"""Names of boxes, held to the atlas' own figures: of the 30 strongest named features of six types, each is
named after what holds a quarter of its activation, or says that it is no gene."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import scx_core as scx
from scx_core.atlas import Atlas
from scx_core.atlas.feature_naming import name_book
from scx_core.circuits.feature_names import with_names

ROOT = Path(__file__).resolve().parents[2]
CITESEQ = Path(os.environ.get("SCX_TEST_DATA", ROOT.parent / "shared/data")) / "cells/tenx_citeseq_pbmc.h5ad"
NO_GENE = (
    "prompt",
    "position",
    "answer",
    "spelling",
    "many genes",
    "genes and",
    "driven by",
    "place",
    "start",
)
LEAST = 0.25


def _named(tracer: object, label: str, n_cells: int) -> list:
    circuit = scx.tl.consensus(tracer, label, n_cells=n_cells)
    book = name_book(circuit.provenance)
    circuit = circuit if book is None else with_names(circuit, book)
    nodes = [node for node in circuit.nodes if node.kind == "feature" and node.name]
    return sorted(nodes, key=lambda node: -node.influence)[:30]


def _untrue(atlas: Atlas, nodes: list) -> list[str]:
    wrong = []
    for node in nodes:
        if any(word in node.name for word in NO_GENE):
            continue
        rows = atlas.feature(node.layer, node.feature).genes
        shares = dict(zip(rows["gene"].astype(str), rows["share"].astype(float), strict=True))
        named = [word.strip(" …") for word in node.name.split(",")]
        held = sum(shares.get(gene, 0.0) for gene in named)
        if max(held, node.name_share or 0.0) < LEAST:
            wrong.append(f"L{node.layer}·{node.feature} {node.name}: {held:.0%}")
    return wrong


def test_names_of_six_types_are_true_by_the_atlas() -> None:
    tracer = scx.tl.tracer("embedded")
    atlas = Atlas.open(ROOT / "models/embedded-atlas")
    sizes = tracer.table.cells_per_type()
    nodes = [node for label in sizes.index[:6] for node in _named(tracer, str(label), 3)]
    assert len(nodes) >= 60
    assert not (wrong := _untrue(atlas, nodes)), wrong


@pytest.mark.skipif(not CITESEQ.exists(), reason="the CITE-seq cells are not here (SCX_TEST_DATA)")
def test_cells_of_another_file_are_called_what_both_say() -> None:
    """Own B cells under the embedded model: the title says what the data and what the model call them."""
    from scx_core.circuits.words.whose import whose
    from scx_core.figures.captions import caption, title
    from scx_core.figures.formats.export import file_name

    tracer = scx.tl.tracer(str(CITESEQ))
    label = next(str(name) for name in tracer.table.types if "b" in str(name).lower().split())
    circuit = scx.tl.consensus(tracer, label, n_cells=3, answer="CD34+")
    assert whose(circuit) is not None
    assert label in title(circuit) and "CD34+" in title(circuit) and label in caption(circuit)
    assert "CD34" in file_name(circuit, "png")
    atlas = Atlas.open(ROOT / "models/embedded-atlas")
    nodes = [node for node in circuit.nodes if node.kind == "feature" and node.name_source == "atlas"]
    assert not (wrong := _untrue(atlas, nodes)), wrong
