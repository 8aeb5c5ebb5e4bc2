"""About how long a task takes, and whether a page may do it while a person waits.

One timed pass of the model says how fast it is here; how many passes each kind of task comes to was measured
on the embedded default (docs/benchmarks.md, "Promised and taken"). What decides whether a page does a thing
itself depends on sizes alone, so that a busy machine shows the same page as an idle one.
"""

from __future__ import annotations

import threading

import numpy as np

from scx_core.cells import CellTable
from scx_core.circuits import Tracer
from scx_core.evidence.rankings.rankings import RankingConfig
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig
from scx_core.language import Language, encode_cells, with_answers
from scx_core.language.numerics.operations import operations, speed
from scx_core.sentences import EncodedCell
from scx_core.transcoders import TranscoderSet

IN_PAGE = 1.7e10  # operations of passes over cells that a page traces: 40 cells of the embedded default
START = 6.0  # seconds until a job has imported torch and opened the embedded default
SAMPLE_CELLS = 4
# Passes of the model over one cell that a cell comes to.
TRACED, KNOCKED, SEARCHED, RANKED, ANSWERED = 12.0, 130.0, 60.0, 60.0, 1.2
MAP_START, MAP_CELL = 15.0, 0.004  # seconds
ATLAS_START, ATLAS_CELL, ATLAS_FEATURE = 5.0, 6.0, 0.003  # seconds, passes a cell, seconds
_SPEEDS: dict[str, float] = {}
_LOCK = threading.Lock()


def cell_operations(tracer: Tracer) -> float:
    """Operations of one pass over a cell of usual length."""
    return _operations(tracer.lm, tracer.table)


def pass_seconds(tracer: Tracer) -> float:
    """Seconds of one pass over one cell here, timed once for a model."""
    return _pass(tracer.lm, tracer.table)


def _pass(lm: Language, table: CellTable) -> float:
    with _LOCK:
        if lm.fingerprint not in _SPEEDS:
            with lm.lock:
                _SPEEDS[lm.fingerprint] = speed(lm, [cell.ids for cell in _some(lm, table)])
    return _operations(lm, table) / _SPEEDS[lm.fingerprint]


def _operations(lm: Language, table: CellTable) -> float:
    tokens = float(np.mean([len(cell.ids) for cell in _some(lm, table)]))
    return tokens * operations(lm, tokens).blocks(lm.facts.n_layers)


def _some(lm: Language, table: CellTable) -> list[EncodedCell]:
    return encode_cells(lm, with_answers(lm, table), np.arange(min(SAMPLE_CELLS, table.n_cells)))


def in_page(tracer: Tracer, n_cells: float) -> bool:
    """Whether a page traces so many cells while a person waits: two seconds or so."""
    return n_cells * cell_operations(tracer) <= IN_PAGE


def knocked_in_page(tracer: Tracer, n_cells: int) -> bool:
    """Whether a page takes the genes of so many cells out while a person waits."""
    return in_page(tracer, n_cells * (1 + KNOCKED / TRACED))


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


def atlas_seconds(lm: Language, coders: TranscoderSet, table: CellTable, n_cells: int) -> float:
    """Of a job that makes the atlas of a set over so many cells."""
    features = coders.n_features * len(coders.layers)
    return START + ATLAS_START + n_cells * ATLAS_CELL * _pass(lm, table) + features * ATLAS_FEATURE


def answer_seconds(tracer: Tracer, n_cells: int) -> float:
    """Of a job that asks the model for its answer in so many cells."""
    return START + n_cells * ANSWERED * pass_seconds(tracer)


def map_seconds(n_cells: int) -> float:
    """Of a job that computes a UMAP: compiling what scanpy uses, then the cells."""
    return START + MAP_START + n_cells * MAP_CELL
