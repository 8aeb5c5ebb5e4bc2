"""What is in use stands in the address of every page: a reload, a second tab and the way back find it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.common.session import CELLS_READ, KEY, Context
from pages.parts.features import list_view as feature_list
from scx_core.cells import CellChoices
from scx_core.runs import LAST_USED, runs_root, to_dict, write_json
from tests.cells.good_cells import good_cells
from tests.pages.running import PAGES, ROOT, open_page, pick, said, type_into, well


def parameters(app: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def opened(page: str, link: dict[str, str]) -> AppTest:
    """A fresh session that a link is opened in."""
    app = AppTest.from_file(ROOT / "app.py", default_timeout=240).run()
    app.query_params.clear()
    app.query_params.update(link)
    return well(app.switch_page(f"pages/{page}.py").run())


@pytest.fixture
def own(runs: Path, tmp_path: Path) -> str:
    """The path of cells of one's own that were used here before."""
    path = str(tmp_path / "mine.h5ad")
    good_cells().write_h5ad(path)
    runs.mkdir(parents=True, exist_ok=True)
    write_json(runs_root() / "last-used.json", to_dict(Context(data=path)))
    return path


@pytest.mark.parametrize("page", [page for page in PAGES if page != "circuits"])
def test_every_page_says_what_is_in_use(runs: Path, page: str) -> None:
    app = open_page(page)
    wanted = {"data": "embedded", "model": "embedded", "set": "embedded"}
    assert {name: parameters(app).get(name) for name in wanted} == wanted


@pytest.mark.parametrize("page", ["data", "train", "rate"])
def test_a_reload_of_any_page_keeps_ones_own_cells(own: str, page: str) -> None:
    app = opened(page, {"data": own, "model": "embedded", "set": "embedded"})
    assert app.session_state[KEY].data == own
    assert page != "data" or "mine" in said(app)
    assert parameters(app)["data"] == own


def test_a_link_of_strange_cells_is_asked_about_on_every_page(runs: Path) -> None:
    app = opened("validate", {"data": "/etc/passwd"})
    assert "not in use here" in said(app) and app.session_state[KEY].data == "embedded"
    assert parameters(app) == {"data": "/etc/passwd"}


def test_the_type_of_the_evidence_is_in_its_address(runs: Path) -> None:
    app = open_page("evidence")
    first, other = parameters(app)["type"], "CD56+ NK"
    assert first == pick(app, "Cell type").value != other
    pick(app, "Cell type").set_value(other).run()
    link = parameters(app)
    assert link["type"] == other and pick(opened("evidence", link), "Cell type").value == other
    assert pick(opened("evidence", link | {"type": "<b>no type</b>"}), "Cell type").value == first


def test_the_search_and_the_feature_that_is_open_are_in_the_address(kept_atlas: Path) -> None:
    app = open_page("features")
    type_into(app, "kept find text", "CD74")
    assert parameters(app)["find"] == "CD74"
    again = opened("features", parameters(app))
    assert again.selectbox(key="kept find text").value == "CD74"
    app.session_state[feature_list.OPENED] = (1, 5)
    link = parameters(well(app.run()))
    assert link["feature"] == "L1-5" and "L1·5" in said(opened("features", link))
    gone = opened("features", link | {"feature": "L99-5"})
    assert "Choose a row to open it" in said(gone), "one that is not there is not opened"


def test_the_way_back_is_not_barred(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that was left by the menu has no words behind its address: they are written once, not again when
    the browser comes back to it, for that would be a new step forwards each time."""
    app = open_page("rate")
    written = _counted(monkeypatch)
    app.query_params.clear()  # back to where the menu led
    well(app.run())
    assert written == [] and parameters(app) == {}
    well(open_page("validate", app))
    assert len(written) == 1, "another page says it anew"


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    from streamlit.runtime.state.query_params_proxy import QueryParamsProxy

    found: list[dict[str, str]] = []
    real: Callable = QueryParamsProxy.from_dict

    def from_dict(self: QueryParamsProxy, values: dict[str, str]) -> None:
        found.append(values)
        real(self, values)

    monkeypatch.setattr(QueryParamsProxy, "from_dict", from_dict)
    return found


def test_a_reload_after_another_tab_used_other_cells_keeps_how_they_were_read(own: str) -> None:
    """Two tabs with different data: neither is a stranger to the other, nor are its corrections lost."""
    choices = CellChoices(organism="Mus musculus")
    write_json(runs_root() / LAST_USED, to_dict(Context(data=own, cells=choices)))
    link = {"data": own, "model": "embedded", "set": "embedded"}
    assert opened("data", link).session_state[KEY].cells == choices
    write_json(runs_root() / LAST_USED, to_dict(Context()))  # the other tab
    again = opened("data", link)
    assert "not in use here" not in said(again)
    assert again.session_state[KEY].data == own and again.session_state[KEY].cells == choices


def test_what_was_read_here_may_be_damaged(own: str) -> None:
    for text in ('{"a": 3}', "[1]", '{"a"', '{"a": {"label": 5, "nonsense": 1}}'):
        (runs_root() / CELLS_READ).write_text(text, encoding="utf-8")
        assert opened("data", {"data": own}).session_state[KEY].data == own
