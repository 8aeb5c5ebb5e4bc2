"""A sha256 that identifies the data of a source, whatever is chosen from it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scx_core.cells.formats.raw_cells import Store

from ..runs.files import sha256_of

# Hashing a file of this size takes about a second; above it, the tables and spread blocks are hashed.
WHOLE_FILE = 256 * 2**20
N_BLOCKS, BLOCK_ROWS = 32, 32


def fingerprint(store: Store, labels_file: str | None = None) -> tuple[str, str]:
    """(hex digest, how it was made in words)."""
    if store.path is not None and size_of(store.path) <= WHOLE_FILE:
        digest, how = sha256_of(store.path), "of the whole file"
    else:
        digest, how = (
            _of_content(store),
            f"of names, obs, shapes and {N_BLOCKS} blocks of {BLOCK_ROWS} rows a matrix",
        )
    if labels_file is not None:
        joined = digest + sha256_of(Path(labels_file).expanduser())
        digest, how = hashlib.sha256(joined.encode()).hexdigest(), f"{how} and the labels file"
    return digest, how


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def _of_content(store: Store) -> str:
    digest = hashlib.sha256()
    for table in (store.obs, store.var, store.raw_var):
        if table is not None:
            _add_table(digest, table)
    for name, matrix in sorted(store.matrices.items()):
        digest.update(f"{name} {matrix.shape} {matrix.n_stored}".encode())
        n = matrix.shape[0]
        starts = np.unique(np.linspace(0, max(n - BLOCK_ROWS, 0), N_BLOCKS).astype(int))
        block = matrix.rows(np.unique(np.concatenate([np.arange(s, min(s + BLOCK_ROWS, n)) for s in starts])))
        block.sum_duplicates()
        for part in (block.indptr.astype(np.int64), block.indices.astype(np.int64), block.data):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _add_table(digest: Any, table: pd.DataFrame) -> None:
    digest.update("\0".join(map(str, table.columns)).encode())
    columns = [table.index.to_series(), *(table.iloc[:, place] for place in range(table.shape[1]))]
    for column in columns:
        if column.dtype.kind in "biuf":
            digest.update(np.ascontiguousarray(column).tobytes())
            continue
        # Equal values must hash alike, whether they are stored as text or as categories.
        codes, distinct = pd.factorize(np.asarray(column))
        digest.update(codes.astype(np.int64).tobytes() + "\0".join(map(str, distinct)).encode())
