"""The picture of a circuit and the map of its cells: gestures, cards, the address; without a browser."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.circuits import cells_view, graph
from pages.parts.circuits.pictures import Picture
from pages.parts.circuits.stage import PICTURE, after
from pages.parts.common.session import KEY
from scx_core.cells import open_cells
from scx_core.figures.drawing.edits import Edits
from tests.builders.hostile import HOSTILE_TEXTS
from tests.figures.fakes import consensus_circuit
from tests.pages.pictures import box, told
from tests.pages.running import button, open_page, pick, said, well

FEW = 3


@pytest.fixture
def app(runs: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page with a circuit of a few cells."""
    monkeypatch.setattr("pages.parts.circuits.controls.DEFAULT_CELLS", FEW)
    return well(open_page("circuits"))


def gesture(app: AppTest, kind: str, *ids: str, **more: object) -> AppTest:
    """What the browser would report."""
    count = app.session_state["scx_test_count"] + 1 if "scx_test_count" in app.session_state else 1
    app.session_state["scx_test_count"] = count
    app.session_state[PICTURE] = {"at": f"{count}", "kind": kind, "ids": list(ids), **more}
    return well(app.run())


def test_a_gene_is_chosen_switched_off_and_stands_in_the_address(app: AppTest) -> None:
    gene = box(app, "CD79A")
    gesture(app, "choose", gene)
    assert told(app)["chosen"] == [gene]
    assert "CD79A" in said(app) and "Known marker of" in said(app)
    assert app.query_params["box"] == [gene] or app.query_params["box"] == gene
    words = said(well(button(app, "Switch this gene off").click().run()))
    for part in ("→", "Lost:", "Predicted (frozen attribution)", "Another gene of each sentence"):
        assert part in words


def test_a_feature_has_its_card_from_the_atlas_and_boxes_are_hidden_and_come_back(app: AppTest) -> None:
    feature = next(n["id"] for n in told(app)["drawing"]["nodes"] if n["box"]["kind"] == "feature")
    gesture(app, "choose", feature)
    words = said(app)
    assert "Feeds, in this circuit" in words and "frozen attribution" in words
    gesture(app, "hide", feature)
    assert (
        feature not in {node["id"] for node in told(app)["drawing"]["nodes"]}
        and told(app)["drawing"]["edits"]
    )
    gesture(app, "undo")
    assert feature in {node["id"] for node in told(app)["drawing"]["nodes"]}


def test_a_gesture_is_taken_once(app: AppTest) -> None:
    gene = box(app, "CD79A")
    gesture(app, "hide", gene)
    pick(app, "Against").set_value("Dendritic").run()
    ids = {node["id"] for node in told(well(app))["drawing"]["nodes"]}
    assert gene in ids, "another circuit, another picture"


def test_a_link_gives_the_same_view_in_a_fresh_session(app: AppTest, runs: Path) -> None:
    pick(app, "Against").set_value("Dendritic").run()
    gesture(well(app), "choose", box(app, "CD79A"))
    link = {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}
    fresh = AppTest.from_file(Path(__file__).parents[2] / "app.py", default_timeout=240).run()
    for name, value in link.items():
        fresh.query_params[name] = value
    fresh = well(fresh.switch_page("pages/circuits.py").run())
    assert pick(fresh, "Against").value == "Dendritic"
    assert told(fresh)["chosen"] == told(app)["chosen"] and told(fresh)["mark"] == told(app)["mark"]


def test_a_prepared_link_opens_nothing_new(app: AppTest, runs: Path) -> None:
    fresh = AppTest.from_file(Path(__file__).parents[2] / "app.py", default_timeout=240).run()
    bad = {
        "data": "/etc/passwd",
        "type": "<b>",
        "cells": "9" * 30,
        "box": "x" * 9999,
        "rows": "-1.a.999999999",
    }
    for name, value in bad.items():
        fresh.query_params[name] = value
    fresh = well(fresh.switch_page("pages/circuits.py").run())
    assert "not in use here" in said(fresh) and "Nothing is drawn" in said(fresh)
    assert not fresh.selectbox or "Cell type" not in [one.label for one in fresh.selectbox]
    assert fresh.query_params["data"] in ("/etc/passwd", ["/etc/passwd"])
    button(fresh, "Open these cells").click().run()  # no cells: said, and nothing changes
    assert fresh.error and fresh.session_state[KEY].data == "embedded"
    assert fresh.query_params["data"] in ("/etc/passwd", ["/etc/passwd"])
    button(fresh, "Draw the cells in use instead").click().run()
    assert pick(well(fresh), "Cell type").value == "CD19+ B"


def test_a_link_of_other_cells_opens_them_when_asked_and_draws_no_others_before(
    app: AppTest, runs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "other.h5ad"
    table = open_cells("embedded")
    obs = pd.DataFrame({"cell_type": table.labels[:60]}, index=[f"c{n}" for n in range(60)])
    anndata.AnnData(table.rows(range(60)), obs, pd.DataFrame(index=table.symbols)).write_h5ad(path)
    fresh = AppTest.from_file(Path(__file__).parents[2] / "app.py", default_timeout=240).run()
    fresh.query_params["data"] = str(path)
    fresh.query_params["cells"] = "3"
    fresh = well(fresh.switch_page("pages/circuits.py").run())
    assert "other.h5ad" in said(fresh) and PICTURE not in fresh.session_state
    assert "Cell type" not in [one.label for one in fresh.selectbox]
    fresh = well(fresh.run())  # it goes on asking
    button(fresh, "Open these cells").click().run()
    assert fresh.session_state[KEY].data == str(path)
    assert pick(well(fresh), "Cell type").value in set(table.labels[:60])
    other = AppTest.from_file(Path(__file__).parents[2] / "app.py", default_timeout=240).run()
    assert other.session_state[KEY].data == "embedded", "another session's cells are imposed"
    assert any(one.label.startswith("Go on with") for one in other.button)


def test_cells_chosen_by_hand_have_a_circuit_of_their_own_and_a_link(app: AppTest) -> None:
    fresh = AppTest.from_file(Path(__file__).parents[2] / "app.py", default_timeout=240).run()
    for name, value in {"scope": cells_view.CHOSEN, "rows": "3.5.8", "type": "CD19+ B"}.items():
        fresh.query_params[name] = value
    fresh = well(fresh.switch_page("pages/circuits.py").run())
    assert "over 3 cells chosen by hand; the data call them" in said(fresh).replace("**", "")
    assert "3.5.8" in fresh.query_params["rows"]


def test_two_types_stand_beside_each_other_and_are_one_figure(app: AppTest) -> None:
    pick(app, "Against").set_value("Dendritic").run()
    pick(well(app), "Cells").set_value("Difference").run()
    words = said(well(app)).replace("**", "")
    assert "CD19+ B beside Dendritic" in words and "Dendritic cells" in words
    labels = [element.proto.label for element in app.get("download_button")]
    assert {"Both as PNG", "Both as SVG", "Both as PDF"} <= set(labels)
    before = pair_boxes(app)
    assert before[0] == before[1]
    app.slider(key="pair least").set_value(60).run()
    after = pair_boxes(well(app))
    assert after[0] == after[1] and len(after[0]) < len(before[0])


def pair_boxes(app: AppTest) -> list[set[str]]:
    """The boxes of both panels."""
    found = [
        one.proto for one in app.get("component_instance") if one.proto.component_name.endswith(".picture")
    ]
    args = [json.loads(proto.json_args) for proto in found]
    return [{node["id"] for node in one["drawing"]["nodes"]} for one in args if one["fixed"]]


@pytest.mark.parametrize(
    "value",
    [None, 3, [], {}, {"kind": "choose"}, {"kind": "format", "ids": ["a"]}, {"kind": ["x"], "ids": 3}],
)
def test_what_a_browser_should_not_report_does_nothing(value: object) -> None:
    found = graph.gesture(value, {"a"})
    assert found is None or found.ids == ()
    assert cells_view.picked(value, 5) is None


def test_gestures_of_boxes_that_are_not_there_and_places_off_the_earth_are_dropped() -> None:
    places = {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 1}, "c": {"x": float("nan"), "y": 1}, "d": 3}
    value = {"kind": "pin", "ids": ["a", "z"], "places": places, "name": "n" * 999, "at": "1"}
    found = graph.gesture(value, {"a", "c", "d"})
    assert found is not None and found.ids == ("a",) and found.places == {"a": (1.0, 2.0)}
    assert len(found.name) == 60


def test_all_gestures_can_be_taken_back() -> None:
    circuit = consensus_circuit(4)
    made = Picture()
    for kind in ("hide", "pin", "rename", "reset"):
        found = graph.Gesture(kind, ("gene CD79A",), {"gene CD79A": (5.0, 5.0)}, "name", "1")
        made = after(circuit, made, found)
    for _ in range(9):
        made = after(circuit, made, graph.Gesture("undo", (), {}, "", "2"))
    assert made.edits == Edits() and len(made.states) == 1


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_any_label_is_a_line_of_the_legend(text: str) -> None:
    found = cells_view.by_name([text, text, ""])
    assert sum(number or 0 for _, _, number in found.legend) == 3
    assert all("\n" not in name for name, *_ in found.legend)


def test_the_colours_of_values_are_fifths_and_0_is_grey() -> None:
    found = cells_view.by_value(np.array([0.0, 1.0, 5.0, np.nan]), "CD79A")
    assert found.colour.tolist() == [0, 1, 5, 0] and found.palette[0] == cells_view.GREY
    assert [number for *_, number in found.legend] == [2, 1, 1]


def test_nothing_of_a_component_writes_markup_or_asks_outside() -> None:
    folder = Path(cells_view.__file__).parent
    for path in [
        *folder.glob("picture/*"),
        *folder.glob("cells/*"),
        *Path("scx_core/figures/formats/interactive").glob("*"),
    ]:
        text = path.read_text(encoding="utf-8")
        for bad in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"):
            assert bad not in text, (path.name, bad)
        if path.suffix == ".html":
            assert "default-src 'none'" in text
