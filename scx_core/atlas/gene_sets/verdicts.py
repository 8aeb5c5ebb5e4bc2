"""The verdict "gene set", put into an atlas that was judged without gene sets.

A feature is a gene-set feature when a set is significant among its genes and holds the threshold's share of
its mass, and no earlier verdict of the protocol (prompt, gene, family) nor spelling applies. The threshold is
half of the mass, or more where more than 1 % of the live features reach that with the genes' names permuted.
Legend: F features, P permutations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scx_core.atlas.gene_sets.enrich import (
    EnrichConfig,
    Enrichment,
    benjamini_hochberg,
    enrich,
    overlaps,
)
from scx_core.atlas.gene_sets.sets import GeneSets
from scx_core.atlas.gene_sets.shared_genes import FitConfig, fit_sets, indicator
from scx_core.atlas.judge.excess import interval, is_random
from scx_core.atlas.judge.protocol import (
    CONTEXT,
    DEAD,
    HIGHEST,
    MAJORITY,
    NULL_RATE,
    POLYSEMANTIC,
    POSITION,
    RARE,
    SET,
    TYPE,
    Thresholds,
    automatic_label,
    verdict_shares,
)
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError
from scx_core.runs import option
from scx_core.runs.options import check

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


BEYOND = 0.9  # of the variance: what the token explains less of is more than a token
NAMES_PERMUTED, IN_BINS = "names permuted", "names permuted among genes as frequent"


@dataclass(frozen=True)
class RuleConfig:
    """The rule and its nulls."""

    genes: int = option(10, "Strongest genes of a feature", minimum=3, maximum=50)
    shared: int = option(3, "Of them in one set", minimum=1)
    largest: int = option(200, "Genes of a set at most", minimum=3)
    fdr: float = option(0.05, "Benjamini-Hochberg over all tests", minimum=1e-12, maximum=1.0)
    permutations: int = option(20, "Permutations for each null of names", minimum=2, maximum=1000)
    bins: int = option(10, "Bins of genes by how often they stand in sentences", minimum=1)
    seed: int = option(0, "Seed of the permutations", minimum=0)

    def __post_init__(self) -> None:
        check(self)


def set_rule(atlas: Atlas, collection: GeneSets, cfg: RuleConfig | None = None) -> pd.DataFrame:
    """One row a group of features and rival: of, features (n), share, rival, rival_share, rival_low,
    rival_high (lowest and highest draw or permutation), draws, excess, low, high (95 %, Welch).

    Groups: all live features, those of later layers, those that are more than a token, those that read other
    genes, and all against sets of at most 50 genes. Rivals are cut to the same group. Empty where no set of
    at most `cfg.largest` genes has any in the data. Raises ScxError for an atlas without random directions.
    """
    cfg = cfg or RuleConfig()
    own = _units(atlas)
    others = atlas.table("baselines")
    if not len(others):
        raise ScxError("This atlas was made without random directions.", "Make it anew with `scx atlas`.")
    sources = {str(name): part for name, part in others.groupby("source", observed=True, sort=False)}
    slots = atlas.table("slots")
    tokens = slots[slots["gene"] != ""].groupby("gene", observed=True)["tokens"].sum()
    genes = tokens.index.astype(str).tolist()
    rng = np.random.default_rng(cfg.seed)
    shuffles = {
        NAMES_PERMUTED: [rng.permutation(len(genes)) for _ in range(cfg.permutations)],
        IN_BINS: [_within_bins(tokens.to_numpy(), cfg.bins, rng) for _ in range(cfg.permutations)],
    }
    found = []
    for largest in (cfg.largest, 50):
        small = [one for one in collection.sets if len(one.genes) <= largest]
        if not small:
            continue
        fit = FitConfig(smallest=1, largest=largest, other_species=True)  # the caller has checked the species
        try:
            member_SG = fit_sets(replace(collection, sets=tuple(small)), genes, fit).member_SG
        except ScxError:  # no set of so few genes has any in this data
            continue
        for of, rows in _groups(own, whole=largest == cfg.largest, small=50):
            real, n = _rule_share(rows["genes"], genes, member_SG, cfg)
            rivals = _rivals(of, sources, rows, genes, member_SG, shuffles, cfg)
            for rival, drawn in rivals.items():
                shares = [share for share, _ in drawn]
                held = interval(real, n, shares, [size for _, size in drawn])
                columns = {"of": of, "features": n, "share": real, "rival": rival}
                limits = {"rival_low": min(shares), "rival_high": max(shares), "draws": len(shares)}
                found.append(columns | {"rival_share": float(np.mean(shares))} | limits | held._asdict())
    return pd.DataFrame(found)


def _units(atlas: Atlas) -> pd.DataFrame:
    """The features with their ten strongest genes."""
    leading = atlas.table("genes").groupby(["layer", "feature"], sort=False).head(10)
    key = [leading["layer"], leading["feature"]]
    joined = leading["gene"].astype(str).groupby(key).agg(" ".join)
    return atlas.features.drop(columns="genes").join(joined.rename("genes"), on=["layer", "feature"])


def _live(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.assign(verdict=rows["verdict"].astype(str))
    return rows[~rows["verdict"].isin([DEAD, RARE])]


def _groups(own: pd.DataFrame, whole: bool, small: int) -> Iterator[tuple[str, pd.DataFrame]]:
    if not whole:
        yield f"all, sets of at most {small} genes", _live(own)
        return
    for name in ("all", "layers behind the first", "more than a token", "reads other genes"):
        rows = _cut(name, _live(own))
        if len(rows):
            yield name, rows


def _cut(name: str, live: pd.DataFrame) -> pd.DataFrame:
    if name == "layers behind the first":
        return live[live["layer"] > 0]
    if name == "more than a token":
        return live[live["token_share"] < BEYOND]
    if name == "reads other genes":
        return live[live["verdict"] == CONTEXT]
    return live


def _rivals(
    of: str,
    sources: Mapping[str, pd.DataFrame],
    rows: pd.DataFrame,
    genes: list[str],
    member_SG: sp.csr_matrix,
    shuffles: Mapping[str, list[np.ndarray]],
    cfg: RuleConfig,
) -> dict[str, list[tuple[float, int]]]:
    """Shares of the rivals with the number of units that they are of."""
    found: dict[str, list[tuple[float, int]]] = {}
    for name, part in sources.items():
        cut = _cut(of, _live(part))
        label = "random directions" if is_random(name) else name
        if len(cut) and label != "onehot":  # a token stands in few genes: it has no ten strongest
            found.setdefault(label, []).append(_rule_share(cut["genes"], genes, member_SG, cfg))
    for name, orders in shuffles.items():
        found[name] = [_rule_share(rows["genes"], genes, member_SG[:, order], cfg) for order in orders]
    return found


def _rule_share(
    strongest: pd.Series, genes: list[str], member_SG: sp.csr_matrix, cfg: RuleConfig
) -> tuple[float, int]:
    """Share of the units that meet the rule, and their number."""
    place = {gene: number for number, gene in enumerate(genes)}
    lists = [
        np.array([place[gene] for gene in names.split(" ")[: cfg.genes] if gene in place], dtype=np.int64)
        for names in strongest.fillna("")
    ]
    found = overlaps(indicator(lists, len(genes)), member_SG.tocsr())
    q_E = benjamini_hochberg(found.p_E, found.n_tests)
    met = np.unique(found.feature_E[(found.shared_E >= cfg.shared) & (q_E <= cfg.fdr)])
    return len(met) / max(len(lists), 1), len(lists)


def _within_bins(tokens_G: np.ndarray, bins: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation of genes that stays within bins of equal numbers of genes, by frequency."""
    rank_G = np.argsort(np.argsort(tokens_G, kind="stable"), kind="stable")
    bin_G = rank_G * bins // max(len(tokens_G), 1)
    order_G = np.arange(len(tokens_G))
    for number in range(bins):
        inside = np.flatnonzero(bin_G == number)
        order_G[inside] = rng.permutation(inside)
    return order_G
