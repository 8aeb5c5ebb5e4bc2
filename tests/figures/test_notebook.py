"""What a notebook shows of results: every kind, names as text, frames that reach nothing, one short line."""

from __future__ import annotations

import html

import pytest

from scx_core.atlas import Atlas
from scx_core.circuits import ConsensusConfig, compare_types
from scx_core.evidence.curves import CurvesConfig, curves_of
from scx_core.evidence.feature_edits import EditConfig, edit_features
from scx_core.evidence.knockouts.gene_lists import GeneListConfig, edit_gene_lists
from scx_core.evidence.null_rates import NullConfig, null_rates
from scx_core.evidence.redundancy import RedundancyConfig, redundancy_of
from scx_core.evidence.rivals.rivals import Rivals
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig, smallest
from scx_core.evidence.stability import StabilityConfig, stability
from scx_core.figures.notebook import BLOCKS, html_of
from scx_core.runs import read_json
from scx_core.transcoders import EMBEDDED_SETS
from scx_core.validation.result import from_json
from tests.builders.evidence import LABEL, OTHER, tiny_evidence, tiny_tracer
from tests.builders.hostile import HOSTILE_GENE, HOSTILE_LABEL
from tests.builders.pages import Elements
from tests.figures.fakes import cell_circuit, consensus_circuit, hostile_circuit

FEW = {"measured": 2, "circuit_cells": 2, "reference_cells": 2, "draws": 2}


def results() -> dict[type, object]:
    """One small result of each kind that says `@shown`, but for rivals."""
    tracer = tiny_tracer()
    gene = str(tracer.table.symbols[0])
    atlas = Atlas.open(EMBEDDED_SETS["embedded"].parent / "embedded-atlas")
    validation = from_json(read_json(EMBEDDED_SETS["embedded"] / "validation.json"))
    search = SmallestConfig(
        wanted=0.1, search_cells=2, gradient_cells=1, unseen_cells=2, compare=False, draws=1
    )
    steady = StabilityConfig(cells=4, splits=1, ties=1, resamples=20, draws=20)
    made = [
        consensus_circuit(),
        compare_types(tracer, LABEL, OTHER, cfg=ConsensusConfig(cells=2)),
        smallest(tracer, LABEL, cfg=search),
        curves_of(tracer, LABEL, cfg=CurvesConfig(growth=99.0, orders=0, **FEW)),
        edit_features(tracer, LABEL, doses=[0.5, 1.0, 2.0], cfg=EditConfig(top=1, **FEW)),
        edit_gene_lists(tracer, LABEL, {"mine": [gene]}, cfg=GeneListConfig(cells=2, draws=2)),
        redundancy_of(tracer, LABEL, cfg=RedundancyConfig(top=2, genes=2, risen=1, **FEW)),
        stability(tracer, LABEL, kinds=("genes",), cfg=steady),
        null_rates(tracer, (LABEL, OTHER), cfg=NullConfig(cells=4, repeats=10, sets=3)),
        tiny_evidence().types[0],
        validation,
        atlas,
        atlas.feature(2, 5),
    ]
    return {type(one): one for one in made}


@pytest.fixture(scope="module")
def made():
    return results()


def test_every_kind_shows_itself_and_has_one_short_line(made):
    assert set(BLOCKS) - set(made) == {Rivals}
    for kind, one in made.items():
        shown = one._repr_html_()
        assert shown == html_of(one) == one._repr_html_(), f"{kind.__name__} is not shown the same twice"
        assert len(shown) < 1_500_000
        line = repr(one)
        assert line.startswith(f"<{'Smallest circuit' if kind.__name__ == 'Smallest' else kind.__name__}")
        assert "\n" not in line and len(line) < 300


def test_nothing_is_fetched_and_only_frames_run_scripts(made):
    for one in (*made.values(), hostile_circuit()):
        found = Elements(one._repr_html_()).found
        assert not {"script", "link", "object", "embed"} & {tag for tag, _ in found}
        for tag, attributes in found:
            assert not [name for name in attributes if name.startswith("on")]
            sources = [attributes[name] or "" for name in ("src", "href") if name in attributes]
            assert all(source.startswith("data:") for source in sources)
            if tag == "iframe":
                assert attributes["sandbox"] == "allow-scripts"
                page = Elements(attributes["srcdoc"] or "").found
                policies = [held["content"] for _, held in page if held.get("http-equiv")]
                assert policies[0].startswith("default-src 'none'")


def test_hostile_names_are_text():
    for scope in ("cell", "consensus"):
        text = hostile_circuit(scope)._repr_html_()
        around = text[: text.index("srcdoc=")] + text[text.index("</iframe>") :]
        assert html.escape(HOSTILE_GENE) in around
        assert HOSTILE_GENE not in around and HOSTILE_LABEL not in around
        assert {tag for tag, _ in Elements(around).found} <= {
            "div", "style", "iframe", "details", "summary", "p", "table", "thead", "tbody", "tr", "th", "td",
            "h4", "a",
        }  # fmt: skip


def test_a_circuit_that_is_not_to_be_read_says_so_first():
    circuit = cell_circuit()
    about = {"read": "no", "words": "Do not read circuits of this model: it cannot.", "same_data": True}
    forbidden = circuit._replace(provenance=circuit.provenance | {"validation": about})
    text = forbidden._repr_html_()
    assert text.index("Do not read circuits of this model") < text.index("<iframe")
    assert '<div class="banner grave" role="alert">' in text
    assert "banner" not in circuit._repr_html_().partition("</style>")[2].partition("<iframe")[0]


def test_a_validation_that_forbids_is_red(made):
    good = next(one for kind, one in made.items() if kind.__name__ == "Validation")
    bad = good._replace(ce_recovered=0.3, label_agreement=0.2)
    assert "banner grave" in bad._repr_html_().partition("</style>")[2]
    assert "banner grave" not in good._repr_html_().partition("</style>")[2]
