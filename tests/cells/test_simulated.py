"""Cells drawn from mean profiles: they are what profiles and settings say, and they say what they are."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scx_core.cells import CellChoices, open_cells
from scx_core.cells.simulated import SimulationConfig, simulated_cells
from scx_core.errors import ScxError

GENES = ["VWF", "PECAM1", "CDH5", "DCN", "LUM", "COL1A1", "TTN", "RYR2", "MYH7", "ACTB", "B2M", "GAPDH"]
GENES += [f"ZNF{k}" for k in range(1, 300)]  # so many that one gene does not move the sum of all
LABELS = ["Endothelial", "Fibroblast", "Cardiomyocyte"]


def profiles(labels=LABELS, empty=False):
    mean_TG = np.random.default_rng(1).gamma(2.0, 100, (3, len(GENES)))
    mean_TG[:, 9] = 0.0  # a gene that no type has
    if empty:
        mean_TG[0] = 0.0
    obs = pd.DataFrame({"author_label": labels}, index=["a", "b", "c"])
    made = ad.AnnData(mean_TG.astype(np.float32), obs=obs, var=pd.DataFrame(index=GENES))
    return open_cells(made, CellChoices(label="author_label"))


def drawn(**settings):
    return simulated_cells(profiles(), np.arange(3), SimulationConfig(**{"cells": 400} | settings))


def test_the_same_settings_give_the_same_cells_and_another_seed_others():
    one, again, other = drawn(), drawn(), drawn(seed=1)
    assert (one.X != again.X).nnz == 0
    assert (one.X != other.X).nnz > 0
    assert all(one.obs["simulated"]) and "not measured" in one.uns["simulated"]
    assert all(name.startswith("simulated ") for name in one.obs_names)


def test_depth_means_and_overdispersion_are_those_asked_for():
    made, table = drawn(cells=1500, depth=5000.0, spread=0.0, dispersion=0.4), profiles()
    count_CG, mean_TG = made.X.toarray(), table.rows(np.arange(3)).toarray()
    assert (count_CG.sum(1) == 5000).all()
    for t, label in enumerate(LABELS):
        share_G = mean_TG[t] / mean_TG[t].sum()
        mine_CG = count_CG[(made.obs["cell_type"] == label).to_numpy()] / 5000
        assert (mine_CG[:, share_G == 0] == 0).all()
        read = share_G > 0.002
        assert np.allclose(mine_CG.mean(0)[read], share_G[read], rtol=0.1)
        apart_G = mine_CG.var(0)[read] / share_G[read] ** 2 - 1 / (5000 * share_G[read])
        assert abs(apart_G.mean() - 0.4) < 0.03
    flat = drawn(depth=5000.0, spread=0.0, dispersion=0.0).X.toarray()
    assert flat.var(0).sum() < count_CG.var(0).sum()
    depths = np.asarray(drawn(cells=2000, depth=3000.0, spread=0.5).X.sum(1)).ravel()
    assert abs(np.median(depths) / 3000 - 1) < 0.05
    assert abs(np.log(depths).std() - 0.5) < 0.03


def test_ambient_rna_is_a_part_of_each_cell_and_the_mean_of_all_profiles():
    made, table = drawn(cells=1500, depth=5000.0, spread=0.0, dispersion=0.0, ambient=0.2), profiles()
    share_TG = table.rows(np.arange(3)).toarray()
    share_TG = share_TG / share_TG.sum(1, keepdims=True)
    for t, label in enumerate(LABELS):
        mine_CG = made.X.toarray()[(made.obs["cell_type"] == label).to_numpy()] / 5000
        expected_G = 0.8 * share_TG[t] + 0.2 * share_TG.mean(0)
        assert np.allclose(mine_CG.mean(0), expected_G, atol=5e-4)
        away_G = share_TG.mean(0) - share_TG[t]  # a cell's part: its projection on the way to the mean
        part_C = (mine_CG - share_TG[t]) @ away_G / (away_G @ away_G)
        assert abs(part_C.mean() - 0.2) < 0.02
    one = SimulationConfig(cells=50, depth=5000.0, ambient=0.5)
    alone = simulated_cells(table, np.array([0]), one)  # the mean of one profile is this profile
    mixed = simulated_cells(table, np.array([0]), one, ambient_of=np.arange(3))
    assert (alone.X != mixed.X).nnz > 0


@pytest.mark.parametrize(
    ("table", "rows", "words"),
    [
        (lambda: profiles(["Endothelial", "Endothelial", "Fibroblast"]), [0, 1], "two profiles of the type"),
        (lambda: profiles(empty=True), [0], "no expression"),
    ],
)
def test_what_cannot_be_drawn_from_is_said(table, rows, words):
    with pytest.raises(ScxError, match=words):
        simulated_cells(table(), np.array(rows), SimulationConfig(cells=5))
