"""An atlas as plain lists for the page: an index of all features, which is searched, and their cards in
blocks, of which one is unpacked when a card is opened.

Texts that repeat (genes, types, families, token texts) are numbers into lists of the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas import VERDICTS, Atlas, excess
from scx_core.atlas.judge.protocol import DEAD, MEANINGS, measures_by_row, reason
from scx_core.figures.drawing.text import plain

BLOCK = 64  # cards that are packed together
ROWS = {"genes": 12, "families": 5, "types": 12, "donors": 8, "ranks": 12, "histogram": 40, "sets": 12}
EXAMPLES, PUSHED = {"top": 5, "sample": 2}, 12
COLUMNS = {
    "genes": ("gene", "share"),
    "families": ("family", "share"),
    "types": ("cell_type", "share"),
    "donors": ("donor", "share"),
    "ranks": ("first", "last", "share"),
    "histogram": ("low", "high", "tokens"),
    "sets": ("gene_set", "shared", "size", "q", "share"),
    "writes": ("kind", "text", "weight"),
    "examples": ("kind", "cell_type", "gene", "value", "position", "start", "tokens", "values"),
}


class AtlasData(NamedTuple):
    """`columns`: those of all features that are shared, and the lists; `blocks`: lists of cards; `left_out`:
    features that the page does not hold."""

    columns: dict[str, Any]
    blocks: list[list[dict[str, Any]]]
    left_out: int


class Numbered:
    """Texts by number, in the order in which they first come; `exact`: blanks and line ends stay."""

    def __init__(self, exact: bool = False) -> None:
        self.texts: list[str] = []
        self._exact = exact
        self._number: dict[str, int] = {}

    def __call__(self, text: Any) -> int:
        """The number of a text; −1 for none."""
        if text is None or text != text or text == "":
            return -1
        key = str(text) if self._exact else plain(text, 80)
        if key not in self._number:
            self._number[key] = len(self.texts)
            self.texts.append(key)
        return self._number[key]


def atlas_data(atlas: Atlas, most: int) -> AtlasData:
    """The `most` features of the largest total activation, in the order of layer and number."""
    features = atlas.features
    kept = features.nlargest(most, "mass", keep="first").sort_index() if len(features) > most else features
    names = {name: Numbered(name == "text") for name in ("gene", "type", "family", "set", "text", "donor")}
    cards = _cards(atlas, kept, names)
    index: dict[str, Any] = _columns(atlas, kept, names) | {"readers": _readers(atlas, kept, names["gene"])}
    index |= {f"{name}s": held.texts for name, held in names.items()}
    index |= {"verdicts": list(VERDICTS), "meanings": {str(key): text for key, text in MEANINGS.items()}}
    index |= {"shares": _shares(atlas), "block": BLOCK, "layers": int(atlas.meta["n_layers"])}
    blocks = [cards[start : start + BLOCK] for start in range(0, len(cards), BLOCK)]
    return AtlasData(index, blocks, len(features) - len(kept))


def _columns(atlas: Atlas, kept: pd.DataFrame, names: Mapping[str, Numbered]) -> dict[str, list[Any]]:
    """One list a column."""
    given = atlas.given_labels()
    keys = list(zip(kept["layer"].astype(int), kept["feature"].astype(int), strict=True))
    labels = [plain(given.get(key, str(label)), 200) for key, label in zip(keys, kept["label"], strict=True)]
    verdict = {name: k for k, name in enumerate(VERDICTS)}
    text = {name: kept[name].astype(object).where(kept[name].notna(), "") for name in ("piece", "writes")}
    return {
        "layer": [key[0] for key in keys],
        "feature": [key[1] for key in keys],
        "label": labels,
        "verdict": [verdict[str(one)] for one in kept["verdict"]],
        "score": _rounded(kept["score"], 3),
        "stable": kept["stable"].astype(int).tolist(),
        "frequency": _rounded(kept["frequency"], 6),
        "maximum": _rounded(kept["maximum"], 4),
        "mass": _rounded(kept["mass"], 2),
        "type": [names["type"](one) for one in kept["cell_type"].astype(object)],
        "type_share": _rounded(kept["type_share"], 3),
        "family": [names["family"](one) for one in kept["family"].astype(object)],
        "gene_set": [names["set"](one) for one in kept["gene_set"].astype(object)],
        "strongest": [[names["gene"](gene) for gene in str(one or "").split()[:5]] for one in kept["genes"]],
        "piece": [str(one) for one in text["piece"]],
        "writes": [str(one) for one in text["writes"]],
    }


def _readers(atlas: Atlas, kept: pd.DataFrame, gene: Numbered) -> dict[str, list[Any]]:
    """Of each gene the rows of the index whose features read it, with the share, the strongest first."""
    table = atlas.table("readers")
    width = int(atlas.meta["n_units"])
    place = pd.Series(np.arange(len(kept)), index=kept["layer"].astype(int) * width + kept["feature"])
    row = place.reindex(table["layer"].astype(int) * width + table["feature"]).to_numpy()
    held = pd.DataFrame({"gene": table["gene"].astype(str), "row": row, "share": table["share"]}).dropna()
    held = held.sort_values(["gene", "share"], ascending=[True, False], kind="stable")
    found: dict[str, list[Any]] = {}
    for name, part in held.groupby("gene", sort=True):
        number = gene(name)
        found[str(number)] = [part["row"].astype(int).tolist(), _rounded(part["share"], 4)]
    return found


def _shares(atlas: Atlas) -> list[dict[str, Any]]:
    """What live features fire at, beside random directions; empty without these."""
    table = excess(atlas)
    if not len(table):
        return []
    rows = table[(table["layer"] == -1) & ((table["share"] > 0) | (table["random_high"] > 0))]
    keys = (
        "measure",
        "share",
        "random",
        "random_low",
        "random_high",
        "excess",
        "low",
        "high",
        "features",
        "draws",
    )
    return [{key: _plain(row[key]) for key in keys} for row in rows.to_dict("records")]


def _cards(atlas: Atlas, kept: pd.DataFrame, names: Mapping[str, Numbered]) -> list[dict[str, Any]]:
    """One card a feature."""
    width = int(atlas.meta["n_units"])
    wanted = (kept["layer"].astype(int) * width + kept["feature"]).to_numpy()
    parts = {
        name: _by_feature(atlas.table(name), names_of, wanted, width) for name, names_of in COLUMNS.items()
    }
    slots = atlas.table("slots")
    texts = dict(zip(slots["token"].astype(int), slots["text"].astype(str), strict=True))
    thresholds = atlas.meta.get("thresholds", {})
    people: dict[tuple[int, int], list[list[str]]] = {}
    for one in atlas.given():
        people.setdefault((one.layer, one.feature), []).append([one.label, one.author, one.time])
    cards = []
    measured = measures_by_row(kept, thresholds)
    for number, (_, row), found in zip(wanted, kept.iterrows(), measured, strict=True):
        part = {name: held.get(int(number), []) for name, held in parts.items()}
        card: dict[str, Any] = {
            "why": reason(row, thresholds, found),
            "mean": _plain(row["mean"], 4),
            "cells": int(row["cells"]),
            "half": int(row["n_half"]),
            "genes": _pairs(part["genes"], names["gene"], ROWS["genes"]),
            "families": _pairs(part["families"], names["family"], ROWS["families"]),
            "types": _pairs(part["types"], names["type"], ROWS["types"]),
            "donors": _pairs(part["donors"], names["donor"], ROWS["donors"]),
            "ranks": _plain_rows(part["ranks"][: ROWS["ranks"]]),
            "histogram": _plain_rows(part["histogram"][: ROWS["histogram"]]),
            "sets": _plain_rows(part["sets"][: ROWS["sets"]]),
            "writes": _writes(part["writes"]),
            "examples": _examples(part["examples"], names, texts),
            "labels": people.get((int(row["layer"]), int(row["feature"])), []),
        }
        if str(row["verdict"]) != DEAD:
            card["figures"] = [
                [one.verdict, round(one.value, 4), one.threshold, f"{one.name}: {one.words}".lstrip(": ")]
                for one in found
            ]
        cards.append(card)
    return cards


Rows = list[tuple[Any, ...]]


def _by_feature(
    table: pd.DataFrame, columns: Sequence[str], wanted: np.ndarray, width: int
) -> dict[int, Rows]:
    """These columns of the rows of each wanted feature, by its number over all layers. Not by pandas' groups:
    thousands of small tables cost a hundred times as much as lists."""
    if not len(table):
        return {}
    number = (table["layer"].astype(int) * width + table["feature"].astype(int)).to_numpy()
    there = np.isin(number, wanted)
    held = [table.loc[there, name].astype(object).tolist() for name in columns]
    found: dict[int, Rows] = {}
    for key, row in zip(number[there].tolist(), zip(*held, strict=True), strict=True):
        found.setdefault(key, []).append(row)
    return found


def _pairs(rows: Rows, number: Numbered, most: int) -> list[list[Any]]:
    """(number of the text, share), the largest first."""
    ordered = sorted(rows, key=lambda row: -row[1])[:most]
    return [[number(text), round(float(share), 4)] for text, share in ordered if share > 0]


def _plain_rows(rows: Rows) -> list[list[Any]]:
    return [[_plain(value, 5) for value in row] for row in rows]


def _writes(rows: Rows) -> dict[str, list[list[Any]]]:
    """The tokens and answers that it pushes most, up and down."""
    kinds: dict[str, Rows] = {}
    for kind, text, weight in rows:
        kinds.setdefault(str(kind), []).append((str(text), _plain(weight, 3)))
    found = {}
    for kind, pushed in sorted(kinds.items()):
        ordered = sorted(pushed, key=lambda row: -row[1])
        ends = ordered if len(ordered) <= PUSHED else [*ordered[: PUSHED // 2], *ordered[-PUSHED // 2 :]]
        found[kind] = [list(row) for row in ends]
    return found


def _examples(rows: Rows, names: Mapping[str, Numbered], texts: Mapping[int, str]) -> list[list[Any]]:
    """Kind, cell type, gene, activation, which of the tokens it is of, the tokens, and those that are active
    as (place, activation)."""
    found = []
    for wanted, most in EXAMPLES.items():
        for row in [row for row in rows if str(row[0]) == wanted][:most]:
            kind, cell_type, gene, value, position, start, tokens, values = row
            shown = [names["text"](texts.get(int(token), "")) for token in tokens]
            active = [[k, round(float(one), 3)] for k, one in enumerate(values) if one > 0]
            about = [str(kind), names["type"](cell_type), names["gene"](gene), round(float(value), 3)]
            found.append([*about, int(position) - int(start), shown, active])
    return found


def _rounded(column: pd.Series, digits: int) -> list[float | None]:
    return [None if value != value else round(float(value), digits) for value in column]


def _plain(value: Any, digits: int = 6) -> Any:
    """A number that JSON can hold, with so many significant digits; texts and None as they are."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return None if value != value else float(f"{float(value):.{digits}g}")
    return None if value is None else str(value)
