from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.cells import CellChoices, Split, open_cells, split_cells, with_choosing
from scx_core.cells.split import donors_in_words
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


@pytest.mark.parametrize(
    "change",
    [
        {"train": None}, {"seed": "x"}, {"held_out": [1]}, {"train": [10**400]}, {"train": [1.9]},
        {"train": ["3"]}, {"train": [True]}, {"train": [-1]}, {"train": [4, 4]}, {"train": [[1, 2]]},
        {"held_out": {"1": 2}}, {"seed": float("inf")}, {"held_out_share": 10**400},
    ],
)  # fmt: skip
def test_damaged_json_is_rejected(adata, change: dict) -> None:
    record = split_cells(open_cells(adata)).to_json() | {"train": [1, 2]} | change
    with pytest.raises(ScxError, match="split"):
        Split.from_json(record)


@pytest.mark.parametrize(("share", "by"), [(0, "random"), (1.0, "random"), (0.1, "moon")])
def test_settings_that_cannot_work(adata, share: float, by: str) -> None:
    with pytest.raises(ScxError):
        split_cells(open_cells(adata), share, by)


@pytest.mark.parametrize("by", ["stratified", "random", "donor"])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_three_parts_are_disjoint_cover_all_cells_and_come_back(adata, by: str, share: float) -> None:
    table = open_cells(adata)
    split = split_cells(table, 0.2, by, seed=3, choose=share)
    parts = (split.train, split.choose, split.held_out)
    assert all(len(part) and (np.diff(part) > 0).all() for part in parts)
    everyone = np.concatenate(parts)
    assert len(set(everyone.tolist())) == len(everyone), "no cell twice"
    np.testing.assert_array_equal(np.sort(everyone), np.flatnonzero(table.labels != ""))
    again = split_cells(table, 0.2, by, seed=3, choose=share)
    for part, same in zip(parts, (again.train, again.choose, again.held_out), strict=True):
        np.testing.assert_array_equal(part, same)
    other = split_cells(table, 0.2, by, seed=4, choose=share)
    assert split.choose.tolist() != other.choose.tolist() or by == "donor"
    np.testing.assert_array_equal(split.held_out, split_cells(table, 0.2, by, seed=3).held_out)
    read = Split.from_json(json.loads(json.dumps(split.to_json())))
    assert read.choose.tolist() == split.choose.tolist() and read.choose_by == by
    if by != "donor":
        assert len(split.choose) / len(everyone) == pytest.approx(share, abs=0.03)


def test_choosing_cells_are_of_every_type_that_has_enough(adata) -> None:
    table = open_cells(adata)
    split = split_cells(table, 0.1, choose=0.1)
    assert set(table.labels[split.choose]) == set(table.types) - {"rare", "single"}
    assert set(table.labels[split.train]) == set(table.types)


def test_donors_of_all_three_parts_are_kept_apart(adata) -> None:
    adata.obs["donor"] = np.array(list("abcdef"))[np.arange(adata.n_obs) % 6]
    table = open_cells(adata)
    for seed in range(5):
        split = split_cells(table, 0.2, "donor", seed, 0.2)
        donors = [set(table.donors[part]) for part in (split.train, split.choose, split.held_out)]
        assert sum(map(len, donors)) == len(set.union(*donors)) == 6 and all(donors)


def test_where_one_donor_is_left_its_cells_are_divided_and_that_is_said(adata) -> None:
    adata.obs["donor"] = ["a", "b"] * 60
    table = open_cells(adata)
    split = split_cells(table, 0.4, "donor", choose=0.1)
    assert not set(table.donors[split.held_out]) & set(table.donors[np.r_[split.train, split.choose]])
    assert split.choose_by == "stratified" and len(split.choose)
    assert "too few for donors of their own" in split.words


def test_a_split_of_two_parts_stays_as_it_was_and_says_who_chose(adata) -> None:
    table = open_cells(adata)
    old = split_cells(table, seed=2)
    assert not len(old.choose) and "choose" not in old.to_json()
    assert old.choosing.tolist() == old.held_out.tolist()
    assert "the test cells" in old.words
    new = with_choosing(table, Split.from_json(old.to_json()), 0.1)
    assert set(new.choose) < set(old.train) and new.held_out.tolist() == old.held_out.tolist()
    assert with_choosing(table, new, 0.3) is new
    assert new.choosing.tolist() == new.choose.tolist() and "to choose on" in new.words


def test_a_part_that_overlaps_or_a_share_too_large_is_refused(adata) -> None:
    table = open_cells(adata)
    record = split_cells(table, choose=0.1).to_json()
    with pytest.raises(ScxError, match="two of its parts"):
        Split.from_json(record | {"choose": record["train"][:1]})
    for share in (-0.1, 1.0, 0.95):
        with pytest.raises(ScxError, match="share"):
            split_cells(table, 0.1, choose=share)


def test_shared_donors_are_said_with_their_number_and_the_way_to_part_them(adata) -> None:
    table = open_cells(adata)
    n = len(set(table.donors.tolist()))
    words = donors_in_words(table, split_cells(table, 0.25))
    assert f"{n} of the {n} donors" in words and "--split-by donor" in words and "stratified" in words
    assert "kept apart" in donors_in_words(table, split_cells(table, 0.25, by="donor"))
    del adata.obs["donor"]
    assert "not known" in donors_in_words(open_cells(adata), split_cells(open_cells(adata), 0.25))
    adata.obs["donor"] = "one"
    assert "one donor" in donors_in_words(open_cells(adata), split_cells(open_cells(adata), 0.25))


def test_the_check_list_says_that_donors_are_shared_unless_split_by_donor(adata) -> None:
    table = open_cells(adata)
    (donor,) = (one for one in table.findings if one.topic == "donor")
    assert "donors are shared between training and test" in donor.evidence
