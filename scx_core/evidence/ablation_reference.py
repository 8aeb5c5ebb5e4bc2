"""What an intervention puts left-out features to: their mean over other cells, at the same place (method §9).

Cell sentences differ in length and in their genes, so a mean cannot be taken position by position. The words
around the genes are the same in every prompt: there each token is a place of its own. All gene tokens are one
place.
Legend: B cells, T positions, F features, S places of a prompt, d residual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.attribution.target import TargetPlan
from scx_core.errors import ScxError
from scx_core.language import Language, mlp_io, replaced_mlps
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.options import option
from scx_core.sentences import ANSWER, TOKEN_CLASSES, EncodedCell, pad_left
from scx_core.transcoders import TranscoderSet


@dataclass(frozen=True)
class InterventionConfig:
    """What happens to features that are left out, and to what the transcoders miss."""

    reference: str = option(
        "place",
        "A left-out feature is put to its mean over other cells at the same place of the prompt (all gene "
        "tokens are one place), to its mean over the token class, or to zero",
        choices=("place", "class", "zero"),
    )
    keep_errors: bool = option(
        False, "Add what the transcoders miss in the untouched cell, as a constant of that cell"
    )
    rows: int = option(16, "Cells × node sets of one forward pass", minimum=1)


class Places(NamedTuple):
    """Which tokens share a reference. Each of the `before` and `after` tokens around the genes is a place of
    its own; `class` and `zero` know no such tokens."""

    kind: str
    before: int = 0
    after: int = 0

    @property
    def n_places(self) -> int:
        """S."""
        return {"place": 1 + self.before + self.after, "class": len(TOKEN_CLASSES), "zero": 1}[self.kind]

    def of(self, cell: EncodedCell, forced: int) -> np.ndarray:
        """The place of each token, int [T]: the prompt's and then those of the `forced` answer."""
        length = len(cell.ids) + forced
        if self.kind == "class":
            return np.append(cell.class_T, [ANSWER] * forced).astype(np.int64)
        place_T = np.zeros(length, dtype=np.int64)
        if self.kind == "place":
            first, last = cell.spans[0].start, cell.spans[-1].end
            place_T[:first] = 1 + np.arange(first).clip(max=self.before - 1)
            place_T[last:] = 1 + self.before + np.arange(length - last).clip(max=self.after - 1)
        return place_T


def places_of(kind: str, cells: Sequence[EncodedCell], forced: int) -> Places:
    """The places that the prompts of these cells have."""
    if kind != "place":
        return Places(kind)
    before = max(cell.spans[0].start for cell in cells)
    return Places(kind, before, max(len(cell.ids) + forced - cell.spans[-1].end for cell in cells))


class Prompts(NamedTuple):
    """Left-padded prompts with their forced answer tokens; `place_BT` is 0 for padding."""

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    place_BT: torch.Tensor


def prompts_of(lm: Language, plan: TargetPlan, cells: Sequence[EncodedCell], places: Places) -> Prompts:
    """The cells as one batch, where the model is."""
    padded = pad_left([plan.prompt_ids(cell) for cell in cells], lm.pad_id)
    place_BT = np.zeros_like(padded.ids_BT)
    for row_T, cell in zip(place_BT, cells, strict=True):
        of_T = places.of(cell, len(plan.forced))
        row_T[len(row_T) - len(of_T) :] = of_T
    return Prompts(*(torch.from_numpy(x).to(lm.device) for x in (padded.ids_BT, padded.mask_BT, place_BT)))


class Reference(NamedTuple):
    """What features are put to: their mean at every place, one [S, F] a layer, over `n_cells` cells."""

    places: Places
    mean_LSF: tuple[torch.Tensor, ...]
    n_cells: int


@torch.no_grad()
def reference_of(
    lm: Language,
    coders: TranscoderSet,
    plan: TargetPlan,
    cells: Sequence[EncodedCell],
    cfg: InterventionConfig,
) -> Reference:
    """The reference that these cells give; none of them should be a cell that is intervened on.

    Activations are those of the run that an intervention starts from: all MLPs replaced or, where errors are
    kept, the original model. Raises ScxError without cells.
    """
    if not cells:
        raise ScxError("There are no reference cells.", "Leave some labelled cells out of the search.")
    places = places_of(cfg.reference, cells, len(plan.forced))
    options: dict[str, Any] = {"device": lm.device, "dtype": torch.float64}
    sum_LSF = [torch.zeros(places.n_places, coders.n_features, **options) for _ in coders.layers]
    tokens_S = torch.zeros(places.n_places, **options)

    def attempt(some: slice) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The sums of some cells alone: a try for which the memory does not suffice counts nothing."""
        batch = prompts_of(lm, plan, cells[some], places)
        real_BT = batch.mask_BT.bool()
        place_N = batch.place_BT[real_BT]
        with replaced_mlps(lm, {} if cfg.keep_errors else coders.stand_ins()):
            inputs = mlp_io(lm, batch.ids_BT, batch.mask_BT).inputs
        sums = [
            torch.zeros_like(sum_LSF[0]).index_add_(0, place_N, coder.encode(x_BTd[real_BT]).double())
            for coder, x_BTd in zip(coders.layers, inputs, strict=True)
        ]
        return place_N.bincount(minlength=places.n_places), sums

    n_read = 0 if cfg.reference == "zero" else len(cells)
    for some_S, some_LSF in MicroBatch().pieces(attempt, n_read, cfg.rows):
        tokens_S += some_S
        for sum_SF, some_SF in zip(sum_LSF, some_LSF, strict=True):
            sum_SF += some_SF
    means = (sum_SF / tokens_S.clamp(min=1)[:, None] for sum_SF in sum_LSF)
    return Reference(places, tuple(mean_SF.to(lm.dtype) for mean_SF in means), len(cells))
