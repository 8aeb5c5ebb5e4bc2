"""The feature page: made on demand, searched by rows, one feature in full, labels that circuits show."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.features import atlas_source, match_view
from pages.parts.features import list_view as feature_list
from pages.parts.features.feature_card import _with_cells
from scx_core.atlas import Atlas
from scx_core.runs import runs_root
from tests.pages.running import button, open_page, pick, said, starting, type_into, well


def page(app: AppTest | None = None) -> AppTest:
    return well(open_page("features", app))


def test_the_atlas_that_ships_is_opened_as_a_copy(runs: Path) -> None:
    app = page()
    assert "The atlas is not made yet" not in said(app) and "3 layers" in said(app) and not app.error
    assert [folder.name for folder in (runs / "atlases").iterdir()] == ["embedded-atlas"]
    for view in ("One gene", "Verdict shares"):
        app.button_group[0].set_value(view).run()
        assert not well(app).error


def test_an_atlas_is_made_when_it_is_asked_for(
    runs: Path, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas_source, "MANY", 4)
    app = page()
    assert "The atlas is not made yet" in said(app)
    app = well(button(app, "Make the atlas").click().run())
    assert "3,072 features" in said(app)
    assert list((runs_root() / "atlases").iterdir())


def test_an_atlas_of_few_cells_is_found_by_a_visit_that_chose_no_number(
    runs: Path, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas_source, "MANY", 4)
    well(button(page(), "Make the atlas").click().run())
    monkeypatch.setattr(atlas_source, "MANY", 6)
    words = said(page())
    assert "The atlas is not made yet" not in words and "over 4 cells" in words


def test_features_are_found_and_sent_in_pages(kept_atlas: Path) -> None:
    app = page()
    assert len(app.dataframe[0].value) == feature_list.ROWS
    type_into(app, "kept find text", "L2·513")
    assert app.dataframe[0].value["name"].tolist() == ["L2·513"]
    type_into(app, "kept find text", "no such thing at all")
    assert "No feature is like that" in said(well(app)) and "Choose a row" not in said(app)
    type_into(app, "kept find text", "")
    assert len(app.dataframe[0].value) == feature_list.ROWS, "nothing typed is no filter"
    pick(app, "Verdict").set_value("gene").run()
    assert set(well(app).dataframe[0].value["verdict"]) == {"gene"}


def _open(app: AppTest, atlas: Atlas) -> tuple[AppTest, int, int]:
    row = atlas.features[atlas.features["verdict"] == "gene"].iloc[0]
    app.session_state[feature_list.OPENED] = int(row["layer"]), int(row["feature"])
    return well(app.run()), int(row["layer"]), int(row["feature"])


def test_one_feature_and_a_label_of_ones_own(kept_atlas: Path) -> None:
    atlas = Atlas.open(kept_atlas)
    app, layer, number = _open(page(), atlas)
    words = said(app)
    for part in (f"L{layer}·{number}", "the threshold is", "Examples", "Cell types", "Ranks", "Connections"):
        assert part in words
    form = {box.label: box for box in app.text_input}
    form["Your name"].set_value("A. B.")
    button(app, "Keep it").click().run()
    assert "its label already" in said(well(app)) and "UTC, A. B." not in said(app)
    form = {box.label: box for box in app.text_input}
    form["Label"].set_value("<b>mine</b>")
    form["Your name"].set_value("")
    button(app, "Keep it").click().run()
    assert "A label needs an author" in said(well(app))
    form = {box.label: box for box in app.text_input}
    form["Label"].set_value("<b>mine</b>")
    form["Your name"].set_value("A. B.")
    button(app, "Keep it").click().run()
    assert "<b>mine</b>" in said(well(app)) and "A. B." in said(app)
    assert atlas.labels()[f"L{layer}·{number}"] == "<b>mine</b>"
    assert not [element for element in app.markdown if element.allow_html]


def test_a_gene_lists_its_features(kept_atlas: Path) -> None:
    app = page()
    app.button_group[0].set_value("One gene").run()
    type_into(app, "kept gene of features", "cd74")
    table = well(app).dataframe[0].value
    assert table["reads"].notna().any() and table["reads"].dropna().is_monotonic_decreasing
    type_into(app, "kept gene of features", "NOGENE")
    assert "NOGENE stands in no sentence" in said(well(app))


def test_shares_stand_beside_random_directions_and_other_rivals(kept_atlas: Path) -> None:
    app = page()
    app.button_group[0].set_value("Verdict shares").run()
    held, shares = (frame.value for frame in well(app).dataframe[:2])
    assert {"random", "interval", "embedding", "onehot", "neurons"} <= set(held)
    assert {"real", "random directions", "token's one-hot", "neurons"} <= set(shares)
    assert "fire at a few genes" in said(app) and "directions drawn at random" in said(app)


def test_another_set_is_matched_by_a_job_that_every_session_finds(
    kept_atlas: Path, at_once: list[str]
) -> None:
    app = page()
    app.button_group[0].set_value("Another set").run()
    assert pick(app, "Other set").value == "embedded-paper"
    next(field for field in app.number_input if field.label == "Cells").set_value(6).run()
    assert not any(len(frame.value.columns) > 9 for frame in app.dataframe)
    words = said(well(starting(app, "Match: about").click().run()))
    assert all(f"By {way}:" in words for way in ("weights", "activation", "genes")) and not app.error
    shares, pairs = (table.value for table in app.dataframe)
    everywhere = shares[shares["layer"] == "all"]
    assert (everywhere["generalises"] > everywhere["generalises_null"]).all()
    assert len(pairs) == match_view.ROWS and pairs["score"].is_monotonic_decreasing
    other = page()
    other.button_group[0].set_value("Another set").run()
    next(field for field in other.number_input if field.label == "Cells").set_value(6).run()
    assert "By weights:" in said(well(other)) and len(at_once) == 1, "in every session, and after a restart"


def test_gene_sets_of_ones_own_are_tested_by_a_job(kept_atlas: Path, at_once: list[str]) -> None:
    app = page()
    assert "No gene sets are tested yet" in said(app)
    (files,) = app.file_uploader
    files.set_value(("a.gmt", b"<html>404</html>", "text/plain"))
    next(toggle for toggle in app.toggle if toggle.label.startswith("Marker lists")).set_value(False)
    button(app, "Test them").click().run()
    assert (
        app.error
        and "a.gmt, line 1 has no tab" in said(app)
        and "gene_sets" not in Atlas.open(kept_atlas).meta
        and not at_once
    )
    genes = [set(found.split()) for found in Atlas.open(kept_atlas).features["genes"].astype(str)]
    common = sorted(set().union(*genes))[:200]
    lines = [f"<b>SET {n}</b>\tnone\t" + "\t".join(common[n::5]) for n in range(5)]
    app.file_uploader[0].set_value(("mine.gmt", "\n".join(lines).encode(), "text/plain"))
    button(app, "Test them").click().run()
    words = said(well(app))
    assert "mine" in words and "with names permuted (a weak rival)" in words and not app.error
    assert Atlas.open(kept_atlas).meta["gene_sets"]["tested_sets"] >= 1 and len(at_once) == 1


def test_two_bars_are_two_rows_high() -> None:
    """The axis and its title take their own height: with less, two bars lie on each other."""

    def two_bars() -> None:
        import pandas as pd

        from pages.parts.features.atlas_charts import share_bars

        share_bars(pd.DataFrame({"donor": ["d1", "d2"], "share": [0.6, 0.4]}), "donor", "share")

    import json

    app = AppTest.from_function(two_bars).run()
    spec = json.loads(app.get("vega_lite_chart")[0].proto.spec)
    assert spec["layer"] and spec["height"] == {"step": 21}


def test_what_a_feature_does_not_push_is_a_dash(kept_atlas: Path) -> None:
    app = page()
    app.button_group[0].set_value("One gene").run()
    gene = str(Atlas.open(kept_atlas).features["genes"].iloc[0]).split()[0]
    type_into(app, "kept gene of features", gene)
    assert well(app).dataframe[0].value["pushes"].isna().any()
    assert app.dataframe[0].proto.placeholder == "–"


def test_names_are_completed_and_a_slip_leads_to_the_nearest(kept_atlas: Path) -> None:
    app = page()
    offered = app.selectbox(key="kept find text").options
    gene = next(one for one in ("MS4A1", "NCAM1", "PTPRC", "CD74") if one in Atlas.open(kept_atlas).genes)
    assert any(one == gene or one.startswith(f"{gene} (") for one in offered)
    assert "CD19+ B (B cell)" in offered
    type_into(app, "kept find text", gene[:-1] + "X")
    assert "No feature is like that" in said(well(app)) and "Did you mean" in said(app)
    button(app, gene).click().run()
    assert app.selectbox(key="kept find text").value == gene and len(well(app).dataframe[0].value)


def test_search_and_tab_find_as_many_features_of_a_gene(runs: Path) -> None:
    """With the atlas that ships: by name, in small letters, and by the name that it goes by."""
    app = page()
    for typed, gene in (("CD20", "MS4A1"), ("cd74", "CD74"), ("LYZ", "LYZ")):
        app.button_group[0].set_value("Features").run()
        type_into(app, "kept find text", typed)
        found = next(line for line in said(well(app)).splitlines() if "Choose a row to open it" in line)
        app.button_group[0].set_value("One gene").run()
        type_into(app, "kept gene of features", typed)
        line = next(line for line in said(well(app)).splitlines() if line.startswith(f"**{gene}** has"))
        assert line.split(" has ")[1].split(" feature")[0] == found.split("**")[1].split(" feature")[0]


def test_what_never_fires_is_never_on_top(kept_atlas: Path) -> None:
    app = page()
    for sort in app.selectbox(key="kept find sort").options:
        box = pick(app, "Largest first")
        box.select_index(box.options.index(sort)).run()
        verdicts = well(app).dataframe[0].value["verdict"].tolist()
        assert "dead" not in verdicts or all(one == "dead" for one in verdicts[verdicts.index("dead") :])
        assert verdicts[0] != "dead", sort


def test_the_set_has_the_name_that_it_is_in_use_under_and_a_dead_feature_fires_in_no_cell(
    kept_atlas: Path,
) -> None:
    app = page()
    assert "3 layers × 1,024 features of embedded, over" in said(app), "not the run that trained it"
    figures = Atlas.open(kept_atlas).features
    row = figures[figures["verdict"] == "dead"].iloc[0]
    app.session_state[feature_list.OPENED] = int(row["layer"]), int(row["feature"])
    words = said(well(app.run()))
    assert "It fires in no labelled cell." in words and "The cells have no labels." not in words


def test_shares_by_type_say_of_how_many_cells_they_are(kept_atlas: Path) -> None:
    atlas = Atlas.open(kept_atlas)
    rows = pd.DataFrame({"cell_type": atlas.meta["types"][:2], "share": [0.6, 0.4]})
    counts = atlas.meta["cells_of_types"]
    assert counts[0] > 1
    shown = _with_cells(rows, "cell_type", atlas, "types")
    assert shown["n"].tolist() == [f"{n} cells" for n in counts[:2]]
    atlas.meta["cells_of_types"] = [1, *counts[1:]]
    cells = feature_list.cells_of(atlas, "types")
    few, many = atlas.meta["types"][:2]
    assert feature_list._of_few(few, cells) == f"{few} (1 cell)" and feature_list._of_few("", cells) == ""
    assert feature_list._of_few(many, {many: 10}) == many
    del atlas.meta["cells_of_types"]
    assert _with_cells(rows, "cell_type", atlas, "types").equals(rows), "an atlas that was made before"
