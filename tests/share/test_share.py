"""The shared page: everything in one file, found offline, names as text, the same bytes, one model."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from scx_core.atlas import Atlas
from scx_core.cli import main
from scx_core.errors import ScxError
from scx_core.runs import read_json, write_json
from scx_core.share import ShareConfig, Shared, gather, gather_folder, share_page
from scx_core.share.atlas_data import atlas_data
from scx_core.transcoders import EMBEDDED_SETS
from scx_core.validation.result import from_json
from tests.builders.evidence import LABEL, tiny_evidence, tiny_tracer
from tests.builders.hostile import HOSTILE_GENE, HOSTILE_LABEL, HOSTILE_TEXTS
from tests.builders.pages import Elements
from tests.figures.fakes import consensus_circuit, hostile_circuit

ATLAS = EMBEDDED_SETS["embedded"].parent / "planted-atlas"
FEW = ShareConfig(cells=2, features=200)


def hostile_atlas() -> Atlas:
    """A small atlas whose labels, genes, types and token texts are attacks."""
    atlas = Atlas.open(ATLAS).in_memory()
    features, genes, slots = atlas.features.copy(), atlas.table("genes"), atlas.table("slots")
    features["label"] = [HOSTILE_TEXTS[k % len(HOSTILE_TEXTS)] for k in range(len(features))]
    features["cell_type"] = pd.Categorical([HOSTILE_LABEL] * len(features))
    features["writes"], features["piece"] = HOSTILE_GENE, HOSTILE_LABEL
    genes["gene"], slots["text"] = HOSTILE_GENE, HOSTILE_LABEL
    meta = atlas.meta | {"types": [HOSTILE_LABEL]}
    tables = {"features": features, "genes": genes, "readers": genes, "slots": slots}
    return atlas.with_tables(tables, meta, {})


def hostile() -> Shared:
    """All parts, all hostile."""
    about = hostile_circuit("consensus").provenance
    found = tiny_evidence().types[0]._replace(label=HOSTILE_LABEL, answer=HOSTILE_GENE)
    validation = from_json(read_json(EMBEDDED_SETS["embedded"] / "validation.json"))
    validation = validation._replace(split=HOSTILE_GENE)
    circuits = {HOSTILE_LABEL: hostile_circuit("consensus"), HOSTILE_GENE: hostile_circuit()}
    return Shared(HOSTILE_LABEL, hostile_atlas(), circuits, (found,), validation, about)


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return share_page(hostile(), FEW)


def unpacked(page: str, name: str):
    """The data of the page under a name."""
    found = re.search(rf'id="data-{name}">([A-Za-z0-9+/=]+)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(found[1]))) if found else None


def test_the_file_holds_every_part_and_asks_for_nothing(hostile_page):
    own = hostile_page
    elements = Elements(own).found
    tags = [tag for tag, _ in elements]
    assert not {"link", "iframe", "img", "object", "embed", "base", "form"} & set(tags)
    assert [held["href"] for _, held in elements if "href" in held or "src" in held] == ["#main"]
    assert not [name for _, held in elements for name in held if name.startswith("on")]
    data = [held.get("type") for tag, held in elements if tag == "script"]
    assert data.count(None) == 1 and set(data) == {None, "text/plain", "application/json"}
    assert not re.search(r"https?://|@import|url\(", own)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', own)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert unpacked(own, "atlas") and unpacked(own, "cards-0") and unpacked(own, "circuit-1")
    assert unpacked(own, "evidence-0") and unpacked(own, "validation")


def test_hostile_names_stay_text_wherever_html_is_written(hostile_page):
    written = [unpacked(hostile_page, name) for name in ("evidence-0", "validation")]
    circuit = unpacked(hostile_page, "circuit-0")
    for text in (*written, circuit["legend"], circuit["genes"], hostile_page):
        assert HOSTILE_GENE not in text and HOSTILE_LABEL not in text


def test_the_same_inputs_give_the_same_bytes():
    shared = Shared("one", Atlas.open(ATLAS), {"B": consensus_circuit()}, (), None, {})
    assert share_page(shared, FEW) == share_page(shared, FEW)


def test_the_index_finds_what_the_atlas_holds():
    atlas = Atlas.open(ATLAS)
    data = atlas_data(atlas, 100_000)
    index = data.columns
    assert data.left_out == 0 and len(index["layer"]) == len(atlas.features)
    assert sum(map(len, data.blocks)) == len(atlas.features)
    gene = str(atlas.table("readers")["gene"].astype(str).iloc[0])
    rows, shares = index["readers"][str(index["genes"].index(gene))]
    want = atlas.gene(gene)["reads"].dropna()
    assert len(rows) == len(want)
    assert shares == pytest.approx(sorted(want, reverse=True), abs=1e-4)
    few = atlas_data(atlas, 50)
    assert few.left_out == len(atlas.features) - 50
    assert min(few.columns["mass"]) >= round(float(atlas.features["mass"].nlargest(50).iloc[-1]), 2)


def test_a_model_is_gathered_with_what_was_measured(tmp_path, monkeypatch):
    tracer = tiny_tracer()
    record = tiny_evidence().of(LABEL)
    (tmp_path / "evidence").mkdir()
    write_json(tmp_path / "evidence" / "b.json", record.to_json())
    other = record._replace(provenance=record.provenance | {"model": {"name": "x", "fingerprint": "other"}})
    write_json(tmp_path / "evidence" / "a.json", other.to_json())
    monkeypatch.setattr(tracer.table, "cells_per_type", lambda: pd.Series({LABEL: 9}), raising=False)
    shared = gather(tracer, cfg=FEW, root=tmp_path)
    assert [one.label for one in shared.evidence] == [LABEL]
    assert shared.circuits[LABEL].genes == record.drawn.genes  # not traced anew


def test_a_folder_of_results_of_one_model(tmp_path, capsys):
    shutil.copytree(ATLAS, tmp_path / "results" / "atlas")
    meta = read_json(ATLAS / "atlas.json")["provenance"]
    circuit = consensus_circuit()
    about = circuit.provenance | {key: meta[key] for key in ("model", "transcoders")}
    of_it = circuit._replace(provenance=about)
    write_json(tmp_path / "results" / "cell.json", of_it.to_json())
    (tmp_path / "results" / "notes.json").write_text('["nothing of ours"]', encoding="utf-8")
    out = tmp_path / "shared.html"
    assert main(["share", str(tmp_path / "results"), "-o", str(out), "--features", "50"]) == 0
    assert "with the atlas, 1 circuits" in capsys.readouterr().out
    assert unpacked(out.read_text(encoding="utf-8"), "circuit-0")["title"]
    write_json(tmp_path / "results" / "other.json", circuit.to_json())
    with pytest.raises(ScxError, match="not of one model"):
        gather_folder(tmp_path / "results")
    with pytest.raises(ScxError, match="holds no atlas"):
        gather_folder(tmp_path / "evidence" if (tmp_path / "evidence").exists() else _empty(tmp_path))


def _empty(folder: Path) -> Path:
    made = folder / "empty"
    made.mkdir()
    return made


def test_in_a_browser_it_is_searched_by_hand_and_by_keys(browser, tmp_path, hostile_page):
    path = tmp_path / "shared.html"
    path.write_text(hostile_page, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    requests, troubles = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))

    def goes_to(part: str) -> None:
        page.evaluate(f"location.hash = '{part}'")
        page.wait_for_selector(f"html[data-shown='#{part}']", state="attached")

    page.goto(path.as_uri())
    page.wait_for_selector("html[data-shown]", state="attached")
    goes_to("atlas")
    assert "200 features" in page.inner_text("#list .count")
    page.keyboard.press("/")
    page.keyboard.type("href=x")
    assert 0 < int(page.inner_text("#list .count b").split()[0]) < 200
    page.focus("a.row")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#back")
    assert page.inner_text("h2 bdi") == "href=x"
    page.keyboard.press("Escape")
    page.wait_for_selector("#find-text")
    goes_to("circuit/1")
    page.wait_for_selector("#network canvas")
    page.click("summary:has-text('Boxes as a list')")
    page.locator(".boxes button").first.press("Enter")
    assert page.inner_text(".told b")
    for part in ("evidence/0", "validation", "about", "start"):
        goes_to(part)
    strange = "main img:not([src^='data:']), main script"
    assert page.evaluate("(words) => document.querySelectorAll(words).length", strange) == 0
    page.close()
    assert [url for url in requests if not url.startswith((path.as_uri(), "data:"))] == []
    assert troubles == []
