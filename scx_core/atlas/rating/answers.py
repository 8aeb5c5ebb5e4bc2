"""What people say of units: kept per rater, one line an answer, and held against the automatic verdict."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from scx_core.atlas.judge.protocol import DEAD, POLYSEMANTIC, RARE, VERDICTS
from scx_core.atlas.rating.blinding import Unit, source_atlas
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError
from scx_core.runs import append_jsonl, read_jsonl

FOLDER = "ratings"  # inside the atlas's folder, one file a rater
CATEGORIES = tuple(verdict for verdict in VERDICTS if verdict not in (DEAD, RARE))
AUTOMATIC = "automatic"
LONGEST = 400  # letters of a description
COLUMNS = (
    *("rater", "source", "kind", "layer", "feature", "interpretable", "category", "description", "time"),
    *("verdict", "verdict_interpretable", "score"),
)


class Rating(NamedTuple):
    """One answer: is it interpretable, as what, in a few words; who, when (UTC, ISO 8601)."""

    source: str
    layer: int
    feature: int
    interpretable: bool
    category: str
    description: str
    rater: str
    time: str

    @property
    def unit(self) -> Unit:
        """What was rated."""
        return Unit(self.source, self.layer, self.feature)


class Agreement(NamedTuple):
    """Two raters (or one and the automatic verdict) on what both rated: `about` is "interpretable" or
    "category", `share` that of equal answers, `kappa` Cohen's, None where it is not defined (both always say
    the same)."""

    first: str
    second: str
    about: str
    units: int
    share: float
    kappa: float | None


def rate(
    atlas: Atlas, unit: Unit, interpretable: bool, category: str, description: str, rater: str
) -> Rating:
    """Keep an answer. Raises ScxError for an atlas that is not saved, an unknown unit or category, a missing
    rater, or a text that is too long."""
    description, rater = " ".join(description.split()), " ".join(rater.split())
    if not rater:
        raise ScxError("An answer needs a rater.", "Give a name, such as your initials.")
    if max(len(description), len(rater)) > LONGEST:
        raise ScxError(f"A text is longer than {LONGEST} letters.", "Shorten it.")
    if category not in CATEGORIES:
        raise ScxError(f"{category[:40]!r} is no category.", f"Choose among {', '.join(CATEGORIES)}.")
    source_atlas(atlas, unit.source).feature(unit.layer, unit.feature)
    time = datetime.now(UTC).isoformat(timespec="seconds")
    found = Rating(*unit, bool(interpretable), category, description, rater, time)
    folder = _folder(atlas)
    folder.mkdir(exist_ok=True)
    append_jsonl(folder / file_name(rater), found._asdict())
    return found


def file_name(rater: str) -> str:
    """The file of a rater: two names never share one."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", rater).strip("-")[:40] or "rater"
    return f"{plain}-{hashlib.sha256(rater.encode()).hexdigest()[:8]}.jsonl"


def ratings(atlas: Atlas) -> list[Rating]:
    """The latest answer of each rater to each unit, by rater, in the order given. Raises ScxError when a line
    is damaged."""
    latest: dict[tuple[str, Unit], Rating] = {}
    for path in sorted(_folder(atlas).glob("*.jsonl")):
        try:
            given = [Rating(**record) for record in read_jsonl(path)]
        except TypeError as error:
            raise ScxError(f"{path} holds a line that is no rating ({error}).", "Remove it.") from error
        latest.update({(one.rater, one.unit): one for one in given})
    return sorted(latest.values(), key=lambda one: one.rater)


def rating_table(atlas: Atlas, given: Sequence[Rating] | None = None) -> pd.DataFrame:
    """One row an answer beside the automatic verdict, see `COLUMNS`; `kind` unblinds the unit."""
    given = ratings(atlas) if given is None else given
    atlases = {source: source_atlas(atlas, source) for source in dict.fromkeys(one.source for one in given)}
    tables = {source: of.features.set_index(["layer", "feature"]) for source, of in atlases.items()}
    rows = []
    for one in given:
        row = tables[one.source].loc[(one.layer, one.feature)]
        said = str(row["verdict"])
        automatic = {
            "kind": atlases[one.source].meta["source"]["kind"],
            "verdict": said,
            "verdict_interpretable": interpretable(said),
            "score": float(row["score"]),
        }
        rows.append(one._asdict() | automatic)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def interpretable(verdict: str) -> bool:
    """Whether the protocol found what a unit responds to."""
    return verdict not in (POLYSEMANTIC, RARE, DEAD)


def agreement(atlas: Atlas) -> list[Agreement]:
    """Every rater against the automatic verdict, then every two raters, on what both judged. Units that were
    too rare for a verdict are left out of the first."""
    table = rating_table(atlas)
    table["unit"] = list(zip(table["source"], table["layer"], table["feature"], strict=True))
    raters = list(dict.fromkeys(table["rater"]))
    own = {name: table[table["rater"] == name].set_index("unit") for name in raters}
    found = []
    for name in raters:
        mine = own[name][own[name]["verdict"] != RARE]
        machine = mine.assign(interpretable=mine["verdict_interpretable"], category=mine["verdict"])
        found += _compared(name, AUTOMATIC, mine, machine)
    for one, other in combinations(raters, 2):
        found += _compared(one, other, own[one], own[other])
    return found


def _compared(first: str, second: str, one: pd.DataFrame, other: pd.DataFrame) -> list[Agreement]:
    common = [unit for unit in one.index if unit in other.index]
    if not common:
        return []
    found = []
    for about in ("interpretable", "category"):
        a, b = ([str(table.at[unit, about]) for unit in common] for table in (one, other))
        share = sum(x == y for x, y in zip(a, b, strict=True)) / len(common)
        found.append(Agreement(first, second, about, len(common), share, cohen_kappa(a, b)))
    return found


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's κ of two lists of answers to the same units; None where both hold nothing but one answer."""
    from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped]

    if len(set(first) | set(second)) < 2:
        return None
    return float(cohen_kappa_score(list(first), list(second)))


def _folder(atlas: Atlas) -> Path:
    if atlas.folder is None:
        raise ScxError("This atlas is not saved, so it cannot keep ratings.", "Save it first.")
    return atlas.folder / FOLDER
