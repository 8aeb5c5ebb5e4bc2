"""What a page shows first is so, point by point, on the embedded cells and on cells of another study: names
of boxes, whose circuit it is, the verdict, how often the model says it, what a difference is, what fits.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

import scx_core as scx
from scx_core.atlas import Atlas
from scx_core.atlas.feature_naming import name_book
from scx_core.atlas.judge.protocol import FIGURES, figures
from scx_core.circuits import ConsensusConfig, Tracer, compare_types
from scx_core.circuits.circuit import Circuit, Node
from scx_core.circuits.feature_names import with_names
from scx_core.circuits.words.whose import (
    ELSEWHERE,
    accuracy_note,
    forbidden,
    mismatch_note,
    not_told_apart,
    validation_note,
    whose,
)
from scx_core.circuits.words.wording import answer_frequency, competitor_sentences
from scx_core.figures import file_name
from scx_core.figures.captions import caption, signs, title
from scx_core.language import fit_of, map_labels, raw_answers
from scx_core.validation.standing import Standing

ROOT = Path(__file__).resolve().parents[2]
CITESEQ = Path(os.environ.get("SCX_TEST_DATA", ROOT.parent / "shared/data")) / "cells/tenx_citeseq_pbmc.h5ad"
NO_GENE = (
    "prompt",
    "position",
    "answer",
    "spelling",
    "many genes",
    "genes and",
    "driven by",
    "place",
    "start",
)
LEAST, STRONGEST, CELLS = 0.25, 30, 2


class Seen(NamedTuple):
    """Six types of one data set, as a page gets them. `chosen`: labels whose answer was chosen by hand."""

    tracer: Tracer
    circuits: dict[str, Circuit]
    chosen: frozenset[str]


@pytest.fixture(
    scope="module",
    params=[
        "embedded",
        pytest.param(
            str(CITESEQ),
            marks=pytest.mark.skipif(not CITESEQ.exists(), reason="no CITE-seq cells here (SCX_TEST_DATA)"),
        ),
    ],
    ids=["embedded", "citeseq"],
)
def seen(request: pytest.FixtureRequest) -> Seen:
    tracer = scx.tl.tracer(request.param)
    six = [str(name) for name in tracer.table.cells_per_type().index[:6]]
    chosen = frozenset(label for label in six if not tracer.table.answer_of[label])
    circuits = {}
    for label in six:
        answer = "CD8+ Cytotoxic T" if label in chosen else None
        circuit = tracer.consensus(label, answer=answer, cfg=ConsensusConfig(cells=CELLS))
        book = name_book(circuit.provenance)
        assert book is not None
        circuits[label] = with_names(circuit, book)
    return Seen(tracer, circuits, chosen)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return Atlas.open(ROOT / "models/embedded-atlas")


def untrue(atlas: Atlas, nodes: list[Node]) -> list[str]:
    """Names that the atlas' own figures do not bear out."""
    rows = figures(atlas.features).set_index(["layer", "feature"])
    shares = atlas.table("genes").set_index(["layer", "feature", "gene"])["share"]
    wrong = []
    for node in nodes:
        if any(word in node.name for word in NO_GENE):
            continue
        if node.name_kind in FIGURES and node.name_kind != "gene":
            held = rows.loc[(node.layer, node.feature), FIGURES[node.name_kind]]
        else:
            named = [word.strip(" …") for word in node.name.split(",")]
            held = sum(float(shares.get((node.layer, node.feature, gene), 0.0)) for gene in named)
        if held < LEAST:
            wrong.append(f"L{node.layer}·{node.feature} {node.name} ({node.name_kind}): {held:.0%}")
    return wrong


def test_1_a_box_says_what_the_feature_is(seen: Seen, atlas: Atlas) -> None:
    for label, circuit in seen.circuits.items():
        nodes = [node for node in circuit.nodes if node.kind == "feature" and node.name]
        nodes = sorted(nodes, key=lambda node: -node.influence)[:STRONGEST]
        assert len(nodes) == STRONGEST, label
        assert {node.name_source for node in nodes} == {"atlas"}
        assert not (wrong := untrue(atlas, nodes)), (label, wrong)
        assert str(circuit.provenance["names"]).startswith("names from atlas embedded-atlas@")


def test_2_whose_circuit_it_is_stands_in_title_caption_and_file_name(seen: Seen) -> None:
    names = set()
    for label, circuit in seen.circuits.items():
        found = whose(circuit)
        assert found is not None and found.n == CELLS
        for text in (title(circuit), caption(circuit)):
            assert label in text and (found.says in text or found.says == found.answer)
        assert caption(circuit).startswith(f"Circuit of the answer {found.answer}")
        wrong = found.says != found.answer
        assert (f"model says {found.says}" in title(circuit)) == (wrong or label != found.answer)
        assert bool(mismatch_note(circuit)) == (
            wrong or label in seen.chosen or bool(not_told_apart(circuit))
        )
        assert ("has no answer for" in mismatch_note(circuit)) == (label in seen.chosen)
        names.add(file_name(circuit, "png"))
    assert len(names) == len(seen.circuits)


def test_2_an_answer_that_most_cells_get_is_no_answer_to_one_type(seen: Seen) -> None:
    told = {label: not_told_apart(circuit) for label, circuit in seen.circuits.items()}
    if "B cell" in told:  # CITE-seq: nearly every cell is CD19+ B to the embedded model
        assert "of 45 of other types" in told["B cell"] and told["B cell"] in caption(seen.circuits["B cell"])
    else:
        assert not any(told.values())


def test_2_most_is_more_than_half_and_a_tie_goes_to_the_answer(seen: Seen) -> None:
    label, circuit = next(iter(seen.circuits.items()))
    mine = circuit.target.answer
    about = circuit.provenance | {"mapped_answer": mine, ELSEWHERE: None}
    tie = circuit._replace(provenance=about | {"model_says": {"A": 1, mine: 1}})
    assert mismatch_note(tie) == "" and "says A" not in title(tie)
    few = circuit._replace(provenance=about | {"model_says": {"A": 2, mine: 1, "B": 1, "C": 1}})
    assert "largest part of these cells (2 of 5) A" in mismatch_note(few), label
    assert "an answer that it gives to only 1 of 5" in mismatch_note(few)


def test_3_the_verdict_travels(seen: Seen) -> None:
    same = seen.tracer.table.name == "pbmc68k_reduced"
    for circuit in seen.circuits.values():
        assert not forbidden(circuit)
        assert validation_note(circuit).rstrip(".") in caption(circuit)
        assert ("not on these cells but on pbmc68k_reduced" in validation_note(circuit)) != same
        # how right the model is elsewhere is not said of these cells
        assert ("of pbmc68k_reduced, not of these data," in accuracy_note(circuit)) != same
        bad = Standing("no", "Do not read circuits of this model.", "x", 50, True, 0.2, 0.3, 0.08).to_json()
        told = circuit._replace(provenance=circuit.provenance | {"validation": bad})
        assert forbidden(told) and "Do not read circuits" in caption(told)
        assert accuracy_note(told) == "The model names 8% of 50 held-out cells rightly."


def test_4_how_often_the_model_says_so_and_against_whom(seen: Seen) -> None:
    answers = set(seen.tracer.table.answer_of.values()) - {""}
    for circuit in seen.circuits.values():
        found, target = whose(circuit), circuit.target
        assert f"for {found.given} of the {CELLS} cells" in answer_frequency(circuit)
        words = " ".join([answer_frequency(circuit), *competitor_sentences(target)])
        assert words in caption(circuit) and "beats" not in caption(circuit)
        assert target.answer not in target.against and target.left_out is not None
        known = {*target.against, *target.left_out, *target.same_target, target.answer}
        assert answers <= known, "who is in, and who is not"
        assert all(name in words for name in known - {target.answer})


def test_5_a_difference_names_both_sides_and_units_are_what_they_are(seen: Seen) -> None:
    first, second = [label for label in seen.circuits if label not in seen.chosen][:2]
    cfg = ConsensusConfig(cells=CELLS)
    found = compare_types(seen.tracer, first, second, cfg=cfg).difference
    assert signs(found)[:2] == (f"effect higher in {first}", f"effect higher in {second}")
    assert title(found) == f"{first} less {second}"
    assert f"the mean in {first} less that in {second}" in caption(found)
    names = {file_name(one, "csv") for one in (found, seen.circuits[first], seen.circuits[second])}
    names.add(file_name(seen.tracer.cell(0), "csv"))
    assert len(names) == 4
    for circuit in (found, *seen.circuits.values()):
        unit = "nats" if circuit.target.kind == "answer" else "logits"
        assert f"in {unit}" in caption(circuit)


def test_5_a_type_with_fewer_cells_limits_only_itself(seen: Seen) -> None:
    rare = str(seen.tracer.table.cells_per_type().index[-1])
    n = int(seen.tracer.table.cells_per_type().iloc[-1])
    assert len(seen.tracer.draw(rare, ConsensusConfig(cells=n + 20))) == n
    assert len(seen.tracer.draw(next(iter(seen.circuits)), ConsensusConfig(cells=n + 20))) == n + 20


def test_6_whether_cells_and_model_fit(seen: Seen) -> None:
    lm, table = seen.tracer.lm, seen.tracer.table
    mapped = map_labels(lm, table, table.given_answers)
    fits = fit_of(mapped, raw_answers(lm, table))
    good = not seen.chosen
    assert fits[0].words.startswith(f"{sum(bool(one.answer) for one in mapped)} of {len(mapped)} types")
    assert fits[0].good == good and fits[-1].good == good, "own cells of another study do not fit this model"
    none = replace(table, answer_of=dict.fromkeys(table.answer_of, ""))
    assert not fit_of(map_labels(lm, none, dict.fromkeys(table.answer_of, "")))[0].good
