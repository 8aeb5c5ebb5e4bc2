"""The data page: every file is understood, corrected, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.common.session import KEY
from scx_core.runs import read_json
from tests.cells.bad_files import BAD_FILES, can_make, choices_for
from tests.cells.good_cells import good_cells
from tests.pages.running import button, open_page, pick, said, well


def open_path(path: Path | str, app: AppTest | None = None) -> AppTest:
    """The data page with a path typed in."""
    app = open_page("data", app)
    app.button_group[0].set_value("A path on this computer").run()
    return well(app.text_input(key="cells path").set_value(str(path)).run())


def say_where(app: AppTest, choices: dict[str, str]) -> None:
    """Fill the form that takes every choice as text."""
    for field in app.text_input:
        wanted = choices.get(str(field.key).rsplit(" ", 1)[-1])
        if wanted is not None:
            field.set_value(wanted)
    button(app, "Open with these").click().run()


def test_the_embedded_cells_are_described(runs: Path) -> None:
    words = said(well(open_page("data")))
    for part in ("700 cells", "765 genes", "log-normalised", "10 types", "a split cannot keep donors apart"):
        assert part in words


def test_a_finding_can_be_corrected_and_taken_back(runs: Path) -> None:
    app = open_page("data")
    pick(app, "Cell types").set_value("louvain").run()
    assert "louvain" in pick(well(app), "Cell types").value
    assert "10 types" not in said(app)
    say_where(app, {"label": "nonsense"})
    assert "nonsense" in said(well(app)) and app.error
    button(app, "Back to what was detected").click().run()
    assert "10 types" in said(well(app))


def test_cells_of_a_path_are_taken_into_use(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.h5ad"
    good_cells().write_h5ad(path)
    app = open_path(f'"{path}" ')
    assert "mine.h5ad" in said(app)
    button(app, "Use these cells").click().run()
    assert "in use" in said(well(app))
    assert app.session_state[KEY].data == str(path)
    assert read_json(runs / "last-used.json")["data"] == str(path)


def test_an_upload_is_opened_from_disk_under_a_safe_name(runs: Path, tmp_path: Path) -> None:
    good_cells().write_h5ad(tmp_path / "x.h5ad")
    app = open_page("data")
    app.button_group[0].set_value("Upload").run()
    content = (tmp_path / "x.h5ad").read_bytes()
    app.file_uploader[0].set_value(("../../<i>evil</i>.h5ad", content, "application/octet-stream")).run()
    kept = list((runs / "uploads").glob("*/*"))
    assert [path.name for path in kept] == ["i_.h5ad"]
    assert kept[0].read_bytes() == content
    assert "Gene symbols" in said(well(app))


def test_a_file_without_labels_says_once_what_is_missing_and_what_to_do(runs: Path, tmp_path: Path) -> None:
    adata = good_cells()
    adata.obs = adata.obs[[]]
    adata.write_h5ad(tmp_path / "bare.h5ad")
    app = open_path(tmp_path / "bare.h5ad")
    assert said(app).count("no column of cell-type labels found") == 1
    assert "no labels:" not in said(app)
    assert "join a file of labels" in app.warning[0].value
    fields = {field.label for field in (*app.text_input, *app.file_uploader)}
    assert len(fields) == 10  # path, labels file, 8 choices


def test_one_cell_is_shown_as_its_sentence(runs: Path) -> None:
    app = well(open_page("data"))
    assert len(app.code[0].value.split()) == 150
    assert "highest expression first" in said(app)


def test_rows_that_are_no_cells_are_not_called_cells(runs: Path, tmp_path: Path) -> None:
    adata = good_cells()
    adata.obs["n_cells_pooled"] = 10
    adata.write_h5ad(tmp_path / "pools.h5ad")
    app = open_path(tmp_path / "pools.h5ad")
    words = said(app)
    assert f"{adata.n_obs} pools × {adata.n_vars} genes" in words
    assert f"n = {adata.n_obs} labelled pools" in words
    assert "each row is a pool of 10 cells" in words


def test_names_in_a_file_are_no_markup(runs: Path, tmp_path: Path) -> None:
    adata = good_cells()
    evil = "<script>x</script>![a](http://evil/x.png)"
    adata.obs["cell_type"] = [evil if place % 2 else "B cell" for place in range(adata.n_obs)]
    path = tmp_path / "evil.h5ad"
    adata.write_h5ad(path)
    app = open_path(path)
    assert not any(element.proto.allow_html and "evil" in element.value for element in app.markdown)
    assert not any("![a](" in str(element.value) for element in app.markdown)


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_its_message_and_no_traceback(name: str, runs: Path, tmp_path: Path) -> None:
    if not can_make(name):
        pytest.skip("nothing is unreadable for root")
    bad = BAD_FILES[name]
    app = open_path(bad.make(tmp_path))
    choices = choices_for(name, tmp_path)
    if choices:
        say_where(app, choices)
    words = said(well(app))
    for part in bad.words:
        assert part in words
    if bad.outcome == "rejected":
        usable = [found for found in app.button if found.label == "Use these cells" and not found.disabled]
        assert not usable


def test_simulated_cells_bring_their_own_model_and_go_with_it(runs: Path) -> None:
    app = open_page("data")
    app.button_group[0].set_value("Simulated").run()
    assert "Nothing in them is biology" in said(well(app))
    assert "planted (simulated)" in said(app)
    button(app, "Use these cells").click().run()
    ctx = well(app).session_state[KEY]
    assert (ctx.data, ctx.model, ctx.transcoders) == ("planted",) * 3
    app.button_group[0].set_value("Embedded").run()
    button(app, "Use these cells").click().run()
    ctx = well(app).session_state[KEY]
    assert (ctx.data, ctx.model, ctx.transcoders) == ("embedded",) * 3
