"""The evidence for one cell type as a record: what was measured, and how far up the ladder that goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits import Circuit
from scx_core.circuits.words.whose import training_words
from scx_core.display import shown
from scx_core.errors import ScxError
from scx_core.evidence.by_type.prediction import with_rivals
from scx_core.evidence.by_type.record_shape import read_parts
from scx_core.evidence.by_type.steadiness import STABILITY, varied
from scx_core.evidence.ladder import (
    Ladder,
    accounts,
    agrees,
    causes,
    holds_still,
    predicts,
    repeats,
    with_ladder,
)
from scx_core.statistics.hypothesis_tests import q_values

FORMAT = 3


def training_of(record: Mapping[str, Any]) -> str:
    """How many of the cells that made a type's circuit, and of those that judge it, the transcoders were
    trained on as well, from the JSON of its record; "" where none was, or nobody knows."""
    parts = {"made the circuit": record["circuit"], "judge it": record}
    said = {does: training_words(part["provenance"]) for does, part in parts.items()}
    return " ".join(f"Of those that {does}, {words}" for does, words in said.items() if words)


@shown
class TypeEvidence(NamedTuple):
    """All that was measured for one type; the parts are plain JSON, so that tables, report and page read a
    new record and a saved one alike.

    `circuit`: the consensus of the first half, whose genes carry knock-outs measured in the second;
    `rankings`: a `TypeRankings`; `prediction`: a `Prediction`; `knockouts`: what it compares, by cell and
    gene, column by column; `doses`: rows of `Dose`; `curves`: a `Curves` (None: not measured, `unmeasured`
    says why); `steadiness`: parts of `steadiness.parts_of`; `markers`:
    `marker_evidence` (None: no list); `answers`: what the model says of the unseen cells; `further`: answers
    of other questions about this circuit (`further.Answer`), which are given anew each time and are no part
    of what is measured and saved; `seconds`: CPU seconds by part.
    """

    label: str
    answer: str
    circuit: Circuit
    rankings: dict[str, Any]
    prediction: dict[str, Any]
    knockouts: dict[str, list[Any]]
    doses: list[dict[str, Any]]
    curves: dict[str, Any] | None
    steadiness: list[dict[str, Any]]
    markers: dict[str, Any] | None
    answers: dict[str, Any]
    further: list[dict[str, Any]]
    unmeasured: dict[str, str]
    seconds: dict[str, float]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return f"<TypeEvidence of {self.label!r}: the claim {self.ladder.words}>"

    @property
    def ladder(self) -> Ladder:
        """How far the evidence goes; q-values are those of the family that was last given
        (`as_one_family`)."""
        return Ladder(
            (
                accounts(self.circuit.accounting, self.circuit.n_cells),
                predicts(with_rivals(self.prediction, self.knockouts)),
                causes(self.rankings, self.curves),
                holds_still(self.varied),
                repeats(self.found("transfer")),
                agrees(self.markers, self.found("perturbations"), self.found("network")),
            )
        )

    def found(self, question: str) -> list[dict[str, Any]]:
        """What further answers to one question found, each with its `says` and `source`."""
        held = [one for one in self.further if one["question"] == question]
        return [one["found"] | {"says": one["says"], "source": one["source"]} for one in held]

    @property
    def varied(self) -> list[dict[str, Any]]:
        """All that was varied, here and by `scx evidence stability`."""
        return varied(self.steadiness, [one["found"] for one in self.further if one["question"] == STABILITY])

    @property
    def training(self) -> str:
        """See `training_of`."""
        made = {"provenance": self.circuit.provenance}
        return training_of({"circuit": made, "provenance": self.provenance})

    @property
    def drawn(self) -> Circuit:
        """The circuit with its ladder, as figures and files get it."""
        return with_ladder(self.circuit, self.ladder)

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`; `from_json` gives back an equal record."""
        return (
            {"format": FORMAT}
            | self._asdict()
            | {"circuit": self.drawn.to_json(), "ladder": self.ladder.to_json()}
        )

    @classmethod
    def from_json(cls, data: Any, name: str = "The record") -> TypeEvidence:
        """A record that was saved, by whoever. Raises ScxError that names it and the place where it is none,
        where a part is missing or of another type, or where its figures cannot be (`record_shape`)."""
        remedy = "Delete it and measure again."
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise ScxError(f"{name} holds no evidence of this format.", remedy)
        if "circuit" not in data:
            raise ScxError(f"{name} is damaged: it lacks 'circuit'.", remedy)
        circuit = Circuit.from_json(data["circuit"], name)
        about = {key: value for key, value in circuit.provenance.items() if key != "ladder"}
        try:
            found = cls(circuit=circuit._replace(provenance=about), **read_parts(data))
            found.ladder.to_json()
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:  # or Misfit
            raise ScxError(f"{name} is damaged: {str(error)[:120]}.", remedy) from error
        return found


def as_one_family(types: Sequence[TypeEvidence]) -> list[TypeEvidence]:
    """The records with q-values (Benjamini-Hochberg) over all types: one family of joint knock-outs against
    every ranking, one of curves, one of marker counts."""
    rankings = _family([one["rankings"] for one in (held.rankings for held in types)])
    curves = _family([held.curves["curves"] for held in types if held.curves])
    markers = _family([[held.markers] for held in types if held.markers])
    out, next_curves, next_markers = [], iter(curves), iter(markers)
    for held, rows in zip(types, rankings, strict=True):
        held = held._replace(rankings=held.rankings | {"rankings": [_verdict(row) for row in rows]})
        if held.curves:
            rows = [
                row | {"certain": row["ahead"]["low"] > 0 and row["q"] < 0.05} for row in next(next_curves)
            ]
            held = held._replace(curves=held.curves | {"curves": rows})
        if held.markers:
            held = held._replace(markers=next(next_markers)[0])
        out.append(held)
    return out


def _family(groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[dict[str, Any]]]:
    """The rows with `q` over every row that has a `p`."""
    p = [row["p"] for rows in groups for row in rows if row["p"] is not None]
    q = iter(q_values(np.array(p)).tolist())
    return [[dict(row) | ({} if row["p"] is None else {"q": next(q)}) for row in rows] for rows in groups]


def _verdict(row: dict[str, Any]) -> dict[str, Any]:
    """Who takes more away, by the q of the family (as `Ranked.verdict`)."""
    if row["ahead"] is None:
        return row
    word = "same" if row["q"] >= 0.05 else "circuit" if row["ahead"]["mean"] > 0 else "rival"
    return row | {"verdict": word}
