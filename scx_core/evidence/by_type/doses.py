"""Dose: how much of the answer the real model loses with ever more genes taken out of the sentence together.

The first k genes of each ranking, in cells that no ranking was made from; beside them random genes of the
circuit's ranks, the mean of several draws. Log-odds of the answer before less after, in nats.
Legend: C cells, S sets of genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits import Tracer
from scx_core.evidence.knockouts.measured_effects import joint_drops
from scx_core.evidence.rankings.rankers import rank_matched
from scx_core.statistics.resampling import MeanInterval, mean_interval, one_group

SIZES = (1, 2, 4, 7, 10)
RANDOM = "random"


class Dose(NamedTuple):
    """The first `size` genes of a ranking: what is lost without them, mean and in each cell, in the order of
    the rows that were asked."""

    ranking: str
    size: int
    drop: MeanInterval
    by_cell: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        return {
            "ranking": self.ranking,
            "size": self.size,
            **self.drop._asdict(),
            "by_cell": list(self.by_cell),
        }


def doses_of(
    tracer: Tracer,
    answer: str,
    rows: Sequence[int] | np.ndarray,
    rankings: Mapping[str, Sequence[str]],
    places: Mapping[str, float],
    *,
    draws: int = 3,
    seed: int = 0,
) -> list[Dose]:
    """Each ranking's first genes (`SIZES`) out of these cells' sentences. `rankings` holds one called
    circuit, `places` the mean place of every gene, after which random genes are drawn."""
    rows, rng = np.asarray(rows), np.random.default_rng(seed)
    sampling = one_group(len(rows), seed, tracer.donors(rows))
    random = [rank_matched(dict(places), list(rankings["circuit"]), rng) for _ in range(draws)]
    sets = [list(genes[:size]) for genes in (*rankings.values(), *random) for size in SIZES]
    drop_SC = joint_drops(tracer, rows, answer, sets).drop_SC
    by_NKC = drop_SC.reshape(len(rankings) + draws, len(SIZES), len(rows))
    named = dict(zip(rankings, by_NKC, strict=False)) | {RANDOM: by_NKC[len(rankings) :].mean(0)}
    return [
        Dose(name, size, mean_interval(drop_C, sampling), tuple(drop_C.tolist()))
        for name, drop_KC in named.items()
        for size, drop_C in zip(SIZES, drop_KC, strict=True)
    ]
