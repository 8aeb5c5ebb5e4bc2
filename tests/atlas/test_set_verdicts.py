"""Sets held against data, and an atlas judged with them: planted sets are found, misfits are said."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scx_core.atlas import Atlas, AtlasConfig, EnrichConfig, make_atlas, with_gene_sets
from scx_core.atlas.gene_sets.enrich import enrich, feature_genes
from scx_core.atlas.gene_sets.gmt import HUMAN, MOUSE, GeneSet, GeneSets, read_gmt
from scx_core.atlas.gene_sets.rule import PERMUTED
from scx_core.atlas.gene_sets.set_readers import open_gene_sets, write_gmt
from scx_core.atlas.gene_sets.shared_genes import FitConfig, fit_sets
from scx_core.errors import ScxError
from tests.atlas.planted import planted


def sets_of(*rows, spelling=HUMAN):
    sets = tuple(GeneSet(f"S{number}", tuple(genes.split())) for number, genes in enumerate(rows))
    return GeneSets("mine", sets, spelling)


GENES = ["IGJ", "CD19", "MS4A1", "CD79A", "LYZ", "CST3", "GNB2L1", "ACTB"]


def test_sets_are_cut_to_the_data_and_former_names_count():
    found = fit_sets(sets_of("JCHAIN CD19 MS4A1 PAX5", "LYZ CST3", "RACK1 ACTB LYZ XIST"), GENES)
    assert [one.name for one in found.sets] == ["S0", "S2"]
    members = [[GENES[g] for g in row.indices] for row in found.member_SG]
    assert members == [["IGJ", "CD19", "MS4A1"], ["LYZ", "GNB2L1", "ACTB"]]
    assert "7 of the sets' 9 genes" in found.notes[0]
    assert found.warning == ""


def test_misfits_are_said():
    ids = sets_of(*["ENSG00000012048 ENSG00000012049"] * 200, spelling="Ensembl ids")
    with pytest.raises(ScxError, match=r"0 of your 200 sets share a gene .* look like Ensembl ids"):
        fit_sets(ids, GENES)
    mouse = sets_of("CD19 MS4A1 H2-AB1 CD79A", spelling=MOUSE)
    with pytest.raises(ScxError, match="look like mouse symbols, the data are of Homo sapiens"):
        fit_sets(mouse, GENES, organism="Homo sapiens")
    assert len(fit_sets(mouse, GENES, FitConfig(other_species=True), "Homo sapiens").sets) == 1
    with pytest.raises(ScxError, match="look like human symbols, the data are of Mus musculus"):
        fit_sets(sets_of("CD19 MS4A1 CD79A"), GENES, organism="Mus musculus")
    with pytest.raises(ScxError, match="largest has 2"):
        fit_sets(sets_of("CD19 MS4A1"), GENES)


def test_a_bad_fit_is_a_warning():
    strangers = " ".join(f"GENE{number}" for number in range(200))
    many = [f"DATA{number}" for number in range(200)]
    found = fit_sets(sets_of(f"CD19 MS4A1 CD79A {strangers}"), [*GENES, *many])
    assert "3 of the 203" in found.warning


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    case = planted(tmp_path_factory.mktemp("planted"))
    return make_atlas(case.lm, case.transcoders, case.table, cfg=AtlasConfig(batch=16))


@pytest.fixture(scope="module")
def judged_sets(atlas):
    """Sets made of what some features read (their strongest genes), and others that none reads."""
    found = feature_genes(atlas, EnrichConfig(lift=1.0))
    rows = np.flatnonzero(np.diff(found.list_FG.indptr) >= 3)[:4]
    own = [" ".join(found.genes[g] for g in found.list_FG[row].indices) for row in rows]
    return rows, sets_of(*own, "ACTB FTL FTH1 MALAT1")


def by_hand(atlas, rows, share=0.8):
    """The atlas with some features turned into what a gene-set feature looks like: mass on its list."""
    features = atlas.features.copy()
    features["verdict"] = features["verdict"].astype(str)
    features.loc[rows, ["verdict", "spelling", "type_share", "rank_share"]] = ["polysemantic", 0.0, 0.0, 0.0]
    features = features.astype({"verdict": "category"})
    genes = atlas.table("genes")
    number = genes["layer"] * atlas.meta["n_units"] + genes["feature"]
    total = genes["share"].groupby(number).transform("sum")
    mine = number.isin(rows)
    genes.loc[mine, "share"] = (share * genes["share"] / total)[mine]
    return atlas.with_tables({"features": features, "genes": genes}, atlas.meta, atlas.beside)


def test_planted_sets_become_verdicts_and_go_again(atlas, judged_sets, tmp_path):
    rows, collection = judged_sets
    cfg = EnrichConfig(lift=1.0, permutations=5, smallest=2)
    before = by_hand(atlas, rows).save(tmp_path / "atlas")
    found = enrich(before, collection, cfg)
    assert [found.best["gene_set"][row] for row in rows] == [f"S{number}" for number in range(len(rows))]
    after = with_gene_sets(before, collection, cfg)
    opened = Atlas.open(tmp_path / "atlas")
    pd.testing.assert_frame_equal(opened.features, after.features)
    said = opened.features.loc[rows]
    assert (said["verdict"] == "gene set").all() and (said["label"] == said["gene_set"]).all()
    np.testing.assert_allclose(said["score"], said["set_share"])
    feature = opened.feature(0, int(rows[0]))
    assert feature.sets["gene_set"].iloc[0] == "S0" and (feature.sets["q"] <= 0.05).all()
    shares = opened.shares.query("verdict == 'gene set' and layer == -1").set_index("data")["share"]
    assert shares["real"] >= len(rows) / (opened.features["verdict"] != "dead").sum()
    assert shares[PERMUTED] < shares["real"]
    other = with_gene_sets(opened, sets_of("ACTB FTL FTH1 MALAT1"), cfg)
    assert (other.features.loc[rows, "verdict"] == "polysemantic").all()
    again = with_gene_sets(other, collection, cfg)
    assert (again.features["verdict"] == after.features["verdict"]).all()


def test_collections_are_written_and_read_back(tmp_path):
    collection = open_gene_sets("markers")
    write_gmt(collection, tmp_path / "markers.gmt")
    back = read_gmt(tmp_path / "markers.gmt")
    assert [one[:2] for one in back.sets] == [one[:2] for one in collection.sets]
    with pytest.raises(ScxError, match=r"no gene sets 'nothing.gmt'"):
        open_gene_sets(["markers", "nothing.gmt"])


def test_online_without_the_package_offline_and_online(monkeypatch):
    monkeypatch.setitem(sys.modules, "gseapy", None)
    with pytest.raises(ScxError, match="gseapy is not installed"):
        open_gene_sets("gseapy:Some_Library")

    def unreachable(**_):
        raise ConnectionError("no route")

    offline = SimpleNamespace(get_library_name=unreachable)
    monkeypatch.setitem(sys.modules, "gseapy", offline)
    with pytest.raises(ScxError, match="could not be downloaded"):
        open_gene_sets("gseapy:Some_Library")
    parser = SimpleNamespace(download_library=lambda name, organism: {"A": ["CD19", "LYZ"], "B": []})
    online = SimpleNamespace(get_library_name=lambda organism: ["Some_Library"], parser=parser)
    monkeypatch.setitem(sys.modules, "gseapy", online)
    assert open_gene_sets("gseapy:Some_Library").sets[0].genes == ("CD19", "LYZ")
    with pytest.raises(ScxError, match="no library 'Some_Libary'"):
        open_gene_sets("gseapy:Some_Libary")
