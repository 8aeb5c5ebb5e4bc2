"""Baselines that read what the features read: directions drawn at random, the embedding's own directions,
and the current token itself.

Each direction has a threshold at which it fires as often as the feature of its layer and number, on a sample
of the cells: shares compare at equal firing rates.
Legend: L layers, F units, d residual width, n tokens of the sample, N counted tokens of a batch, V token ids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from scx_core.atlas.collect.active import Pairs, pairs_above
from scx_core.atlas.collect.one_pass import CellPlan, Forward, written
from scx_core.atlas.collect.units import MlpAt, UnitReader
from scx_core.cells import CellTable
from scx_core.language import Language, linear

RANDOM, EMBEDDING, ONE_HOT = "random", "embedding", "onehot"
SAMPLE_CELLS = 128
SAMPLE_BYTES = 2**29  # inputs of all MLPs of the sample
TIE = 1e-5  # relative: what rounding leaves between equal activations
MOST_TOKENS = 4096  # units of the one-hot: the commonest tokens of the sample


class Sample(NamedTuple):
    """What the MLPs receive at the counted tokens of some cells, one [n, d] a layer; the tokens' ids [n]; how
    many of them each feature fires at [L, F]."""

    inputs: list[torch.Tensor]
    id_n: torch.Tensor
    fired_LF: torch.Tensor


class DirectionUnits:
    """Directions W_LFd in what the MLPs receive: active above a threshold of each (a JumpReLU)."""

    wants_neurons = False

    def __init__(self, W_LFd: list[torch.Tensor], threshold_LF: list[torch.Tensor]) -> None:
        self.n_units = len(W_LFd[0])
        self.W_LFd, self.threshold_LF = W_LFd, threshold_LF

    def read(self, layer: int, at: MlpAt) -> Pairs:
        """The active directions of every token."""
        x_Nd = at.input_BTd.flatten(0, 1)[at.row_N]
        W_Fd = self.W_LFd[layer]
        return pairs_above(linear(x_Nd.to(W_Fd.dtype), W_Fd), self.threshold_LF[layer])


class TokenUnits:
    """One unit a token id: active with 1 where the token stands. The same in every layer."""

    wants_neurons = False

    def __init__(self, token_F: torch.Tensor, vocabulary: int) -> None:
        self.n_units = len(token_F)
        self._unit_V = torch.full((vocabulary,), -1, dtype=torch.int64, device=token_F.device)
        self._unit_V[token_F] = torch.arange(len(token_F), device=token_F.device)

    def read(self, layer: int, at: MlpAt) -> Pairs:
        """One pair a token."""
        unit_N = self._unit_V[at.id_N]
        token_E = (unit_N >= 0).nonzero()[:, 0]
        ones = torch.ones(len(token_E), dtype=at.input_BTd.dtype, device=token_E.device)
        return Pairs(token_E, unit_N[token_E], ones, len(unit_N), self.n_units)


@torch.no_grad()
def take_sample(
    lm: Language, units: UnitReader, table: CellTable, plan: CellPlan, batch: int, cells: int = SAMPLE_CELLS
) -> Sample:
    """The first cells of the pass's random order, as many as memory allows."""
    parts: list[list[torch.Tensor]] = [[] for _ in range(lm.facts.n_layers)]
    ids: list[torch.Tensor] = []
    fired_LF = torch.zeros(lm.facts.n_layers, units.n_units, dtype=torch.int64, device=lm.device)
    a_token = lm.facts.n_layers * lm.facts.width * 4
    few = plan._replace(cells=plan.cells[:cells])

    def take_in(passed: Forward | None) -> None:
        assert passed is not None  # asked for
        for layer, x_BTd in enumerate(passed.io.inputs):
            found = units.read(layer, passed.at(layer, units))
            assert isinstance(found, Pairs)  # features, not neurons
            fired_LF[layer] += torch.bincount(found.unit_E, minlength=units.n_units)
            parts[layer].append(x_BTd.flatten(0, 1)[passed.row_N].float())
        ids.append(passed.id_N)

    for some in written(lm, table, few, batch, [units]):
        take_in(some.forward)
        del some  # not beside that of the next batch
        if sum(map(len, ids)) * a_token > SAMPLE_BYTES:
            break
    return Sample([torch.cat(one) for one in parts], torch.cat(ids), fired_LF)


def random_directions(sample: Sample, seed: int) -> DirectionUnits:
    """As many directions as features, uniform on the sphere, at the features' firing rates."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for x_nd, fired_F in zip(sample.inputs, sample.fired_LF, strict=True):
        W_Fd = torch.randn(len(fired_F), x_nd.shape[1], generator=generator)
        found.append((W_Fd / W_Fd.norm(dim=1, keepdim=True)).to(x_nd.device))
    return _at_rates(sample, found)


@torch.no_grad()
def embedding_directions(lm: Language, sample: Sample, seed: int) -> DirectionUnits:
    """For each feature the embedding of one token, drawn among those of the sample, through the norm in
    front of the layer's MLP, less the mean over the tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = sample.id_n.unique()
    table_Vd = lm.embedding[ids]
    found = []
    for layer, fired_F in enumerate(sample.fired_LF):
        read_Vd = lm.part(layer, "mlp_norm")(table_Vd).float()
        read_Vd = read_Vd - read_Vd.mean(0)
        times = -(-len(fired_F) // len(ids))
        order = torch.cat([torch.randperm(len(ids), generator=generator) for _ in range(times)])
        W_Fd = read_Vd[order[: len(fired_F)].to(read_Vd.device)]
        found.append(W_Fd / W_Fd.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return _at_rates(sample, found)


def token_units(sample: Sample, vocabulary: int) -> TokenUnits:
    """The commonest tokens of the sample."""
    ids, counts = sample.id_n.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:MOST_TOKENS]
    return TokenUnits(ids[order].sort().values, vocabulary)


def _at_rates(sample: Sample, W_LFd: list[torch.Tensor]) -> DirectionUnits:
    """Thresholds at which each direction fires at as many tokens of the sample as the feature does."""
    found = []
    for x_nd, fired_F, W_Fd in zip(sample.inputs, sample.fired_LF, W_LFd, strict=True):
        pre_Fn = linear(x_nd, W_Fd).T.cpu().numpy()  # as it will be read
        levels = [threshold_at(pre_n, k) for pre_n, k in zip(pre_Fn, fired_F.tolist(), strict=True)]
        found.append(torch.tensor(levels, dtype=torch.float32, device=x_nd.device))
    return DirectionUnits(W_LFd, found)


def threshold_at(pre_n: np.ndarray, k: int) -> float:
    """What `k` values lie above (0 at least: activations are not negative). Where many are equal, as at one
    token in a parallel block's first MLP, as near to k as these allow."""
    at = len(pre_n) - 1 - min(k, len(pre_n) - 1)
    level = float(np.partition(pre_n, at)[at])
    below, above = (level + side * TIE * max(abs(level), 1e-6) for side in (-1, 1))
    with_ties, without = (int((pre_n > limit).sum()) for limit in (below, above))
    # Never the value itself: what reads it again may round the other way.
    return max(0.0, below if k and abs(with_ties - k) < abs(without - k) else above)
