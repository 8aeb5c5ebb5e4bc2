"""Simulated cells, drawn from mean profiles of cell types: for data that exist as averages only.

Cells of one type differ here in depth, in over-dispersion and in sampling, and in nothing else: no donors, no
states, no doublets, no ambient RNA beyond what the averages hold. They say so: `obs["simulated"]`,
`uns["simulated"]` and the cells' names. The steps, for each cell:
 1. its depth is log-normal;
 2. each gene's share of the profile is multiplied by a gamma variable with mean 1 (over-dispersion);
 3. the counts are multinomial with these shares, so that they add up to the depth.
Legend: T profiles, C cells, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scx_core.cells.cell_table import CellTable
from scx_core.errors import ScxError
from scx_core.runs.options import option

SIMULATED = "simulated"
LEAST_DEPTH = 200  # counts below which no cell is drawn: it would have hardly a sentence


@dataclass(frozen=True)
class SimulationConfig:
    """How simulated cells are drawn from mean profiles."""

    cells: int = option(250, "Simulated cells of each type", minimum=2)
    depth: float = option(3000.0, "Counts of a simulated cell, the median", minimum=float(LEAST_DEPTH))
    spread: float = option(0.5, "Standard deviation of the logarithm of the counts", minimum=0.0)
    dispersion: float = option(
        0.3,
        "Over-dispersion: variance of a gene's share from cell to cell over its squared mean (0: none)",
        minimum=0.0,
    )
    seed: int = option(0, "Seed of the simulated cells", minimum=0)


def simulated_cells(profiles: CellTable, rows: np.ndarray, cfg: SimulationConfig | None = None) -> Any:
    """Simulated counts as AnnData, `cfg.cells` of each profile in `rows`; same arguments, same cells.

    `profiles`: mean expression, linear (not logged), a row a type, labelled. Raises ScxError for logged
    values, a type with two profiles, or a profile without expression.
    """
    from anndata import AnnData

    cfg, rows = cfg or SimulationConfig(), np.asarray(rows, dtype=np.int64)
    if profiles.values_kind in ("log-normalised", "scaled"):
        raise ScxError(
            f"{profiles.name} holds {profiles.values_kind} values; counts are drawn from linear means.",
            "Give mean counts, or means of counts scaled to one sum.",
        )
    labels = [str(label) for label in profiles.labels[rows]]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ScxError(f"{profiles.name} has two profiles of the type {twice!r}.", "Keep one of them.")
    mean_TG = profiles.rows(rows).toarray().astype(np.float64)
    blocks = [
        _of_profile(mean_G, cfg, np.random.default_rng([cfg.seed, t]), f"{profiles.name}: {label}")
        for t, (mean_G, label) in enumerate(zip(mean_TG, labels, strict=True))
    ]
    of_each = np.repeat(labels, cfg.cells)
    names = [f"{SIMULATED} {label} {k:04d}" for label in labels for k in range(cfg.cells)]
    obs = pd.DataFrame({"cell_type": of_each, SIMULATED: True}, index=names)
    made = AnnData(
        sp.vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=profiles.symbols.astype(str))
    )
    made.uns[SIMULATED] = (
        f"Simulated cells, not measured ones: drawn from the mean profiles of {profiles.name} "
        f"(median {cfg.depth:g} counts, over-dispersion {cfg.dispersion:g}, seed {cfg.seed})."
    )
    return made


def _of_profile(
    mean_G: np.ndarray, cfg: SimulationConfig, rng: np.random.Generator, where: str
) -> sp.csr_matrix:
    """Simulated counts of one profile, float32 CSR [C, G]."""
    held = np.flatnonzero(mean_G > 0)
    if not len(held):
        raise ScxError(f"{where} has no expression.", "Leave this profile out.")
    depth_C = np.exp(rng.normal(np.log(cfg.depth), cfg.spread, cfg.cells)).round().clip(LEAST_DEPTH)
    count_CH = np.zeros((cfg.cells, len(held)), dtype=np.float32)
    for c, depth in enumerate(depth_C.astype(np.int64).tolist()):
        share_H = mean_G[held]
        if cfg.dispersion > 0:
            share_H = share_H * rng.gamma(1 / cfg.dispersion, cfg.dispersion, len(held))
        count_CH[c] = rng.multinomial(depth, share_H / share_H.sum())
    found = sp.coo_matrix(count_CH)
    return sp.csr_matrix((found.data, (found.row, held[found.col])), (cfg.cells, len(mean_G)))
