"""The verdict "gene set", put into an atlas that was judged without gene sets.

A feature is a gene-set feature when a set is significant among its genes and holds the threshold's share of
its mass, and no earlier verdict of the protocol (prompt, gene, family) nor spelling applies. The threshold is
half of the mass, or more where more than 1 % of the live features reach that with the genes' names permuted.
Legend: F features, P permutations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scx_core.atlas.gene_sets.enrich import EnrichConfig, Enrichment, enrich
from scx_core.atlas.gene_sets.rule import set_rule
from scx_core.atlas.gene_sets.sets import GeneSets
from scx_core.atlas.judge.protocol import (
    DEAD,
    HIGHEST,
    MAJORITY,
    NULL_RATE,
    POLYSEMANTIC,
    POSITION,
    SET,
    TYPE,
    Thresholds,
    verdict_shares,
)
from scx_core.atlas.judge.wording import automatic_label
from scx_core.atlas.tables.atlas import Atlas

PERMUTED = "gene names permuted"  # kind of data in the table of shares
LATER = (SET, TYPE, POSITION, POLYSEMANTIC)  # verdicts that a gene set comes before


def with_gene_sets(atlas: Atlas, collection: GeneSets, cfg: EnrichConfig | None = None) -> Atlas:
    """The atlas, and those beside it, with gene sets: `sets`, verdicts, scores, labels and shares.

    The record of what was found also has the field's rule beside random directions (`set_rule`).
    The threshold is chosen on the first one's null, as all others are. A saved atlas is changed on disk.
    Sets of an earlier call are replaced. Raises ScxError where `enrich` does.
    """
    found = enrich(atlas, collection, cfg)
    limits = Thresholds(**atlas.meta["thresholds"])
    live_F = (atlas.features["verdict"] != DEAD).to_numpy()
    limits = limits._replace(gene_set=_threshold(found.null_share_PF[:, live_F]))
    beside = {}
    for name, other in atlas.beside.items():  # raw neurons may prefer no genes: then none has a set
        beside[name] = _judged(other, enrich(other, collection, cfg, must_test=False), limits, {})
    rule = set_rule(atlas, collection).to_dict("records") if len(atlas.table("baselines")) else []
    return _judged(atlas, found, limits, beside, rule)


def _threshold(null_share_PF: np.ndarray) -> float:
    reached = float(np.quantile(null_share_PF, 1 - NULL_RATE))
    return round(max(MAJORITY, min(reached, HIGHEST)), 3)


def _judged(
    atlas: Atlas,
    found: Enrichment,
    limits: Thresholds,
    beside: Mapping[str, Atlas],
    rule: Sequence[Mapping[str, Any]] = (),
) -> Atlas:
    features = judged_features(atlas.features, found, limits)
    null = [_null_shares(atlas.features, share_F, limits) for share_F in found.null_share_PF]
    by_layer = pd.concat(null).groupby("layer", as_index=False)[["share", "features"]].mean()
    by_layer = by_layer.assign(data=PERMUTED, verdict=SET)
    kept = atlas.shares[~atlas.shares["data"].isin(["real", PERMUTED])]
    shares = pd.concat([verdict_shares({"real": features}), kept, by_layer], ignore_index=True)
    record = found.record | {"rule": rule}
    meta: dict[str, Any] = atlas.meta | {"thresholds": limits._asdict(), "gene_sets": record}
    tables = {"features": features, "shares": shares[atlas.shares.columns], "sets": found.table}
    return atlas.with_tables(tables, meta, beside)


def _eligible(features: pd.DataFrame, limits: Thresholds) -> pd.Series:
    return features["verdict"].isin(LATER) & (features["spelling"] < limits.spelling)


def _null_shares(features: pd.DataFrame, share_F: np.ndarray, limits: Thresholds) -> pd.DataFrame:
    """Share of the live features that would be gene-set features with these shares, by layer."""
    said = np.where(_eligible(features, limits) & (share_F >= limits.gene_set), SET, features["verdict"])
    said = np.where((said == SET) & (share_F < limits.gene_set), POLYSEMANTIC, said)
    shares = verdict_shares({PERMUTED: pd.DataFrame({"layer": features["layer"], "verdict": said})})
    return shares[shares["verdict"] == SET]


def judged_features(features: pd.DataFrame, found: Enrichment, limits: Thresholds) -> pd.DataFrame:
    """The table of features with `gene_set`, `set_share` and the verdicts, scores and labels that follow."""
    table = features.copy()
    table["gene_set"], share = found.best["gene_set"].to_numpy(), found.best["set_share"].to_numpy()
    table["set_share"] = share
    table["verdict"] = table["verdict"].astype(str)
    was = (table["verdict"] == SET).to_numpy()
    now = (_eligible(features, limits) & (share >= limits.gene_set)).to_numpy()
    of_type, of_rank = table["type_share"] >= limits.cell_type, table["rank_share"] >= limits.position
    without = np.select([of_type, of_rank], [TYPE, POSITION], POLYSEMANTIC)
    table.loc[was & ~now, "verdict"] = without[was & ~now]
    table.loc[now, "verdict"] = SET
    table["score"] = _scores(table, features["score"].to_numpy(dtype=float))
    for row in np.flatnonzero(was | now):
        words = table.iloc[row].to_dict() | {"pieces": [], "pieces_share": 0.0}
        table.loc[table.index[row], "label"] = automatic_label(pd.Series(words))
    return table.astype({"verdict": "category", "gene_set": "category"})


def _scores(table: pd.DataFrame, score_F: np.ndarray) -> np.ndarray:
    """Scores of the verdicts that a gene set can change; the others stay."""
    figures = ["top5", "family_share", "set_share", "type_share", "rank_share", "spelling"]
    outside = table["prompt"] + table["answer"]
    largest = np.minimum(np.maximum(table[figures].max(axis=1), outside), 1)
    verdict = table["verdict"]
    conditions = [verdict == SET, verdict == TYPE, verdict == POSITION, verdict == POLYSEMANTIC]
    scores = [table["set_share"], table["type_share"], table["rank_share"], 1 - largest]
    return np.select(conditions, scores, score_F)
