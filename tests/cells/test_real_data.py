"""Real files, each described rightly. Skipped where they are not at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from scx_core.cells import open_cells, split_cells

DATA = Path(os.environ.get("SCX_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
# file: cells, columns, kind, types, unlabelled, donors, words that the findings must hold
FILES = {
    "cells/pbmc3k_10x.h5ad": (2700, 16634, "counts", 8, 62, 1, ("817 genes", "C2ORF15", "62 of 2,700 cells")),
    "cells/zheng2017_sorted_pbmc.h5ad": (2140, 8863, "counts", 5, 0, 1, ("1 donor: donor_A", "needs two")),
    "cells/tenx_citeseq_pbmc.h5ad": (400, 14935, "counts", 6, 26, 2, ("whole numbers only",)),
    "cells/kang2018_pbmc_ifnb.h5ad": (2000, 9015, "counts", 8, 1340, 3, ("1,340 of 2,000",)),
    "cells/panc8_small_5tech.h5ad": (500, 1947, "non-integer counts", 6, 0, 8, ("46% of the values",)),
    "cells/zilionis2019_nsclc.h5ad": (300, 19016, "log-normalised", 14, 2, 7, ("base e", "single cell")),
    "heart/heart_celltype_mean_profiles.h5ad": (
        24, 17789, "averages", 18, 0, 0, ("24 profiles", "profiles, not cells"),
    ),
    "heart/kuppe2022_heart_10nuclei_pools.h5ad": (
        66, 22615, "counts", 3, 0, 22, ("66 pools", "pool of 10 to 20 cells"),
    ),
    "perturb/schraivogel2020_tapseq_crispri_k562.h5ad": (
        19060, 72, "counts", 15, 0, 2, ("perturbation targets, not cell types", "panel"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_described_rightly(name: str) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is not at hand (SCX_TEST_DATA)")
    n_cells, n_columns, kind, n_types, n_unlabelled, n_donors, words = FILES[name]
    table = open_cells(DATA / name)
    assert (table.n_cells, table.matrix.shape[1], table.values_kind) == (n_cells, n_columns, kind)
    assert len(table.types) == n_types
    assert int((table.labels == "").sum()) == n_unlabelled
    assert (0 if table.donors is None else len(set(table.donors) - {""})) == n_donors
    told = " ".join(f"{finding.choice} {finding.evidence}" for finding in table.findings)
    for word in words:
        assert word in told
    assert table.organism == "Homo sapiens"
    split = split_cells(table)
    assert set(table.labels[split.train]) == set(table.types)
    assert np.isfinite(table.rows(split.held_out[:50]).data).all()
