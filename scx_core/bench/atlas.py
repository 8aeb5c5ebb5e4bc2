"""How long an atlas takes to make, and what a person waits for on the feature page: opening, filtering.

`generated_atlas` writes one of any size from random numbers, in the columns of a real one.
Legend: N features of all layers.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scx_core.atlas import VERDICTS, Atlas, AtlasConfig, FindConfig, make_atlas
from scx_core.atlas.tables.atlas import FORMAT, as_arrow
from scx_core.atlas.tables.find import find
from scx_core.bench.machine import machine, peak_gib, timed
from scx_core.cells import CellTable
from scx_core.language import Language
from scx_core.transcoders import TranscoderSet

N_GENES, N_TYPES, PER_FEATURE, PUSHED = 20_000, 40, 20, 10
WIDTH = 16  # tokens of an example's context


def bench_atlas(
    folder: Path, lm: Language, transcoders: TranscoderSet, table: CellTable, runs: int = 5
) -> dict[str, Any]:
    """Time the making of an atlas of all cells, then reading one of 24 × 8,192 features.

    First a quarter of the cells: the loops are compiled, and its peak of memory can be held against that of
    all cells. `forward_share` is the model's forward pass among the steps of the pass over the cells
    (processor seconds), with the raw neurons beside the features, and of the features alone.
    """
    make_atlas(lm, transcoders, table, cfg=AtlasConfig(cells=max(2, table.n_cells // 4)))
    peaks = {"quarter_of_cells": peak_gib()}
    making: dict[str, float] = {}
    alone: dict[str, float] = {}
    start = time.perf_counter()
    made = make_atlas(lm, transcoders, table, seconds=making)
    wall = time.perf_counter() - start
    peaks["all_cells"] = peak_gib()
    make_atlas(lm, transcoders, table, cfg=AtlasConfig(baseline=False), seconds=alone)
    return {
        "making": making,
        "wall_s": wall,
        "cells": made.meta["n_cells"],
        "forward_share": {"with neurons": _forward_share(making), "features alone": _forward_share(alone)},
        "making_peak_gib": peaks,
    } | bench_reading(folder, runs=runs)


def _forward_share(seconds: dict[str, float]) -> float:
    return seconds["forward"] / (sum(seconds.values()) - seconds["verdicts and tables"])


def bench_reading(folder: Path, layers: int = 24, units: int = 8192, runs: int = 5) -> dict[str, Any]:
    """Time the reader on a generated atlas in `folder`."""
    atlas = generated_atlas(folder, layers, units)
    asked = {
        "filter by verdict and layer, sorted": FindConfig(verdict="gene", layer=layers // 2),
        "search a text, sorted by mass": FindConfig(text="gene12", sort="mass"),
        "filter by cell type, stable ones": FindConfig(cell_type="type 7", stable=True),
    }
    atlas.features  # noqa: B018 - the filters below work on an atlas that is open
    rows = [
        timed("open, with the table of all features", lambda: Atlas.open(folder).features, runs),
        *(timed(what, lambda cfg=cfg: find(atlas, cfg), runs) for what, cfg in asked.items()),  # type: ignore[misc]
        timed("all of one feature", lambda: atlas.feature(layers // 2, units // 2), runs),
        timed("all features of one gene", lambda: atlas.gene("GENE12"), runs),
    ]
    return {
        "machine": machine(),
        "features": layers * units,
        "rows": [timing._asdict() for timing in rows],
        "peak_memory_gib": peak_gib(),
    }


def generated_atlas(folder: Path, layers: int, units: int, seed: int = 0) -> Atlas:
    """An atlas of random numbers, saved."""
    rng = np.random.default_rng(seed)
    layer_N, feature_N = (part.ravel() for part in np.indices((layers, units)))
    genes = np.array([f"GENE{number}" for number in range(N_GENES)])
    # Sorted and moved apart: no gene twice.
    top_NG = np.sort(rng.integers(0, N_GENES - PER_FEATURE, (len(layer_N), PER_FEATURE)), 1)
    top_NG += np.arange(PER_FEATURE)
    share_NG = -np.sort(-rng.dirichlet(np.ones(PER_FEATURE), len(layer_N)), 1)
    tables = {
        "features": _features(rng, layer_N, feature_N, genes[top_NG[:, :5]]),
        "genes": _long(layer_N, feature_N, "gene", genes, top_NG, share_NG),
        "examples": _examples(rng, layer_N, feature_N),
        "writes": _writes(rng, layer_N, feature_N),
        "slots": pd.DataFrame(
            {"class": 1, "gene": genes, "piece": 0, "token": np.arange(N_GENES), "text": genes, "tokens": 1}
        ),
    }
    types = np.array([f"type {number}" for number in range(N_TYPES)])
    few_NK = rng.integers(0, N_TYPES, (len(layer_N), 5))
    for name, column in (("types", "cell_type"), ("donors", "donor"), ("families", "family")):
        tables[name] = _long(layer_N, feature_N, column, types, few_NK, share_NG[:, :5])
    tables["pieces"] = _long(layer_N, feature_N, "text", types, few_NK, share_NG[:, :5])
    tables["pieces"] = tables["pieces"].assign(token=1, genes=1)
    plain = {"layer": layer_N, "feature": feature_N}
    tables["ranks"] = pd.DataFrame(plain | {"rank_bin": 1, "first": 2, "last": 2, "mass": 1.0, "share": 1.0})
    tables["histogram"] = pd.DataFrame(plain | {"low": 1.0, "high": 2.0, "tokens": 1})
    tables["shares"] = pd.DataFrame(
        {"layer": [-1], "data": ["real"], "verdict": ["gene"], "share": [1.0], "features": [len(layer_N)]}
    )
    meta = {"format": FORMAT, "n_layers": layers, "n_units": units, "beside": []}
    meta |= {"source": {"kind": "transcoder"}}
    return Atlas(meta, as_arrow(tables)).save(folder)


def _features(
    rng: np.random.Generator, layer_N: np.ndarray, feature_N: np.ndarray, genes_NG: np.ndarray
) -> pd.DataFrame:
    n = len(layer_N)
    shares = "score frequency mass mean maximum q50 q90 q99 prompt gene answer top5 family_share piece_share"
    more = "token_share top5_pieces spelling first_piece type_share donor_share rank_share set_share"
    types = [f"type {number}" for number in range(N_TYPES)]
    columns: dict[str, Any] = {
        "layer": layer_N,
        "feature": feature_N,
        "verdict": pd.Categorical.from_codes(rng.integers(0, len(VERDICTS), n), list(VERDICTS)),
        "label": [", ".join(row) for row in genes_NG[:, :3]],
        "stable": rng.random(n) < 0.9,
        "genes": [" ".join(row) for row in genes_NG],
        "top_gene": genes_NG[:, 0],
        **{name: rng.random(n) for name in f"{shares} {more}".split()},
        **{name: rng.integers(0, 1000, n) for name in ("tokens", "cells", "n_half", "rank_bin")},
    }
    for name in ("family", "piece", "cell_type", "donor", "ranks", "gene_set", "writes", "answer_pushed"):
        columns[name] = pd.Categorical.from_codes(rng.integers(0, N_TYPES, n), types)
    return pd.DataFrame(columns)


def _long(
    layer_N: np.ndarray,
    feature_N: np.ndarray,
    name: str,
    names: np.ndarray,
    number_NK: np.ndarray,
    share_NK: np.ndarray,
) -> pd.DataFrame:
    keep = number_NK.shape[1]
    return pd.DataFrame(
        {
            "layer": layer_N.repeat(keep),
            "feature": feature_N.repeat(keep),
            name: pd.Categorical.from_codes(number_NK.ravel(), list(names)),
            "mass": share_NK.ravel(),
            "share": share_NK.ravel(),
        }
    )


def _examples(rng: np.random.Generator, layer_N: np.ndarray, feature_N: np.ndarray) -> pd.DataFrame:
    n = len(layer_N)
    tokens_NW, values_NW = rng.integers(0, N_GENES, (n, WIDTH)), rng.random((n, WIDTH))
    plain = {"layer": layer_N, "feature": feature_N, "kind": "top", "order": 0, "row": feature_N}
    context = {"start": 20, "tokens": list(tokens_NW), "values": list(values_NW)}
    where = {"position": 30, "value": values_NW[:, 10], "gene": "GENE1", "cell": "c", "cell_type": "type 1"}
    return pd.DataFrame(plain | where | context)


def _writes(rng: np.random.Generator, layer_N: np.ndarray, feature_N: np.ndarray) -> pd.DataFrame:
    n = len(layer_N) * PUSHED
    token_N = rng.integers(0, N_GENES, n)
    texts = pd.Categorical.from_codes(token_N, [f"GENE{number}" for number in range(N_GENES)])
    columns = {"layer": layer_N.repeat(PUSHED), "feature": feature_N.repeat(PUSHED), "kind": "token"}
    return pd.DataFrame(columns | {"token": token_N, "text": texts, "weight": rng.random(n)})
