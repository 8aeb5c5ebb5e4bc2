"""Stand-ins without features, fitted on training cells: what transcoders have to better.

A linear map of each MLP (least squares), a table of MLP 0 by token with linear maps for the rest, every
feature held at its mean, the affine path alone (method §9). All are fitted in one pass that keeps sums only:
memory grows with the square of the width and with the vocabulary, not with the tokens.
Legend: B cells, T positions, N tokens, d width, V vocabulary, S tokens that were seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from scx_core.cells import CellTable
from scx_core.language import Language, OnTokens, answer_form, captured_mlps, linear, with_answers
from scx_core.language.answer_tree import read_tree
from scx_core.language.hooks import Stand_in
from scx_core.runs import Progress, silent
from scx_core.runs.micro_batch import MicroBatch
from scx_core.transcoders import TranscoderSet
from scx_core.validation.held_out import Texts, TextsOfRows, check_rows

RIDGE = 1e-6  # of the mean variance of the inputs: a norm's output has one direction without any

LINEAR, TOKEN_LINEAR, FEATURES_MEAN, SKIP = "linear", "token_linear", "features_mean", "skip"
BASELINES: Mapping[str, str] = {
    LINEAR: "a linear map of each MLP",
    TOKEN_LINEAR: "a table by token for MLP 0 (linear maps for the rest)",
    FEATURES_MEAN: "every feature held at its mean",
    SKIP: "the affine path alone",
}


class Baseline(NamedTuple):
    """One baseline: its key in `BASELINES`, and what stands in for every MLP."""

    key: str
    stand_ins: dict[int, Stand_in]


@dataclass(frozen=True, eq=False)
class Affine:
    """A stand-in x W.T + b; without W the constant b. `W_dd` [d, d], `b_d` [d]."""

    b_d: torch.Tensor
    W_dd: torch.Tensor | None = None

    def __call__(self, x_BTd: torch.Tensor) -> torch.Tensor:
        """What it writes, [..., d], in the precision of its weights."""
        if self.W_dd is None:
            return self.b_d.to(x_BTd.dtype).expand_as(x_BTd)
        return linear(x_BTd.to(self.W_dd.dtype), self.W_dd, self.b_d)


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The mean output of an MLP by current token; another stand-in where a token was never seen.

    `place_V` is each token's row in `mean_Sd`, or -1. In a parallel block whose embedding knows no positions
    MLP 0 reads nothing but the token, and the table is the MLP itself.
    """

    place_V: torch.Tensor
    mean_Sd: torch.Tensor
    unseen: Stand_in

    def __call__(self, ids_BT: torch.Tensor, x_BTd: torch.Tensor) -> torch.Tensor:
        """What it writes at these tokens, [..., d]."""
        place_BT = self.place_V[ids_BT]
        known_BTd = self.mean_Sd[place_BT.clamp(min=0)]
        if bool((place_BT >= 0).all()):
            return known_BTd
        return torch.where((place_BT >= 0)[..., None], known_BTd, self.unseen(x_BTd).to(known_BTd.dtype))


class LinearSums:
    """Normal equations of one layer's y ≈ x W.T + b, batch by batch: float64, about the first means."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, x_Nd: torch.Tensor, y_Nd: torch.Tensor) -> None:
        """Take in one batch of what the MLP reads and writes, [N, d] each."""
        dtype = torch.promote_types(y_Nd.dtype, torch.float32)
        x_Nd, y_Nd = x_Nd.double(), y_Nd.double()
        if self.count == 0:
            self.dtype = dtype
            self.from_x_d, self.from_y_d = x_Nd.mean(0), y_Nd.mean(0)
            self.x_d, self.y_d = torch.zeros_like(self.from_x_d), torch.zeros_like(self.from_y_d)
            self.xx_dd, self.xy_dd = (
                x_Nd.new_zeros(x_Nd.shape[1], width) for width in (x_Nd.shape[1], y_Nd.shape[1])
            )
        x_Nd, y_Nd = x_Nd - self.from_x_d, y_Nd - self.from_y_d
        self.count += len(x_Nd)
        self.x_d += x_Nd.sum(0)
        self.y_d += y_Nd.sum(0)
        self.xx_dd += x_Nd.T @ x_Nd
        self.xy_dd += x_Nd.T @ y_Nd

    @property
    def mean_x_d(self) -> torch.Tensor:
        """Mean input."""
        return self.from_x_d + self.x_d / self.count

    @property
    def mean_y_d(self) -> torch.Tensor:
        """Mean output."""
        return self.from_y_d + self.y_d / self.count

    def solved(self, ridge: float = RIDGE) -> Affine:
        """The least-squares map, in the model's precision, at least float32; `ridge` is relative to the
        inputs' mean variance."""
        x_d, y_d = self.x_d / self.count, self.y_d / self.count
        cov_dd = self.xx_dd / self.count - torch.outer(x_d, x_d)
        both_dd = self.xy_dd / self.count - torch.outer(x_d, y_d)
        least = max(ridge * float(cov_dd.diagonal().mean()), torch.finfo(torch.float64).tiny)
        eye_dd = torch.eye(len(cov_dd), dtype=cov_dd.dtype, device=cov_dd.device)
        W_dd = torch.linalg.solve(cov_dd + least * eye_dd, both_dd).T
        b_d = self.mean_y_d - W_dd @ self.mean_x_d
        return Affine(b_d.to(self.dtype), W_dd.to(self.dtype))


class TokenSums:
    """Outputs of one MLP by current token, summed; rows are made as tokens come."""

    def __init__(self, vocabulary: int) -> None:
        self.place_V = torch.full((vocabulary,), -1, dtype=torch.int64)
        self.sum_Sd, self.count_S = torch.zeros(0, 0, dtype=torch.float64), torch.zeros(0)
        self.dtype = torch.float32

    def add(self, ids_N: torch.Tensor, y_Nd: torch.Tensor) -> None:
        """Take in one batch: token ids [N] and what the MLP writes there [N, d]."""
        self.place_V = self.place_V.to(ids_N.device)
        self.dtype = torch.promote_types(y_Nd.dtype, torch.float32)
        new = [i for i in ids_N.unique().tolist() if self.place_V[i] < 0]
        seen = len(self.count_S)
        if new:
            self.place_V[torch.tensor(new, device=ids_N.device)] = torch.arange(
                seen, seen + len(new), device=ids_N.device
            )
            more_Sd = torch.zeros(len(new), y_Nd.shape[1], dtype=torch.float64, device=y_Nd.device)
            self.sum_Sd = torch.cat([self.sum_Sd.to(y_Nd.device), more_Sd]) if seen else more_Sd
            self.count_S = torch.cat([self.count_S.to(y_Nd.device), more_Sd[:, 0]])
        place_N = self.place_V[ids_N]
        self.sum_Sd.index_add_(0, place_N, y_Nd.double())
        self.count_S.index_add_(0, place_N, torch.ones_like(place_N, dtype=self.count_S.dtype))

    def table(self, unseen: Stand_in) -> TokenTable:
        """The means; `unseen` answers for tokens that never came."""
        return TokenTable(self.place_V, (self.sum_Sd / self.count_S[:, None]).to(self.dtype), unseen)


def linear_maps(
    lm: Language,
    table: CellTable,
    rows: Sequence[int] | np.ndarray,
    *,
    ridge: float = RIDGE,
    batch: int = 8,
    progress: Progress = silent,
) -> list[Affine]:
    """The least-squares map of every MLP, layer 0 first, fitted on all tokens of the cells `rows`.

    The cells must have labels: each is read with its true answer behind, as in training. Usable as
    `replaced_mlps(lm, dict(enumerate(maps)))`. Raises ScxError without cells, or for one without a label.
    """
    sums = [LinearSums() for _ in range(lm.facts.n_layers)]
    for _, inputs, outputs in read_sides(lm, table, rows, batch, progress):
        for layer, x_Nd, y_Nd in zip(sums, inputs, outputs, strict=True):
            layer.add(x_Nd, y_Nd)
    return [layer.solved(ridge) for layer in sums]


def fit_baselines(
    lm: Language,
    transcoders: TranscoderSet | None,
    table: CellTable,
    rows: Sequence[int] | np.ndarray,
    *,
    ridge: float = RIDGE,
    batch: int = 8,
    progress: Progress = silent,
) -> list[Baseline]:
    """Every baseline of `BASELINES` that there is, fitted on all tokens of the training cells `rows` in one
    pass: without transcoders the first two, the affine path only where the set has one."""
    n = lm.facts.n_layers
    sums, tokens = [LinearSums() for _ in range(n)], TokenSums(lm.unembedding.shape[0])
    guesses = [torch.zeros((), dtype=torch.float64) for _ in range(n)]
    for texts, inputs, outputs in read_sides(lm, table, rows, batch, progress):
        for layer, x_Nd, y_Nd in zip(sums, inputs, outputs, strict=True):
            layer.add(x_Nd, y_Nd)
        tokens.add(texts.ids_BT[texts.real_BT], outputs[0])
        if transcoders is not None:
            for k, (_, guess_Nd) in enumerate(transcoders.coded_by_pairs(inputs, outputs)):
                guesses[k] = guesses[k].to(guess_Nd.device) + guess_Nd.double().sum(0)
    maps: list[Stand_in] = [layer.solved(ridge) for layer in sums]
    found = [
        Baseline(LINEAR, dict(enumerate(maps))),
        Baseline(TOKEN_LINEAR, dict(enumerate([OnTokens(tokens.table(maps[0])), *maps[1:]]))),
    ]
    return found + (_without_features(transcoders, sums, guesses) if transcoders is not None else [])


def _without_features(
    transcoders: TranscoderSet, sums: Sequence[LinearSums], guesses: Sequence[torch.Tensor]
) -> list[Baseline]:
    """The set with its features at their mean, and where it has one its affine path alone. What features
    write on average is the mean of the stand-ins less the mean of the path: decoders are linear."""
    paths = [weights.get("W_skip") for weights in transcoders.tensors()]
    means: dict[int, Stand_in] = {}
    for k, (W_dd, layer, sum_d) in enumerate(zip(paths, sums, guesses, strict=True)):
        mean_d = sum_d / layer.count
        if W_dd is not None:
            mean_d = mean_d - W_dd.double() @ layer.mean_x_d
        means[k] = Affine(mean_d.to(layer.dtype), W_dd)
    found = [Baseline(FEATURES_MEAN, means)]
    if all(W_dd is not None for W_dd in paths):
        alone: dict[int, Stand_in] = {
            k: Affine(weights["b_dec"], weights["W_skip"]) for k, weights in enumerate(transcoders.tensors())
        }
        found.append(Baseline(SKIP, alone))
    return found


class Read(NamedTuple):
    """Texts, and what every MLP reads and writes at their counted positions, [N, d] a layer."""

    texts: Texts
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]


def read_sides(
    lm: Language, table: CellTable, rows: Sequence[int] | np.ndarray, batch: int, progress: Progress
) -> Iterator[Read]:
    """Batches of whole texts of the rows, with progress; smaller ones where the memory does not suffice."""
    rows, done, table = np.asarray(rows, dtype=np.int64), 0, with_answers(lm, table)
    check_rows(table, rows)
    texts_of = TextsOfRows(lm, table, rows, [], answer_form(lm, table).lead)

    def attempt(part: slice) -> Read:
        texts = texts_of.of(rows[part])
        return Read(texts, *mlp_sides(lm, texts))

    for read in MicroBatch().pieces(attempt, len(rows), batch):
        yield read
        done += len(read.texts.cells)
        progress(done, len(rows), "Baselines: training cells")


def mlp_sides(lm: Language, texts: Texts) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What every MLP reads and writes at the counted positions, [N, d] a layer."""
    real_BT = texts.real_BT
    with captured_mlps(lm) as io:
        read_tree(lm, texts.read)
    return [x_BTd[real_BT] for x_BTd in io.inputs], [y_BTd[real_BT] for y_BTd in io.outputs]
