"""A made-up cell atlas as an .h5ad file of any size, written block by block: nothing in it is biology.

It has what makes a real one slow or large to open: gene ids as the index with symbols in a column (some of
them twice), a table of cells with columns of text, categories and numbers, cells in the order of donors, and
depths that differ between cells. Legend: C cells, N values of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

from scx_core.runs import Progress, silent

GENES, DETECTED, DONORS = 32_000, 1_800, 25
TYPES = tuple(f"Type {letter} cell" for letter in "ABCDEFGHIJK")
BLOCK = 2_000  # cells that are drawn and written at a time
MARKERS, STRONGER = 60, 12  # genes of which a type has more, and molecules that it has more of
TWICE = 40  # symbols that two gene ids share, as in every annotation of genes
CHUNK = 2**20  # values of a chunk where the file is compressed


class AtlasShape(NamedTuple):
    """What a made-up atlas is like. `detected` is the mean number of genes above 0 in a cell; `compression`
    as h5py names it (None, "lzf", "gzip")."""

    n_cells: int
    n_genes: int = GENES
    detected: int = DETECTED
    donors: int = DONORS
    compression: str | None = None


def symbols_of(n_genes: int, known: Sequence[str] = ()) -> list[str]:
    """So many names of a gene's look, the `known` ones first, the last `TWICE` of them used before."""
    letters = np.random.default_rng(0).choice(list("ABCDEFGHIKLMNPRSTZ"), (n_genes, 3))
    made = [f"{''.join(row)}{number}" for number, row in enumerate(letters)]
    names = [*known, *made][: n_genes - TWICE]
    return names + names[:TWICE]


def write_atlas(
    path: Path,
    shape: AtlasShape,
    types: Sequence[str] = TYPES,
    known: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Write it: counts as uint16, genes of a row as int32 in ascending order, some 6 bytes a value.

    `types` are the cells' labels, `known` names that the first genes have.
    """
    rng = np.random.default_rng(seed)
    n_cells, n_genes = shape.n_cells, shape.n_genes
    type_C = rng.integers(0, len(types), n_cells)
    depth_C = rng.lognormal(0.0, 0.4, n_cells)
    held_C = np.clip(
        shape.detected * depth_C / depth_C.mean(), min(250, shape.detected // 4), n_genes // 4
    ).astype(np.int64)
    stronger = np.zeros((len(types), n_genes), dtype=np.uint16)
    for number in range(len(types)):
        stronger[number, rng.choice(min(n_genes, 8 * MARKERS), MARKERS, replace=False)] = STRONGER
    counts = _quantiles(rng)
    pointer = np.concatenate([[0], np.cumsum(held_C)])
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(file, "obs", _cells(rng, shape, np.asarray(types, dtype=object)[type_C], held_C))
        write_elem(file, "var", _genes(shape, known))
        group = file.create_group("X")
        attributes = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
        group.attrs.update(attributes | {"shape": np.array([n_cells, n_genes])})
        group["indptr"] = pointer
        size = int(pointer[-1])
        chunks = {"chunks": (min(CHUNK, size),), "compression": shape.compression}
        how = chunks if shape.compression else {}
        data = group.create_dataset("data", size, "u2", **how)
        indices = group.create_dataset("indices", size, "i4", **how)
        for start in range(0, n_cells, BLOCK):
            progress(start, n_cells, "writing cells")
            held = held_C[start : start + BLOCK]
            place = slice(int(pointer[start]), int(pointer[start + len(held)]))
            gene_N = _columns(rng, held, n_genes)
            value_N = counts[rng.integers(0, len(counts), len(gene_N), dtype=np.uint16)]
            value_N += stronger[np.repeat(type_C[start : start + BLOCK], held), gene_N]
            indices[place], data[place] = gene_N, value_N
    progress(n_cells, n_cells, "writing cells")


def _quantiles(rng: np.random.Generator) -> np.ndarray:
    """Counts to draw from, uint16: more than half of them 1, few very large, as in sequenced droplets."""
    return (1 + rng.poisson(rng.gamma(0.4, 3.0, 2**16 - 1))).astype(np.uint16)


def _columns(rng: np.random.Generator, held_C: np.ndarray, n_genes: int) -> np.ndarray:
    """Ascending genes of cells that hold so many each, int32 [N]: one from each of as many even stretches."""
    number_N = np.arange(held_C.sum()) - np.repeat(np.cumsum(held_C) - held_C, held_C)
    many_N = np.repeat(held_C, held_C)
    first_N = number_N * n_genes // many_N
    width_N = (number_N + 1) * n_genes // many_N - first_N
    drawn_N = rng.integers(0, 2**16, len(first_N), dtype=np.uint16)
    return (first_N + (drawn_N * width_N >> 16)).astype(np.int32)


def _cells(
    rng: np.random.Generator, shape: AtlasShape, label_C: np.ndarray, held_C: np.ndarray
) -> pd.DataFrame:
    """The table of cells, with columns as atlases have them. Donors follow one another."""
    n = shape.n_cells
    donor_C = np.arange(n) * shape.donors // n
    bases = np.array(list("ACGT"))[rng.integers(0, 4, (n, 16))].view("U16").ravel()
    barcode = [
        f"D{donor:03d}_{base}-{number}"
        for number, (donor, base) in enumerate(zip(donor_C, bases, strict=True))
    ]
    regions = np.array(["AX", "LA", "LV", "RA", "RV", "SP"])
    columns = {
        "cell_type": pd.Categorical(label_C),
        "cell_state": pd.Categorical(
            [f"{name} {part}" for name, part in zip(label_C, rng.integers(0, 5, n), strict=True)]
        ),
        "donor": pd.Categorical.from_codes(donor_C, [f"D{number:03d}" for number in range(shape.donors)]),
        "region": pd.Categorical(regions[rng.integers(0, len(regions), n)]),
        "sample": pd.Categorical(
            [f"S{donor:03d}{region}" for donor, region in zip(donor_C, rng.integers(0, 4, n), strict=True)]
        ),
        "barcode": bases.astype(object),
        "sex": pd.Categorical(np.array(["female", "male"])[donor_C % 2]),
        "n_genes": held_C,
        "n_counts": (held_C * 3.2).astype(np.float32),
        "percent_mito": rng.random(n).astype(np.float32),
        "doublet_score": rng.random(n),
    }
    return pd.DataFrame(columns, index=pd.Index(barcode, name="cell"))


def _genes(shape: AtlasShape, known: Sequence[str]) -> pd.DataFrame:
    ids = [f"ENSG{number:011d}" for number in range(shape.n_genes)]
    symbols = symbols_of(shape.n_genes, known)
    return pd.DataFrame(
        {"gene_symbol": symbols, "n_cells": shape.n_cells}, index=pd.Index(ids, name="gene_id")
    )
