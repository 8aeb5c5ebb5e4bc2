"""Two transcoder sets read the same cells: how their activations go together, and the genes that each reads.

Activations are compared at tokens where both sets belong to one model; else at genes of cells, each with the
sum over its tokens, because two models may cut them differently. Of tokens, position 0 is left out (an
attention sink in models of the Pythia kind).
Legend: N tokens (or genes of cells) of a batch, A and B features of the two sets, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from scx_core.atlas.collect.token_slots import permuted_within
from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.language import Language, encode_cells, mlp_io
from scx_core.language.hooks import MlpIO
from scx_core.runs import Progress
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import EncodedCell, pad_left
from scx_core.transcoders import TranscoderSet


class Side(NamedTuple):
    """A set and the model that it belongs to."""

    lm: Language
    transcoders: TranscoderSet

    def together(self) -> Side:
        """The set where the model is."""
        return self._replace(transcoders=self.transcoders.to(self.lm.device))


class PairMoments(NamedTuple):
    """Sums over common tokens: Σ z_a z_b [A, B] and Σ z, Σ z² of each side, over `n` of them."""

    cross_AB: np.ndarray
    sum_A: np.ndarray
    sum_B: np.ndarray
    square_A: np.ndarray
    square_B: np.ndarray
    n: int


class Common(NamedTuple):
    """Of one layer: moments of the activations as they are, and with the tokens of the second set permuted
    (twice, for two nulls); how often each side fires; mass by gene [A, G], [B, G]."""

    real: PairMoments
    nulls: tuple[PairMoments, PairMoments]
    fired_A: np.ndarray
    fired_B: np.ndarray
    genes_AG: np.ndarray
    genes_BG: np.ndarray
    tokens_G: np.ndarray


class _CommonSums:
    """Sums of one layer, filled batch by batch."""

    def __init__(self, n_a: int, n_b: int, n_genes: int) -> None:
        self.cross = [np.zeros((n_a, n_b), dtype=np.float32) for _ in range(3)]
        self.sides = [[np.zeros(n) for _ in range(3)] for n in (n_a, n_b)]  # Σ z, Σ z², tokens where z ≠ 0
        self.genes = [np.zeros((n, n_genes), dtype=np.float32) for n in (n_a, n_b)]
        self.tokens_G = np.zeros(n_genes)
        self.n = 0

    def add(
        self,
        sides: tuple[sp.csr_matrix, sp.csr_matrix],
        orders: Sequence[np.ndarray],
        gene_GN: sp.csr_matrix,
    ) -> None:
        """Take in a batch: activations of both sides at the same tokens."""
        a_NA, b_NB = sides
        for cross, order in zip(self.cross, (None, *orders), strict=True):
            cross += (a_NA.T @ (b_NB if order is None else b_NB[order])).toarray()
        for sums, genes, z in zip(self.sides, self.genes, sides, strict=True):
            sums[0] += np.asarray(z.sum(0)).ravel()
            sums[1] += np.asarray(z.multiply(z).sum(0)).ravel()
            sums[2] += np.bincount(z.indices, minlength=z.shape[1])
            genes += (gene_GN @ z).toarray().T
        self.tokens_G += np.asarray(gene_GN.sum(1)).ravel()
        self.n += a_NA.shape[0]

    def result(self) -> Common:
        """What was summed up."""
        (sum_A, square_A, fired_A), (sum_B, square_B, fired_B) = self.sides
        real, *nulls = (PairMoments(one, sum_A, sum_B, square_A, square_B, self.n) for one in self.cross)
        return Common(
            real, (nulls[0], nulls[1]), fired_A, fired_B, self.genes[0], self.genes[1], self.tokens_G
        )


class _Batch(NamedTuple):
    """One batch read: both sides' activations of each layer, the class of every place, genes by place."""

    sides: list[tuple[sp.csr_matrix, sp.csr_matrix]]
    kind_N: np.ndarray
    gene_GN: sp.csr_matrix
    n_cells: int


@torch.no_grad()
def read_common(
    first: Side,
    second: Side,
    table: CellTable,
    rows: np.ndarray,
    layers: Sequence[int],
    *,
    batch: int,
    seed: int,
    progress: Progress,
) -> list[Common]:
    """Go over the cells once for some layers. Raises ScxError when two models rank genes differently."""
    rng = np.random.default_rng(seed)
    n_a, n_b = first.transcoders.n_features, second.transcoders.n_features
    by_token = first.lm.fingerprint == second.lm.fingerprint
    sums = [_CommonSums(n_a, n_b, table.n_genes) for _ in layers]
    number = {str(gene): place for place, gene in enumerate(table.symbols)}
    done = 0

    def attempt(part: slice) -> _Batch:
        written = [encode_cells(side.lm, table, rows[part]) for side in (first, second)]
        if not by_token:
            written = _same_genes(*written)
        io_a = mlp_streams(first.lm, written[0])
        io_b = io_a if by_token else mlp_streams(second.lm, written[1])
        sides = [
            (
                activations(first, io_a, layer, written[0], by_token),
                activations(second, io_b, layer, written[1], by_token),
            )
            for layer in layers
        ]
        return _Batch(sides, *classes_and_genes(written[0], number, by_token), len(written[0]))

    for sides, kinds, gene_GN, n_cells in MicroBatch().pieces(attempt, len(rows), batch):
        orders = [permuted_within(kinds, rng) for _ in range(2)]
        for one, z_of_sides in zip(sums, sides, strict=True):
            one.add(z_of_sides, orders, gene_GN)
        done += n_cells
        progress(done, len(rows), "Cells")
    return [one.result() for one in sums]


def _same_genes(a: Sequence[EncodedCell], b: Sequence[EncodedCell]) -> list[list[EncodedCell]]:
    """Both sides' cells with the spans of the genes that both read: one may read fewer than the other, and a
    name that is too long for one may fit into the other's context."""
    cut: list[list[EncodedCell]] = [[], []]
    for one, other in zip(a, b, strict=True):
        both = {*one.genes} & {*other.genes}
        kept = [tuple(span for span in cell.spans if span.gene in both) for cell in (one, other)]
        if [span.gene for span in kept[0]] != [span.gene for span in kept[1]]:
            raise ScxError(
                "The two models write a cell's genes in different orders.",
                "Give both models the same tie seed in their sentence settings.",
            )
        for cells, cell, spans in zip(cut, (one, other), kept, strict=True):
            cells.append(cell._replace(spans=spans))
    return cut


def mlp_streams(lm: Language, cells: Sequence[EncodedCell]) -> MlpIO:
    """One forward pass over a batch of cells: inputs and outputs of the MLPs at its tokens, without padding,
    [tokens, d] a layer."""
    padded = pad_left([list(cell.ids) for cell in cells], lm.pad_id)
    ids_BT, mask_BT = (torch.from_numpy(part).to(lm.device) for part in padded)
    io, at_N = mlp_io(lm, ids_BT, mask_BT), mask_BT.flatten().nonzero()[:, 0]
    inputs, outputs = ([x.flatten(0, 1)[at_N] for x in side] for side in (io.inputs, io.outputs))
    return MlpIO(inputs, outputs, None)


def activations(
    side: Side, io: MlpIO, layer: int, cells: Sequence[EncodedCell], by_token: bool = True
) -> sp.csr_matrix:
    """Activations at the counted tokens of a batch, or summed over each cell's genes, float64 [N, F]."""
    coder, reads = side.transcoders.layers[layer], side.transcoders.reads
    z_TF = coder.encode((io.inputs if reads == "input" else io.outputs)[layer])
    token, feature = z_TF.nonzero(as_tuple=True)
    values = z_TF[token, feature].double().cpu().numpy()
    z = sp.csr_matrix((values, (token.cpu().numpy(), feature.cpu().numpy())), tuple(z_TF.shape))
    return z[counted(cells)] if by_token else _spans(cells) @ z


def counted(cells: Sequence[EncodedCell]) -> np.ndarray:
    """Tokens that count among all of a batch: all but the first of each cell."""
    sizes = [len(cell.ids) for cell in cells]
    return np.delete(np.arange(sum(sizes)), np.cumsum([0, *sizes[:-1]]))


def _spans(cells: Sequence[EncodedCell]) -> sp.csr_matrix:
    """Sums tokens to genes of cells [genes of all cells, tokens]."""
    starts = np.cumsum([0, *(len(cell.ids) for cell in cells)])
    pairs = [
        (start + span.start, start + span.end)
        for cell, start in zip(cells, starts, strict=False)
        for span in cell.spans
    ]
    rows = np.repeat(np.arange(len(pairs)), [end - start for start, end in pairs])
    columns = np.concatenate([np.arange(start, end) for start, end in pairs])
    return sp.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(pairs), int(starts[-1])))


def classes_and_genes(
    cells: Sequence[EncodedCell], number: dict[str, int], by_token: bool
) -> tuple[np.ndarray, sp.csr_matrix]:
    """The class of every place [N], and which gene it is of [G, N] (0/1)."""
    parts = [np.full(len(cell.ids), -1) for cell in cells]
    for genes, cell in zip(parts, cells, strict=True):
        for span in cell.spans:
            genes[span.start : span.end] = number[span.gene]
    if by_token:
        gene_N = np.concatenate(parts)[counted(cells)]
        kinds = np.concatenate([cell.class_T for cell in cells])[counted(cells)]
    else:
        gene_N = np.array([number[span.gene] for cell in cells for span in cell.spans])
        kinds = np.zeros(len(gene_N), dtype=np.int64)
    at = np.flatnonzero(gene_N >= 0)
    return kinds, sp.csr_matrix((np.ones(len(at)), (gene_N[at], at)), (len(number), len(gene_N)))
