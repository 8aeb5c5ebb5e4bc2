"""A saved circuit on the circuits page: drawn like a traced one, or refused in words; names are no markup."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.circuits import tracing
from pages.parts.circuits.saved_circuit import MOST_MB
from pages.parts.common.results import Memory
from scx_core.circuits import Circuit, Tracer
from scx_core.runs.files import to_json_text
from tests.builders.hostile import HOSTILE_GENE
from tests.figures.fakes import cell_circuit, consensus_circuit, hostile_circuit
from tests.pages.pictures import words as picture_words
from tests.pages.running import button, open_page, pick, said, well


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page traces before a file is opened is not the matter here, and no other test shall get it."""
    monkeypatch.setattr(tracing, "_CIRCUITS", Memory(8))
    monkeypatch.setattr(Tracer, "consensus", lambda self, *args, **more: consensus_circuit(1))


def content(circuit: Circuit) -> bytes:
    return to_json_text(circuit.to_json()).encode("utf-8")


def upload(data: bytes, name: str = "mine.json", app: AppTest | None = None) -> AppTest:
    """The circuits page with a file put into its uploader."""
    app = open_page("circuits", app)
    return well(app.file_uploader[0].set_value((name, data, "application/json")).run())


def markup(app: AppTest) -> str:
    """Everything that is shown as HTML outside the network's own frame, whose page has tests of its own."""
    return "\n".join(element.value for element in app.markdown if element.proto.allow_html)


def test_a_saved_consensus_is_drawn_with_where_it_comes_from(runs: Path) -> None:
    circuit = consensus_circuit(4)
    app = upload(content(circuit), "B cells.json")
    words = said(app)
    assert "over 30 cells" in words and "From the file B cells.json" in words
    assert "made from cells pbmc68k_reduced (9f2c41aa)" in words.replace("**", "")
    assert words.count("not what is in use here") == 3
    assert circuit.genes[0].gene in picture_words(app)
    assert len(app.dataframe[0].value) == len(circuit.genes)
    labels = [element.proto.label for element in app.get("download_button")]
    assert {"PNG", "JSON", "Neuronpedia", "CSV"} <= set(labels)
    assert not app.file_uploader, "one circuit at a time"


def test_what_is_in_use_is_recognised_by_its_fingerprint(runs: Path) -> None:
    from pages.parts.common import loaders
    from pages.parts.common.session import default_context

    ctx = default_context()
    own = {
        "data": {"name": "a", "fingerprint": loaders.cells(ctx).fingerprint},
        "model": {"name": "b", "fingerprint": loaders.language(ctx).fingerprint},
        "transcoders": "a set without a fingerprint",
    }
    words = said(upload(content(cell_circuit()._replace(provenance=own))))
    assert words.count("green-badge[in use here]") == 2
    assert words.count("cannot be compared with what is in use") == 1
    assert "a set without a fingerprint" in words


def test_it_stays_over_a_visit_elsewhere_and_is_closed_by_its_button(runs: Path) -> None:
    app = upload(content(cell_circuit()))
    app = open_page("circuits", open_page("validate", app))
    assert "From the file mine.json" in said(well(app)) and "in one cell" in said(app)
    pick(app, "Size in print").set_value("column").run()
    button(well(app), "Back to tracing").click().run()
    assert "From the file" not in said(well(app))
    assert pick(app, "Cell type").value == "CD19+ B" and app.file_uploader[0].value is None


def _changed(change: Callable[[dict], object]) -> bytes:
    data = json.loads(content(cell_circuit(n_genes=12, n_features=6)))
    change(data)
    return json.dumps(data).encode()


BAD = {
    "no JSON": (b"not json {", "is not valid JSON"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is not valid JSON"),
    "another JSON": (b'{"nodes": [], "links": [], "metadata": {}}', "states no schema_version"),
    "an edge to nowhere": (
        _changed(lambda d: d["edges"][0].update(target="ghost")),
        "names the node 'ghost'",
    ),
    "NaN": (_changed(lambda d: d["edges"][0].update(weight=float("nan"))), "edges[0].weight is not a finite"),
    "a huge text": (_changed(lambda d: d["nodes"][0].update(gene="A" * 10**6)), "has 1,000,000 characters"),
    "a newer format": (_changed(lambda d: d.update(schema_version=9)), "has the circuit format 9"),
    "too long": (b" " * (MOST_MB * 1_000_000 + 1), f"at most {MOST_MB} MB"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_words_and_the_page_goes_on(name: str, runs: Path) -> None:
    data, words = BAD[name]
    app = upload(data)
    assert app.error and "mine.json" in said(app)
    assert words in said(app)
    assert "From the file" not in said(app)
    assert app.get("component_instance"), "the traced circuit is still there"


@pytest.mark.parametrize("scope", ["cell", "consensus"])
def test_names_in_a_file_are_no_markup(scope: str, runs: Path) -> None:
    app = upload(content(hostile_circuit(scope)), "<img src=x>![a](http://evil).json")
    assert "<script>" not in markup(app) and HOSTILE_GENE not in markup(app)
    assert not any("![a](" in element.value for element in app.markdown)
    assert "From the file <img src=x>![a](http://evil).json" in said(app), "as it is written"
    assert not app.get("iframe"), "the picture is told names as JSON, and writes them as text"
    for element in app.get("html"):
        assert HOSTILE_GENE not in element.proto.body and "<script>" not in element.proto.body


def test_a_file_that_says_little_is_shown_all_the_same(runs: Path) -> None:
    bare = cell_circuit()._replace(scores={}, accounting={}, provenance={}, sentence=())
    words = said(upload(content(bare)))
    assert words.count("not stated") == 3 and "Replacement score –" in words.replace("**", "")


def test_what_is_explained_is_chosen_in_plain_words(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def consensus(self: Tracer, *args, trace, **more) -> Circuit:
        asked.append((trace.target, trace.token))
        target = consensus_circuit(1).target._replace(kind=trace.target, against=(), label="asked for")
        return consensus_circuit(1)._replace(target=target, scores={"called": 0.5})

    monkeypatch.setattr(Tracer, "consensus", consensus)
    app = well(open_page("circuits"))
    app.number_input(key="kept cells").set_value(3).run()
    pick(app, "What is explained").set_value("logprob").run()
    assert asked[-1] == ("logprob", "") and "gives this answer for 15 of the 30 cells" in said(well(app))
    assert "nats" in said(app)
    pick(app, "What is explained").set_value("token").run()
    app.text_input(key="kept token").set_value(" FOX").run()
    assert asked[-1] == ("token", " FOX") and "asked for over" in said(well(app)).replace("**", "")
