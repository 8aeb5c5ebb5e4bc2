"""The names of a data set and the answers of a model are two vocabularies; a mapping stands between them.

"CD19+ B", "B cells" and "B cell" are one type to a person and three texts to a model. A mapping says which
answer of the model stands for each type of the table; "" for a type without one, which is told and not
scored on a text that the model was never taught. It is proposed here, corrected by a person on the page or in
a file, and kept with the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import NamedTuple

from scx_core.cells import CellTable
from scx_core.cells.markers import known_markers, spelling
from scx_core.errors import ScxError
from scx_core.language.loading import Language

SAME, SPELLING, SYNONYM = "the same name", "another spelling", "a synonym"
ONTOLOGY, GIVEN, NONE = "its Cell Ontology name", "given", "no answer of the model"


class Mapped(NamedTuple):
    """One type of the table: the model's `answer` ("" for none), and why."""

    label: str
    answer: str
    why: str


def propose(labels: Sequence[str], answers: Sequence[str]) -> tuple[Mapped, ...]:
    """An answer for each label: the same name, else the same but for spelling, else a synonym of the shipped
    lists or of the Cell Ontology. Several answers that fit equally well are none: a person chooses."""
    by_spelling: dict[str, list[str]] = {}
    by_type: dict[str, list[str]] = {}
    for answer in answers:
        by_spelling.setdefault(spelling(answer), []).append(answer)
        if name := canonical(answer):
            by_type.setdefault(name, []).append(answer)
    known = set(answers)
    out = []
    for label in labels:
        alike, same_type = by_spelling.get(spelling(label), []), by_type.get(canonical(label), [])
        if label in known:
            out.append(Mapped(label, label, SAME))
        elif len(alike) == 1:
            out.append(Mapped(label, alike[0], SPELLING))
        elif len(same_type) == 1:
            out.append(Mapped(label, same_type[0], SYNONYM))
        else:
            out.append(Mapped(label, "", NONE))
    return tuple(out)


def ontology_names(labels: Sequence[str]) -> tuple[Mapped, ...]:
    """For a model that states no answers but speaks the Cell Ontology: each label's name there. A label that
    the shipped list does not know is passed on as it is where it looks like such a name, else it has none."""
    out = []
    for label in labels:
        name = _ontology().get(canonical(label), "")
        if name:
            out.append(Mapped(label, name, SAME if name == label else ONTOLOGY))
        else:
            out.append(Mapped(label, label if label.endswith(("cell", "cyte", "blast")) else "", NONE))
    return tuple(one._replace(why=SAME) if one.answer == one.label else one for one in out)


def canonical(label: str) -> str:
    """The type that a label names, whatever its spelling or synonym; "" for one that is not known."""
    found = known_markers(label)
    return found.cell_type if found is not None else ""


def map_labels(lm: Language, table: CellTable, given: Mapping[str, str] | None = None) -> tuple[Mapped, ...]:
    """The mapping of a table's types for this model; what is `given` goes before what is proposed.

    Raises ScxError when something given is no type of the table, or no answer that the model states.
    """
    given = given or {}
    if unknown := [label for label in given if label not in table.types]:
        raise ScxError(
            f"{table.name} has no type {unknown[0]!r}, which the mapping of labels names.",
            f"Its types: {', '.join(table.types[:12])}.",
        )
    if lm.labels and (odd := [one for one in given.values() if one and one not in lm.labels]):
        raise ScxError(
            f"The model {lm.name} has no answer {odd[0]!r}.", f"Its answers: {', '.join(lm.labels)}."
        )
    if lm.labels:
        found = propose(table.types, lm.labels)
    elif lm.contract is not None:
        found = ontology_names(table.types)
    else:
        found = tuple(Mapped(label, label, SAME) for label in table.types)
    return tuple(
        one._replace(answer=given[one.label], why=GIVEN)
        if given.get(one.label, one.answer) != one.answer
        else one
        for one in found
    )


def with_answers(lm: Language, table: CellTable, given: Mapping[str, str] | None = None) -> CellTable:
    """The table with the model's answer for each type; as it is where it has them already. What a person told
    when the cells were opened goes before what is proposed."""
    if table.answer_of is not None and given is None:
        return table
    told = table.given_answers if given is None else given
    return replace(table, answer_of={one.label: one.answer for one in map_labels(lm, table, told)})


@cache
def _ontology() -> dict[str, str]:
    text = resources.files(__package__).joinpath("cell_ontology.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)["names"]
    return found
