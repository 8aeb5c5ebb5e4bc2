"""From a source to its store: finds out what a path is and hands it to the module that reads it; an uploaded
file becomes a path first."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from anndata import read_h5ad

from scx_core.cells.planted import PLANTED, planted_store
from scx_core.errors import ScxError
from scx_core.runs.files import portable, replace_atomic

from .anndata_files import is_anndata, is_mudata, open_hdf5, read_h5ad_store, read_mudata, read_zarr_store
from .guarded_reads import reading
from .raw_cells import Store, from_anndata
from .tenx import MTX, find_mtx_parts, is_tenx, read_mtx_folder, read_tenx_h5

EMBEDDED = "embedded"
FORMATS = "an .h5ad file, a .zarr folder, a 10x .h5 file or a 10x folder with matrix.mtx"
_CONVERT = {
    ".rds": "In R, convert it with sceasy or zellkonverter to .h5ad.",
    ".h5seurat": "In R, convert it with SeuratDisk::Convert to .h5ad.",
    ".loom": "Convert it: anndata.io.read_loom(path).write_h5ad('cells.h5ad').",
    ".csv": "Convert it: anndata.io.read_csv(path).write_h5ad('cells.h5ad'), with a label column in obs.",
    ".tsv": "Convert it to .h5ad with anndata, with a label column in obs.",
    ".txt": "Convert it to .h5ad with anndata, with a label column in obs.",
    ".gz": "Unpack it first.",
    ".zip": "Unpack it first.",
    ".tar": "Unpack it first.",
}


def open_store(source: Any, genome: str | None = None) -> Store:
    """Open any supported source; ScxError says what is wrong with a path and what would work."""
    if hasattr(source, "obs") and hasattr(source, "var_names"):
        return from_anndata(source, "AnnData object", None, "AnnData object")
    if not isinstance(source, str | os.PathLike):
        raise ScxError(f"Cells cannot be opened from a {type(source).__name__}.", f"Give {FORMATS}.")
    if str(source).strip() == EMBEDDED:
        return embedded_store()
    if str(source).strip() == PLANTED:
        return planted_store()
    path = _existing(str(source))
    # Any look into a damaged file can fail, the first as well as the last.
    with reading(path.name):
        return _open_path(path, genome)


def _existing(source: str) -> Path:
    if not source.strip() or "\0" in source:
        raise ScxError("No path is given.", f"Give {FORMATS}, or '{EMBEDDED}'.")
    if re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]+://", source):  # a drive of Windows has one letter
        raise ScxError(
            f"{source.strip()[-80:]} is an address; cells are read from this computer.",
            "Download the file, and give its path.",
        )
    path = Path(source.strip()).expanduser()
    with reading(path.name[-80:]):
        there = path.exists()
        near = path.parent if not there and path.parent.is_dir() else None
    if not there:
        seen: list[str] = []
        with suppress(OSError):  # of hundreds of steps up, the folder is there and its path too long
            same = (entry.name for entry in (near.iterdir() if near else ()) if entry.suffix == path.suffix)
            seen = sorted(same)[:4]
        beside = f" In that folder there are: {', '.join(seen)}." if seen else ""
        raise ScxError(f"There is no file or folder {path}.", f"Check the path.{beside}")
    return path


def _open_path(path: Path, genome: str | None) -> Store:
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        if not names:
            raise ScxError(f"The folder {path.name} is empty.", f"Give {FORMATS}.")
        if {".zgroup", "zarr.json", ".zattrs", ".zmetadata"} & set(names):
            return read_zarr_store(path)
        if any(MTX.fullmatch(name) for name in names):
            return read_mtx_folder(path, find_mtx_parts(path), genome)
        inside = [name for name in names if name.lower().endswith((".h5ad", ".h5", ".zarr"))]
        remedy = (
            f"Give the path of one of its files: {', '.join(inside[:4])}." if inside else f"Give {FORMATS}."
        )
        listed = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
        raise ScxError(f"The folder {path.name} holds no cells that can be opened (it has {listed}).", remedy)
    if not path.is_file():
        raise ScxError(f"{path} is neither a file nor a folder.", f"Give {FORMATS}.")
    if path.stat().st_size == 0:
        raise ScxError(f"{path.name} is empty (0 bytes).", "Download or write the file again.")
    suffix = path.suffix.lower()
    if MTX.fullmatch(path.name):
        return read_mtx_folder(path.parent, find_mtx_parts(path.parent, path.name), genome)
    if suffix in (".h5ad", ".h5", ".hdf5", ".h5mu"):
        return _open_hdf5(path, genome)
    raise ScxError(
        f"{path.name}: files that end in '{suffix}' cannot be opened as cells.",
        _CONVERT.get(suffix, f"Give {FORMATS}."),
    )


def _open_hdf5(path: Path, genome: str | None) -> Store:
    file = open_hdf5(path)
    if is_mudata(file):
        return read_mudata(path, file, "h5mu")
    if is_anndata(file):
        return read_h5ad_store(path, file)
    if is_tenx(file):
        return read_tenx_h5(path, file, genome)
    keys = ", ".join(sorted(file)[:8]) or "nothing"
    file.close()
    raise ScxError(
        f"{path.name} is an HDF5 file, but neither an AnnData (no obs and var) nor a 10x matrix: "
        f"it holds {keys}.",
        f"Give {FORMATS}.",
    )


def embedded_store() -> Store:
    """scanpy's own 700 blood cells. The file is read directly: importing scanpy would take seconds."""
    spec = importlib.util.find_spec("scanpy")
    if spec is None or spec.origin is None:
        raise ScxError(
            "The embedded cells come with scanpy, which is not installed.", "Run: pip install scanpy"
        )
    path = Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    if path.is_file():
        with reading(path.name):
            adata = read_h5ad(path)
        return from_anndata(adata, "pbmc68k_reduced", path, "scanpy package data")
    from scanpy.datasets import pbmc68k_reduced  # another layout of the package: ask it

    with reading("scanpy's pbmc68k_reduced"):
        return from_anndata(pbmc68k_reduced(), "pbmc68k_reduced", None, "scanpy package data")


def keep_upload(name: str, content: io.BytesIO | io.BufferedReader, folder: Path) -> Path:
    """Write `content` to `folder/SHA256/NAME` and return that path; the same content is written once.

    Cells are read row by row from disk, not from memory. `name` comes from a browser: only its last part
    counts, without characters that a shell, a file system or a page would read as more than a name. Raises
    ScxError when the disk is full.
    """
    content.seek(0)
    digest = hashlib.file_digest(content, "sha256").hexdigest()
    path = folder / digest[:16] / upload_name(name)

    def copy(temporary: Path) -> None:
        content.seek(0)
        with open(temporary, "wb") as file:
            shutil.copyfileobj(content, file)

    if not path.exists():
        replace_atomic(path, copy)
    return path


def upload_name(name: str) -> str:
    """A plain file name of every system that keeps its endings, as the ending says what the file is."""
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^A-Za-z0-9._ -]+", "_", last).strip(". ")
    return portable(plain[-80:].lstrip(". -")) or "upload"
