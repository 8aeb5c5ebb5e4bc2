"""The one pass: cells as text through the model, every MLP's units into the tallies.

Legend: B cells of a batch, T positions, N counted tokens, d width, F units.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch

from scx_core.atlas.collect.sums import ordered
from scx_core.atlas.collect.tally import N_DATA, LayerTally, TokenBatch, Tokens
from scx_core.atlas.collect.token_slots import (
    REAL,
    BinLayout,
    CellAssignment,
    PlacedTokens,
    TokenSlots,
    place_tokens,
    rank_bin,
)
from scx_core.atlas.collect.units import MlpAt, UnitReader, neurons_wanted
from scx_core.atlas.config import AtlasConfig
from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.language import Language, captured_neurons, encode_cells, mlp_io, whole_answers, with_answers
from scx_core.language.hooks import MlpIO
from scx_core.runs import Progress
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import EncodedCell, pad_left


class Counts(NamedTuple):
    """Counted tokens by bin, [2 · bins], and by slot [slots, 2, data]; cells of each half."""

    bins: np.ndarray
    slots: np.ndarray
    cells: tuple[int, int]


class CellPlan(NamedTuple):
    """The cells in the order of the pass, each with its half, cell type, permuted cell type and donor."""

    cells: tuple[CellAssignment, ...]
    types: tuple[str, ...]
    donors: tuple[str, ...]
    layout: BinLayout


class PassSums(NamedTuple):
    """The sums of a pass: for every source one tally a layer. `seconds` are processor seconds of writing
    sentences, the model's forward, reading units, and summing up."""

    tallies: dict[str, list[LayerTally]]
    slots: TokenSlots
    counts: Counts
    plan: CellPlan
    seconds: dict[str, float]

    @property
    def layout(self) -> BinLayout:
        """Bins of the small tallies."""
        return self.plan.layout

    @property
    def class_bins(self) -> list[int]:
        """The bins by token class, of both halves: every counted token is in one."""
        first = range(*self.layout.starts()["class"].indices(self.layout.n_bins))
        return [row + half * self.layout.n_bins for half in (0, 1) for row in first]

    @property
    def n_tokens(self) -> int:
        """Counted tokens of all cells."""
        return int(self.counts.bins[self.class_bins].sum())


def make_plan(lm: Language, table: CellTable, rows: np.ndarray, seed: int) -> CellPlan:
    """Halves of equal size in every cell type; types and donors as numbers, unlabelled ones the last."""
    if len(rows) < 2:
        raise ScxError("An atlas needs cells in two halves.", "Give at least two cells, better hundreds.")
    rng = np.random.default_rng(seed)
    types = tuple(sorted({str(label) for label in table.labels[rows]} - {""}))
    known = table.donors if table.donors is not None else np.full(table.n_cells, "", dtype=object)
    donors = tuple(sorted({str(donor) for donor in known[rows]} - {""}))
    order = rng.permutation(len(rows))
    order = order[np.argsort(table.labels[rows][order].astype(str), kind="stable")]
    half = np.empty(len(rows), dtype=np.int64)
    half[order] = np.arange(len(rows)) % 2
    place_of = {label: number for number, label in enumerate(types)}
    type_C = np.array([place_of.get(str(label), len(types)) for label in table.labels[rows]])
    donor_of = {donor: number for number, donor in enumerate(donors)}
    donor_C = [donor_of.get(str(donor), len(donors)) for donor in known[rows]]
    permuted_C = rng.permutation(type_C)
    cells = list(
        map(CellAssignment, rows.tolist(), half.tolist(), type_C.tolist(), permuted_C.tolist(), donor_C)
    )
    # In a random order, so that the cells seen so far are a fair sample at any time.
    cells = [cells[number] for number in rng.permutation(len(cells))]
    ranks = int(rank_bin(np.array([lm.sentence_config.n_genes]))[0]) + 1
    return CellPlan(tuple(cells), types, donors, BinLayout(ranks, len(types), len(donors)))


class Stopwatch:
    """Seconds by name: of the processor, which a busy machine does not stretch; where a GPU works, of the
    clock, and the GPU is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._last = self._now()

    def _now(self) -> float:
        if self._device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def restart(self) -> None:
        """Do not count what has passed since the last lap."""
        self._last = self._now()

    def lap(self, name: str) -> None:
        """Add what has passed since the last lap."""
        now = self._now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


@torch.no_grad()
def pass_over(
    lm: Language,
    sources: Mapping[str, UnitReader],
    table: CellTable,
    plan: CellPlan,
    cfg: AtlasConfig,
    progress: Progress,
    light: Collection[str] = (),
    watched: Mapping[int, Callable[[PassSums], None]] | None = None,
) -> PassSums:
    """Read every cell once, in the plan's order. Of the sources named in `light` only what shares need is
    summed up; `watched` functions receive the sums after so many cells. Raises ScxError when a
    cell has no genes.
    """
    slots, watch = TokenSlots(), Stopwatch(lm.device)
    tallies = {
        name: [
            LayerTally(units, plan.layout, cfg, lm.device, lm.facts.n_layers, table.n_genes, name in light)
            for _ in range(lm.facts.n_layers)
        ]
        for name, units in sources.items()
    }
    bins = np.zeros(2 * plan.layout.n_bins, dtype=np.int64)
    in_slots = np.zeros(0, dtype=np.int64)
    done, micro = 0, MicroBatch(units="cells' activations")
    for some in written(lm, table, plan, cfg.batch, sources.values()):
        watch.lap("forward")
        placed = [
            place_tokens(cell, answer, one, slots, plan.layout, cfg.seed)
            for cell, answer, one in zip(some.cells, some.answers, some.assigned, strict=True)
        ]
        bins += _bin_counts(placed, len(bins))
        seen = np.bincount(_slots(placed, some.assigned).flatten(), minlength=2 * N_DATA * len(slots))
        seen[: len(in_slots)] += in_slots
        in_slots = seen
        parts = _Parts(lm, some, placed)
        watch.lap("sentences")
        for name, units in sources.items():
            for layer, tally in enumerate(tallies[name]):
                parts.take_in(layer, units, tally, len(slots), micro, watch)
        done += len(some.cells)
        seen_so_far = [one.half for one in plan.cells[:done]]
        counts = Counts(bins, in_slots.reshape(-1, 2, N_DATA), (seen_so_far.count(0), seen_so_far.count(1)))
        passed = PassSums(tallies, slots, counts, plan, watch.seconds)
        for at_cells in [n for n in watched or {} if done - len(some.cells) < n <= done]:
            (watched or {})[at_cells](passed)
            watch.lap("shares by number of cells")
        del some, parts  # else what its MLPs read and wrote stays beside that of the next batch
        progress(done, len(plan.cells), "Cells")
    return passed


def counted_rows(mask_BT: torch.Tensor) -> torch.Tensor:
    """The tokens that count, as rows of B · T: all but padding and position 0."""
    return (mask_BT.bool() & (mask_BT.cumsum(1) > 1)).flatten().nonzero()[:, 0]


class Written(NamedTuple):
    """Some cells of a plan: sentences, token ids of the true answers (none for a cell without one), and of
    both together, assignments; their forward pass, where one was asked for."""

    cells: list[EncodedCell]
    answers: list[tuple[int, ...]]
    ids: list[list[int]]
    assigned: tuple[CellAssignment, ...]
    forward: Forward | None


def written(
    lm: Language, table: CellTable, plan: CellPlan, size: int, sources: Collection[UnitReader] = ()
) -> Iterator[Written]:
    """The cells of a plan in its order, `size` at a time, with their forward pass where `sources` will read
    it; fewer from where on the memory does not suffice for that."""
    passes = Passes(lm, sources)
    table, micro, start = with_answers(lm, table), MicroBatch(), 0
    labelled = np.array([one.row for one in plan.cells if one.type < len(plan.types)], dtype=np.int64)
    answer_of = {}
    if len(labelled):
        answer_of = whole_answers(lm, table, sorted(set(table.answers[labelled].tolist()) - {""}))

    def attempt(n: int) -> Written:
        assigned = plan.cells[start : start + n]
        rows = np.array([one.row for one in assigned], dtype=np.int64)
        cells = encode_cells(lm, table, rows)
        answers = [answer_of.get(str(table.answers[row]), ()) for row in rows]
        ids = [[*cell.ids, *answer] for cell, answer in zip(cells, answers, strict=True)]
        return Written(cells, answers, ids, assigned, passes.of(ids) if sources else None)

    while start < len(plan.cells):
        found = micro.run(attempt, min(size, len(plan.cells) - start))
        start += len(found.assigned)
        yield found
        del found  # nobody needs it when the next is made


class Forward(NamedTuple):
    """What a batch's MLPs read and write, their neurons where a source wants them, the counted rows."""

    io: MlpIO
    neurons: Sequence[torch.Tensor]
    row_N: torch.Tensor
    id_N: torch.Tensor

    def at(self, layer: int, units: UnitReader) -> MlpAt:
        """What a source reads of a layer."""
        hidden = self.neurons[layer] if units.wants_neurons else None
        return MlpAt(self.io.inputs[layer], self.io.outputs[layer], hidden, self.row_N, self.id_N)


def forward_of(lm: Language, ids: Sequence[Sequence[int]], neurons: int) -> Forward:
    """One forward pass over some texts (token ids); with so many neurons of every layer."""
    ids_BT, mask_BT = (torch.from_numpy(part).to(lm.device) for part in pad_left(ids, lm.pad_id))
    with ExitStack() as stack:
        found = stack.enter_context(captured_neurons(lm, neurons)) if neurons else []
        io = mlp_io(lm, ids_BT, mask_BT)
    row_N = counted_rows(mask_BT)
    return Forward(io, found, row_N, ids_BT.flatten()[row_N])


class Passes:
    """Forward passes of batches. On a graphics card one that is larger than any before is also read by every
    source and layer, and nothing of it kept, so that memory that ends there leaves no batch counted by
    half."""

    def __init__(self, lm: Language, sources: Collection[UnitReader]) -> None:
        self.lm, self.sources, self.largest = lm, sources, 0

    def of(self, ids: Sequence[Sequence[int]]) -> Forward:
        """The pass over these token ids; memory that ends is the caller's."""
        found = forward_of(self.lm, ids, neurons_wanted(self.sources))
        size = len(ids) * max(map(len, ids))
        if self.lm.device.type != "cpu" and size > self.largest:
            for layer in range(self.lm.facts.n_layers):
                for units in self.sources:
                    units.read(layer, found.at(layer, units))
            self.largest = size
        return found


def _bin_counts(placed: Sequence[PlacedTokens], n_bins: int) -> np.ndarray:
    """Tokens of every bin."""
    found = np.bincount(np.concatenate([one.bin_TJ.ravel() for one in placed]), minlength=n_bins)
    for one in placed:
        np.add.at(found, one.bin_J, len(one.draw_T))
    return found


def _slots(placed: Sequence[PlacedTokens], cells: Sequence[CellAssignment]) -> np.ndarray:
    """The slots of every token with half and data, [N, J]."""
    halves = [
        one.slot_TJ * (2 * N_DATA) + cell.half * N_DATA for one, cell in zip(placed, cells, strict=True)
    ]
    return np.concatenate(halves) + np.arange(N_DATA)


class _Parts:
    """The tokens of a batch and what its MLPs did there: of all cells, or of some where the memory does not
    suffice. What was made once is kept."""

    def __init__(self, lm: Language, some: Written, placed: Sequence[PlacedTokens]) -> None:
        assert some.forward is not None  # asked for
        self.lm, self.some, self.placed, self.forward = lm, some, placed, some.forward
        self._start = np.cumsum([0, *(len(one.draw_T) for one in placed)])
        self._made: dict[tuple[int, int], TokenBatch] = {}

    def take_in(
        self,
        layer: int,
        units: UnitReader,
        tally: LayerTally,
        n_slots: int,
        micro: MicroBatch,
        watch: Stopwatch,
    ) -> None:
        """One layer of one source into its tally, as many cells at a time as the memory suffices for."""

        def attempt(part: slice) -> None:
            active = units.read(layer, self.at(part, layer, units))
            watch.lap("reading")
            tally.add(active, self.tokens(part), n_slots)
            watch.lap("summing")

        for _ in micro.pieces(attempt, len(self.placed), len(self.placed)):
            pass

    def at(self, part: slice, layer: int, units: UnitReader) -> MlpAt:
        """What a source reads of a layer at the tokens of these cells."""
        tokens = slice(self._start[part.start], self._start[part.stop])
        found = self.forward.at(layer, units)
        return found._replace(row_N=found.row_N[tokens], id_N=found.id_N[tokens])

    def tokens(self, part: slice) -> TokenBatch:
        """The tokens of these cells, wherever the model is."""
        key = part.start, part.stop
        if key not in self._made:
            self._made.pop((0, len(self.placed)), None)  # never asked for again
            self._made[key] = _batch(
                self.lm, self.placed[part], self.some.ids[part], self.some.assigned[part]
            )
        return self._made[key]


def _batch(
    lm: Language,
    placed: Sequence[PlacedTokens],
    ids: Sequence[list[int]],
    cells: Sequence[CellAssignment],
) -> TokenBatch:
    def here(part: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(part).to(lm.device)

    sizes = [len(one.draw_T) for one in placed]
    half_N = np.repeat([one.half for one in cells], sizes)
    bin_NJ = np.concatenate([one.bin_TJ for one in placed])
    real_N = np.concatenate([one.slot_TJ[:, REAL] for one in placed])
    return TokenBatch(
        bins=ordered(here(bin_NJ)),
        bin_BJ=here(np.stack([one.bin_J for one in placed])),
        slots=ordered(here(_slots(placed, cells))),
        real=ordered(here(real_N[:, None] * 2 + half_N[:, None])),
        draw_N=here(np.concatenate([one.draw_T for one in placed])),
        cell_N=here(np.repeat(np.arange(len(cells)), sizes)),
        half_B=here(np.array([one.half for one in cells])),
        tokens=Tokens(
            here(np.repeat([one.row for one in cells], sizes)),
            here(np.concatenate([np.arange(1, size + 1) for size in sizes])),
            here(np.concatenate([np.array(text[1:], dtype=np.int64) for text in ids])),
            here(real_N),
        ),
        real_bins=ordered(here(bin_NJ[:, ::2].copy())),  # `place_tokens` alternates with nulls
    )
