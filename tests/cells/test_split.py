from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.cells import CellChoices, Split, open_cells, split_cells
from scx_core.errors import ScxError
from tests.cells.good_cells import good_cells


@pytest.fixture
def adata():
    adata = good_cells()
    labels = adata.obs["cell_type"].astype(str)
    labels.iloc[:4] = ["rare", "rare", "single", ""]
    adata.obs["cell_type"] = labels
    return adata


@pytest.mark.parametrize("by", ["stratified", "random", "donor"])
def test_every_labelled_cell_is_on_one_side(adata, by: str) -> None:
    split = split_cells(open_cells(adata), by=by, seed=3)
    both = np.sort(np.concatenate([split.train, split.held_out]))
    np.testing.assert_array_equal(both, np.flatnonzero(adata.obs["cell_type"] != ""))
    assert split.held_out_share == pytest.approx(len(split.held_out) / len(both))


def test_stratified_holds_out_some_of_each_type_but_never_all(adata) -> None:
    table = open_cells(adata)
    split = split_cells(table, 0.1)
    held, kept = set(table.labels[split.held_out]), set(table.labels[split.train])
    assert held == set(table.types) - {"single"}
    assert kept == set(table.types)
    assert split.held_out_share == pytest.approx(0.1, abs=0.02)


def test_donors_are_kept_apart(adata) -> None:
    table = open_cells(adata)
    split = split_cells(table, 0.25, by="donor")
    assert not set(table.donors[split.train]) & set(table.donors[split.held_out])
    assert 0.1 < split.held_out_share < 0.45


def test_cells_without_donor_are_on_neither_side(adata) -> None:
    adata.obs["donor"] = ["", *adata.obs["donor"][1:]]
    split = split_cells(open_cells(adata), by="donor")
    assert 0 not in np.concatenate([split.train, split.held_out])


def test_one_donor_of_two_is_held_out_even_if_big(adata) -> None:
    adata.obs["donor"] = ["a", "b"] * 60
    table = open_cells(adata)
    split = split_cells(table, 0.05, by="donor")
    assert set(table.donors[split.held_out]) in ({"a"}, {"b"})


@pytest.mark.parametrize(
    ("donor", "words"), [(None, "all labelled cells have the donor 'x'"), ("-", "no donor column")]
)
def test_impossible_donor_splits_are_explained(adata, donor, words: str) -> None:
    adata.obs["donor"] = "x"
    with pytest.raises(ScxError, match=words) as caught:
        split_cells(open_cells(adata, CellChoices(donor=donor)), by="donor")
    assert "stratified" in caught.value.remedy


def test_seed_decides(adata) -> None:
    table = open_cells(adata)
    first, same, other = (split_cells(table, seed=seed).held_out.tolist() for seed in (0, 0, 1))
    assert first == same
    assert first != other


def test_json_round_trip(adata) -> None:
    split = split_cells(open_cells(adata), seed=5)
    again = Split.from_json(json.loads(json.dumps(split.to_json())))
    np.testing.assert_array_equal(again.train, split.train)
    np.testing.assert_array_equal(again.held_out, split.held_out)
    assert (again.by, again.seed, again.held_out_share) == (split.by, split.seed, split.held_out_share)


@pytest.mark.parametrize("change", [{"train": None}, {"seed": "x"}, {"held_out": [1]}])
def test_damaged_json_is_rejected(adata, change: dict) -> None:
    record = split_cells(open_cells(adata)).to_json() | {"train": [1, 2]} | change
    with pytest.raises(ScxError, match="split"):
        Split.from_json(record)


@pytest.mark.parametrize(("share", "by"), [(0, "random"), (1.0, "random"), (0.1, "moon")])
def test_settings_that_cannot_work(adata, share: float, by: str) -> None:
    with pytest.raises(ScxError):
        split_cells(open_cells(adata), share, by)
