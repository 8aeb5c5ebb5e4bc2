"""Features put into an AnnData object, so that scanpy plots them: per cell, per gene, and what they mean.

obsm["scx_features"]       mean activation over a cell's tokens [cells, features], sparse
obsm["scx_features_max"]   the largest one, likewise
varm["scx_feature_mass"]   sum of activations at each gene's tokens [genes, features], sparse
uns["scx"]                 names (of the columns, "L2·513"), features (table: layer, feature; verdict, score
                           and label where there is an atlas), provenance (JSON)
obs["scx L2·513"]          the mean of single features, on request: sc.pl.umap(adata, color="scx L2·513")

Position 0 is left out, as in the atlas. A cell without genes has zeros.
Legend: C cells, N counted tokens of a batch, F features, G genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata.io import write_elem

from scx_core.atlas.match.common_cells import Side, activations, classes_and_genes, mlp_streams
from scx_core.atlas.tables.atlas import Atlas
from scx_core.cells import CellTable
from scx_core.cells.detection.gene_symbols import named_genes
from scx_core.errors import ScxError
from scx_core.language import encode_cells, rounded_products
from scx_core.runs import Progress, provenance, silent
from scx_core.runs.files import to_json_text, write_atomic
from scx_core.runs.micro_batch import MicroBatch

MEAN, MAXIMUM, MASS, RECORD = "scx_features", "scx_features_max", "scx_feature_mass", "scx"
FeatureId = tuple[int, int]  # layer and number


def annotate(
    adata: ad.AnnData,
    side: Side,
    table: CellTable,
    *,
    features: Sequence[FeatureId] | None = None,
    obs: Sequence[FeatureId] = (),
    atlas: Atlas | None = None,
    batch: int = 8,
    progress: Progress = silent,
) -> ad.AnnData:
    """A copy of `adata` with the features' activations; all else stays as it is.

    `table` is what `open_cells` made of the same cells. `features`: layer and number of each (default: all
    that fire in these cells); `obs`: those that become columns of obs as well. Raises ScxError when the table
    has other cells, or there is no such feature.
    """
    if table.n_cells != adata.n_obs:
        problem = f"The table has {table.n_cells} cells, the AnnData object {adata.n_obs}."
        raise ScxError(problem, "Give the object that the table was opened from.")
    held_in(adata)  # what refuses comes before the work
    n_layers, n_units = len(side.transcoders.layers), side.transcoders.n_features
    wanted = None if features is None else list(dict.fromkeys([*features, *obs]))
    for layer, feature in [*(wanted or []), *obs]:
        if not (0 <= layer < n_layers and 0 <= feature < n_units):
            known = f"Layers run from 0 to {n_layers - 1}, features from 0 to {n_units - 1}."
            raise ScxError(f"The set has no feature {feature} in layer {layer}.", known)
    with rounded_products(side.lm.device):
        mean_CF, max_CF, mass_GF = _read(side.together(), table, batch, progress)
    numbers = [layer * n_units + feature for layer, feature in wanted or []]
    if wanted is None:
        also = [layer * n_units + feature for layer, feature in obs]
        numbers = sorted({*np.flatnonzero(max_CF.getnnz(axis=0)).tolist(), *also})
    made = adata.copy()
    made.obsm[MEAN], made.obsm[MAXIMUM] = mean_CF[:, numbers].tocsr(), max_CF[:, numbers].tocsr()
    made.varm[MASS] = _by_var(made, table, mass_GF[:, numbers].tocsr())
    made.uns[RECORD] = {**held_in(made), **_record(side, table, atlas, numbers)}
    for layer, feature in obs:
        column = mean_CF[:, layer * n_units + feature]
        made.obs[f"scx L{layer}·{feature}"] = column.toarray().ravel()
    return made


@torch.no_grad()
def feature_in_cells(
    side: Side,
    table: CellTable,
    rows: np.ndarray,
    feature: FeatureId,
    *,
    batch: int = 8,
    progress: Progress = silent,
) -> np.ndarray:
    """Mean activation of one feature over the tokens of each of these cells [C], position 0 left out; 0 for
    a cell without genes. The column that `annotate` gives. Raises ScxError when there is no such feature."""
    layer, number = feature
    n_layers, n_units = len(side.transcoders.layers), side.transcoders.n_features
    if not (0 <= layer < n_layers and 0 <= number < n_units):
        known = f"Layers run from 0 to {n_layers - 1}, features from 0 to {n_units - 1}."
        raise ScxError(f"The set has no feature {number} in layer {layer}.", known)
    side, mean_C = side.together(), np.zeros(len(rows))
    there = np.flatnonzero(table.rows(rows).getnnz(axis=1) > 0)

    def attempt(some: slice) -> int:
        part = there[some]
        cells = encode_cells(side.lm, table, rows[part])
        z_N = activations(side, mlp_streams(side.lm, cells), layer, cells)[:, [number]].toarray().ravel()
        ends = np.cumsum([0, *(len(cell.ids) - 1 for cell in cells)])
        mean_C[part] = [z_N[a:b].mean() for a, b in pairwise(ends)]
        return len(part)

    done = 0
    for n in MicroBatch().pieces(attempt, len(there), batch):
        done += n
        progress(done, len(there), "cells")
    return mean_C


def write_annotated(adata: ad.AnnData, path: Path | str) -> None:
    """Write an .h5ad, whole or not at all. Raises ScxError when the disk is full, the place is refused, or a
    name is one that the format does not hold.

    HDF5 does not get over a write that fails: what it still holds can end the process later. So the file is
    made in memory, beside the object that is there anyway, and its bytes are written.
    """
    adata.strings_to_categoricals()
    with h5py.File("annotated.h5ad", "w", driver="core", backing_store=False) as file:
        try:
            write_elem(file, "/", adata)
        except (ValueError, TypeError) as error:
            problem = f"The cells could not be written as .h5ad ({' '.join(str(error).split())[:200]})."
            remedy = "Names without NUL, half characters and slashes can be; rename what has one."
            raise ScxError(problem, remedy) from error
        file.flush()
        image = file.id.get_file_image()
    write_atomic(path, image)


def held_in(adata: ad.AnnData) -> Mapping[str, Any]:
    """What scX left in an object, `uns["scx"]`. Raises ScxError where something else lies there."""
    return mapping_at(adata.uns, RECORD, f'uns["{RECORD}"]')


def mapping_at(held: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """What lies at a key, which holds things by name; nothing where there is nothing. Raises ScxError."""
    found = held.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise ScxError(f"{where} is no object with results of scX.", "Remove it.")
    return found or {}


@torch.no_grad()
def _read(
    side: Side, table: CellTable, batch: int, progress: Progress
) -> tuple[sp.csc_matrix, sp.csc_matrix, sp.csc_matrix]:
    """Mean and largest activation [C, F of all layers] and mass by gene [G, F of all layers], float32."""
    number = {str(gene): place for place, gene in enumerate(table.symbols)}
    layers = range(len(side.transcoders.layers))
    means: list[sp.csr_matrix] = []
    largest: list[sp.csr_matrix] = []
    n_all = len(layers) * side.transcoders.n_features
    mass_GF = sp.csr_matrix((table.n_genes, n_all), dtype=np.float64)

    def attempt(part: slice) -> tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix | None]:
        rows = np.arange(part.start, part.stop)
        there = np.flatnonzero(table.rows(rows).getnnz(axis=1) > 0)
        if not len(there):
            return (*(sp.csr_matrix((len(rows), n_all), dtype=np.float32) for _ in range(2)), None)
        cells = encode_cells(side.lm, table, rows[there])
        io, (_, gene_GN) = mlp_streams(side.lm, cells), classes_and_genes(cells, number, True)
        z_NF = sp.hstack([activations(side, io, layer, cells) for layer in layers], format="csr")
        ends = np.cumsum([0, *(len(cell.ids) - 1 for cell in cells)])
        parts = [z_NF[a:b] for a, b in pairwise(ends)]
        pick = sp.csr_matrix((np.ones(len(there)), (there, np.arange(len(there)))), (len(rows), len(there)))
        mean = pick @ sp.vstack([sp.csr_matrix(one.mean(axis=0)) for one in parts])
        most = pick @ sp.vstack([one.max(axis=0).tocsr() for one in parts])
        return mean.astype(np.float32), most.astype(np.float32), gene_GN @ z_NF

    done = 0
    for mean, most, mass in MicroBatch().pieces(attempt, table.n_cells, batch):
        means.append(mean)
        largest.append(most)
        mass_GF = mass_GF if mass is None else mass_GF + mass
        done += mean.shape[0]
        progress(done, table.n_cells, "Cells")
    stacked = (sp.vstack(means, format="csc"), sp.vstack(largest, format="csc"))
    return (*stacked, mass_GF.astype(np.float32).tocsc())


def _by_var(adata: ad.AnnData, table: CellTable, mass_GF: sp.csr_matrix) -> sp.csr_matrix:
    """Mass by variable of the object; variables that are one gene for us have the same, unknown ones 0."""
    place = table.choices.symbols or "index"
    place = place if place in adata.var.columns else "index"
    at = pd.Index(table.symbols).get_indexer(named_genes(adata.var, place, table.choices.genome).symbol)
    known = np.flatnonzero(at >= 0)
    pick = sp.csr_matrix((np.ones(len(known), np.float32), (known, at[known])), (adata.n_vars, table.n_genes))
    return (pick @ mass_GF).tocsr()


def _record(side: Side, table: CellTable, atlas: Atlas | None, numbers: Sequence[int]) -> dict[str, object]:
    layer, feature = np.divmod(np.asarray(numbers, dtype=np.int64), side.transcoders.n_features)
    names = [f"L{a}·{b}" for a, b in zip(layer.tolist(), feature.tolist(), strict=True)]
    means = pd.DataFrame({"layer": layer, "feature": feature}, index=pd.Index(names, name="name"))
    if atlas is not None:
        shape = len(side.transcoders.layers), side.transcoders.n_features
        if (atlas.meta["n_layers"], atlas.meta["n_units"]) != shape:
            raise ScxError("The atlas is of another transcoder set.", "Make an atlas of this set.")
        labels = atlas.labels()
        rows = atlas.features.iloc[list(numbers)]
        means["verdict"] = rows["verdict"].astype(str).to_numpy()
        means["score"] = rows["score"].to_numpy()
        means["label"] = [labels.get(*one) for one in zip(names, rows["label"].astype(str), strict=True)]
    made = provenance(data=table, model=side.lm, transcoders=side.transcoders)
    return {"names": np.array(names, dtype=str), "features": means, "provenance": to_json_text(made)}
