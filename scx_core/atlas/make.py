"""From a model, a set and cells to an atlas, with the dense baseline beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scx_core.atlas.collect.context import measure_context
from scx_core.atlas.collect.directions import (
    EMBEDDING,
    ONE_HOT,
    RANDOM,
    embedding_directions,
    random_directions,
    take_sample,
    token_units,
)
from scx_core.atlas.collect.one_pass import CellPlan, PassSums, Stopwatch, make_plan, pass_over
from scx_core.atlas.collect.tally import neurons_that_fit
from scx_core.atlas.collect.token_slots import DATA, REAL
from scx_core.atlas.collect.units import CoderUnits, NeuronUnits, UnitReader, UnitSource
from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.judge.protocol import VerdictThresholds, criterion_shares
from scx_core.atlas.judge.unit_figures import baseline_rows, figures_of, judge, lexicon
from scx_core.atlas.tables.atlas import FORMAT, Atlas, as_arrow, narrowed
from scx_core.atlas.tables.build import make_tables
from scx_core.cells import CellTable
from scx_core.language import Language, rounded_products
from scx_core.runs import Progress, provenance, silent
from scx_core.transcoders import TranscoderSet
from scx_core.validation import draw_rows

MAIN, NEURONS = "main", "neurons"


def make_atlas(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    rows: Sequence[int] | np.ndarray | None = None,
    cfg: AtlasConfig | None = None,
    *,
    beside: Mapping[str, TranscoderSet] | None = None,
    progress: Progress = silent,
    seconds: dict[str, float] | None = None,
) -> Atlas:
    """Go over the cells once and give every feature of `transcoders` a verdict (docs/features.md).

    `rows` are the cells (default: all; `cfg.cells` draws among them). The raw neurons, unless
    `cfg.baseline` is off, the sets in `beside`, and the baselines (`baseline_sources`) are read in the same
    pass, and judged with the thresholds of the first. The atlas is not saved. `seconds` is filled with the
    time that each step took (see `Stopwatch`). Raises ScxError when a set does not fit the model, there are
    fewer than two cells, or a cell has no genes.
    """
    cfg = cfg or AtlasConfig()
    rows = np.arange(table.n_cells) if rows is None else np.asarray(rows, dtype=np.int64)
    rows = draw_rows(rows, cfg.cells, cfg.seed) if cfg.cells else rows
    watch = Stopwatch(lm.device)
    plan = make_plan(lm, table, rows, cfg.seed)
    full: dict[str, UnitSource] = {MAIN: CoderUnits(lm, transcoders)}
    full |= {name: CoderUnits(lm, other) for name, other in (beside or {}).items()}
    if cfg.baseline:
        written = min(table.n_genes, len(rows) * lm.sentence_config.n_genes)
        full[NEURONS] = NeuronUnits(lm, neurons_that_fit(written, lm.facts.n_layers))
    with rounded_products(lm.device):
        light = baseline_sources(lm, full[MAIN], table, plan, cfg) if cfg.random else {}
    watch.lap("baselines' thresholds")
    curve = Curve([MAIN, *(name for name in light if name.startswith(RANDOM))], len(rows))
    sources = full | light
    # In front of the pass, whose sums stay until the end: its memory is free again by then.
    contexts: dict[str, pd.DataFrame] = {}
    if cfg.context:  # the token's one-hot reads nothing else by its making
        read = {name: units for name, units in sources.items() if name != ONE_HOT}
        named = (MAIN, f"{RANDOM}1")
        with rounded_products(lm.device):
            contexts = measure_context(
                lm, read, table, plan, cfg.context, cfg.seed, named=named, progress=progress
            )
    watch.lap("exchanging genes")
    with rounded_products(lm.device):
        passed = pass_over(lm, sources, table, plan, cfg, progress, light, curve.watched)
    watch.restart()
    made = _atlas(lm, full, light, passed, table, cfg, curve, contexts)
    watch.lap("verdicts and tables")
    if seconds is not None:
        seconds.update(passed.seconds | watch.seconds)
    return made


def baseline_sources(
    lm: Language, units: UnitSource, table: CellTable, plan: CellPlan, cfg: AtlasConfig
) -> dict[str, UnitReader]:
    """What the features are held against in the same pass: `cfg.random` draws of random directions, the
    embedding's directions, and the current token."""
    sample = take_sample(lm, units, table, plan, cfg.batch)
    found: dict[str, UnitReader] = {
        f"{RANDOM}{draw}": random_directions(sample, cfg.seed + draw) for draw in range(1, cfg.random + 1)
    }
    found[EMBEDDING] = embedding_directions(lm, sample, cfg.seed)
    found[ONE_HOT] = token_units(sample, len(lm.embedding))
    return found


def _atlas(
    lm: Language,
    full: Mapping[str, UnitSource],
    light: Mapping[str, UnitReader],
    passed: PassSums,
    table: CellTable,
    cfg: AtlasConfig,
    curve: Curve,
    contexts: Mapping[str, pd.DataFrame],
) -> Atlas:
    words = lexicon(passed.slots.table())
    limits: VerdictThresholds | None = None
    made: dict[str, Atlas] = {}
    whole: dict[str, pd.DataFrame] = {}
    for name, units in full.items():
        judged = judge(passed, name, words, limits, contexts.get(name))
        limits, whole[name] = judged.limits, judged.reported[DATA[REAL]]
        tables = make_tables(lm, units, passed, name, judged, table, cfg)
        made[name] = Atlas(_meta(lm, units, passed, table, cfg, limits), as_arrow(tables))
    assert limits is not None  # chosen with the first
    rows = {name: baseline_rows(passed, name, words, limits, contexts.get(name)) for name in light}
    more = {"curve": curve.table(passed, whole | rows, limits, contexts)}
    if rows:
        more["baselines"] = pd.concat([one.assign(source=name) for name, one in rows.items()])
    main = made.pop(MAIN)
    return Atlas(main.meta | {"beside": list(made)}, {**main.tables, **narrowed(more)}, made)


def _meta(
    lm: Language,
    units: UnitSource,
    passed: PassSums,
    table: CellTable,
    cfg: AtlasConfig,
    limits: VerdictThresholds,
) -> dict[str, Any]:
    source = {"name": units.name, "kind": units.kind, "fingerprint": units.fingerprint}
    whole = units.of_units if isinstance(units, NeuronUnits) else units.n_units
    return {
        **({"of_units": whole} if units.n_units < whole else {}),
        "format": FORMAT,
        "source": source,
        "n_layers": lm.facts.n_layers,
        "n_units": units.n_units,
        "n_cells": sum(passed.counts.cells),
        "cells_of_halves": list(passed.counts.cells),
        "n_tokens": passed.n_tokens,
        "types": list(passed.plan.types),
        "donors": list(passed.plan.donors),
        "cells_of_types": _times((one.type for one in passed.plan.cells), passed.plan.types),
        "cells_of_donors": _times((one.donor for one in passed.plan.cells), passed.plan.donors),
        "organism": table.organism,
        "thresholds": limits._asdict(),
        "provenance": provenance(config=cfg, data=table, model=lm, transcoders=source, seed=cfg.seed),
    }


def _times(numbers: Iterable[int], names: Sequence[str]) -> list[int]:
    """How often each name's number occurs; the number behind the last one stands for none of them."""
    times = Counter(numbers)
    return [times[number] for number in range(len(names))]


CURVE_CELLS = (60, 120, 240, 480, 960, 1920, 3840)  # cells, as far as there are more in the pass


class Curve:
    """How shares move with the number of cells: figures of some sources after `CURVE_CELLS` cells, with the
    thresholds of the whole pass. Cells come in a random order, so those seen so far are a fair sample.
    `watched` goes into the pass."""

    def __init__(self, sources: Sequence[str], n_cells: int) -> None:
        self._sources = tuple(sources)
        self._seen: dict[int, dict[str, pd.DataFrame]] = {}
        self.watched: Mapping[int, Callable[[PassSums], None]] = {
            n: self._keep for n in CURVE_CELLS if n < n_cells
        }

    def _keep(self, passed: PassSums) -> None:
        words = lexicon(passed.slots.table())
        found = {name: figures_of(passed, name, words) for name in self._sources}
        self._seen[sum(passed.counts.cells)] = found

    def table(
        self,
        passed: PassSums,
        whole: Mapping[str, pd.DataFrame],
        limits: VerdictThresholds,
        contexts: Mapping[str, pd.DataFrame],
    ) -> pd.DataFrame:
        """Rows cells, source, layer (−1: all), measure, share, features (live ones). `whole` are the figures
        of every source after the last cell; `contexts` what was found by exchanging genes, once."""
        early = {
            cells: {
                name: figures.join(contexts[name]) if name in contexts else figures
                for name, figures in by_source.items()
            }
            for cells, by_source in self._seen.items()
        }
        seen = early | {sum(passed.counts.cells): whole}
        parts = [
            criterion_shares(figures, limits).assign(cells=cells, source=name)
            for cells, by_source in sorted(seen.items())
            for name, figures in by_source.items()
        ]
        table = pd.concat(parts, ignore_index=True)
        return table[["cells", "source", "layer", "measure", "share", "features"]]
