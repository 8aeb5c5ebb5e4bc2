"""The seed paper's experiments: a type and genes for any file, the whole dry run at tiny dimensions."""

from __future__ import annotations

import json

import pytest

from scx_core.bench.dry_run import ATLAS_FILE, CHECKPOINT, TYPES, DryRunConfig, dry_run, write_cells
from scx_core.cells import open_cells
from scx_core.errors import ScxError
from scx_core.evidence.reproduce import PAPER_GENES, reproduction_text, type_and_genes
from tests.tiny import tiny_table

TINY = DryRunConfig(
    layers=2, width=16, heads=2, vocabulary=800, cells_a_type=4, file_genes=120, n_genes=8, expansion=2
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dry") / "run"
    return folder, dry_run(folder, cfg=TINY)


def test_the_files_have_the_form_of_the_real_ones(done):
    folder, _ = done
    assert not (folder / CHECKPOINT / "scx.json").exists()  # nothing of ours in a released checkpoint
    table = open_cells(str(folder / ATLAS_FILE))
    assert set(table.types) == set(TYPES)
    assert set(PAPER_GENES) <= set(map(str, table.symbols))  # symbols found beside the Ensembl index
    assert table.donors is not None
    assert table.values_kind == "counts"


def test_every_step_of_the_real_way_runs_and_says_what_it_took(done):
    found = done[1].found
    steps = [one.step for one in found.spent]
    assert steps[-3:] == ["losses", "features", "circuit"]
    assert all(one.cpu_seconds >= 0 and one.peak_gib > 0 for one in found.spent)
    assert found.model == CHECKPOINT
    assert found.circuit["type"] == "Endothelial cell"
    assert [row["gene"] for row in found.circuit["genes"]] == list(PAPER_GENES)
    figures = found.losses["figures"]
    assert (figures["ce_orig"]["paper"], figures["kl"]["paper"]) == (2.48, 2.406)
    assert figures["ce_orig"]["here"] == pytest.approx(6.7, abs=0.3)  # log 800: random weights know nothing
    drawn = found.features["drawn"]
    assert 0 < drawn["any"]["n"] <= 20
    assert drawn["biology"]["k"] <= drawn["any"]["k"]
    assert {"random directions", "activations shuffled", "genes shuffled"} <= set(found.features["rivals"])
    text = reproduction_text(json.loads(json.dumps(done[1].to_json()))["found"])
    assert "paper 12.67" in text and "7 of 20" in text and "VWF" in text


def test_a_folder_that_holds_something_is_left_alone(done):
    with pytest.raises(ScxError, match="not empty"):
        dry_run(done[0], cfg=TINY)


def test_the_type_is_endothelial_where_there_is_one_else_a_stated_analogue(tmp_path):
    write_cells(tmp_path / "heart.h5ad", TINY)
    heart = open_cells(str(tmp_path / "heart.h5ad"))
    assert type_and_genes(heart, None, None) == ("Endothelial cell", PAPER_GENES)  # not the lymphatic ones
    assert type_and_genes(heart, "Myeloid", ["CD14"]) == ("Myeloid", ("CD14",))
    with pytest.raises(ScxError, match="no genes are known here for 'Myeloid'"):
        type_and_genes(heart, "Myeloid", None)
    assert type_and_genes(tiny_table(8), None, None) == ("CD19+ B", ("CD79A", "CD79B", "MS4A1"))
    with pytest.raises(ScxError, match="no type 'Hepatocyte'"):
        type_and_genes(heart, "Hepatocyte", None)
