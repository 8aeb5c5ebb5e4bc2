"""Files of cells that somebody prepared: to read other files through them, to run code, to fill the memory,
to break what shows them. Each is refused in one line that names it, or read as plain text."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import zarr
from scipy.io import mmwrite

from scx_core.cells import CellChoices, open_cells
from scx_core.cells.formats import label_files, self_contained, tenx
from scx_core.cells.formats.label_files import read_mapping
from scx_core.errors import ScxError
from tests.cells.good_cells import as_tenx_mtx, good_cells

SECRET = "a line of another file"
HUGE = 10**13


def h5ad(folder: Path, change: Callable[[h5py.File, Path], None]) -> Path:
    """Good cells, changed; beside them a file that is not theirs."""
    (folder / "secret.txt").write_text(SECRET * 400)
    secret = good_cells()
    secret.obs["cell_type"] = SECRET
    secret.write_h5ad(folder / "secret.h5ad")
    path = folder / "prepared.h5ad"
    good_cells().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        change(file, folder)
    return path


def external_link(file: h5py.File, folder: Path) -> None:
    del file["obs"]
    file["obs"] = h5py.ExternalLink(str(folder / "secret.h5ad"), "/obs")


def deep_external_link(file: h5py.File, folder: Path) -> None:
    file["uns/note"] = h5py.ExternalLink(str(folder / "secret.h5ad"), "/obs/cell_type")


def external_values(file: h5py.File, folder: Path) -> None:
    n, place = file["obs/_index"].shape[0], [(str(folder / "secret.txt"), 0, h5py.h5f.UNLIMITED)]
    made = file.create_dataset("obs/note", (n,), dtype="S20", external=place)
    made.attrs["encoding-type"], made.attrs["encoding-version"] = "string-array", "0.2.0"


def virtual_values(file: h5py.File, folder: Path) -> None:
    n = file["obs/_index"].shape[0]
    layout = h5py.VirtualLayout((n,), dtype="i8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5ad"), "obs/n", shape=(n,))
    file.create_virtual_dataset("obs/note", layout)


def huge_column(file: h5py.File, folder: Path) -> None:
    file.create_dataset("obs/note", (HUGE,), dtype="i8", chunks=(1024,))


def huge_index(file: h5py.File, folder: Path) -> None:
    del file["var/_index"]
    file.create_dataset("var/_index", (HUGE,), dtype=h5py.string_dtype(), chunks=(1024,))


PREPARED = {
    external_link: "obs.*link to another file",
    deep_external_link: "uns/note.*link to another file",
    external_values: "obs/note.*lie in another file",
    virtual_values: "obs/note.*lie in another file",
    huge_column: r"declares tables of .*GB",
    huge_index: r"declares tables of .*GB",
}


@pytest.mark.parametrize("change", PREPARED, ids=lambda change: change.__name__)
def test_an_h5ad_reads_no_other_file_and_fills_no_memory(
    change: Callable[[h5py.File, Path], None], tmp_path: Path
) -> None:
    with pytest.raises(ScxError, match=f"prepared.h5ad.*{PREPARED[change]}") as refused:
        open_cells(h5ad(tmp_path, change))
    assert SECRET[:12] not in str(refused.value) and refused.value.remedy


def test_a_link_within_the_file_is_followed(tmp_path: Path) -> None:
    def soft(file: h5py.File, folder: Path) -> None:
        file["obs/again"] = h5py.SoftLink("/obs/cell_type")
        file["uns/round"] = file["/"]

    assert open_cells(h5ad(tmp_path, soft)).n_cells == good_cells().n_obs


def prepared_zarr(folder: Path, change: Callable[[Path], None], version: int = 2) -> Path:
    ad.settings.zarr_write_format = version
    path = folder / "prepared.zarr"
    good_cells().write_zarr(path)
    change(path)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["obs/cell_type", "obs/_index/0", ".zgroup"])
def test_links_out_of_a_zarr_folder_are_refused(where: str, tmp_path: Path) -> None:
    def link(path: Path) -> None:
        place = path / where
        other = tmp_path / "other" / where
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place, other)
        place.symlink_to(other)

    with pytest.raises(ScxError, match=f"{where}.*link that leads out of its folder"):
        open_cells(prepared_zarr(tmp_path, link))


@pytest.mark.filterwarnings("ignore")
def test_zarr_does_not_unpickle(tmp_path: Path) -> None:
    def ask(path: Path) -> None:
        settings = next(path.glob("obs/**/.zarray"))
        record = json.loads(settings.read_text())
        settings.write_text(json.dumps(record | {"filters": [{"id": "pickle"}]}))

    with pytest.raises(ScxError, match=r"prepared.zarr.*Python objects.*run code"):
        open_cells(prepared_zarr(tmp_path, ask))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", [2, 3])
def test_zarr_declares_no_more_than_the_memory(version: int, tmp_path: Path) -> None:
    def declare(path: Path) -> None:
        group = zarr.open_group(str(path))
        group.create_array("obs/note", shape=(HUGE,), dtype="i8", chunks=(1024,))

    try:
        with pytest.raises(ScxError, match=r"prepared.zarr declares tables of .*GB"):
            open_cells(prepared_zarr(tmp_path, declare, version))
    finally:
        ad.settings.zarr_write_format = 2


def test_a_matrix_that_declares_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    as_tenx_mtx(good_cells(), tmp_path / "sample")
    matrix = next((tmp_path / "sample").glob("matrix.mtx*"))
    text = f"%%MatrixMarket matrix coordinate real general\n30 {HUGE} {HUGE}\n1 1 1\n".encode()
    matrix.write_bytes(gzip.compress(text) if matrix.suffix == ".gz" else text)
    with pytest.raises(ScxError, match=r"matrix.mtx.*declares .*values.*memory are free"):
        open_cells(tmp_path / "sample")


def test_packed_tables_are_unpacked_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenx, "LARGEST_TABLE", 1 << 20)
    monkeypatch.setattr(label_files, "LARGEST_FILE", 1 << 20)
    as_tenx_mtx(good_cells(), tmp_path / "sample")
    bomb = gzip.compress(b"\0" * (1 << 24))
    assert len(bomb) < 20_000
    labels = tmp_path / "labels.csv.gz"
    labels.write_bytes(bomb)
    with pytest.raises(ScxError, match=r"labels.csv.gz has more than 1 MiB when it is unpacked"):
        open_cells(tmp_path / "sample", CellChoices(labels_file=str(labels)))
    for part in (tmp_path / "sample").glob("barcodes.tsv*"):
        part.unlink()
    (tmp_path / "sample" / "barcodes.tsv.gz").write_bytes(bomb)
    with pytest.raises(ScxError, match=r"barcodes.tsv.gz.*more than 1 MiB"):
        open_cells(tmp_path / "sample")


ODD_TABLES = {
    "one field of megabytes": b"cell,cell_type\n" + b"x" * 200_000 + b",B\n",
    "no UTF-8": b"cell,cell_type\n\xff\xfe,\xc3\x28\n",
    "NUL": b"cell\0,cell_type\nA,B\n",
    "deep brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("content", ODD_TABLES.values(), ids=ODD_TABLES)
def test_odd_tables_of_labels_end_in_one_line(content: bytes, tmp_path: Path) -> None:
    good_cells().write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(ScxError, match="labels.csv"):
        open_cells(tmp_path / "cells.h5ad", CellChoices(labels_file=str(tmp_path / "labels.csv")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.json", b"[" * 100_000),
        ("m.json", b'{"B": ' + b"9" * 5000 + b"}"),
        ("m.json", b"\xff"),
        ("m.csv", b"label,answer\n" + b"x" * 200_000 + b",B\n"),
        ("m.csv", b"\xff"),
    ],
)
def test_odd_mappings_end_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScxError, match=name):
        read_mapping(tmp_path / name)


def test_half_characters_become_whole_ones(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(r'{"B\ud800": "x\udfff"}')
    assert read_mapping(tmp_path / "m.json") == {"B?": "x?"}

    def broken(file: h5py.File, folder: Path) -> None:
        kinds = file["obs/cell_type/categories"]
        raw = h5py.string_dtype("utf-8")
        values = [b"\xff\xfeB", *(str(one).encode() for one in kinds.asstr()[1:])]
        attributes = dict(kinds.attrs)
        del file["obs/cell_type/categories"]
        made = file.create_dataset("obs/cell_type/categories", data=np.array(values, dtype=object), dtype=raw)
        made.attrs.update(attributes)

    table = open_cells(h5ad(tmp_path, broken))
    for label in table.types:
        label.encode("utf-8")


def test_hostile_tables_are_read_as_text(tmp_path: Path) -> None:
    """Columns, categories and uns that are called anything."""
    from tests.builders.hostile import NAMES

    cells = good_cells()
    for k, name in enumerate(NAMES):
        cells.obs[f"{name.replace('/', '|')} {k}"] = NAMES[k]
    cells.uns["organism"] = "<script>alert(1)</script>"
    cells.uns["cell_type_colors"] = np.array(["javascript:alert(1)"] * 4)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    table = open_cells(tmp_path / "cells.h5ad")
    assert table.n_cells == cells.n_obs and table.types


def test_the_free_memory_is_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that fit are read, the same ones are refused where there is no room."""
    path = tmp_path / "cells.h5ad"
    good_cells().write_h5ad(path)
    assert open_cells(path).n_cells
    full = type("Full", (), {"available": 10})
    monkeypatch.setattr(self_contained.psutil, "virtual_memory", lambda: full)
    with pytest.raises(ScxError, match="10 bytes of memory are free"):
        open_cells(path)
    mmwrite(tmp_path / "m.mtx", good_cells().X)
    with pytest.raises(ScxError, match="10 bytes of memory are free"):
        tenx._check_size(tmp_path / "m.mtx")
