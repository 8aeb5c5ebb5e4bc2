"""About how long a task takes, and whether a page may do it while a person waits.

One timed pass of the model says how fast it is here; how many passes each kind of task comes to was measured
on the embedded default (docs/benchmarks.md, "Promised and taken"). What decides whether a page does a thing
itself depends on sizes alone, so that a busy machine shows the same page as an idle one.
"""

from __future__ import annotations

import threading

import numpy as np

from scx_core.circuits import Tracer
from scx_core.evidence.rankings.rankings import RankingConfig
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig
from scx_core.language import Language
from scx_core.language.numerics.operations import operations, speed

IN_PAGE = (
    2.0e11  # operations of passes that a page does itself: 30 cells of the embedded default and a few more
)
START = 6.0  # seconds until a job has imported torch and opened the embedded default
SAMPLE_CELLS = 4
# Passes of the model over one cell that a cell comes to.
TRACED, KNOCKED, SEARCHED, RANKED = 12.0, 130.0, 60.0, 60.0
_SPEEDS: dict[str, tuple[float, float]] = {}
_LOCK = threading.Lock()


def cell_operations(tracer: Tracer) -> float:
    """Operations of one pass over a cell of usual length."""
    tokens = _tokens(tracer)
    return tokens * operations(tracer.lm, tokens).blocks(tracer.lm.facts.n_layers)


def pass_seconds(tracer: Tracer) -> float:
    """Seconds of one pass over one cell here, timed once for a model."""
    lm: Language = tracer.lm
    with _LOCK:
        if lm.fingerprint not in _SPEEDS:
            some = tracer.encode(np.arange(min(SAMPLE_CELLS, tracer.table.n_cells)))
            with lm.lock:
                _SPEEDS[lm.fingerprint] = speed(lm, [cell.ids for cell in some]), cell_operations(tracer)
        rate, one = _SPEEDS[lm.fingerprint]
    return one / rate


def in_page(tracer: Tracer, n_cells: int) -> bool:
    """Whether a page traces so many cells while a person waits: two seconds or so."""
    return n_cells * cell_operations(tracer) <= IN_PAGE


def circuit_seconds(tracer: Tracer, n_cells: int) -> float:
    """Of a job that traces so many cells."""
    return START + n_cells * TRACED * pass_seconds(tracer)


def knockout_seconds(tracer: Tracer, n_cells: int) -> float:
    """Of a job that takes every gene of so many cells out, both ways, and traces them first."""
    genes = tracer.lm.sentence_config.n_genes / 150
    return circuit_seconds(tracer, n_cells) + n_cells * genes * KNOCKED * pass_seconds(tracer)


def smallest_seconds(tracer: Tracer, cfg: SmallestConfig, one_cell: bool) -> float:
    """Of a job that searches the smallest circuit."""
    cells = 1 if one_cell else cfg.search_cells + cfg.unseen_cells
    return START + cells * SEARCHED * pass_seconds(tracer)


def ranking_seconds(tracer: Tracer, cfg: RankingConfig) -> float:
    """Of a job that ranks the genes of one type in every way."""
    return START + (cfg.cells + cfg.measured) * RANKED * pass_seconds(tracer)


def _tokens(tracer: Tracer) -> float:
    rows = np.arange(min(SAMPLE_CELLS, tracer.table.n_cells))
    return float(np.mean([len(cell.ids) for cell in tracer.encode(rows)]))
