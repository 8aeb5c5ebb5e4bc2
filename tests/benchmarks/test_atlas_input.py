"""The benchmark of a whole atlas, on 3,000 cells and a tiny model: every step in this process."""

import json

import numpy as np
import pytest

from scx_core.bench.atlas_file import AtlasShape, symbols_of, write_atlas
from scx_core.bench.atlas_input import bench_atlas_input, tell
from scx_core.cells import open_cells
from scx_core.errors import ScxError
from tests.tiny import LABELS, save_tiny

SHAPE = AtlasShape(3000, n_genes=1500, detected=60, donors=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    write_atlas(folder / "atlas.h5ad", SHAPE, LABELS)
    return folder


def test_a_made_up_atlas_is_understood(folder):
    table = open_cells(folder / "atlas.h5ad")
    assert (table.n_cells, table.n_genes, table.types) == (3000, 1460, sorted(LABELS))
    assert (table.choices.label, table.choices.donor, table.values_kind) == ("cell_type", "donor", "counts")
    assert set(table.symbols) == set(symbols_of(1500)) and len(set(table.donors)) == 6
    found = table.rows(np.arange(300))
    assert found.has_canonical_format and 55 < np.diff(found.indptr).mean() < 65
    twice = table.matrix.rows(np.arange(300)).sum()
    assert found.sum() == twice, "what stands under a symbol twice is summed"


def test_every_step_says_how_long_it_took(folder, tmp_path_factory, capfd):
    model = str(save_tiny(tmp_path_factory.mktemp("model")))
    for stage in ("open", "tokens", "train"):
        tell(stage, str(folder), model, "4")
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(rows) == 5 and all(row["cpu_seconds"] > 0 and row["peak_gib"] > 0.1 for row in rows)
    written = next(row for row in rows if row["what"] == "written as tokens")
    # of six donors of 500 cells, one to test and one to choose
    assert written["cells"] == 2000 and written["cells_per_cpu_second"] > 0
    assert rows[-1]["steps"] == 3 and "stopped" in rows[-1]["what"]


def test_a_disk_without_room_is_said_before(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Disk", (), {"free": 1e6}))
    with pytest.raises(ScxError, match=r"less than the 9\.8 GB"):
        bench_atlas_input(tmp_path)
