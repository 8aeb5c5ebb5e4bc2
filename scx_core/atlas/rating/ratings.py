"""Units that a person rates, drawn at random and blinded for their kind; answers, kept per rater, one line an
answer, and held against the automatic verdict and each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas.judge.protocol import DEAD, POLYSEMANTIC, RARE, VERDICTS
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError
from scx_core.runs import append_jsonl, option, read_jsonl
from scx_core.runs.files import check_object
from scx_core.runs.options import check

OWN = "main"
PER_BIN = 4
BINS = ("weaker half", "50% to 90%", "90% to 99%", "strongest 1%")  # of the activations of a unit
PAPER_LAYER = 12
FOLDER = "ratings"  # inside the atlas's folder, one file a rater
CATEGORIES = tuple(verdict for verdict in VERDICTS if verdict not in (DEAD, RARE))
AUTOMATIC = "automatic"
LONGEST = 400  # letters of a description
COLUMNS = (
    *("rater", "source", "kind", "layer", "feature", "interpretable", "category", "description", "time"),
    *("verdict", "verdict_interpretable", "score"),
)


class Unit(NamedTuple):
    """One unit to rate. `source` is "main" for the atlas's own features, else the name of what is beside."""

    source: str
    layer: int
    feature: int


class QuantileBin(NamedTuple):
    """Examples whose activation lies between two quantiles of the unit's activations where it fires."""

    name: str
    examples: pd.DataFrame


@dataclass(frozen=True)
class DrawConfig:
    """Which units are drawn."""

    units: int = option(20, "Live units drawn of each kind", minimum=1)
    layer: int | None = option(None, "Only of this layer", minimum=0, unsaid="of all")
    kinds: bool = option(False, "Also raw neurons and what else is held beside, so that the kind is unknown")
    seed: int = option(0, "Seed of the draw and of the order", minimum=0)

    def __post_init__(self) -> None:
        check(self)


def paper_draw(atlas: Atlas, seed: int = 0) -> DrawConfig:
    """The seed paper's 20 random live features of layer 12; of a model with fewer layers, its middle one."""
    layers = int(atlas.meta["n_layers"])
    return DrawConfig(20, PAPER_LAYER if layers > PAPER_LAYER else layers // 2, False, seed)


def draw_units(atlas: Atlas, cfg: DrawConfig) -> list[Unit]:
    """The units in the order in which they are shown; the same for everyone with the same seed.

    Raises ScxError when the atlas has no such layer, or no live unit there.
    """
    if cfg.layer is not None and cfg.layer >= int(atlas.meta["n_layers"]):
        last = int(atlas.meta["n_layers"]) - 1
        raise ScxError(f"There is no layer {cfg.layer} in this atlas.", f"Layers run from 0 to {last}.")
    rng = np.random.default_rng(cfg.seed)
    drawn: list[Unit] = []
    for source in (OWN, *(sorted(atlas.beside) if cfg.kinds else ())):
        table = source_atlas(atlas, source).features
        live = table[table["verdict"] != DEAD]
        live = live if cfg.layer is None else live[live["layer"] == cfg.layer]
        rows = rng.choice(len(live), size=min(cfg.units, len(live)), replace=False)
        picked = live.iloc[rows]
        drawn += [
            Unit(source, int(layer), int(feature))
            for layer, feature in zip(picked["layer"], picked["feature"], strict=True)
        ]
    if not drawn:
        raise ScxError("No unit that is asked for is live.", "Choose another layer, or all of them.")
    return [drawn[place] for place in rng.permutation(len(drawn))]


def source_atlas(atlas: Atlas, source: str) -> Atlas:
    """The atlas of a unit's source. Raises ScxError when it is not there."""
    if source == OWN:
        return atlas
    if source not in atlas.beside:
        raise ScxError(f"This atlas holds no {source[:40]!r} beside it.", "Make the atlas anew with them.")
    return atlas.beside[source]


def quantile_bins(atlas: Atlas, unit: Unit) -> list[QuantileBin]:
    """Examples of a unit, strongest bin first, at most `PER_BIN` a bin; `relative` is the activation as a
    share of the unit's largest, as raw sizes would betray the kind. Bins without examples are left out.
    Raises ScxError for an unknown unit.
    """
    found = source_atlas(atlas, unit.source).feature(unit.layer, unit.feature)
    row, examples = found.row, found.examples
    largest = float(row["maximum"]) or 1.0
    shown = examples.drop_duplicates(["row", "position"]).sort_values("value", ascending=False, kind="stable")
    shown = shown.assign(
        relative=shown["value"] / largest, values=[values / largest for values in shown["values"]]
    )
    edges = [float(row[name]) for name in ("q50", "q90", "q99")]
    # Of equal edges (a unit that fires at one strength) the upper bin takes all.
    place = np.searchsorted(np.array(edges), shown["value"].to_numpy(), side="right")
    bins = []
    for number, name in reversed(list(enumerate(BINS))):
        part = shown[place == number]
        if len(part) > PER_BIN:  # evenly over their order
            part = part.iloc[np.linspace(0, len(part) - 1, PER_BIN).round().astype(int)]
        if len(part):
            bins.append(QuantileBin(name, part))
    return bins


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


_KINDS = dict.fromkeys(("source", "category", "description", "rater", "time"), str) | {
    "layer": int,
    "feature": int,
}


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
            given = [Rating(**check_object(record, _KINDS, path)) for record in read_jsonl(path)]
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
        if (one.layer, one.feature) not in tables[one.source].index:
            problem = f"{one.rater[:40]} rated L{one.layer}·{one.feature}, which this atlas does not hold."
            raise ScxError(problem, f"Remove the line from the folder {FOLDER} of the atlas.")
        row = tables[one.source].loc[(one.layer, one.feature)]
        verdict = str(row["verdict"])
        automatic = {
            "kind": atlases[one.source].meta["source"]["kind"],
            "verdict": verdict,
            "verdict_interpretable": interpretable(verdict),
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
