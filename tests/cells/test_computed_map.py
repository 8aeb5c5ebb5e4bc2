"""A map for cells whose file has none: of these cells alone, the same each time, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scx_core.cells import open_cells
from scx_core.cells.computed_map import computed_map


@pytest.mark.slow
def test_types_lie_apart_in_a_map_that_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCX_RUNS", str(tmp_path))
    table = open_cells("embedded")
    xy = computed_map(table)
    assert xy.shape == (table.n_cells, 2) and np.isfinite(xy).all()
    distance_CC = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(distance_CC, np.inf)
    same = (table.labels[distance_CC.argmin(1)] == table.labels).mean()
    chance = float(((table.cells_per_type() / table.n_cells) ** 2).sum())
    assert same > chance + 0.3


def test_a_map_is_kept_and_made_again_where_its_file_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCX_RUNS", str(tmp_path))
    made: list[int] = []

    def umap(table: object, seed: int) -> np.ndarray:
        made.append(seed)
        return np.full((700, 2), float(len(made)), dtype=np.float32)

    monkeypatch.setattr("scx_core.cells.computed_map._umap", umap)
    table = open_cells("embedded")
    assert (computed_map(table) == computed_map(table)).all() and made == [0]
    (kept,) = (tmp_path / "maps").iterdir()
    kept.write_bytes(b"broken")
    assert computed_map(table)[0, 0] == 2.0 and computed_map(table, seed=1)[0, 0] == 3.0
