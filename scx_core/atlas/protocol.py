"""The protocol: from a unit's figures to its verdict (docs/features.md says it in words).

Thresholds are chosen on one half of the cells, where each must be met by at most 1 % of the live units under
either null; verdicts and shares are of the other half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas.places import ACTIVATIONS, GENES
from scx_core.validation.streams import LIVE_LOG10

DEAD, PROMPT, GENE, SPELLING, FAMILY = "dead", "prompt", "gene", "spelling", "family"
SET, TYPE, POSITION, POLYSEMANTIC = "gene set", "cell type", "position", "polysemantic"
RARE = "rare"
VERDICTS = (GENE, FAMILY, SET, TYPE, POSITION, SPELLING, PROMPT, POLYSEMANTIC, RARE, DEAD)
# The figure that each verdict rests on, in the order in which they are asked.
FIGURES = {
    PROMPT: "outside",
    GENE: "top5",
    FAMILY: "family_share",
    SET: "set_share",
    TYPE: "type_share",
    POSITION: "rank_share",
    SPELLING: "spelling",
}
# What a null destroys: genes stay with their cells, ranks and classes when their names are shuffled.
TESTS = {
    ACTIVATIONS: (PROMPT, GENE, FAMILY, TYPE, POSITION, SPELLING),
    GENES: (GENE, FAMILY, SPELLING),
}
MAJORITY = 0.5
NULL_RATE = 0.01
HIGHEST = 0.95


class Thresholds(NamedTuple):
    """What each figure must reach. `live`: a feature fires at more than this share of the tokens; `tokens`:
    with fewer in a half it is live, but too rare to be judged. What reaches `spelling` is no gene-level,
    family or gene-set feature.
    """

    live: float = 10.0**LIVE_LOG10
    tokens: int = 20
    prompt: float = MAJORITY
    gene: float = MAJORITY
    family: float = MAJORITY
    gene_set: float = MAJORITY
    cell_type: float = MAJORITY
    position: float = MAJORITY
    spelling: float = MAJORITY

    def of(self, verdict: str) -> float:
        """The threshold of a verdict's figure."""
        return float(getattr(self, _field(verdict)))


def choose_thresholds(nulls: Mapping[int, pd.DataFrame]) -> Thresholds:
    """Half of the mass, or more where more than 1 % of the units reach that under a null that tests it.

    `nulls` are figures of shuffled data (`evidence`, all layers) by `places.DATA` number, of the choosing
    half; dead and rare units are left out. Gene sets are not chosen here: enrichment has its own null.
    """
    limits = Thresholds()
    wanted = dict.fromkeys(FIGURES, MAJORITY)
    for data, tested in TESTS.items():
        table = figures(nulls[data])
        table = table[(table["frequency"] > limits.live) & (table["fired"] >= limits.tokens)]
        for verdict in tested if len(table) else ():
            reached = float(np.quantile(table[FIGURES[verdict]], 1 - NULL_RATE))
            wanted[verdict] = max(wanted[verdict], min(reached, HIGHEST))
    chosen: dict[str, Any] = {_field(verdict): round(value, 3) for verdict, value in wanted.items()}
    return limits._replace(**chosen)


def _field(verdict: str) -> str:
    return verdict.replace(" ", "_")


def figures(found: pd.DataFrame) -> pd.DataFrame:
    """Evidence with the figures that are made of others."""
    more = {"outside": found["prompt"] + found["answer"]}
    if "set_share" not in found:
        more["set_share"] = 0.0
    return found.assign(**more)


def verdicts(found: pd.DataFrame, limits: Thresholds) -> pd.DataFrame:
    """`verdict` and `score` of every row. The score is the share that the verdict rests on (0 to 1); of a
    polysemantic unit what its largest share leaves; 0 of a dead or rare one."""
    table = figures(found)
    met = {verdict: table[figure] >= limits.of(verdict) for verdict, figure in FIGURES.items()}
    for verdict in (GENE, FAMILY, SET):
        met[verdict] = met[verdict] & ~met[SPELLING]
    live = table["frequency"] > limits.live
    rare = table["fired"] < limits.tokens
    conditions = [~live, rare, *met.values()]
    found_verdict = np.select(conditions, [DEAD, RARE, *met], POLYSEMANTIC)
    largest = table[list(FIGURES.values())].max(axis=1)
    nothing = np.zeros(len(table))
    scores = [nothing, nothing, *(table[figure] for figure in FIGURES.values())]
    score = np.select(conditions, scores, 1 - np.minimum(largest, 1))
    return pd.DataFrame({"verdict": found_verdict, "score": score}, index=found.index)


def verdict_shares(by_data: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Shares of the live units by layer and over all (layer −1), for each kind of data; of the dead, the
    share of all units. `by_data` holds tables with layer and verdict."""
    rows = []
    for data, table in by_data.items():
        for layer, part in [(-1, table), *table.groupby("layer")]:
            live = int((part["verdict"] != DEAD).sum())
            for verdict in VERDICTS:
                number = int((part["verdict"] == verdict).sum())
                of = len(part) if verdict == DEAD else live
                rows.append((layer, data, verdict, number / of if of else 0.0, live))
    return pd.DataFrame(rows, columns=["layer", "data", "verdict", "share", "features"])
