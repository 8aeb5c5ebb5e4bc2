"""Installing a finished build: what is copied where, and no folder of this computer in it."""

from __future__ import annotations

import json

import pytest

from scx_core.atlas import saved_atlas
from scx_core.build import BuildConfig
from scx_core.build.pipeline import _atlas, install
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, silent, write_json
from scx_core.transcoders import load_set, save_set
from tests.tiny import tiny_language, tiny_table
from tests.validation.sets import random_set


def finished(root) -> RunFolder:
    """A build's folder as the pipeline leaves it, with next to nothing in its files."""
    run = RunFolder.create(root, "build", BuildConfig(presets="recommended,paper"))
    (run.path / "model").mkdir()
    write_json(run.path / "model" / "scx.json", {"name": "m"})
    (run.path / "card.md").write_text("# card\n")
    for folder in ("transcoders", "transcoders-paper"):
        record = {"provenance": {"config": {"model": str(run.path / "model"), "steps": [3]}}}
        (run.path / folder).mkdir()
        write_json(run.path / folder / "scx.json", record)
        write_json(run.path / folder / "validation.json", {"kl": 0.1})
    (run.path / "atlas").mkdir()
    write_json(run.path / "atlas" / "atlas.json", {})
    write_json(run.path / "metrics.json", {})
    return run


def test_model_sets_card_and_tables_are_copied(tmp_path):
    places = install(finished(tmp_path / "runs"), tmp_path / "models", "mine")
    assert [place.name for place in places] == [
        "mine", "mine-transcoders", "mine-transcoders-paper", "mine-atlas",
    ]  # fmt: skip
    assert (tmp_path / "models/mine/README.md").read_text() == "# card\n"
    for place in places[1:3]:
        assert json.loads((place / "validation.json").read_text()) == {"kl": 0.1}
        record = json.loads((place / "scx.json").read_text())
        assert record == {"provenance": {"config": {"model": "mine", "steps": [3]}}}


def test_no_shipped_file_names_a_folder_of_a_computer():
    from scx_core.build.pipeline import MODELS

    files = [path for path in MODELS.rglob("*.json") if path.name != "tokenizer.json"]
    assert len(files) >= 6
    for path in files:
        text = path.read_text()
        assert "/runs/" not in text and "/home/" not in text and "/tmp/" not in text, path


def test_nothing_of_an_earlier_build_stays(tmp_path):
    run = finished(tmp_path / "runs")
    places = install(run, tmp_path / "models", "mine")
    for place in places:
        (place / "layer_3.safetensors").write_bytes(b"of a model with more layers")
    kept = tmp_path / "models" / "other"
    kept.mkdir()
    install(run, tmp_path / "models", "mine")
    assert not list((tmp_path / "models").rglob("layer_3*")) and kept.exists()


def test_an_unfinished_build_is_not_installed(tmp_path):
    run = finished(tmp_path / "runs")
    (run.path / "metrics.json").unlink()
    with pytest.raises(ScxError, match="not finished"):
        install(run, tmp_path / "models")


def test_the_pages_find_the_atlas_that_a_build_made(tmp_path):
    """Nobody waits for it a second time: it lies where the Features page looks for one of this set."""
    lm, table = tiny_language(tmp_path / "model"), tiny_table(12)
    run = RunFolder.create(tmp_path / "runs", "build", BuildConfig(presets="quick"))
    save_set(run.path / "transcoders", random_set(lm), {"name": "mine"})
    _atlas(run, BuildConfig(presets="quick"), lm, table, silent)
    assert (run.path / "atlas" / "atlas.json").exists()
    found = saved_atlas(lm, load_set(run.path / "transcoders"), table, root=tmp_path / "runs")
    assert found is not None and found.meta["n_cells"] == 12
