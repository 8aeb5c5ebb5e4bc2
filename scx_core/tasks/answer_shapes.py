"""What the answers of tasks hold, read strictly: their files may have been damaged or edited since. Pages and
tables take these keys and lengths for granted.

All raise Misfit, which names the place; who finds an answer that is refused asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import pandas as pd

from scx_core.circuits.paths import PathConfig, Paths, PathStep
from scx_core.circuits.schema import Misfit, check_figures, read_object, read_record
from scx_core.evidence.smallest.smallest_circuit import Smallest
from scx_core.runs import from_dict


class _Sets(TypedDict):
    ours: Any


class _Logits(TypedDict):
    full: float
    empty: float


class _Ahead(TypedDict):
    mean: float
    low: float | None
    high: float | None
    draws: float
    least: float
    most: float


class _Whose(TypedDict):
    unit: str
    called: int | None
    of: int


class _Cells(TypedDict):
    unseen: list[int]


class _SmallestKeys(TypedDict):
    """Keys of `Smallest` that what is shown of it asks for."""

    sets: _Sets
    logits: _Logits
    ahead: _Ahead
    whose: _Whose
    cells: _Cells


class Steps(TypedDict):
    """`Paths`; steps and settings are read by their own readers."""

    start: str
    label: str
    unit: str
    steps: list[Any]
    config: dict[str, Any]
    provenance: dict[str, Any]


class Pairs(TypedDict):
    """Columns of `Match.pairs`."""

    way: list[str]
    layer: list[int]
    feature: list[int]
    other: list[int]
    score: list[float]
    mutual: list[bool]
    generalises: list[bool]


class Shares(TypedDict):
    """Columns of `Match.shares`."""

    way: list[str]
    layer: list[int]
    features: list[int]
    others: list[int]
    found: list[float]
    mutual: list[float]
    generalises: list[float]
    score: list[float]
    found_null: list[float]
    mutual_null: list[float]
    generalises_null: list[float]
    score_null: list[float]


class Matched(TypedDict):
    """`Match`; its tables are read by `table`."""

    pairs: Any
    shares: Any
    skipped: dict[str, str]
    provenance: dict[str, Any]


class Kept(TypedDict):
    """A file of the runs folder that was made, and its size in bytes."""

    kept: str
    bytes: int


class Shared(TypedDict):
    """A shared page that was made: its file, the types with a circuit, those with evidence."""

    kept: str
    circuits: list[str]
    evidence: list[str]
    atlas: bool


class Answered(TypedDict):
    """The model's answer for each cell."""

    answers: list[str]


class _Gene(TypedDict):
    gene: str
    effect: float
    low: float | None
    high: float | None
    n: int


class SoFarKnown(TypedDict):
    """What is known of a consensus before it is done."""

    cells: int
    edges: int
    genes: list[_Gene]


def read_smallest_record(record: Any) -> Smallest:
    """A smallest circuit."""
    found = read_record(Smallest, record)
    read_object(_SmallestKeys, record)
    check_figures(record)
    if len(found.names) != len(found.nodes):
        raise Misfit(f"has {len(found.names)} for {len(found.nodes)} features", "names")
    for place, node in enumerate(found.nodes):
        if len(node) not in (2, 3):
            raise Misfit("is no layer, token and feature", f"nodes[{place}]")
    return found


def read_paths_record(record: Any) -> Paths:
    """Paths; a step comes after the step that reads it, so that every path ends."""
    found = read_object(Steps, record)
    steps = []
    for place, one in enumerate(found["steps"]):
        try:
            step = read_record(PathStep, one)
            if not -1 <= step.parent < place or (place and step.parent < 0):
                raise Misfit("is no step before it", ".parent")
        except Misfit as misfit:
            raise misfit.inside(f"steps[{place}]") from None
        steps.append(step)
    if not steps:
        raise Misfit("is empty", "steps")
    about = (found["start"], found["label"], found["unit"])
    return Paths(*about, tuple(steps), from_dict(PathConfig, found["config"]), found["provenance"])


def table(shape: Any, columns: Any, where: str) -> pd.DataFrame:
    """Columns of one length, as a TypedDict states them, as a table."""
    try:
        found = read_object(shape, columns)
    except Misfit as misfit:
        raise misfit.inside(where) from None
    if len({len(column) for column in found.values() if isinstance(column, list)}) > 1:
        raise Misfit("has columns of different lengths", where)
    return pd.DataFrame({name: found[name] for name in shape.__annotations__})


def each(record: Any) -> Mapping[str, Any]:
    """An object of at least one part."""
    if not isinstance(record, Mapping) or not record:
        raise Misfit("is not an object of parts")
    return record
