"""Which units a person rates, drawn at random and blinded for their kind, and what of them is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas.judge.protocol import DEAD
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError
from scx_core.runs import option
from scx_core.runs.config import check

OWN = "main"
PER_BIN = 4
PAPER_LAYER = 12


class Unit(NamedTuple):
    """One unit to rate. `source` is "main" for the atlas's own features, else the name of what is beside."""

    source: str
    layer: int
    feature: int


class Bin(NamedTuple):
    """Examples whose activation lies between two quantiles of the unit's activations where it fires."""

    name: str
    examples: pd.DataFrame


@dataclass(frozen=True)
class DrawConfig:
    """Which units are drawn."""

    units: int = option(20, "Live units drawn of each kind", minimum=1)
    layer: int | None = option(None, "Only of this layer; none: of all", minimum=0)
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


def quantile_bins(atlas: Atlas, unit: Unit) -> list[Bin]:
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
    for number, name in reversed(list(enumerate(_NAMES))):
        part = shown[place == number]
        if len(part):
            bins.append(Bin(name, _spread(part)))
    return bins


_NAMES = ("weaker half", "50% to 90%", "90% to 99%", "strongest 1%")


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    """At most `PER_BIN` rows, evenly over their order."""
    if len(rows) <= PER_BIN:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, PER_BIN).round().astype(int)]
