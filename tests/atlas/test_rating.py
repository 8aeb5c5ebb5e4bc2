"""Units are drawn alike for all and shown blinded; answers are kept per rater; agreement is Cohen's κ."""

import json

import pytest

from scx_core.atlas import AtlasConfig, make_atlas
from scx_core.atlas.rating.ratings import (
    AUTOMATIC,
    OWN,
    DrawConfig,
    Unit,
    agreement,
    cohen_kappa,
    draw_units,
    file_name,
    interpretable,
    paper_draw,
    quantile_bins,
    rate,
    rating_table,
    ratings,
)
from scx_core.errors import ScxError
from tests.atlas.planted import planted


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    case = planted(tmp_path_factory.mktemp("planted"))
    return make_atlas(case.lm, case.transcoders, case.table, range(40), AtlasConfig(batch=16))


@pytest.fixture
def atlas(made, tmp_path):
    return made.save(tmp_path / "atlas")


def test_the_draw_is_of_live_units_and_the_same_for_all(atlas):
    cfg = DrawConfig(units=5, kinds=True, seed=3)
    units = draw_units(atlas, cfg)
    assert units == draw_units(atlas, cfg) != draw_units(atlas, DrawConfig(units=5, kinds=True, seed=4))
    assert sorted({unit.source for unit in units}) == [OWN, "neurons"] and len(set(units)) == 10
    dead = atlas.features[atlas.features["verdict"] == "dead"]["feature"].tolist()
    assert dead and not {unit.feature for unit in units if unit.source == OWN} & set(dead)
    with pytest.raises(ScxError, match="no layer 7"):
        draw_units(atlas, DrawConfig(layer=7))


def test_the_papers_layer_or_the_middle_one(atlas):
    assert paper_draw(atlas) == DrawConfig(20, 0, False, 0)  # the planted model has one layer
    atlas.meta["n_layers"] = 24
    assert paper_draw(atlas).layer == 12
    atlas.meta["n_layers"] = 4
    assert paper_draw(atlas).layer == 2
    atlas.meta["n_layers"] = 1


def test_examples_lie_in_their_quantile_bin(atlas):
    seen = 0
    for unit in draw_units(atlas, DrawConfig(units=8, kinds=True)):
        of = atlas if unit.source == OWN else atlas.beside[unit.source]
        row = of.feature(unit.layer, unit.feature).row
        edges = [0.0, row["q50"], row["q90"], row["q99"], float("inf")]
        names = ["weaker half", "50% to 90%", "90% to 99%", "strongest 1%"]
        bins = quantile_bins(atlas, unit)
        assert [names.index(part.name) for part in bins] == sorted(
            [names.index(part.name) for part in bins], reverse=True
        )
        for part in bins:
            low, high = edges[names.index(part.name)], edges[names.index(part.name) + 1]
            assert part.examples["value"].between(low, high).all()
            assert part.examples["relative"].between(0, 1.0001).all()
            seen += len(part.examples)
    assert seen > 20


def test_answers_are_kept_by_rater_and_the_last_one_counts(atlas):
    unit = draw_units(atlas, DrawConfig())[0]
    rate(atlas, unit, True, "gene", " CD74\nand more ", "A/B")
    rate(atlas, unit, False, "polysemantic", "", "A/B")
    rate(atlas, unit, True, "gene", "", "A B")
    assert [(one.rater, one.interpretable) for one in ratings(atlas)] == [("A B", True), ("A/B", False)]
    assert file_name("A/B") != file_name("A B") and "/" not in file_name("../A/B")
    lines = (atlas.folder / "ratings" / file_name("A/B")).read_text().splitlines()
    assert [json.loads(line)["description"] for line in lines] == ["CD74 and more", ""]
    table = rating_table(atlas)
    assert table["kind"].tolist() == ["transcoder"] * 2
    assert (table["verdict_interpretable"] == [interpretable(v) for v in table["verdict"]]).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rater": " "}, "needs a rater"),
        ({"category": "dead"}, "no category"),
        ({"description": "x" * 401}, "longer than"),
        ({"unit": Unit("neurons", 9, 0)}, "no feature"),
        ({"unit": Unit("elsewhere", 0, 0)}, "elsewhere"),
    ],
)
def test_a_wrong_answer_is_refused(atlas, change, match):
    given = {"unit": Unit(OWN, 0, 0), "interpretable": True, "category": "gene", "description": ""}
    with pytest.raises(ScxError, match=match):
        rate(atlas, **({**given, "rater": "me"} | change))
    assert ratings(atlas) == []


def test_agreement_with_the_verdicts_and_between_raters(atlas):
    """One rater says what the protocol says, and that only tokens are understood; the other always yes."""
    units = draw_units(atlas, DrawConfig(units=12, seed=1))
    verdict = dict(zip(atlas.features["feature"], atlas.features["verdict"].astype(str), strict=True))
    judged = [unit for unit in units if verdict[unit.feature] != "rare"]
    for unit in judged:
        said = verdict[unit.feature]
        rate(atlas, unit, said == "token", said, "", "copy")
        rate(atlas, unit, True, "gene", "", "yes")
    found = {(one.first, one.second, one.about): one for one in agreement(atlas)}
    same = found["copy", AUTOMATIC, "category"]
    assert (same.units, same.share, same.kappa) == (len(judged), 1.0, 1.0)
    other = found["copy", "yes", "interpretable"]
    mean = sum(verdict[unit.feature] == "token" for unit in judged) / len(judged)
    assert 0 < mean < 1
    assert other.share == pytest.approx(mean) and other.kappa == pytest.approx(0.0)


def test_kappa_by_hand():
    """Equal in 3 of 4; chance gives 1/2·1/4 + 1/2·3/4 = 1/2."""
    assert cohen_kappa(["y", "y", "n", "n"], ["y", "n", "n", "n"]) == pytest.approx((0.75 - 0.5) / 0.5)
    assert cohen_kappa(["y", "y"], ["y", "y"]) is None
