"""What the model reads and answers, on the pages: badges, raw answers, mapping of labels, another text."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pages.parts.common.session import KEY
from scx_core.errors import ScxError
from scx_core.language import EMBEDDED, load_language
from scx_core.runs import read_json, to_dict, write_json
from scx_core.sentences import SentenceConfig
from scx_core.tasks import job_of_task, run_task
from scx_core.tasks.makers import download_task
from scx_core.transcoders import load_set
from tests.builders.hub import NAME, fake_hub, use_hub
from tests.language.checkpoints import PYTHIA, pythia_folder
from tests.pages.running import button, open_page, pick, said, well


def test_the_data_page_shows_prompt_raw_answers_and_the_mapping(runs: Path) -> None:
    words = said(well(open_page("data")))
    for part in (
        "What the model reads and answers", "Homo sapiens cell, top 80 genes:", "Cell type:",
        "of 24 raw answers are one of the 10 candidate labels", "10 of 10 types have an answer",
        "Genes asked for] 80",
    ):  # fmt: skip
        assert part in words
    assert "green-badge[10 of 10 types have an answer of the model]" in words
    assert "trained on" not in words  # it is asked about cells that it has not seen


def test_an_edited_mapping_is_a_file_and_a_choice_of_the_cells_in_use(runs: Path) -> None:
    app = open_page("data")
    assert button(app, "Use this mapping").disabled
    app = well(pick(app, "Answer for Dendritic").set_value("").run())
    app = well(button(app, "Use this mapping").click().run())
    words = said(app)
    kept = app.session_state[KEY].cells.answers
    assert Path(kept).parent == runs / "answers" and read_json(kept)["Dendritic"] == ""
    assert read_json(kept)["CD19+ B"] == "CD19+ B"
    assert "9 of 10 types have an answer. Without one, and not scored: Dendritic." in words
    assert "orange-badge[9 of 10 types have an answer of the model]" in words
    assert (
        next(box.label for box in app.selectbox if box.label.startswith("Answer")) == "Answer for Dendritic"
    )
    app = well(button(app, "Propose answers").click().run())  # what it writes for these and no other cells
    assert pick(app, "Answer for Dendritic").value == "Dendritic"
    assert "the model writes “Dendritic” for " in said(app) and read_json(kept)["Dendritic"] == ""
    app = well(button(app, "Back to the proposal").click().run())
    assert app.session_state[KEY].cells.answers is None and "10 of 10 types" in said(app)


def test_a_checkpoint_without_its_templates_is_a_message_and_nothing_is_traced(
    runs: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(sys.modules["scx_core.sentences.prompts"], "_cell2sentence_prompts", dict)
    folder = pythia_folder(tmp_path, PYTHIA[0], load_language("embedded").tokenizer)
    monkeypatch.setenv("SCX_MODEL", str(folder))
    for page in ("circuits", "data"):
        app = well(open_page(page))
        errors = [element.value.replace("\\", "") for element in app.error]
        assert len(errors) == 1 and "pip install --no-deps cell2sentence" in errors[0]
        assert "licence" in errors[0] and not app.get("component_instance")


@pytest.fixture(scope="module")
def other_set(tmp_path_factory) -> Path:
    """The embedded set, as if it had been trained on sentences of 60 genes."""
    folder = tmp_path_factory.mktemp("sets") / "sixty"
    shutil.copytree(load_set("embedded").folder, folder)
    meta = read_json(folder / "scx.json")
    write_json(folder / "scx.json", meta | {"sentences": to_dict(SentenceConfig(n_genes=60))})
    return folder


def test_a_set_of_another_text_is_refused_or_used_and_marked(
    runs: Path, other_set: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SCX_TRANSCODERS", str(other_set))
    app = well(open_page("circuits"))
    assert (
        len(app.error) == 1 and "n_genes 60 there, 80 here" in said(app) and not app.get("component_instance")
    )
    assert not open_page("validate", app).metric
    app = open_page("circuits", app)
    app = well(button(app, "Use it all the same (marked)").click().run())
    assert app.get("component_instance") and not app.error
    shown = [element.value.replace("\\", "") for element in app.warning]
    assert any("They are used as they are" in text for text in shown)
    assert any("trained on another text (n_genes 60 there, 80 here)" in text for text in shown)
    assert app.session_state[KEY].as_is and read_json(runs / "last-used.json")["as_is"]
    app = well(button(app, "Do not use them so").click().run())
    assert not app.get("component_instance") and len(app.error) == 1


def test_a_checkpoint_of_the_hub_is_fetched_when_a_person_says_so(
    runs: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = shutil.copytree(EMBEDDED, tmp_path / "model")
    (folder / "scx.json").unlink()
    monkeypatch.setattr("scx_core.runs.background.start", lambda run: run)  # done below, in this process
    monkeypatch.setenv("SCX_MODEL", NAME)
    with fake_hub(folder) as there:
        use_hub(monkeypatch, there.address, tmp_path / "cache")
        app = open_page("data")
        words = said(well(app))
        assert "not on this computer yet" in words and "hf auth login" in words
        assert "The page Data has a button" in said(open_page("circuits")) and not there.asked
        button(app, "Download it").click().run()
        run = job_of_task(download_task(NAME))
        assert run is not None and run.config["asked"] == {"hub_id": NAME}
        run_task(run)
        assert run.status().state == "done"
        there.asked.clear()
        app = well(open_page("data"))
        assert "not on this computer" not in said(app) and button(app, "Load the model and ask it")
        assert not there.asked


def test_a_gated_checkpoint_says_so_in_its_job(runs: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("scx_core.runs.background.start", lambda run: run)
    monkeypatch.setenv("SCX_MODEL", NAME)
    with fake_hub(EMBEDDED, gated=True) as there:
        use_hub(monkeypatch, there.address, tmp_path / "cache")
        button(open_page("data"), "Download it").click().run()
        with pytest.raises(ScxError, match="is gated"):
            run_task(job_of_task(download_task(NAME)))
        assert "is gated" in said(open_page("data"))
