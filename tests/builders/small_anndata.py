"""Forty cells of two types in memory, of genes that the embedded model knows."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

import scx_core as scx


def two_types() -> ad.AnnData:
    """Counts, 20 cells of "CD19+ B" and 20 of "Dendritic", that differ in ten genes each."""
    rng = np.random.default_rng(0)
    symbols = [str(gene) for gene in scx.pp.read_cells("embedded").symbols[:200]]
    counts = rng.poisson(1.0, (40, len(symbols))).astype(np.float32)
    counts[:20, :10] += 6
    counts[20:, 10:20] += 6
    kinds = ["CD19+ B"] * 20 + ["Dendritic"] * 20
    obs = pd.DataFrame({"cell_type": kinds}, index=[f"cell{i}" for i in range(40)])
    return ad.AnnData(counts, obs, pd.DataFrame(index=symbols))
