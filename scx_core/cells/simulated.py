"""Simulated cells, drawn from mean profiles of cell types: for data that exist as averages only.

Cells of one type differ here in depth, in over-dispersion and in sampling, and in nothing else: no donors, no
states, no doublets. They say so: `obs["simulated"]`, `uns["simulated"]` and the cells' names. The steps, for
each cell:
 1. its depth is log-normal;
 2. each gene's share of the profile is multiplied by a gamma variable with mean 1 (over-dispersion);
 3. where ambient RNA is asked for, a beta-distributed part of the cell is the mean of all profiles instead;
 4. the counts are multinomial with these shares, so that they add up to the depth.
Legend: T profiles, C cells, G genes, H genes that are drawn.
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
AMBIENT_CONCENTRATION = 10.0  # of the beta distribution of ambient parts


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
    ambient: float = option(
        0.0,
        "Mean part of a cell's counts that is ambient RNA: the mean of all profiles (0: none)",
        minimum=0.0,
        maximum=0.9,
    )
    seed: int = option(0, "Seed of the simulated cells", minimum=0)


def simulated_cells(
    profiles: CellTable,
    rows: np.ndarray,
    cfg: SimulationConfig | None = None,
    ambient_of: np.ndarray | None = None,
) -> Any:
    """Simulated counts as AnnData, `cfg.cells` of each profile in `rows`; same arguments, same cells.

    `ambient_of`: the profiles whose mean is the ambient RNA (default: `rows`).

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
    share_TG = _shares(profiles, rows)
    ambient_G = (share_TG if ambient_of is None else _shares(profiles, np.asarray(ambient_of))).mean(axis=0)
    blocks = [
        _of_profile(share_G, ambient_G, cfg, np.random.default_rng([cfg.seed, t]))
        for t, share_G in enumerate(share_TG)
    ]
    of_each = np.repeat(labels, cfg.cells)
    names = [f"{SIMULATED} {label} {k:04d}" for label in labels for k in range(cfg.cells)]
    obs = pd.DataFrame({"cell_type": of_each, SIMULATED: True}, index=names)
    made = AnnData(
        sp.vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=profiles.symbols.astype(str))
    )
    made.uns[SIMULATED] = (
        f"Simulated cells, not measured ones: drawn from the mean profiles of {profiles.name} "
        f"(median {cfg.depth:g} counts, over-dispersion {cfg.dispersion:g}, "
        f"ambient RNA {cfg.ambient:.0%}, seed {cfg.seed})."
    )
    return made


def _shares(profiles: CellTable, rows: np.ndarray) -> np.ndarray:
    """Each profile as shares of its sum [T, G]. Raises ScxError for one without expression."""
    mean_TG = profiles.rows(rows).toarray().astype(np.float64)
    sum_T1 = mean_TG.sum(axis=1, keepdims=True)
    if (sum_T1 <= 0).any():
        label = profiles.labels[rows[int(np.argmin(sum_T1))]]
        raise ScxError(f"{profiles.name}: {label} has no expression.", "Leave this profile out.")
    return mean_TG / sum_T1


def _of_profile(
    share_G: np.ndarray, ambient_G: np.ndarray, cfg: SimulationConfig, rng: np.random.Generator
) -> sp.csr_matrix:
    """Simulated counts of one profile, float32 CSR [C, G]."""
    held = np.flatnonzero((share_G > 0) | ((ambient_G > 0) & (cfg.ambient > 0)))
    depth_C = np.exp(rng.normal(np.log(cfg.depth), cfg.spread, cfg.cells)).round().clip(LEAST_DEPTH)
    count_CH = np.zeros((cfg.cells, len(held)), dtype=np.float32)
    for c, depth in enumerate(depth_C.astype(np.int64).tolist()):
        share_H = share_G[held]
        if cfg.dispersion > 0:
            share_H = share_H * rng.gamma(1 / cfg.dispersion, cfg.dispersion, len(held))
            share_H = share_H / share_H.sum()
        if cfg.ambient > 0:
            part = rng.beta(cfg.ambient * AMBIENT_CONCENTRATION, (1 - cfg.ambient) * AMBIENT_CONCENTRATION)
            share_H = (1 - part) * share_H + part * ambient_G[held]
        count_CH[c] = rng.multinomial(depth, share_H / share_H.sum())
    found = sp.coo_matrix(count_CH)
    return sp.csr_matrix((found.data, (found.row, held[found.col])), (cfg.cells, len(share_G)))
