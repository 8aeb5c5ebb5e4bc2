"""What is looked at before a file of cells is read: a prepared one could name other files to read from, code
to run, or arrays that fill the memory.

HDF5 can link to objects in other files and take a dataset's bytes, or parts of it, from any file; zarr can
unpickle, and its chunks can be links. Both can declare arrays of any size that hold nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from scx_core.errors import ScxError
from scx_core.runs.files import check_inside, in_words

from .guarded_reads import reading

_IN_PIECES = ("data", "indices")  # of a sparse matrix: never read whole
_METADATA = (".zarray", "zarr.json")
_RUNS_CODE = "pickle"
_ALONE = "Save it again as one file: open it with anndata and call write_h5ad."


def check_hdf5(path: Path, file: h5py.File) -> None:
    """Raises ScxError when an HDF5 file takes something from another file, or declares tables that are larger
    than the free memory."""
    declared: list[int] = []

    def item(name: str, one: Any) -> str | None:
        """The name of a dataset whose values lie elsewhere, which ends the visit (an error may not)."""
        if not isinstance(one, h5py.Dataset):
            return None
        if one.shape is not None and one.ndim == 1 and name.rpartition("/")[2] not in _IN_PIECES:
            declared.append(one.size * one.dtype.itemsize)
        virtual = one.is_virtual and any(source.file_name != "." for source in one.virtual_sources())
        return name if one.external or virtual else None

    with reading(path.name):
        link = file.visititems_links(lambda name, one: name if isinstance(one, h5py.ExternalLink) else None)
        values = file.visititems(item)
    if link is not None:
        problem = f"{path.name}: {_short(link)} is a link to another file, which is not followed."
        raise ScxError(problem, _ALONE)
    if values is not None:
        problem = f"{path.name}: the values of {_short(values)} lie in another file, which is not read."
        raise ScxError(problem, _ALONE)
    _check_size(path, declared)


def check_zarr(path: Path) -> None:
    """Raises ScxError when something in a zarr folder is a link out of it, an array asks for code to be run,
    or tables are declared that are larger than the free memory."""
    declared = []
    with reading(path.name):
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                check_inside(Path(folder) / name, path)
            for name in set(files) & set(_METADATA):
                declared += _declared(Path(folder) / name, path)
    _check_size(path, declared)


def _declared(file: Path, path: Path) -> list[int]:
    """Bytes of an array of one dimension; none for groups and matrices."""
    record = json.loads(file.read_text("utf-8"))
    if not isinstance(record, dict) or "shape" not in record:
        return []
    if _RUNS_CODE in _ids(record):
        problem = f"{path.name}: {_short(str(file.parent.relative_to(path)))} is stored as Python objects."
        raise ScxError(problem, "Reading them could run code: save it anew with anndata.")
    shape = record["shape"]
    if file.parent.name in _IN_PIECES or len(shape) != 1:
        return []
    try:
        width = np.dtype(record.get("dtype", record.get("data_type"))).itemsize
    except (TypeError, ValueError):
        width = 16  # a text
    return [int(math.prod(shape)) * width]


def _ids(record: Any) -> set[str]:
    """The ids and names of codecs anywhere in the metadata of an array."""
    if isinstance(record, dict):
        own = {str(record[key]).rpartition(".")[2].lower() for key in ("id", "name") if key in record}
        return own.union(*map(_ids, record.values()))
    return set().union(*map(_ids, record)) if isinstance(record, list) else set()


def _check_size(path: Path, declared: Iterable[int]) -> None:
    total, free = sum(declared), psutil.virtual_memory().available
    if total > free:
        raise ScxError(
            f"{path.name} declares tables of {in_words(total)}, and {in_words(free)} of memory are free.",
            "Check where the file comes from; if it is meant so, open it on a larger machine.",
        )


def _short(name: str) -> str:
    return repr(name[:80])
