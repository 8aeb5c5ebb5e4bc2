"""An atlas read back is the atlas that was saved; its questions are answered; labels keep author and time."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scx_core.atlas import Atlas, AtlasConfig, make_atlas
from scx_core.atlas.tables.atlas import rows_where
from scx_core.errors import ScxError
from scx_core.runs import sha256_of
from tests.atlas.planted import planted


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def atlas(case):
    return make_atlas(case.lm, case.transcoders, case.table, range(40), AtlasConfig(batch=16))


@pytest.fixture
def saved(atlas, tmp_path):
    return atlas.save(tmp_path / "atlas")


def test_saved_and_opened_is_the_same(atlas, saved):
    opened = Atlas.open(saved.folder)
    pd.testing.assert_frame_equal(opened.features, atlas.features)
    pd.testing.assert_frame_equal(opened.beside["neurons"].shares, atlas.beside["neurons"].shares)
    assert opened.meta == atlas.meta


def test_the_same_inputs_give_the_same_files(case, saved, tmp_path):
    again = make_atlas(case.lm, case.transcoders, case.table, range(40), AtlasConfig(batch=16))
    again.save(tmp_path / "again")
    assert sha256_of(tmp_path / "again") == sha256_of(saved.folder)


def test_the_batch_size_changes_nothing_but_rounding(case, atlas):
    other = make_atlas(case.lm, case.transcoders, case.table, range(40), AtlasConfig(batch=7))
    assert (other.features["verdict"] == atlas.features["verdict"]).all()
    one, two = (made.table("examples") for made in (other, atlas))
    key = ["layer", "feature", "kind", "order"]
    pd.testing.assert_frame_equal(one[key], two[key])
    np.testing.assert_allclose(one["value"], two["value"], rtol=1e-4)
    places = ["row", "position"]
    same = (one[places] == two[places]).all(axis=1)
    assert same.mean() > 0.99, "only examples that tie to the last digit may change places"


def test_one_feature(case, saved):
    number = case.truth.index("gene")
    found = saved.feature(0, number)
    assert found.row["feature"] == number
    assert set(found.genes["gene"].head(len(case.genes[number]))) == case.genes[number]
    top = found.examples[found.examples["kind"] == "top"]
    assert set(top["gene"]) <= case.genes[number] and top["row"].is_unique
    for one in top.itertuples():
        here = one.position - one.start
        assert one.values[here] == one.value
        assert one.texts[here].strip() in one.gene


def test_the_features_of_a_gene(case, saved):
    number = case.truth.index("gene")
    gene = next(iter(case.genes[number]))
    found = saved.gene(gene.lower())
    assert number in found.loc[found["reads"] > 0.1, "feature"].tolist()
    with pytest.raises(ScxError, match="NOGENE"):
        saved.gene("NoGene")


def test_a_gene_is_found_on_disk_as_in_memory(atlas, saved):
    genes = [gene for gene in atlas.table("slots")["gene"].astype(str).unique() if gene]
    for gene in genes[:10]:
        pd.testing.assert_frame_equal(saved.gene(gene), atlas.gene(gene))


def test_rows_of_a_text_lie_in_any_group(tmp_path):
    names = sorted(f"G{number}" for number in range(40) for _ in range(number % 4))
    table = pa.table({"gene": pa.array(names).dictionary_encode(), "n": list(range(len(names)))})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=7)
    for gene in {*names, "A", "G11A", "Z"}:
        wanted = [n for n, name in enumerate(names) if name == gene]
        assert rows_where(tmp_path / "rows.parquet", "gene", gene, ["n"])["n"].to_pylist() == wanted
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ScxError, match=r"rows\.parquet could not be read"):
        rows_where(tmp_path / "rows.parquet", "gene", "A", ["n"])


def test_labels_of_people_win_and_can_be_taken_back(case, saved):
    number = case.truth.index("gene")
    name, automatic = f"L0·{number}", saved.labels()[f"L0·{case.truth.index('gene')}"]
    given = saved.give_label(0, number, " my\nlabel ", "A. B.")
    assert (given.label, given.author) == ("my label", "A. B.") and given.time.endswith("+00:00")
    assert Atlas.open(saved.folder).labels()[name] == "my label"
    saved.give_label(0, number, "", "A. B.")
    assert saved.labels()[name] == automatic
    with pytest.raises(ScxError, match="author"):
        saved.give_label(0, number, "x", " ")
    with pytest.raises(ScxError, match="no feature 100000"):
        saved.give_label(0, 100000, "x", "me")


def test_a_folder_that_is_not_whole_is_refused(saved):
    (saved.folder / "genes.parquet").unlink()
    with pytest.raises(ScxError, match=r"genes\.parquet"):
        Atlas.open(saved.folder)
    (saved.folder / "atlas.json").unlink()
    with pytest.raises(ScxError, match=r"atlas\.json"):
        Atlas.open(saved.folder)


def test_many_slots_and_units_give_the_same_atlas(case, atlas, monkeypatch):
    monkeypatch.setattr("scx_core.atlas.collect.tally.DENSE_BYTES", 0)
    monkeypatch.setattr("scx_core.atlas.judge.unit_figures.BLOCK", 33)
    other = make_atlas(case.lm, case.transcoders, case.table, range(40), AtlasConfig(batch=16))
    # Masses that are equal but for their last digit stand in any order.
    by_order = ["genes", "label"]
    pd.testing.assert_frame_equal(
        other.features.drop(columns=by_order),
        atlas.features.drop(columns=by_order),
        check_exact=False,
        rtol=1e-4,
    )
    assert [set(names.split()) for names in other.features["genes"]] == [
        set(names.split()) for names in atlas.features["genes"]
    ]
    genes = [
        one.table("genes").sort_values(["layer", "feature", "gene"], ignore_index=True)
        for one in (other, atlas)
    ]
    pd.testing.assert_frame_equal(*genes, check_exact=False, rtol=1e-4)
