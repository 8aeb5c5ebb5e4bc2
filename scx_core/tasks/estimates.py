"""About how long a task takes, and whether a page may do it while a person waits.

Sizes say how much work there is (passes of the model over cells, in operations); what a kind of task takes an
operation was measured on the embedded default, on two idle cores (docs/benchmarks.md, "Promised and taken").
What the last jobs took here, beside what was promised, corrects it for this machine. What decides whether a
page does a thing itself depends on sizes alone, so that a busy machine shows the same page as an idle one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from scx_core.build import BuildConfig
from scx_core.cells import CellTable
from scx_core.circuits import Tracer
from scx_core.evidence.rankings.rankings import RankingConfig
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig
from scx_core.language import Language, encode_cells, with_answers
from scx_core.language.numerics.operations import operations
from scx_core.runs import RunFolder, all_jobs
from scx_core.share import ShareConfig
from scx_core.training.config import PRESETS, TrainConfig, TranscoderConfig
from scx_core.training.estimate import LARGE, PROMPT_TOKENS, TOKENS_A_GENE
from scx_core.transcoders import TranscoderSet

IN_PAGE = 1.7e10  # operations of passes over cells that a page traces: 40 cells of the embedded default
START = 6.0  # seconds until a job has imported torch and opened the embedded default
# Seconds for every 1e9 operations of one pass over each cell.
TRACED, DIFFERENCE, KNOCKED, SEARCHED, RANKED, ANSWERED = 0.14, 0.46, 1.8, 1.34, 0.75, 0.027
COLLECTED = 0.11  # of an atlas
SHARED, SHARE_WRITTEN = 0.29, 6.0  # a cell of a shared page; seconds until the page is written
ATLAS_FEATURE, MAP_START, MAP_CELL = 0.003, 4.0, 0.003  # seconds
PATHED = 0.25  # one cell's paths, for every 1e9 operations of a pass over it
MATCH_CELL, MATCH_PAIR = 0.28, 5e-7  # of both sets at each cell; a pair of features of one layer
GENE_SET_TEST, GENE_SETS_READ = 2.0e-7, 1.0  # a feature and a set, everything beside included; seconds
REPORT_SECONDS = START + 5.0
TRIED = 4.5e10  # operations a second of the few steps of a trial
TRIAL_STEPS = 3  # the first, which allocates, and two that are timed
SAMPLE_CELLS = 4  # whose length is taken for that of all
LEARNED_FROM = 5  # newest jobs of a kind
MOST_APART = 20.0  # a job that took more times longer or shorter says nothing: the computer slept


def cell_operations(lm: Language, table: CellTable) -> float:
    """Operations of one pass over a cell of usual length."""
    rows = np.arange(min(SAMPLE_CELLS, table.n_cells))
    some = encode_cells(lm, with_answers(lm, table), rows)
    tokens = float(np.mean([len(cell.ids) for cell in some]))
    return tokens * operations(lm, tokens).blocks(lm.facts.n_layers)


def in_page(tracer: Tracer, n_cells: float) -> bool:
    """Whether a page traces so many cells while a person waits: two seconds or so."""
    return n_cells * _of(tracer) <= IN_PAGE


def knocked_in_page(tracer: Tracer, n_cells: int) -> bool:
    """Whether a page takes the genes of so many cells out while a person waits."""
    return in_page(tracer, n_cells * (1 + KNOCKED / TRACED))


def circuit_seconds(tracer: Tracer, n_cells: int, difference: bool = False) -> float:
    """Of a job that traces so many cells, of both sides of a difference together."""
    return START + n_cells * (DIFFERENCE if difference else TRACED) * _of(tracer) / 1e9


def knockout_seconds(tracer: Tracer, n_cells: int) -> float:
    """Of a job that takes every gene of so many cells out, both ways, and traces them first."""
    genes = tracer.lm.sentence_config.n_genes / 150
    return circuit_seconds(tracer, n_cells) + n_cells * genes * KNOCKED * _of(tracer) / 1e9


def smallest_seconds(tracer: Tracer, cfg: SmallestConfig, one_cell: bool) -> float:
    """Of a job that searches the smallest circuit."""
    cells = 1 if one_cell else cfg.search_cells + cfg.unseen_cells
    return START + cells * SEARCHED * _of(tracer) / 1e9


def ranking_seconds(tracer: Tracer, cfg: RankingConfig) -> float:
    """Of a job that ranks the genes of one type in every way."""
    return START + (cfg.cells + cfg.measured) * RANKED * _of(tracer) / 1e9


def answer_seconds(tracer: Tracer, n_cells: int) -> float:
    """Of a job that asks the model for its answer in so many cells."""
    return START + n_cells * ANSWERED * _of(tracer) / 1e9


def atlas_seconds(lm: Language, coders: TranscoderSet, table: CellTable, n_cells: int) -> float:
    """Of a job that makes the atlas of a set over so many cells."""
    features = coders.n_features * len(coders.layers)
    return START + n_cells * COLLECTED * cell_operations(lm, table) / 1e9 + features * ATLAS_FEATURE


def share_seconds(tracer: Tracer, cfg: ShareConfig) -> float:
    """Of a job that traces so many cells of each type that has them, and writes the page."""
    cells = sum(min(cfg.cells, int(n)) for n in tracer.table.cells_per_type())
    return START + SHARE_WRITTEN + cells * SHARED * _of(tracer) / 1e9


def paths_in_page(tracer: Tracer) -> bool:
    """Whether a page follows the paths of a cell while a person waits."""
    return in_page(tracer, PATHED / TRACED)


def paths_seconds(tracer: Tracer) -> float:
    """Of a job that follows the largest paths of one cell."""
    return START + PATHED * _of(tracer) / 1e9


def match_seconds(lm: Language, pair: Sequence[TranscoderSet], table: CellTable, n_cells: int) -> float:
    """Of a job that matches two sets on so many cells."""
    first, second = pair
    pairs = len(first.layers) * first.n_features * second.n_features
    return START + n_cells * MATCH_CELL * cell_operations(lm, table) / 1e9 + pairs * MATCH_PAIR


def gene_sets_seconds(n_features: int, n_sets: int) -> float:
    """Of a job that tests the features of an atlas with so many sets."""
    return START + GENE_SETS_READ + n_features * n_sets * GENE_SET_TEST


def trial_seconds(cfg: BuildConfig, n_genes: int) -> float:
    """Of a job that tries a few steps of a build's parts."""
    length = cfg.sentences.n_genes * TOKENS_A_GENE + PROMPT_TOKENS
    width, layers, vocabulary = cfg.recipe.width, cfg.recipe.layers, cfg.recipe.vocabulary_for(n_genes)
    a_token = layers * (24 * width**2 + 4 * length * width) + 2 * vocabulary * width
    work = 3 * cfg.recipe.batch * length * a_token  # back and forth
    for name in cfg.preset_names:
        preset = PRESETS[name]
        work += _trained(preset.transcoder, preset.train, length, a_token, layers * width**2)
    return START + TRIAL_STEPS * work / TRIED


def training_trial_seconds(lm: Language, transcoder: TranscoderConfig, train: TrainConfig) -> float:
    """Of a job that tries a few steps of a training, or counts those of a large model."""
    length = lm.sentence_config.n_genes * TOKENS_A_GENE + PROMPT_TOKENS
    a_token = operations(lm, length).blocks(lm.facts.n_layers)
    work = _trained(transcoder, train, length, a_token, lm.facts.n_layers * lm.facts.width**2)
    return START + TRIAL_STEPS * min(work, LARGE) / TRIED


def _trained(
    coder: TranscoderConfig, train: TrainConfig, length: float, a_token: float, squares: float
) -> float:
    """Operations of a step of a training; with those of all layers together where they are tuned."""
    tokens, dense = train.cells_per_batch * length, 4 * coder.expansion * squares
    return tokens * (a_token + 3 * dense + (3 * (a_token + dense) if train.finetune_steps else 0))


def map_seconds(n_cells: int) -> float:
    """Of a job that computes a UMAP: compiling what scanpy uses, then the cells."""
    return START + MAP_START + n_cells * MAP_CELL


def here(kind: str, seconds: float, root: Path | None = None) -> float:
    """The seconds of a task of a kind on this machine: as much longer or shorter as its last jobs were than
    was thought, or those of any kind where there were none."""
    by_kind: dict[str, list[float]] = {}
    for run in all_jobs(root):
        if (ratio := _taken(run)) is not None:
            by_kind.setdefault(run.kind, []).append(ratio)
    known = by_kind.get(kind) or [ratio for found in by_kind.values() for ratio in found]
    return seconds * median(known[:LEARNED_FROM]) if known else seconds


def _taken(run: RunFolder) -> float | None:
    """What a finished job took over what was thought at first; None where either is not known."""
    thought = run.config.get("seconds")
    taken = run.status().more.get("seconds") if thought else None
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in (taken, thought)):
        return None  # a file that was edited tells nothing
    if not taken or not thought or not 1 / MOST_APART < taken / thought < MOST_APART:
        return None
    return float(taken) / float(thought)


def _of(tracer: Tracer) -> float:
    return cell_operations(tracer.lm, tracer.table)
