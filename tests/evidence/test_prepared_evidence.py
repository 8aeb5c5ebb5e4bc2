"""Records of evidence that somebody prepared or damaged: refused by place, or read as they are.

Every value of a whole record is replaced in turn by values of other types and sizes, and every key is taken
out. What is not refused is given to whoever reads records: ladder, tables, report.
"""

from __future__ import annotations

import copy
import json
import math
import random
import typing
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from scx_core.circuits.schema import Misfit, _required
from scx_core.errors import ScxError
from scx_core.evidence.by_type import record
from scx_core.evidence.by_type.record import TypeEvidence, as_one_family
from scx_core.evidence.by_type.record_shape import FOUND, check_found
from scx_core.evidence.by_type.tables import evidence_tables
from scx_core.figures.report import Picture, document_of
from scx_core.runs.files import to_json_text
from tests.builders.evidence import LABEL, feature_answers, tiny_evidence

GONE = object()
VALUES: dict[str, Any] = {
    "gone": GONE, "null": None, "text": "x", "empty": "", "long": "W" * 20_000, "half": "\ud800", "none": 0,
    "below": -3, "large": 10**400, "huge": 1e300, "infinite": math.inf, "nan": math.nan, "yes": True,
    "list": [], "rows": [{}], "object": {},
}  # fmt: skip
Path = tuple[str | int, ...]
READ = 12  # of each value, so many records that are not refused are given to all who read records


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A record as its file holds it, with an answer to every further question."""
    span = {"mean": 0.2, "low": 0.1, "high": 0.3}
    edits, held = (json.loads(to_json_text(one)) for one in feature_answers())
    row = {"relation": "direct", "way": "circuits", "pairs": 50, "hits": 4, "expected": 12.0, "fold": 2.0}
    row |= {"low": 0.5, "high": 6.0, "p": 0.2, "graph_fold": None, "graph_p": None}
    network = {"enough": True, "types": 2, "coexpression": 1.0, "rows": [row]} | row
    answers = {
        "steer": edits,
        "redundancy": held,
        "transfer": {"first": "a", "second": "b", "shared": 9, "top": 20, "expected": 2.0, "p": 0.01, "n": 9,
                     "pairs": 2, "differential": 8, "common": ["CD3D"]},
        "perturbations": {"data": "a", "targets": 13, "mean": span, "p": 0.2, "same": 9, "signs": 20,
                          "rivals": [{"name": "co-expression", "mean": 0.1, "behind": span}]},
        "network": network,
        "stability": {"parts": [{"what": "model seeds", "jaccard": span, "chance": 0.1, "n": 4, "why": "",
                                 "comparisons": 1, "units": "cells", "interval": "", "counts": True}]},
    }  # fmt: skip
    assert answers.keys() == FOUND.keys()
    further = [{"question": name, "says": "s", "source": "f", "found": one} for name, one in answers.items()]
    made = tiny_evidence().of(LABEL)._replace(further=further).to_json()
    return json.loads(to_json_text(made))


def _places(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every place of a record, of a list its first and last row."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, one in value.items():
            if (*at, key) not in (("circuit",), ("ladder",)):  # readers of their own, a copy of the figures
                yield from _places(one, (*at, key))
    elif isinstance(value, list):
        for place in sorted({0, len(value) - 1} if value else ()):
            yield from _places(value[place], (*at, place))


def _changed(whole: dict[str, Any], at: Path, value: Any) -> dict[str, Any]:
    made = copy.copy(whole)
    inside: Any = made
    for step in at[:-1]:
        inside[step] = copy.copy(inside[step])
        inside = inside[step]
    if value is GONE:
        del inside[at[-1]]
    else:
        inside[at[-1]] = value
    return made


def _read_by_all(found: TypeEvidence) -> None:
    """What tables, report and page do with a record."""
    made = json.loads(to_json_text(as_one_family([found])[0].to_json()))
    about = {"config": {"types": {"genes": 3}}}
    assert evidence_tables({"types": [made], "left_out": {}, "provenance": about})
    document = document_of(found)
    assert found.training is not None and repr(found)
    for section in document.sections:
        for part in section.parts:
            if isinstance(part, Picture) and part.name != "circuit":  # drawn of its own record
                part.draw()
    for table in document.tables:
        assert len(table.shown) <= len(table.rows)


def test_the_record_itself_comes_back_and_everybody_reads_it(whole):
    found = TypeEvidence.from_json(whole, "file.json")
    assert json.loads(to_json_text(found.to_json())) == whole
    _read_by_all(found)


def _refused(changed: Any) -> str:
    """The line that refuses a record; "" where it is read."""
    try:
        TypeEvidence.from_json(changed, "file.json")
    except ScxError as error:
        return f"{error.problem} {error.remedy}"
    return ""


@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_another_kind_is_refused_by_place_or_read(whole, value, monkeypatch):
    circuit = TypeEvidence.from_json(whole).circuit
    monkeypatch.setattr(record, "Circuit", SimpleNamespace(from_json=lambda *_: circuit))  # read once
    changed = {at: _changed(whole, at, VALUES[value]) for at in _places(whole)}
    lines = {at: _refused(one) for at, one in changed.items()}
    said = [line for line in lines.values() if line]
    assert len(said) > 50, "most places ask for something else"
    for line in said:
        assert line.startswith("file.json") and "\n" not in line and len(line) < 300
        assert line.endswith("Delete it and measure again.")
    taken = sorted((at for at, line in lines.items() if not line), key=str)
    for at in random.Random(0).sample(taken, min(READ, len(taken))):
        try:
            _read_by_all(TypeEvidence.from_json(changed[at]))
        except Exception as error:
            raise AssertionError(f"{at} as {value!r} was read and ends in {error!r}") from error


PREPARED = {
    "no object": ((), [1, 2], "no evidence of this format"),
    "another format": (("format",), 99, "no evidence of this format"),
    "a format as text": (("format",), "3", "no evidence of this format"),
    "no circuit": (("circuit",), GONE, "lacks 'circuit'"),
    "a circuit that is none": (("circuit",), {}, "no circuit"),
    "no doses": (("doses",), GONE, "lacks doses"),
    "doses that are a text": (("doses",), "many", "doses is not a list"),
    "a dose without a size": (("doses", 0, "size"), GONE, r"doses\[0\] lacks size"),
    "a mean that is a text": (
        ("prediction", "ahead", "mean"),
        "1.0",
        "prediction.ahead.mean is not a number",
    ),
    "an infinite mean": (("prediction", "ahead", "mean"), math.inf, "prediction.ahead.mean is not a finite"),
    "a yes for a number": (("answers", "share"), True, "answers.share is not a number"),
    "a number for a yes": (("curves", "curves", 0, "certain"), 1, "certain is not true or false"),
    "a verdict of its own": (("rankings", "rankings", 1, "verdict"), "won", "verdict is not one of circuit"),
    "a p above 1": (("prediction", "p"), 3.0, "prediction.p is not between 0 and 1"),
    "an interval upside down": (("answers", "low"), 2.0, "answers is an interval that ends before"),
    "a ranking twice": (("rankings", "rankings", 1, "name"), "circuit", "rankings.rankings is not of"),
    "a rival without a q": (("rankings", "rankings", 1, "q"), None, r"rankings\[1\].q is not known"),
    "a column cut short": (("knockouts", "gap"), [0.5], "knockouts has columns of different lengths"),
    "more markers than genes": (("markers", "circuit"), 10_000, "markers.circuit is more or less"),
    "no genes": (("markers", "genes"), 0, "markers.circuit is more or less"),
    "a curve without points": (("curves", "curves", 0, "points"), [], "curves.curves has no points"),
    "a screen without rivals": (("further", 3, "found", "rivals"), [], "damaged"),
    "another question": (("further", 0, "question"), "astrology", "question is not one of transfer"),
    "half a character": (("label",), "\ud800", "label holds half a character"),
    "a very long name": (("label",), "W" * 20_000, "label has 20,000 characters"),
    "settings that are a text": (("provenance", "config"), "x", "provenance.config is not an object"),
    "deep JSON": (("provenance", "more"), json.loads("[" * 40 + "]" * 40), "more than 20 levels"),
}


@pytest.mark.parametrize(("at", "value", "named"), PREPARED.values(), ids=PREPARED)
def test_a_prepared_record_is_refused_by_name_and_place(whole, at, value, named):
    with pytest.raises(ScxError, match=rf"^file\.json.*{named}") as refused:
        TypeEvidence.from_json(_changed(whole, at, value) if at else value, "file.json")
    assert "\n" not in str(refused.value)


def test_keys_of_a_later_version_are_kept(whole):
    later = _changed(whole, ("answers", "asked"), {"when": "later"})
    assert TypeEvidence.from_json(later).answers["asked"] == {"when": "later"}


@pytest.mark.parametrize("question", FOUND)
@pytest.mark.parametrize("value", ["gone", "text", "large"])
def test_what_another_question_found_is_held_to_the_same(whole, question, value):
    found = next(one["found"] for one in whole["further"] if one["question"] == question)
    check_found(question, found)
    for key in typing.get_type_hints(FOUND[question]):
        if key in found and not isinstance(found[key], str) and found[key] is not None:
            optional = value == "gone" and key not in _required(FOUND[question])
            with nullcontext() if optional else pytest.raises(Misfit, match=key):
                check_found(question, _changed(found, (key,), VALUES[value]))
