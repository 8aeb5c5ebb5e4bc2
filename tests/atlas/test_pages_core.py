"""What the feature page rests on: pages of rows, names by number, reasons, labels by provenance."""

import re
from types import SimpleNamespace

import pytest

from scx_core.atlas import VERDICTS, Atlas, AtlasConfig, FindConfig, make_atlas
from scx_core.atlas.atlas_folder import FOLDER, ship
from scx_core.atlas.feature_naming import _name, atlases_stamp, book_of, feature_names, name_book
from scx_core.atlas.judge.excess import (
    EMBEDDING_WORDS,
    ONE_HOT_WORDS,
    RANDOM_WORDS,
    REAL,
    compared_shares,
)
from scx_core.atlas.judge.protocol import MEANINGS, automatic_label, measures, reason
from scx_core.atlas.tables.find import find, find_part, named
from tests.atlas.planted import planted


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def made(case):
    return make_atlas(case.lm, case.transcoders, case.table, range(40), AtlasConfig(batch=16))


@pytest.fixture
def atlas(made, tmp_path):
    return made.save(tmp_path / FOLDER / "one")


def test_pages_join_up_to_the_whole(atlas):
    cfg = FindConfig(sort="mass", limit=0)
    whole = find(atlas, cfg)
    parts = [find_part(atlas, cfg, start, 7) for start in range(0, len(whole), 7)]
    assert {part.total for part in parts} == {len(whole)}
    rows = [number for part in parts for number in part.rows["feature"]]
    assert rows == whole["feature"].tolist()


@pytest.mark.parametrize(
    ("text", "meant"),
    [("L2·513", (2, 513)), ("2:513", (2, 513)), (" l2 513 ", (2, 513)), ("513", (None, 513)), ("CD4", None)],
)
def test_a_feature_is_found_by_its_number(text, meant):
    assert named(text) == meant


def test_a_number_finds_one_feature_and_a_label_is_searched(atlas):
    assert find(atlas, FindConfig(text="L0·3"))["feature"].tolist() == [3]
    assert find(atlas, FindConfig(text="L7·3")).empty
    atlas.give_label(0, 3, "my own words", "me")
    found = find(atlas, FindConfig(text="OWN WORDS"))
    assert found["feature"].tolist() == [3] and found["label"].tolist() == ["my own words"]


def test_the_reason_agrees_with_the_verdict(atlas):
    limits = atlas.meta["thresholds"]
    for _, row in atlas.features.iterrows():
        met = [one for one in measures(row, limits) if one.met]
        words = reason(row, limits)
        if row["verdict"] in ("token", "prompt", "position"):
            first = next(one for one in met if one.verdict == row["verdict"])
            assert f"{first.value:.0%} {first.words}" in words
        if row["verdict"] == "polysemantic":
            assert "No figure reaches" in words
    assert set(MEANINGS) == set(VERDICTS)


def test_shares_stand_beside_their_controls(atlas):
    rows = compared_shares(atlas)
    assert list(dict.fromkeys(rows["data"])) == [
        REAL, RANDOM_WORDS, EMBEDDING_WORDS, ONE_HOT_WORDS, "activations shuffled", "genes shuffled",
        "neurons",
    ]  # fmt: skip
    whole = rows[(rows["layer"] == -1) & (rows["verdict"] != "dead")]
    assert whole.groupby("data")["share"].sum().round(5).tolist() == [1.0] * 7


def test_names_are_found_by_what_a_circuit_was_made_from(atlas, tmp_path):
    # A set that was never saved has no identity: give it one, as a saved one has.
    about = {"model": {"fingerprint": "m"}, "transcoders": {"fingerprint": "t"}, "data": {"fingerprint": "d"}}
    assert name_book(about, tmp_path) is None
    atlas.meta["provenance"] |= about
    atlas.save(atlas.folder)
    before = name_book(about, tmp_path), atlases_stamp(tmp_path)
    atlas.give_label(0, 1, "seen", "me")
    assert atlases_stamp(tmp_path) != before[1]
    book = name_book(about, tmp_path)
    assert book.names[0, 1] == ("seen", "label", None, "label")
    assert book.source.startswith("names from atlas one@") and book.source != before[0].source
    assert name_book(about | {"data": {"fingerprint": "other"}}, tmp_path) == book
    assert name_book(about | {"transcoders": {"fingerprint": "x"}}, tmp_path) is None
    assert name_book({}, tmp_path) is None


def test_a_name_says_no_more_than_its_figure(atlas):
    names, rows = feature_names(atlas), atlas.features.set_index(["layer", "feature"])
    genes = atlas.table("genes").set_index(["layer", "feature", "gene"])["share"]
    dead = rows.index[rows["verdict"] == "dead"]
    assert not set(dead) & set(names) and len(names) == len(rows) - len(dead)
    for key, name in names.items():
        assert name.source == "atlas"
        if name.kind == "gene":
            assert name.share == pytest.approx(sum(genes[(*key, one)] for one in name.text.split(", ")))
            assert name.share >= 0.25
        if name.kind == "many genes":
            assert name.text in ("many genes", "genes and prompt")
    assert book_of(atlas, "one") == book_of(atlas, "one")
    assert not [name for name in names.values() if name.text.startswith("context: at many")]


def test_a_context_of_many_genes_is_named_after_many_genes_and_a_prompt_by_pieces_of_no_gene(atlas):
    row = SimpleNamespace(
        verdict="context", genes="A B C", pieces=["x"], gene=0.8, top5=0.2, context_genes="", family="",
        gene_set="", cell_type="", ranks="", pieces_share=0.1, top_gene="A", n_half=9, score=0.6, label="",
        named=0.1, first=0.1,
    )  # fmt: skip
    row.label = automatic_label(row)
    assert (_name(row).text, _name(row).kind, _name(row).share) == ("many genes", "many genes", 0.8)
    row.context_genes = "CD79A"
    assert automatic_label(row) == row.label.replace("at many", "reads CD79A, at many")
    pieces = atlas.table("pieces").astype({"genes": int})
    pieces["said"] = [str(text).strip() or str(text) for text in pieces["text"]]
    outside = pieces[pieces["genes"] == 0]
    outside = set(zip(outside["layer"], outside["feature"], outside["said"], strict=True))
    prompts = atlas.features[atlas.features["verdict"] == "prompt"]
    assert len(prompts)
    for one in prompts.itertuples():
        for piece in re.findall("“([^”]+)”", str(one.label)):
            assert (one.layer, one.feature, piece) in outside


def test_the_short_form_keeps_names_and_cards(atlas, tmp_path):
    short = ship(atlas, tmp_path / "x-atlas")
    assert feature_names(short) == feature_names(atlas)
    assert short.beside == {} and short.meta["shortened"]["genes"] == 8
    card, whole = short.feature(0, 1), atlas.feature(0, 1)
    assert card.row["verdict"] == whole.row["verdict"]
    assert card.genes["gene"].tolist() == whole.genes["gene"].tolist()[:8]
    assert len(atlas.table("genes")) >= len(short.table("genes")), "the whole atlas stays as it is"
    assert Atlas.open(atlas.folder).beside.keys() == atlas.beside.keys() != set()
