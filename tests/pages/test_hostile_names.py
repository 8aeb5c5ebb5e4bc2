"""Hostile names on every page at once: labels, genes, ids, donors, the file's own name and those of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import scx_core as scx
from pages.parts.features import list_view
from scx_core.atlas import Atlas
from scx_core.evidence.by_type.measure import TypesConfig, evidence_file, siblings
from scx_core.runs.files import to_json_text
from scx_core.validation import validation_beside
from scx_core.validation.standing import keep_validation
from tests.builders.evidence import OTHER, tiny_evidence
from tests.builders.hostile import (
    FETCHED,
    HOSTILE_GENE,
    HOSTILE_LABEL,
    HOSTILE_TEXTS,
    RAW,
    hostile_file,
)
from tests.builders.hostile_results import (
    hostile_evidence,
    hostile_sets,
    hostile_validation,
    make_hostile,
)
from tests.pages.running import PAGES, button, open_page, said, type_into, well
from tests.validation.training_runs import a_run


def told(app: AppTest) -> Iterator[tuple[str, str, bool]]:
    """What is read as Markdown or HTML: kind, text, whether it is HTML."""
    for node in [*app.main, *app.sidebar]:
        proto = getattr(node, "proto", None)
        kind = str(getattr(node, "type", ""))
        if proto is None or kind in ("text", "code", "json"):
            continue
        for part in (proto, *(getattr(proto, name, None) for name in ("expandable", "tab", "popover"))):
            for field in ("label", "help", "body"):
                text = getattr(part, field, "")
                if isinstance(text, str) and text:
                    yield kind, text, kind == "html" or bool(getattr(part, "allow_html", False))


def harmless(app: AppTest, where: str) -> None:
    """No piece of a name is markup; Markdown without HTML shows tags as text, but fetches and links."""
    for kind, text, is_html in told(app):
        if kind != "html":  # no Markdown is read there
            assert not [piece for piece in FETCHED if piece in text], (where, kind, text[:400])
        if is_html:
            assert not [piece for piece in RAW if piece in text], (where, kind, text[:400])


def test_every_page_with_cells_that_are_called_anything(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set(HOSTILE_TEXTS)) >= 40
    path = hostile_file(tmp_path)
    monkeypatch.setenv("SCX_DATA", str(path))
    monkeypatch.setattr("pages.parts.circuits.controls.DEFAULT_CELLS", 2)
    monkeypatch.setattr("pages.parts.train.new_run.show_estimate", lambda *_, **__: None)
    run = a_run(runs, "one", finished={})
    run.update(provenance={"model": {"name": HOSTILE_LABEL}, "data": {"name": HOSTILE_GENE}})
    app, shown = None, 0
    for page in PAGES:
        app = well(open_page(page, app))
        harmless(app, page)
        shown += sum("onerror" in text or "alert" in text for _, text, _ in told(app))
    assert shown > 20  # names were there to be shown


@pytest.fixture
def hostile_atlas(kept_atlas: Path) -> Atlas:
    """The atlas of the page, with gene sets that were tested, all of it called anything."""
    atlas = make_hostile(kept_atlas)
    return atlas.with_tables({"sets": hostile_sets(atlas)}, atlas.meta, atlas.beside)


def test_features_with_an_atlas_that_is_called_anything(hostile_atlas: Atlas) -> None:
    app = well(open_page("features"))
    harmless(app, "list")
    assert any("onerror" in str(value) for value in app.dataframe[0].value["label"])
    for view in ("One gene", "Verdict shares", "Another set"):
        app.button_group[0].set_value(view).run()
        harmless(well(app), view)
    app.button_group[0].set_value("One gene").run()
    type_into(app, "kept gene of features", HOSTILE_GENE)
    harmless(well(app), "a gene that is markup")
    app.button_group[0].set_value("Features").run()
    for text in HOSTILE_TEXTS[:12]:
        type_into(app, "kept find text", text.replace("\x00", ""))
        harmless(well(app), text)
    type_into(app, "kept find text", "")
    live = hostile_atlas.features[hostile_atlas.features["verdict"] != "dead"]
    for _, row in live.groupby("verdict", observed=True).head(2).iterrows():
        app.session_state[list_view.OPENED] = int(row["layer"]), int(row["feature"])
        well(app.run())
        where = f"L{row['layer']}·{row['feature']}"
        harmless(app, where)
        assert where in said(app) and not app.error


def test_rating_an_atlas_that_is_called_anything(hostile_atlas: Atlas) -> None:
    app = well(open_page("rate"))
    app.text_input(key="kept rater").set_value(HOSTILE_GENE).run()
    harmless(well(app), "first unit")
    app.radio[0].set_value("Yes")
    next(box for box in app.selectbox if box.label == "What to?").set_value("gene")
    next(box for box in app.text_input if box.label == "In a few words").set_value(HOSTILE_LABEL)
    harmless(well(button(app, "Keep and go on").click().run()), "second unit")
    assert "Unit 2" in said(app)
    (kept,) = (hostile_atlas.folder / "ratings").iterdir()
    assert kept.parent == hostile_atlas.folder / "ratings" and kept.suffix == ".jsonl"


def test_a_validation_that_is_called_anything(runs: Path) -> None:
    tracer = scx.tl.tracer("embedded")
    parts = {"data": tracer.table, "model": tracer.lm, "transcoders": tracer.transcoders}
    marks = {name: part.fingerprint for name, part in parts.items()}
    found = validation_beside(tracer.transcoders.folder, marks)
    assert found is not None and keep_validation(hostile_validation(found), runs)
    for page in ("validate", "start", "circuits"):
        app = well(open_page(page))
        harmless(app, page)
        if page == "validate":
            assert "onerror" in said(app) and not app.error


def test_evidence_that_is_called_anything(runs: Path) -> None:
    tracer = scx.tl.tracer("embedded")
    path = evidence_file(tracer, OTHER, TypesConfig(), siblings(tracer), runs)
    path.parent.mkdir(parents=True)
    found = hostile_evidence(tiny_evidence().of(OTHER))
    path.write_text(to_json_text(found.to_json()), encoding="utf-8")
    app = well(open_page("evidence"))
    harmless(app, "evidence")
    assert "Joint knock-outs beside rivals" in said(app) and not app.error
