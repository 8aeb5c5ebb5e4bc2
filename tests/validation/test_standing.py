"""What validation says of a model and its set is kept and found again, the fittest of several."""

from __future__ import annotations

from pathlib import Path

from scx_core.validation.standing import FOLDER, keep_validation, kept_validation, standing_of
from scx_core.validation.warnings import judged
from tests.validation.test_warnings import GOOD


def made_from(data: str, model: str = "m", coders: str = "t") -> dict:
    return {
        "data": {"name": f"{data}.h5ad", "fingerprint": data},
        "model": {"fingerprint": model},
        "transcoders": {"fingerprint": coders},
    }


def test_the_same_cells_come_before_more_cells_and_other_sets_never(tmp_path: Path):
    assert standing_of(made_from("a"), root=tmp_path) is None
    keep_validation(GOOD._replace(provenance=made_from("a"), n_cells=70), tmp_path)
    keep_validation(GOOD._replace(provenance=made_from("b"), n_cells=900), tmp_path)
    keep_validation(GOOD._replace(provenance=made_from("a", coders="other"), n_cells=5000), tmp_path)
    here, elsewhere = (standing_of(made_from(data), root=tmp_path) for data in ("a", "c"))
    assert here is not None
    assert elsewhere is not None
    assert (here.n_cells, here.same_data, here.read, here.words) == (70, True, *judged(GOOD))
    # measured on other cells, nobody knows how they do on these
    assert (elsewhere.n_cells, elsewhere.data, elsewhere.read) == (900, "b.h5ad", "with care")


def test_a_model_that_needs_no_mlps_is_not_to_be_read_on_any_cells(tmp_path: Path):
    bad = GOOD._replace(provenance=made_from("a"), ce_zero=1.9)
    keep_validation(bad, tmp_path)
    for data in ("a", "c"):
        found = standing_of(made_from(data), root=tmp_path)
        assert found is not None
        assert (found.read, found.words[:11]) == ("no", "Do not read")


def test_a_measured_table_is_found_again_and_a_damaged_one_passed_over(tmp_path: Path):
    path = keep_validation(GOOD._replace(provenance=made_from("a")), tmp_path)
    assert path is not None
    found = kept_validation(made_from("a"), tmp_path)
    assert found is not None
    assert found.n_cells == GOOD.n_cells
    assert kept_validation(made_from("b"), tmp_path) is None
    path.write_text('{"n_cells": 3}')
    assert kept_validation(made_from("a"), tmp_path) is None
    assert standing_of(made_from("a"), root=tmp_path) is None
    assert list((tmp_path / FOLDER).iterdir()) == [path]


def test_a_folder_that_cannot_be_written_loses_no_result(tmp_path: Path):
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    assert keep_validation(GOOD._replace(provenance=made_from("a")), tmp_path) is None
    assert standing_of(made_from("a"), root=tmp_path) is None
