"""What a saved record of evidence holds, key by key: a file is held to it before anything reads it.

Tables, report and page take these keys for what they are, so a file of another shape would end in a
traceback there, or in a wrong figure. Keys that are not named may hold any JSON, as a later version may add
some.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from scx_core.circuits.schema import Misfit, check_figures, read_object
from scx_core.evidence.rankings.rankings import SHORT


class Interval(TypedDict):
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


class _Scores(TypedDict):
    precision: dict[str, float]
    auroc: Interval | None


class _Agreement(TypedDict):
    overlap: float
    spearman: float | None


class RankedRecord(TypedDict):
    """`rankings.rankings.Ranked`."""

    name: str
    words: str
    genes: list[str]
    markers: list[str] | None
    present: float
    drop: Interval
    ahead: Interval | None
    p: float | None
    q: float | None
    scores: _Scores | None
    agreement: _Agreement | None
    verdict: Literal["circuit", "rival", "same"]
    n_markers: NotRequired[int | None]


class RankingsRecord(TypedDict):
    """`rankings.rankings.TypeRankings`."""

    label: str
    answer: str
    n_ranked: int
    n_traced: int
    n: int
    units: str
    n_units: int
    before: Interval
    called: float
    listed: int | None
    rankings: list[RankedRecord]
    candidates: NotRequired[int]
    known: NotRequired[int | None]


class _Predicted(TypedDict):
    spearman: Interval
    sign: Interval


class _Rival(_Predicted):
    name: str
    ahead: Interval
    p: float


class PredictionRecord(TypedDict):
    """`prediction.Prediction`, with the rivals of `prediction.with_rivals`."""

    circuit: _Predicted
    gradient: _Predicted
    ahead: Interval
    p: float
    strongest: int
    n: int
    units: str
    rivals: NotRequired[list[_Rival]]


class KnockoutColumns(TypedDict):
    """`prediction.by_cell`: columns of one length."""

    row: list[int]
    gene: list[str]
    rank: list[int]
    circuit: list[float]
    gradient: list[float]
    gap: list[float]
    text: list[float]
    differential: NotRequired[list[float]]


class DoseRecord(Interval):
    """`doses.Dose`."""

    ranking: str
    size: int
    by_cell: list[float]


class _Point(TypedDict):
    size: int
    share: float
    low: float
    high: float
    closeness: float | None
    random: float
    random_least: float
    random_most: float


class CurveRecord(TypedDict):
    """`curves.Curve`."""

    way: Literal["sufficiency", "necessity"]
    reference: Literal["mean", "zero"]
    points: list[_Point]
    area: Interval
    random: Interval
    ahead: Interval
    p: float
    q: float
    above: int
    draws: int
    certain: bool


class _Added(Interval):
    remains: float | None
    faint: list[str]


class _Fraction(TypedDict):
    order: str
    share: list[float]
    cpr: Interval
    cmd: Interval


class _CurveCells(TypedDict):
    circuit: list[int]
    measured: list[int]
    reference: list[int]


class CurvesRecord(TypedDict):
    """`curves.Curves`."""

    label: str
    answer: str
    target: str
    n: int
    units: str
    n_units: int
    called: int
    n_circuit: int
    n_features: int
    nodes: list[list[int]]
    logits: dict[str, dict[str, float]]
    added: dict[str, _Added]
    curves: list[CurveRecord]
    fractions: list[_Fraction]
    cells: _CurveCells
    provenance: dict[str, Any]


class SteadinessRecord(TypedDict):
    """`steadiness.parts_of`."""

    what: str
    jaccard: Interval | None
    comparisons: int
    chance: float | None
    n: int
    units: str
    interval: str
    why: str


class MarkersRecord(TypedDict):
    """`markers.marker_evidence`, with its q."""

    genes: int
    listed: int
    candidates: int
    chance: float
    circuit: int
    interval: list[float]
    random: float
    differential: int
    expressed: int
    gradient: int
    p: float
    q: float
    citations: list[str]


class AnswersRecord(TypedDict):
    """What the model says of the unseen cells."""

    n: int
    given: int
    share: float
    low: float
    high: float
    counts: dict[str, int]


class FurtherRecord(TypedDict):
    """`further.Answer`; `found` is another table for each question (`FOUND`)."""

    question: Literal["transfer", "perturbations", "network", "stability", "steer", "redundancy"]
    says: str
    source: str
    found: dict[str, Any]


class _Transfer(TypedDict):
    first: str
    second: str
    shared: float
    top: int
    expected: float
    p: float
    pairs: int
    n: int
    differential: float | None
    common: list[str]


class _ScreenRival(TypedDict):
    name: str
    mean: float
    behind: Interval


class _Perturbations(TypedDict):
    data: str
    targets: int
    mean: Interval
    p: float
    same: int
    signs: int
    rivals: list[_ScreenRival]


class _NetworkRow(TypedDict):
    relation: str
    way: str
    pairs: int
    hits: int
    expected: float | None
    fold: float | None
    low: float | None
    high: float | None
    p: float | None
    graph_fold: float | None
    graph_p: float | None


class _Network(TypedDict):
    enough: bool
    expected: float
    rows: list[_NetworkRow]
    relation: NotRequired[str]
    pairs: NotRequired[int]
    hits: NotRequired[int]
    fold: NotRequired[float]
    low: NotRequired[float]
    high: NotRequired[float]
    p: NotRequired[float]
    coexpression: NotRequired[float | None]
    types: NotRequired[int]


class _Varied(TypedDict):
    what: str
    jaccard: Interval | None
    comparisons: int
    chance: float | None
    n: int
    units: str
    why: str
    interval: NotRequired[str]
    counts: NotRequired[bool]


class _Stability(TypedDict):
    parts: list[_Varied]


class _Feature(TypedDict):
    layer: int
    feature: int
    name: str | None


class _Measures(TypedDict):
    log_odds: Interval
    called: Interval


class _EditDose(TypedDict):
    dose: float
    effect: _Measures
    random: _Measures
    random_least: float
    random_most: float
    ahead: Interval
    beyond: int
    p: float
    q: float


class _Steer(TypedDict):
    mode: Literal["ablate", "steer", "set", "patch"]
    where: str
    answer: str
    n: int
    units: str
    features: list[_Feature]
    before: _Measures
    doses: list[_EditDose]
    draws: int


class _Taken(TypedDict):
    names: list[str]
    singles: list[Interval]
    total: Interval
    joint: Interval
    gap: Interval
    p: float
    q: float


_Tables = TypedDict(
    "_Tables",
    {"features": _Taken, "random features": _Taken, "genes": _Taken, "random genes": _Taken},
)


class _Redundancy(TypedDict):
    answer: str
    n: int
    units: str
    tables: _Tables
    risen: list[_Feature]
    takeover: Interval
    random: Interval
    ahead: Interval
    p: float
    draws: int


FOUND: dict[str, Any] = {
    "transfer": _Transfer,
    "perturbations": _Perturbations,
    "network": _Network,
    "stability": _Stability,
    "steer": _Steer,
    "redundancy": _Redundancy,
}


class _Config(TypedDict):
    types: dict[str, Any]


class _Provenance(TypedDict):
    config: NotRequired[_Config]


class EvidenceRecord(TypedDict):
    """The whole record but for its circuit, which has a reader of its own."""

    label: str
    answer: str
    rankings: RankingsRecord
    prediction: PredictionRecord
    knockouts: KnockoutColumns
    doses: list[DoseRecord]
    curves: CurvesRecord | None
    steadiness: list[SteadinessRecord]
    markers: MarkersRecord | None
    answers: AnswersRecord
    further: list[FurtherRecord]
    unmeasured: dict[str, str]
    seconds: dict[str, float]
    provenance: _Provenance


def read_parts(data: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a record without its circuit. Raises Misfit that names the place: a key that is missing, a
    value of another type, columns of different lengths, an interval from high to low, a p beyond 0 to 1."""
    names = typing.get_type_hints(EvidenceRecord)
    found = read_object(EvidenceRecord, {key: data[key] for key in names if key in data})
    _check_rankings(found["rankings"])
    _one_length(found["knockouts"], "knockouts")
    for place, part in enumerate(found["steadiness"]):
        if part["jaccard"] is not None and part["chance"] is None:
            raise Misfit("lacks what chance gives", f"steadiness[{place}]")
    if all(part["chance"] is None for part in found["steadiness"]):
        raise Misfit("has nothing that was varied", "steadiness")
    if found["markers"] is not None:
        _check_markers(found["markers"])
    if found["curves"] is not None and not _has_means(found["curves"]):
        raise Misfit("has no points beside the mean of other types", "curves.curves")
    check_figures(found)
    for place, answer in enumerate(found["further"]):
        try:
            check_found(answer["question"], answer["found"])
        except Misfit as misfit:
            raise misfit.inside(f"further[{place}].found") from None
    return found


def check_found(question: str, found: Any) -> None:
    """Raise Misfit where what an answer found is not what its question finds."""
    read_object(FOUND[question], found)
    check_figures(found)
    if question == "redundancy":
        for name, table in found["tables"].items():
            _one_length({key: table[key] for key in ("names", "singles")}, f"tables.{name}")


def _check_rankings(found: Mapping[str, Any]) -> None:
    names = [one["name"] for one in found["rankings"]]
    if sorted(names) != sorted(SHORT):
        raise Misfit(f"is not of {', '.join(SHORT)}, each once", "rankings.rankings")
    for place, one in enumerate(found["rankings"]):
        missing = [key for key in ("ahead", "p", "q") if one[key] is None]
        if one["name"] != "circuit" and missing:
            raise Misfit("is not known", f"rankings.rankings[{place}].{missing[0]}")


def _check_markers(found: Mapping[str, Any]) -> None:
    if len(found["interval"]) != 2:
        raise Misfit("is not two numbers", "markers.interval")
    for name in ("circuit", "differential", "expressed", "gradient"):
        if not 0 <= found[name] <= found["genes"] or found["genes"] < 1:
            raise Misfit("is more or less than genes there are", f"markers.{name}")


def _has_means(curves: Mapping[str, Any]) -> bool:
    held = [one for one in curves["curves"] if one["reference"] == "mean"]
    return bool(held) and all(one["points"] for one in curves["curves"])


def _one_length(columns: Mapping[str, Sequence[Any]], where: str) -> None:
    lengths = {len(column) for column in columns.values() if isinstance(column, list)}
    if len(lengths) > 1:
        raise Misfit("has columns of different lengths", where)
