"""What a validation will take, and how much of its long parts is done by default.

Operations are counted from the sizes of model, set and texts; one timed pass of the model says how fast they
are done here. The samples below depend on the counts alone, so that a result is the same on every machine of
a kind. Legend: d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from scx_core.cells import CellTable
from scx_core.language import Language, encode_cells, with_answers
from scx_core.language.numerics.operations import Operations, duration, operations, speed
from scx_core.transcoders import TranscoderSet
from scx_core.validation.baselines import BASELINES
from scx_core.validation.held_out import FIT_CELLS, check_rows

LAYER_SEED, LAYER_BATCH = 0, 4  # of the cells on which each layer is replaced alone; how many at a time
LONG = 6e12  # operations that replacing each layer alone, and fitting baselines, may take by default, each
ON_A_CARD = 1000  # times as many where there is a card
ENOUGH_TOKENS = 6  # times the width: a linear map is fitted on no fewer tokens, where there are cells for it
SAMPLE_CELLS = 8  # cells whose length is taken for that of all
USUAL = 8  # features a width
BESIDE = 1.3  # what softmax, norms and sums take beside the counted products
DOUBLE = 2  # an operation in float64 costs as much as so many


class Costs(NamedTuple):
    """Operations a token: of the model, of a layer's encoder, and of a linear map [d, d]. Decoders add up the
    rows of active features alone."""

    model: Operations
    coder: float
    linear: float


class ValidationWork(NamedTuple):
    """How much is measured on what, and about how many seconds it takes here, whole and by part."""

    cells: int
    tokens_a_cell: float
    layer_cells: int
    fit_cells: int
    seconds: float
    parts: dict[str, float]

    def words(self) -> str:
        """The same in a sentence."""
        also = [f"each layer alone on {self.layer_cells:,} of them"] if self.layer_cells else []
        also += [f"baselines fitted on {self.fit_cells:,} training cells"] if self.fit_cells else []
        what = f"{self.cells:,} test cells of about {self.tokens_a_cell:,.0f} tokens"
        slowest = max(self.parts, key=lambda part: self.parts[part])
        return (
            f"{'; '.join([what, *also])}: about {duration(self.seconds)} here, "
            f"{duration(self.parts[slowest])} of it for {slowest}."
        )


def costs(lm: Language, transcoders: TranscoderSet | None, tokens: float) -> Costs:
    """In texts of so many tokens; without transcoders those of 8 features a width."""
    d = lm.facts.width
    features = USUAL * d if transcoders is None else transcoders.n_features
    return Costs(operations(lm, tokens), 2.0 * features * d, 2.0 * d * d)


def cells_alone(lm: Language, table: CellTable, rows: Sequence[int] | np.ndarray) -> int:
    """On how many of the test cells `rows` each layer is replaced alone by default: all, where that takes no
    more than `LONG` operations, else as many as it takes; at least one."""
    tokens = _tokens(lm, table, np.asarray(rows))
    a_cell = _layers_alone(costs(lm, None, tokens), lm.facts.n_layers) * tokens
    return min(len(rows), max(1, int(_long(lm) / a_cell)))


def fit_cells(lm: Language, table: CellTable, fit: Sequence[int] | np.ndarray) -> int:
    """On how many of the training cells `fit` the baselines are fitted: `FIT_CELLS`, or as many as `LONG`
    operations allow, but with no fewer tokens than `ENOUGH_TOKENS` times the width."""
    if not len(fit):
        return 0
    tokens = _tokens(lm, table, np.asarray(fit))
    affordable = int(_long(lm) / (_fitting(costs(lm, None, tokens), lm.facts.n_layers) * tokens))
    least = -int(-ENOUGH_TOKENS * lm.facts.width // tokens)
    return min(len(fit), FIT_CELLS, max(affordable, least))


@torch.no_grad()
def validation_work(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    rows: Sequence[int] | np.ndarray,
    *,
    fit: Sequence[int] | np.ndarray = (),
    per_layer: bool = True,
    layer_cells: int | None = None,
) -> ValidationWork:
    """What `validate` will take with the same arguments (`fit`: its `train_rows`), from a pass or two of the
    model on some of the cells. Right within a factor of two where nothing else runs. Raises ScxError where
    `validate` would, for want of cells with an answer."""
    rows, n_layers, table = np.asarray(rows, dtype=np.int64), lm.facts.n_layers, with_answers(lm, table)
    check_rows(table, rows)
    tokens = _tokens(lm, table, rows)
    one = costs(lm, transcoders, tokens)
    attention, head = n_layers * one.model.attention, one.model.table
    whole, coded = one.model.blocks(n_layers), attention + n_layers * one.coder
    rivals = len(BASELINES) if len(fit) else 0
    without = attention + n_layers * one.linear
    measured = len(rows) * tokens
    n_alone = 0
    if per_layer:
        n_alone = cells_alone(lm, table, rows) if layer_cells is None else layer_cells or len(rows)
    n_fit = fit_cells(lm, table, fit)
    counts = {
        "baselines": n_fit * tokens * _fitting(one, n_layers) + measured * rivals * (without + head),
        "all layers at once": measured * (whole + coded + n_layers * one.coder + 2 * attention + 4 * head),
        "each layer alone": min(n_alone, len(rows)) * tokens * _layers_alone(one, n_layers),
    }
    rate = speed(lm, [cell.ids for cell in encode_cells(lm, table, rows[:SAMPLE_CELLS])])
    parts = {part: BESIDE * count / rate for part, count in counts.items() if count}
    return ValidationWork(len(rows), tokens, n_alone, n_fit, sum(parts.values()), parts)


def _layers_alone(one: Costs, n_layers: int) -> float:
    """Of a token: a pass that is kept, and for each layer two passes from it on, both to the vocabulary."""
    later = n_layers * (n_layers + 1) / 2
    blocks = n_layers + 2 * later
    return (
        blocks * one.model.attention
        + (blocks - 2 * n_layers) * one.model.mlp
        + n_layers * one.coder
        + (2 * n_layers + 1) * one.model.table
    )


def _fitting(one: Costs, n_layers: int) -> float:
    """Of a token that baselines are fitted on: a pass, the transcoders, two products of sums in float64."""
    return n_layers * (one.model.attention + one.model.mlp + one.coder + 2 * DOUBLE * one.linear)


def _long(lm: Language) -> float:
    return LONG * (ON_A_CARD if lm.device.type == "cuda" else 1)


def _tokens(lm: Language, table: CellTable, rows: np.ndarray) -> float:
    """Mean tokens of a cell's text, of the first few."""
    return float(np.mean([len(cell.ids) for cell in encode_cells(lm, table, rows[:SAMPLE_CELLS])]))
