"""An atlas, a validation and evidence whose names are attacks, in a real browser: nothing of them runs,
nothing is asked of anywhere, and the texts are there to be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import scx_core as scx
from scx_core.atlas.atlas_folder import FOLDER, shipped_root
from scx_core.atlas.feature_naming import shipped_copy
from scx_core.evidence.by_type.measure import TypesConfig, evidence_file, siblings
from scx_core.runs.files import to_json_text
from scx_core.validation import validation_beside
from scx_core.validation.standing import keep_validation
from tests.browser import server, walk
from tests.builders.evidence import OTHER, tiny_evidence
from tests.builders.hostile import HOSTILE_GENE
from tests.builders.hostile_results import hostile_evidence, hostile_validation, make_hostile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]
DREW = "() => document.querySelectorAll('img[src=\"x\"], iframe[src*=evil], svg[onload]').length"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder with hostile results of the embedded cells, model and set."""
    root = tmp_path_factory.mktemp("hostile") / "runs"
    tracer = scx.tl.tracer("embedded")
    parts = {"model": tracer.lm, "transcoders": tracer.transcoders, "data": tracer.table}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCX_RUNS", str(root))
        copy = shipped_copy(parts)
        assert copy is not None and copy.is_relative_to(root)
        make_hostile(copy)
        marks = {name: part.fingerprint for name, part in parts.items()}
        found = validation_beside(tracer.transcoders.folder, marks)
        assert found is not None and keep_validation(hostile_validation(found), root)
        path = evidence_file(tracer, OTHER, TypesConfig(), siblings(tracer), root)
        path.parent.mkdir(parents=True)
        record = hostile_evidence(tiny_evidence().of(OTHER))
        path.write_text(to_json_text(record.to_json()), encoding="utf-8")
    assert (root / FOLDER).is_dir() and shipped_root().is_dir()
    yield root
    shutil.rmtree(root.parent, ignore_errors=True)


def test_results_that_are_called_anything_run_nothing(runs: Path) -> None:
    dialogs: list[str] = []
    with server.app(runs) as address, server.browser(1000, 900) as (context, outside):
        page = context.new_page()
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        for name, heading in (
            ("features", "Features"),
            ("rate", "Rate"),
            ("validate", "Validate"),
            ("evidence", "Evidence"),
        ):
            page.goto(f"{address}/{name}")
            page.get_by_role("heading", name=heading, exact=True).first.wait_for()
            walk.at_rest(page)
            if name == "rate":
                page.get_by_placeholder("initials will do").fill(HOSTILE_GENE)
                page.get_by_placeholder("initials will do").press("Enter")
                page.get_by_text("Unit 1").first.wait_for()
                walk.at_rest(page)
            walk.no_errors(page)
            assert page.evaluate(DREW) == 0, name
            assert "<img src=x" in page.locator("body").inner_text() or name in ("rate", "features"), name
    assert not dialogs and not outside
