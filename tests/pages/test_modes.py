"""A beginner's view, an expert's, and an audience's: one switch each, in the address, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from tests.pages.running import button, open_page, pick, said, well


def test_what_an_expert_sets_stays_in_effect_for_a_beginner(runs: Path) -> None:
    app = well(open_page("circuits"))
    assert not app.toggle(key="kept expert").value and "settings" not in app.query_params
    app.toggle(key="kept expert").set_value(True).run()
    assert "settings" in app.query_params
    pick(app, "Against").select("Dendritic").run()
    app.toggle(key="kept expert").set_value(False).run()
    assert "settings" not in app.query_params and "against" in app.query_params
    assert pick(app, "Against").value == "Dendritic" and "in effect: against Dendritic" in said(well(app))


def test_the_address_keeps_the_view_over_a_reload(runs: Path) -> None:
    app = open_page("start")
    app.query_params.update({"settings": "all", "type": "CD56+ NK"})
    app = well(app.switch_page("pages/circuits.py").run())
    assert app.toggle(key="kept expert").value and pick(app, "Cell type").value == "CD56+ NK"


def test_an_audience_steps_through_the_types_and_leaves(runs: Path) -> None:
    app = well(open_page("circuits"))
    types, first = pick(app, "Cell type").options, pick(app, "Cell type").value
    app = well(button(app, "Present").click().run())
    assert "present" in app.query_params and f"# {first}" in said(app)
    app = well(button(app, "Type after").click().run())
    second = pick(app, "Cell type").value
    assert second != first and f"# {second}" in said(app) and len(types) == 10
    app = well(button(app, "Type before").click().run())
    assert pick(app, "Cell type").value == first
    app = well(button(app, "Leave").click().run())
    assert "present" not in app.query_params and button(app, "Present")
