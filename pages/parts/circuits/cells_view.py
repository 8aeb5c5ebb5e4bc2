"""Cells in view: the map of the cells as a way to circuits. Click one or draw around some, and theirs is
traced.

A map is the file's own, or is computed from its expression when a person asks for it. Beside a colour
stands what it means, with how many cells have it; what is not known is a grey that can be seen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import streamlit as st
import streamlit.components.v1 as components

from pages.parts.circuits.address import CELLS, MOST_CELLS
from pages.parts.circuits.controls import CHOSEN, ONE_CELL
from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Memory, progress_in
from pages.parts.common.session import Context, kept, put
from pages.parts.common.tasks import answer, asked, sources
from pages.parts.common.words import count, safe
from scx_core.cells import CellTable, cell_map
from scx_core.cells.computed_map import kept_map
from scx_core.cells.type_colours import type_colours
from scx_core.circuits import Tracer
from scx_core.figures.drawing.text import plain
from scx_core.tasks.estimates import answer_seconds, map_seconds
from scx_core.tasks.makers import read_answers, rows_drawn
from scx_core.tasks.task import table_task, tracer_task

MOST_POINTS = 20_000
HEIGHT = 470
GREY = "#9AA3AC"  # of what is not known: seen on white and on black
NONE: Mapping[str, str] = {}
# Of names that are no cell types: Okabe and Ito's eight without black, then ones of another lightness.
TYPES = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D1F", "#5B3FA0", "#117733",
    "#AA4466", "#44AA99", "#882255", "#6F8F2F", "#3A5F7A", "#B8860B", "#7A4A2B",
)  # fmt: skip
SCALE = ("#9AA3AC", "#C9B27A", "#E8A33D", "#DD7420", "#B8430A", "#7A2405")  # 0, then fifths
RIGHT, WRONG = "#0072B2", "#D55E00"
COLOURS = ("label", "the model's answer", "right or wrong", "a gene", "a feature")
_ACTIVATIONS: Memory[np.ndarray] = Memory(16)
_CELLS = components.declare_component("cells", path=str(Path(__file__).parent / "cells"))


class Colouring(NamedTuple):
    """A colour of the palette for each cell, and what the colours mean: name, colour, number of cells."""

    palette: tuple[str, ...]
    colour: np.ndarray
    legend: tuple[tuple[str, int, int | None], ...]
    groups: bool = True


@st.dialog("Cells in view", width="large")
def chooser(ctx: Context) -> None:
    """The map, its colours, and what is done with cells that are chosen in it."""
    with shown_errors():
        tracer = loaders.tracer(ctx)
        table = tracer.table
        found = _map_of(ctx, table)
        if found is None:
            return
        name, xy = found
        shown = rows_drawn(table.n_cells, MOST_POINTS)
        by, more = st.columns([2, 3], vertical_alignment="bottom")
        how = kept(by.selectbox, "Colour by", "map colour", COLOURS[0], COLOURS)
        gene = kept(more.text_input, "Gene", "map gene", "CD79A") if how == COLOURS[3] else ""
        asked_feature = (
            kept(
                more.text_input,
                "Feature",
                "map feature",
                "",
                placeholder="L2-513",
                help="Its mean activation over a cell's tokens.",
            )
            if how == COLOURS[4]
            else ""
        )
        painted = _colouring(ctx, tracer, shown, how, gene or asked_feature)
        value = _CELLS(**_arguments(table, xy, shown, painted), key="cells map", default=None)
        st.caption(
            f"{safe(name)}, n = {len(shown):,} of {count(table.n_cells, table.unit)}. Of more than "
            f"{MOST_CELLS} that are chosen, {MOST_CELLS} are taken, drawn with a seed."
        )
        _take(tracer, shown, value)


def _map_of(ctx: Context, table: CellTable) -> tuple[str, np.ndarray] | None:
    found = cell_map(table)
    if found is not None:
        return f"{found[0]} of the file", found[1]
    xy = kept_map(table)
    if xy is None:
        task = table_task("map", f"Map of {table.name}", sources(ctx), table, {"seed": 0})
        words = "PCA of the variable genes, neighbours, UMAP, by scanpy; kept for this data."
        st.info("The file holds no map of its cells (obsm has no UMAP).")
        asked(task._replace(seconds=map_seconds(table.n_cells)), "Compute a map", help=words)
        return None
    return "UMAP, computed here (scanpy, seed 0)", xy


def _colouring(ctx: Context, tracer: Tracer, rows: np.ndarray, how: str, gene: str) -> Colouring:
    table = tracer.table
    if how == COLOURS[3]:
        return by_value(_expression(table, rows, gene), plain(gene, 24))
    labels, colours = [str(name) for name in table.labels[rows]], type_colours(table)
    if how == COLOURS[4]:
        values = _activation(tracer, rows, gene)
        return by_name(labels, colours) if values is None else by_value(values, plain(gene, 24))
    if how == COLOURS[0]:
        return by_name(labels, colours)
    answers = _answers(ctx, tracer)
    if answers is None:
        return by_name(labels, colours)
    if how == COLOURS[1]:
        return by_name(answers, answer_colours(table, colours))
    right = [_right(table, label, answer) for label, answer in zip(labels, answers, strict=True)]
    names = {True: "right", False: "wrong", None: "no answer in the mapping"}
    found = by_name([names[one] for one in right])
    order = {"right": RIGHT, "wrong": WRONG}
    return found._replace(palette=tuple(order.get(name, GREY) for name, *_ in found.legend))


def _right(table: CellTable, label: str, answer: str) -> bool | None:
    wanted = (table.answer_of or {}).get(label, "") or label
    return None if not label or not (table.answer_of or {}).get(label, label) else wanted == answer


def _answers(ctx: Context, tracer: Tracer) -> list[str] | None:
    """The model's answer for every cell drawn; None after drawing the job that asks for them."""
    what, n = {"most": MOST_POINTS}, min(MOST_POINTS, tracer.table.n_cells)
    task = tracer_task("answers", f"Answers for {n:,} cells", sources(ctx), tracer, what)
    found = answer(task, lambda record: read_answers(record, n))
    if found is None:
        asked(task._replace(seconds=answer_seconds(tracer, n)), f"Ask the model about {n:,} cells")
    return found


def _expression(table: CellTable, rows: np.ndarray, gene: str) -> np.ndarray:
    from scx_core.cells.differential import log_expression

    known = {str(name).upper(): place for place, name in enumerate(table.symbols)}
    place = known.get(gene.strip().upper())
    if place is None:
        st.caption(f"{safe(gene) or 'No gene'} is no gene of these cells.")
        return np.full(len(rows), np.nan)
    return log_expression(table, rows).tocsc()[:, place].toarray().ravel()


def answer_colours(table: CellTable, colours: Mapping[str, str]) -> dict[str, str]:
    """An answer has the colour of the first type, by name, that it is right for."""
    said = [((table.answer_of or {}).get(name, "") or name, colours[name]) for name in colours]
    return dict(reversed(said))


def by_name(names: list[str], colours: Mapping[str, str] = NONE) -> Colouring:
    """A colour a name, the most frequent first, and a name's own where it has one; cells without a name are
    grey."""
    counts = Counter(name for name in names if name)
    order = [name for name, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
    place = {name: number for number, name in enumerate(order)}
    palette = tuple(colours.get(name, TYPES[number % len(TYPES)]) for number, name in enumerate(order))
    legend = [(plain(name, 60), place[name], counts[name]) for name in order]
    bare = len(names) - sum(counts.values())
    if bare:
        palette, legend = (*palette, GREY), [*legend, ("unlabelled", len(order), bare)]
    return Colouring(palette, np.array([place.get(name, len(order)) for name in names]), tuple(legend))


def _activation(tracer: Tracer, rows: np.ndarray, text: str) -> np.ndarray | None:
    """The feature's mean activation in each cell, once a person has asked the model for it."""
    from scx_core.atlas.annotate import feature_in_cells
    from scx_core.atlas.match.common_cells import Side
    from scx_core.atlas.tables.find import named

    meant = named(text) if text.strip() else None
    if meant is None or meant[0] is None:
        st.caption(
            "Name a feature by its layer and number, such as L2-513; until then the colours are the labels."
        )
        return None
    feature = int(meant[0]), meant[1]
    place = st.empty()

    def read() -> np.ndarray:
        with tracer.lm.lock:
            side = Side(tracer.lm, tracer.transcoders)
            return feature_in_cells(
                side, tracer.table, rows, feature, progress=progress_in(place, "reading cells")
            )

    key = (*loaders.tracer_key(tracer, named=False), len(rows), feature)
    found = _ACTIVATIONS.asked_for(key, "Colour by this feature", read)
    place.empty()
    return found


def by_value(value_N: np.ndarray, what: str) -> Colouring:
    """Grey for nothing, then fifths of the largest value."""
    value_N = np.nan_to_num(value_N)
    most = float(value_N.max()) if len(value_N) else 0.0
    fifth_N = np.ceil(5 * value_N / most).clip(0, 5).astype(int) if most > 0 else np.zeros(len(value_N), int)
    sizes = np.bincount(fifth_N, minlength=6)
    words = ["none", *(f"up to {most * part / 5:.2g}" for part in range(1, 6))]
    legend = tuple(
        (f"{what}: {word}", place, int(sizes[place])) for place, word in enumerate(words) if sizes[place]
    )
    return Colouring(SCALE, fifth_N, legend)


def _arguments(table: CellTable, xy: np.ndarray, rows: np.ndarray, painted: Colouring) -> dict[str, Any]:
    """The map between 0 and 1, with four decimals: about a tenth of a pixel."""
    at = xy[rows].astype(np.float64)
    low, size = at.min(0), max(float(np.ptp(at, axis=0).max()), 1e-9)
    unit = (at - low - (at.max(0) - low) / 2) / size + 0.5
    held = {int(row): place for place, row in enumerate(rows)}
    chosen = [held[row] for row in st.session_state.get(CELLS, ()) if row in held]
    mark = hashlib.sha256(f"{table.fingerprint} {len(rows)}".encode()).hexdigest()[:16]
    return {
        "x": unit[:, 0].round(4).tolist(),
        "y": unit[:, 1].round(4).tolist(),
        "colour": painted.colour.tolist(),
        "palette": list(painted.palette),
        "legend": [list(row) for row in painted.legend],
        "groups": painted.groups,
        "ids": [plain(name, 40) for name in table.cell_ids[rows]],
        "chosen": chosen,
        "mark": mark,
        "height": HEIGHT,
    }


def picked(value: Any, n: int) -> tuple[str, list[int]] | None:
    """What the browser reported: its mark, and places of cells among the `n` drawn; None for anything
    else."""
    if not isinstance(value, dict) or not isinstance(value.get("cells"), list):
        return None
    places = [one for one in value["cells"] if isinstance(one, int) and 0 <= one < n]
    return (str(value.get("at")), sorted(set(places))) if places else None


def _take(tracer: Tracer, shown: np.ndarray, value: Any) -> None:
    """One cell, or many: what the page traces next."""
    found = picked(value, len(shown))
    if found is None or found[0] == st.session_state.get("scx_cells_seen"):
        return
    at, places = found
    st.session_state["scx_cells_seen"] = at
    take(tracer, shown[places])
    st.rerun()


def take(tracer: Tracer, rows: np.ndarray) -> None:
    """Ask for the circuit of these cells: under their most frequent type, against all others."""
    table = tracer.table
    labels = Counter(str(name) for name in table.labels[rows] if name)
    if labels:
        put("label", max(sorted(labels), key=lambda name: labels[name]))
    if len(rows) == 1:
        same = np.flatnonzero(table.labels == table.labels[rows[0]])
        put("scope", ONE_CELL)
        put("cell", int(np.flatnonzero(same == rows[0])[0]) + 1)
        return
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_CELLS, replace=False))
    st.session_state[CELLS] = tuple(int(row) for row in rows)
    put("scope", CHOSEN)
