"""Whose circuit it is: label, answer and what the model says, in title, file name, caption and banner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scx_core import tl
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.circuits.circuit import Circuit
from scx_core.circuits.words.whose import (
    forbidden,
    mismatch_note,
    validated_elsewhere,
    validation_note,
    whose,
)
from scx_core.figures import file_name
from scx_core.figures.captions import caption, title

B, OTHER = "CD19+ B", "CD34+"
FEW = ConsensusConfig(cells=2)


@pytest.fixture(scope="module")
def tracer() -> Tracer:
    return tl.tracer("embedded")


@pytest.fixture(scope="module")
def own(tracer: Tracer) -> Tracer:
    """The embedded cells under other names, as a file of one's own has them."""
    names = {B: "B cell"}
    table = tracer.table
    labels = np.array([names.get(str(one), str(one)) for one in table.labels], dtype=object)
    mapped = {str(one): str(one) for one in table.types if one != B}
    return replace(tracer, table=replace(table, labels=labels, answer_of=mapped | {"B cell": B}), _scores={})


@pytest.fixture(scope="module")
def as_other(own: Tracer) -> Circuit:
    return own.consensus("B cell", answer=OTHER, cfg=FEW)


def test_a_circuit_of_cells_that_the_model_calls_otherwise_says_so_everywhere(as_other: Circuit):
    found = whose(as_other)
    assert found is not None
    assert (found.label, found.answer, found.mapped, found.says, found.n) == ("B cell", OTHER, B, B, 2)
    assert title(as_other) == "B cell as CD34+, model says CD19+ B"
    assert file_name(as_other, "png") == "B_cell_as_CD34+_model_says_CD19+_B_consensus_2_cells.png"
    assert f"The model calls most of these cells ({found.k} of 2) {B}, not {OTHER}" in caption(as_other)
    assert "which the data call B cell" in caption(as_other)
    assert f"The mapping of labels calls B cell {B}" in mismatch_note(as_other)


def test_the_labels_own_answer_is_named_and_no_banner_is_needed(own: Tracer, tracer: Tracer):
    mine = own.consensus("B cell", cfg=FEW)
    assert title(mine) == "B cell, model says CD19+ B"
    assert mismatch_note(mine) == ""
    same = tracer.consensus(B, cfg=FEW)
    assert title(same) == B
    names = {file_name(one, "png") for one in (mine, same, tracer.consensus(B, against=[OTHER], cfg=FEW))}
    assert len(names) == 3


def test_a_label_without_an_answer_is_said(own: Tracer):
    without = replace(own, table=replace(own.table, answer_of=dict(own.table.answer_of) | {"B cell": ""}))
    found = without.consensus("B cell", answer=B, cfg=FEW)
    note = mismatch_note(found)
    assert f"The mapping of labels has no answer for B cell; {B} is explained." in note
    assert "by hand" not in note, "the page may have proposed it: nobody chose"


def test_two_cells_and_a_consensus_never_share_a_file_name(tracer: Tracer):
    rows = np.flatnonzero(tracer.table.labels == B)[:2].tolist()
    names = {file_name(tracer.cell(row, label=B), "json") for row in rows}
    names.add(file_name(tracer.consensus(B, cfg=FEW), "json"))
    assert len(names) == 3


def test_a_file_may_state_anything(as_other: Circuit):
    for stated in ("x", {"CD34+": "many"}, {"CD34+": -1}, [1], None):
        odd = as_other._replace(provenance=as_other.provenance | {"model_says": stated})
        found = whose(odd)
        assert found is not None
        assert found.says == ""
        assert title(odd) == "B cell as CD34+"
    assert whose(as_other._replace(provenance={})) is None


@pytest.mark.parametrize(
    ("stated", "words", "never"),
    [
        ({"read": "unknown"}, "Nobody has validated", False),
        ({"read": "no", "words": "Do not read.", "same_data": True}, "Validation: Do not read.", True),
        (
            {"read": "yes", "words": "Close.", "data": "x.h5ad"},
            "not on these cells but on x.h5ad: Close.",
            False,
        ),
        ({"read": 3, "words": 4}, "", False),
        ("yes", "", False),
    ],
)
def test_the_verdict_travels_with_the_circuit(as_other: Circuit, stated, words: str, never: bool):
    found = as_other._replace(provenance=as_other.provenance | {"validation": stated})
    assert words in validation_note(found)
    assert forbidden(found) is never
    elsewhere = stated.get("data") == "x.h5ad" if isinstance(stated, dict) else False
    for told in (validation_note(found), validated_elsewhere(found)):
        assert ("on these cells is not measured" in told) is elsewhere
    assert not words or words.rstrip(".") in caption(found)
