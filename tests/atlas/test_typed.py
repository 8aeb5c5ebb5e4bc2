"""What people type into a search for features, on the atlas that ships with the embedded default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scx_core.atlas import Atlas, FindConfig
from scx_core.atlas.annotate import annotate, feature_in_cells
from scx_core.atlas.match.common_cells import Side
from scx_core.atlas.tables.find import find, find_part, named
from scx_core.cells.gene_aliases import ALIASES, genes_meant

FOLDER = Path(__file__).resolve().parents[2] / "models/embedded-atlas"


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return Atlas.open(FOLDER)


@pytest.mark.parametrize("text", ["L2-513", "l2·513", "L2 513", "2:513", "layer 2, feature 513", "L2_513"])
def test_a_feature_is_found_by_its_number(text: str) -> None:
    assert named(text.replace(", ", " ")) == (2, 513)


def test_a_gene_is_found_by_its_cd_number_and_both_tabs_agree(atlas: Atlas) -> None:
    assert genes_meant("CD3", atlas.genes) and set(genes_meant("cd3", atlas.genes)) <= {
        "CD3D",
        "CD3E",
        "CD3G",
    }
    for text in ("CD79A", "cd16"):
        (gene,) = genes_meant(text, atlas.genes)
        assert find_part(atlas, FindConfig(text=text), 0, 1).total == len(atlas.gene(gene))
    assert all(name == name.upper() and genes for name, genes in ALIASES.items())


def test_a_cell_type_is_found_by_its_usual_name(atlas: Atlas) -> None:
    assert (find(atlas, FindConfig(text="B cell", limit=0))["cell_type"] == "CD19+ B").any()


def test_a_gene_s_features_begin_with_those_that_fire_at_it(atlas: Atlas) -> None:
    """Neither a feature that fires once in 100,000 tokens nor one whose genes are others comes first."""
    rows = atlas.gene("CD74")
    seldom = rows["verdict"].isin(["dead", "rare"]).to_numpy()
    assert seldom.any() and not seldom[: int((~seldom).sum())].any()
    live = rows[~seldom]["reads"].dropna()
    assert live.is_monotonic_decreasing and len(live) > 10
    found = find(atlas, FindConfig(text="CD74", verdict="gene", limit=0))
    assert "CD74" in found["genes"].iloc[0].split()
    held = found["reads"].fillna(-1).to_numpy()
    assert (np.diff(held) <= 0).all() and held[0] > 0.5
    assert set(found["verdict"].astype(str)) == {"gene"}
    everything = find(atlas, FindConfig(text="CD74", limit=0))
    assert everything["verdict"].iloc[-1] == "dead" and everything["verdict"].iloc[0] not in ("dead", "rare")
    assert "reads" not in find(atlas, FindConfig(text="B cell"))


@pytest.mark.parametrize("sort", ["score", "mass", "frequency", "maximum", "type_share"])
def test_what_never_fires_is_never_on_top(atlas: Atlas, sort: str) -> None:
    verdicts = find(atlas, FindConfig(sort=sort, limit=0))["verdict"].astype(str).to_numpy()
    dead = np.flatnonzero(verdicts == "dead")
    assert len(dead) and dead.min() == len(verdicts) - len(dead)


def test_a_feature_s_colour_of_a_cell_is_its_mean_over_the_tokens() -> None:
    import scanpy as sc

    from scx_core.pp import load_model, read_cells
    from scx_core.tl import load_transcoders

    adata = sc.datasets.pbmc68k_reduced()[:6].copy()
    model, table = load_model("embedded"), read_cells(adata)
    side = Side(model, load_transcoders("embedded", model=model))
    made = annotate(adata, side, table, features=[(1, 285), (2, 229)], obs=[(1, 285), (2, 229)])
    for layer, number in ((1, 285), (2, 229)):
        found = feature_in_cells(side, table, np.arange(6), (layer, number))
        assert np.allclose(found, made.obs[f"scx L{layer}·{number}"], atol=1e-6)
