"""Which features read other genes than the one they stand at: genes of the sentence are exchanged, and the
activations at the tokens that stayed are compared with what they were.

Each gene that is exchanged is replaced by a gene that is not in the cell, spelled in as many tokens, so
that every other token keeps its position. Three designs, each in copies of the same cells:
- others exchanged: the genes are drawn into `GROUPS` groups, each copy keeps one of them. What a feature
  loses at the genes that stayed is its context share;
- own exchanged: copies that keep four fifths of the genes; what is lost at those that went is the own share;
- one by one: copies in which every gene stays or goes by the toss of a coin. The activation at later tokens
  with a gene kept, less that with it gone, is the gene's effect: all genes are tested by the same copies.
Genes are chosen on half of the panel's cells; effect, interval and null (the other genes' effects) are of the
other half.
Legend: C cells, V copies, T positions, K genes of a cell, F units, G genes of the panel, E active pairs,
D chosen genes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from scx_core.atlas.collect.active import Pairs
from scx_core.atlas.collect.one_pass import CellPlan, written
from scx_core.atlas.collect.units import MlpAt, UnitReader, neurons_wanted
from scx_core.cells import CellTable
from scx_core.language import Language, captured_neurons, mlp_io
from scx_core.language.hooks import MlpIO
from scx_core.runs import Progress, silent
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import EncodedCell

GROUPS, OWN_COPIES, COIN_COPIES = 5, 2, 6
CHOSEN = 3  # genes of a feature that are chosen on one half and measured on the other
LEAST = 20  # active tokens that a share rests on
DRAWS = 200  # bootstrap over cells
NULL = 0.975  # quantile of the other genes' effects that a named gene must exceed
OTHERS, FEWEST_OTHERS = 20, 5  # genes that were not chosen, for a null
SMALLEST, FEWEST = 0.1, 3  # effect of a gene that is named, and cells that have it
# Of all layers and sources whose genes are named; each gene and unit has so many float32 numbers.
NAMED_BYTES, NAMED_NUMBERS = 2**31, 4
GroupOfTokens = Mapping[int, list[tuple[str, tuple[int, ...]]]]


class Copies(NamedTuple):
    """One cell: token ids of the copies [V, T], the first as it was; which genes each keeps [V, K]; the gene
    of each token [T] (K: none) and the last gene that began at or before it [T] (−1: none)."""

    ids_VT: np.ndarray
    kept_VK: np.ndarray
    gene_T: np.ndarray
    slot_T: np.ndarray
    genes: list[str]


class Fired(NamedTuple):
    """The pairs that are active in the cell as it was: token and unit, activation, and that of every copy
    at the same place [V, E]."""

    token_E: np.ndarray
    unit_E: np.ndarray
    value_E: np.ndarray
    copies_VE: np.ndarray


def _read(
    lm: Language, ids_VT: torch.Tensor, neurons: int, micro: MicroBatch
) -> tuple[MlpIO, list[torch.Tensor]]:
    """What the MLPs read and write in the copies of a cell, and so many of their neurons in the first copies,
    which are all that a source that reads them is asked for."""

    def attempt(part: slice) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        with ExitStack() as stack:
            texts = max(0, 1 + GROUPS - part.start)
            found = stack.enter_context(captured_neurons(lm, neurons, texts)) if neurons else []
            io = mlp_io(lm, ids_VT[part], torch.ones_like(ids_VT[part]))
        return io.inputs, io.outputs, list(found)

    parts = list(micro.pieces(attempt, len(ids_VT), len(ids_VT)))
    inputs, outputs, found = parts[0]
    if len(parts) > 1:
        inputs, outputs, found = (
            [torch.cat(of_layer) for of_layer in zip(*side, strict=True)] for side in zip(*parts, strict=True)
        )
    return MlpIO(inputs, outputs, None), found


@torch.no_grad()
def measure_context(
    lm: Language,
    sources: Mapping[str, UnitReader],
    table: CellTable,
    plan: CellPlan,
    n_cells: int,
    seed: int,
    *,
    named: Collection[str] = (),
    progress: Progress = silent,
) -> dict[str, pd.DataFrame]:
    """Of every source one row a unit, layer after layer: context_share, context_low, context_high (95 %,
    bootstrap over cells), context_tokens (active tokens it rests on), own_share; of those in `named` also
    context_genes (names), context_effect, effect_low, effect_high, effect_null and effect_cells of the first
    of them. Shares that rest on fewer than `LEAST` tokens are 0, with nan as limits."""
    held = [one for one in plan.cells if one.half == 1][:n_cells]
    panel = plan._replace(cells=tuple(held))
    cells = [
        (cell, answer)
        for some in written(lm, table, panel, 8)
        for cell, answer in zip(some.cells, some.answers, strict=True)
    ]
    pool = gene_pool([cell for cell, _ in cells])
    n_layers = lm.facts.n_layers
    held_units = n_layers * sum(units.n_units for name, units in sources.items() if name in named)
    genes = panel_genes([cell for cell, _ in cells], NAMED_BYTES // (NAMED_NUMBERS * 4 * max(1, held_units)))
    number = {gene: place for place, gene in enumerate(genes)}
    rng = np.random.default_rng(seed)
    sums = {
        name: [_ContextSums(units.n_units, len(cells), len(genes), name in named) for _ in range(n_layers)]
        for name, units in sources.items()
    }
    wanted = neurons_wanted(sources.values())
    micro, some_units = MicroBatch(units="copies of a cell"), MicroBatch(units="neurons of a cell's copies")

    def take_in(c: int, cell: EncodedCell, answer: Sequence[int]) -> None:
        # What the MLPs read and wrote ends with this function: 1.6 GB at 24 layers of width 1,024.
        copies = make_copies(cell, answer, pool, rng)
        ids_VT = torch.from_numpy(copies.ids_VT).to(lm.device)
        io, neurons = _read(lm, ids_VT, wanted, micro)
        where = np.array([number.get(gene, -1) for gene in copies.genes], dtype=np.int64)
        for name, units in sources.items():
            many = len(ids_VT) if name in named else 1 + GROUPS
            for layer, one in enumerate(sums[name]):
                if units.wants_neurons:
                    one.add_dense(c, neurons[layer][:many], copies, some_units)
                    continue
                x_VTd, y_VTd = io.inputs[layer][:many], io.outputs[layer][:many]
                one.add(c, _fired(units, layer, x_VTd, y_VTd, ids_VT, micro), copies, where)

    for c, (cell, answer) in enumerate(cells):
        if c == (len(cells) + 1) // 2:
            for layers in sums.values():
                for one in layers:
                    one.choose()
        take_in(c, cell, answer)
        progress(c + 1, len(cells), "Genes exchanged")
    return {
        name: pd.concat([one.rows(genes, seed) for one in layers], ignore_index=True)
        for name, layers in sums.items()
    }


def panel_genes(cells: Sequence[EncodedCell], most: int) -> list[str]:
    """The genes whose effects are measured: those of the cells, sorted; where they are more than there is
    memory for, those that the most cells have."""
    times = Counter(gene for cell in cells for gene in set(cell.genes))
    return sorted(sorted(times, key=lambda gene: (-times[gene], gene))[:most])


def gene_pool(cells: Sequence[EncodedCell]) -> GroupOfTokens:
    """Genes by the number of their tokens, with the tokens; each gene once, by name."""
    found: dict[str, tuple[int, ...]] = {}
    for cell in cells:
        for span in cell.spans:
            if span.end > span.start:
                found.setdefault(span.gene, cell.ids[span.start : span.end])
    by_length: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for gene in sorted(found):
        by_length.setdefault(len(found[gene]), []).append((gene, found[gene]))
    return by_length


def make_copies(
    cell: EncodedCell, answer: Sequence[int], pool: GroupOfTokens, rng: np.random.Generator
) -> Copies:
    """The copies of one cell. A gene stays where no other is spelled in as many tokens."""
    spans = [span for span in cell.spans if span.end > span.start]
    ids_T = np.array([*cell.ids, *answer], dtype=np.int64)
    K, n = len(spans), 1 + GROUPS + OWN_COPIES + COIN_COPIES
    kept_VK = np.ones((n, K), dtype=bool)
    group_K = rng.permutation(np.arange(K) % GROUPS)
    kept_VK[1 : 1 + GROUPS] = group_K == np.arange(GROUPS)[:, None]
    own = slice(1 + GROUPS, 1 + GROUPS + OWN_COPIES)
    kept_VK[own] = group_K != rng.permutation(GROUPS)[:OWN_COPIES, None]
    kept_VK[own.stop :] = rng.random((COIN_COPIES, K)) < 0.5
    own_genes = {span.gene for span in spans}
    others = {length: [one for one in genes if one[0] not in own_genes] for length, genes in pool.items()}
    ids_VT = np.tile(ids_T, (n, 1))
    gene_T, slot_T = np.full(len(ids_T), K), np.full(len(ids_T), -1)
    for k, span in enumerate(spans):
        gene_T[span.start : span.end] = k
        slot_T[span.start :] = k
        choices = others.get(span.end - span.start, [])
        if not choices:
            kept_VK[:, k] = True
            continue
        for v in np.flatnonzero(~kept_VK[:, k]):
            ids_VT[v, span.start : span.end] = choices[rng.integers(len(choices))][1]
    return Copies(ids_VT, kept_VK, gene_T, slot_T, [span.gene for span in spans])


def _fired(
    units: UnitReader,
    layer: int,
    x_VTd: torch.Tensor,
    y_VTd: torch.Tensor,
    ids_VT: torch.Tensor,
    micro: MicroBatch,
) -> Fired:
    n, T = x_VTd.shape[:2]

    def attempt(part: slice) -> tuple[np.ndarray, ...]:
        x, y, ids = x_VTd[part], y_VTd[part], ids_VT[:n, 1:][part]
        row_N = torch.arange(len(x) * T, device=x.device).view(len(x), T)[:, 1:].flatten()
        active = units.read(layer, MlpAt(x, y, None, row_N, ids.flatten()))
        assert isinstance(active, Pairs)  # neurons go another way
        token_E = active.token_E + part.start * (T - 1)
        return tuple(one.cpu().numpy() for one in (token_E, active.unit_E, active.value_E.double()))

    parts = zip(*micro.pieces(attempt, n, n), strict=True)
    token, unit, value = (np.concatenate(part) for part in parts)
    copy, key = token // (T - 1), (token % (T - 1) + 1) * units.n_units + unit
    first = copy == 0
    key_E, value_E = key[first], value[first]
    copies_VE = np.zeros((n, len(key_E)))
    copies_VE[0] = value_E
    if len(key_E):
        place = np.minimum(np.searchsorted(key_E, key), len(key_E) - 1)
        there = (key_E[place] == key) & ~first
        copies_VE[copy[there], place[there]] = value[there]
    return Fired(key_E // units.n_units, key_E % units.n_units, value_E, copies_VE)


class _ContextSums:
    """Sums of one layer of one source."""

    def __init__(self, n_units: int, n_cells: int, n_genes: int, named: bool) -> None:
        self.n_units, self.n_cells = n_units, n_cells
        self.before_CF, self.after_CF = np.zeros((2, n_cells, n_units))
        self.tokens_F = np.zeros(n_units, dtype=np.int64)
        self.own_2F = np.zeros((2, n_units))
        self.named = named and n_genes > 0
        # Activation in the copies and as it was, with the gene kept and with it gone: of the first half of
        # the cells until genes are chosen, then of the second.
        shape = (4, n_genes, n_units) if self.named else (4, 0, 0)
        self.half_4GF = np.zeros(shape, dtype=np.float32)
        self.chosen_DF: np.ndarray | None = None
        self.chosen_4CDF = np.zeros((4, n_cells, CHOSEN, n_units if self.named else 0), dtype=np.float32)

    def add(self, c: int, fired: Fired, copies: Copies, where: np.ndarray) -> None:
        """Take in one cell; `where` are its genes' numbers in the panel, −1 of those that are not in it."""
        n, F, K = len(fired.copies_VE), self.n_units, len(copies.genes)
        gene_E = copies.gene_T[fired.token_E]
        kept_VE = np.concatenate([copies.kept_VK, np.ones((len(copies.kept_VK), 1), dtype=bool)], 1)[
            :n, gene_E
        ]
        groups, own = slice(1, 1 + GROUPS), slice(1 + GROUPS, 1 + GROUPS + OWN_COPIES)
        kept_times_E = kept_VE[groups].sum(0)
        self.before_CF[c] = np.bincount(fired.unit_E, fired.value_E * kept_times_E, F)
        after_E = (fired.copies_VE[groups] * kept_VE[groups]).sum(0)
        self.after_CF[c] = np.bincount(fired.unit_E, after_E, F)
        self.tokens_F += np.bincount(fired.unit_E[kept_times_E > 0], minlength=F)
        if not self.named:
            return
        gone_VE = ~kept_VE[own]
        self.own_2F[0] += np.bincount(fired.unit_E, fired.value_E * gone_VE.sum(0), F)
        self.own_2F[1] += np.bincount(fired.unit_E, (fired.copies_VE[own] * gone_VE).sum(0), F)
        later_4KF = self._later(fired, copies, kept_VE, K)
        there_K = where >= 0
        self.half_4GF[:, where[there_K]] += later_4KF[:, there_K]  # a gene stands once in a cell
        if self.chosen_DF is not None:
            slot_of = np.full(self.half_4GF.shape[1], -1)
            slot_of[where[there_K]] = np.flatnonzero(there_K)
            slot_DF = slot_of[self.chosen_DF]
            units = np.arange(F)
            self.chosen_4CDF[:, c] = np.where(slot_DF >= 0, later_4KF[:, np.maximum(slot_DF, 0), units], 0)

    def add_dense(self, c: int, z_VTF: torch.Tensor, copies: Copies, micro: MicroBatch) -> None:
        """Take in one cell's units that are active nearly everywhere, as a matrix: their positive part."""
        kept_VK = np.concatenate([copies.kept_VK, np.ones((len(copies.kept_VK), 1), dtype=bool)], 1)
        kept_VT = torch.from_numpy(kept_VK[1 : 1 + GROUPS, copies.gene_T[1:]]).to(z_VTF.device).double()

        def attempt(units: slice) -> tuple[slice, list[np.ndarray]]:
            positive_VTF = z_VTF[:, 1:, units].relu().double()
            first_TF, times_T = positive_VTF[0], kept_VT.sum(0)
            before_F = (first_TF * times_T[:, None]).sum(0)
            there_VTF = positive_VTF[1 : 1 + GROUPS] * (first_TF > 0)
            after_F = torch.einsum("vtf,vt->f", there_VTF, kept_VT)
            tokens_F = ((first_TF > 0) & (times_T > 0)[:, None]).sum(0)
            return units, [part.cpu().numpy() for part in (before_F, after_F, tokens_F)]

        for units, (before_F, after_F, tokens_F) in micro.pieces(attempt, self.n_units, self.n_units):
            self.before_CF[c, units], self.after_CF[c, units] = before_F, after_F
            self.tokens_F[units] += tokens_F

    def _later(self, fired: Fired, copies: Copies, kept_VE: np.ndarray, K: int) -> np.ndarray:
        """For each gene the activation at kept tokens of later genes and words: in the copies that keep the
        gene and as it was there, then of those in which it is gone, [4, K, F]."""
        F, start = self.n_units, 1 + GROUPS + OWN_COPIES
        slot_E = copies.slot_T[fired.token_E] + 1  # 0: in front of all genes; of words behind a gene: its own
        slot_E = np.where(copies.gene_T[fired.token_E] == K, np.maximum(slot_E, 0), slot_E)
        key_E = slot_E * F + fired.unit_E
        found = np.zeros((4, K, F), dtype=np.float32)
        for v in range(start, start + COIN_COPIES):
            for part, value_E in enumerate((fired.copies_VE[v], fired.value_E)):
                slots_KF = np.bincount(key_E, value_E * kept_VE[v], (K + 1) * F).reshape(K + 1, F)
                later_KF = slots_KF[::-1].cumsum(0)[::-1][1:] - slots_KF[1:]
                kept_K = copies.kept_VK[v][:, None]
                found[part] += later_KF * kept_K
                found[2 + part] += later_KF * ~kept_K
        return found

    def choose(self) -> None:
        """The genes whose effect on the first half of the cells is the clearest."""
        if not self.named:
            return
        effect_GF, weight_GF = _effects(self.half_4GF)
        clear_GF = np.where(weight_GF > 0, effect_GF * np.sqrt(weight_GF), -np.inf)
        self.chosen_DF = np.argsort(-clear_GF, axis=0, kind="stable")[:CHOSEN].copy()  # not a view of all
        self.half_4GF[:] = 0
        if len(self.chosen_DF) < CHOSEN:  # a panel of fewer genes
            self.chosen_DF = np.resize(self.chosen_DF, (CHOSEN, self.n_units))

    def rows(self, genes: Sequence[str], seed: int) -> pd.DataFrame:
        """One row a unit."""
        rng = np.random.default_rng(seed)
        draws_BC = rng.multinomial(self.n_cells, np.full(self.n_cells, 1 / self.n_cells), DRAWS)
        enough_F = self.tokens_F >= LEAST
        share_F = _lost(self.before_CF.sum(0), self.after_CF.sum(0))
        drawn_BF = _lost(draws_BC @ self.before_CF, draws_BC @ self.after_CF)
        low_F, high_F = np.quantile(drawn_BF, (0.025, 0.975), axis=0)
        found = {
            "context_share": np.where(enough_F, np.clip(share_F, 0, 1), 0.0),
            "context_low": np.where(enough_F, low_F, np.nan),
            "context_high": np.where(enough_F, high_F, np.nan),
            "context_tokens": self.tokens_F,
        }
        if not self.named or self.chosen_DF is None:
            return pd.DataFrame(found)
        found["own_share"] = np.where(enough_F, np.clip(_lost(*self.own_2F), 0, 1), 0.0)
        return pd.DataFrame(found | self._genes(genes, draws_BC))

    def _genes(self, genes: Sequence[str], draws_BC: np.ndarray) -> dict[str, np.ndarray | list[str]]:
        """Chosen genes with their effects on the other half of the cells, those that stand out by name."""
        assert self.chosen_DF is not None
        null_F = self._null()
        effect_DF, _ = _effects(self.chosen_4CDF.sum(1))
        drawn = [_effects(np.einsum("c,icdf->idf", draw_C, self.chosen_4CDF))[0] for draw_C in draws_BC]
        low_DF, high_DF = np.quantile(np.stack(drawn), (0.025, 0.975), axis=0)
        cells_DF = (self.chosen_4CDF[[1, 3]].sum(0) > 0).sum(0)
        clear_DF = (low_DF > 0) & (effect_DF > null_F) & (effect_DF >= SMALLEST) & (cells_DF >= FEWEST)
        names, units = np.array(genes, dtype=object), np.arange(self.n_units)
        first_F = np.where(clear_DF.any(0), clear_DF.argmax(0), 0)
        return {
            "context_genes": [
                " ".join(dict.fromkeys(names[self.chosen_DF[clear_DF[:, f], f]])) for f in range(self.n_units)
            ],
            "context_effect": effect_DF[first_F, units],
            "effect_low": low_DF[first_F, units],
            "effect_high": high_DF[first_F, units],
            "effect_null": null_F,
            "effect_cells": cells_DF[first_F, units],
        }

    def _null(self) -> np.ndarray:
        """What the effects of genes that were not chosen seldom exceed, [F]: of the `OTHERS` of each feature
        that are measured best; nan where there are fewer than five."""
        assert self.chosen_DF is not None
        other_GF, weight_GF = _effects(self.half_4GF)
        np.put_along_axis(weight_GF, self.chosen_DF, 0, 0)
        best_OF = np.argsort(-weight_GF, axis=0, kind="stable")[:OTHERS]
        there_OF = np.take_along_axis(weight_GF, best_OF, 0) > 0
        null_OF = np.where(there_OF, np.take_along_axis(other_GF, best_OF, 0), np.nan)
        found_F = np.full(self.n_units, np.nan)
        some_F = there_OF.sum(0) >= FEWEST_OTHERS
        found_F[some_F] = np.nanquantile(null_OF[:, some_F], NULL, axis=0)
        return found_F


def _lost(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return 1 - after / np.where(before > 0, before, 1) - (before <= 0)


def _effects(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the activation that is left with a gene kept, less that with it gone; and the weight that this
    rests on. The first axis is that of `_ContextSums._later`."""
    with_it, was_with, without, was_without = sums
    both = (was_with > 0) & (was_without > 0)
    a, b = np.where(both, was_with, 1), np.where(both, was_without, 1)
    return np.where(both, with_it / a - without / b, 0.0), np.where(both, a * b / (a + b), 0.0)
