"""An atlas made in the background is found where it is looked for, and gives the features their names."""

from __future__ import annotations

import time

import pytest

from scx_core.atlas import AtlasConfig
from scx_core.atlas.atlas_folder import AtlasJob, job_of, launch_atlas
from scx_core.atlas.feature_naming import name_book
from scx_core.cells import open_cells
from scx_core.language import load_language
from scx_core.transcoders import EMBEDDED_SETS, load_set, save_set

PATIENCE = 300  # seconds; it takes a few on an idle machine


@pytest.mark.slow
def test_a_new_set_gets_its_atlas_in_the_background(tmp_path):
    lm, table = load_language("embedded", "cpu"), open_cells("embedded")
    coders = load_set(EMBEDDED_SETS["embedded"])
    coders.layers[0].b_dec_d.add_(0.001)  # another set, which has no atlas
    coders = save_set(tmp_path / "mine", coders)
    parts = {"model": lm, "transcoders": coders, "data": table}
    cfg = AtlasConfig(cells=16, baseline=False)
    assert name_book(parts, tmp_path) is None and job_of(lm, coders, table, cfg, tmp_path) is None
    job = AtlasJob(transcoders=str(tmp_path / "mine"), device="cpu", atlas=cfg)
    run = launch_atlas(job, lm, coders, table, tmp_path)
    assert launch_atlas(job, lm, coders, table, tmp_path).path == run.path, "one job an atlas"
    until = time.monotonic() + PATIENCE
    while run.status().state == "running" and time.monotonic() < until:
        time.sleep(0.2)
    assert run.status().state == "done", (run.path / "job.log").read_text()
    book = name_book(parts, tmp_path)
    assert book is not None and len(book.names) > 100
    assert job_of(lm, coders, table, cfg, tmp_path).status().state == "done"
