"""The verdict "gene set", put into an atlas that was judged without gene sets; and the field's rule for sets
beside what could do as well.

A feature is a gene-set feature when a set is significant among its genes and holds the threshold's share of
its mass, and no earlier verdict of the protocol (prompt, gene, family) nor spelling applies. The threshold is
half of the mass, or more where more than 1 % of the live features reach that with the genes' names permuted.
Legend: F features or units, P permutations, S sets, G genes of the background, E pairs of unit and set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scx_core.atlas.collect.directions import ONE_HOT
from scx_core.atlas.collect.token_slots import permuted_within
from scx_core.atlas.gene_sets.enrich import (
    EnrichConfig,
    Enrichment,
    enrich,
    gene_tokens,
    overlaps,
)
from scx_core.atlas.gene_sets.gmt import GeneSets
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
    VerdictThresholds,
    automatic_label,
    verdict_shares,
)
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError
from scx_core.runs import option
from scx_core.runs.options import check
from scx_core.statistics.hypothesis_tests import q_values

PERMUTED = "gene names permuted"  # kind of data in the table of shares
NAMES_PERMUTED, IN_BINS = "names permuted", "names permuted among genes as frequent"  # rivals of the rule
SMALL = 50  # genes of a small set
# Groups of live features that the rule is asked of. What the token explains less of is more than a token.
GROUPS: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
    "all": lambda rows: rows["layer"] >= 0,
    "layers behind the first": lambda rows: rows["layer"] > 0,
    "more than a token": lambda rows: rows["token_share"] < 0.9,
    "reads other genes": lambda rows: rows["verdict"] == CONTEXT,
}
LATER = (SET, TYPE, POSITION, POLYSEMANTIC)  # verdicts that a gene set comes before


def with_gene_sets(atlas: Atlas, collection: GeneSets, cfg: EnrichConfig | None = None) -> Atlas:
    """The atlas, and those beside it, with gene sets: `sets`, verdicts, scores, labels and shares.

    The record of what was found also has the field's rule beside random directions (`set_rule`).
    The threshold is chosen on the first one's null, as all others are. A saved atlas is changed on disk.
    Sets of an earlier call are replaced. Raises ScxError where `enrich` does.
    """
    found = enrich(atlas, collection, cfg)
    limits = VerdictThresholds(**atlas.meta["thresholds"])
    live_F = (atlas.features["verdict"] != DEAD).to_numpy()
    reached = float(np.quantile(found.null_share_PF[:, live_F], 1 - NULL_RATE))
    limits = limits._replace(gene_set=round(max(MAJORITY, min(reached, HIGHEST)), 3))
    beside = {}
    for name, other in atlas.beside.items():  # raw neurons may prefer no genes: then none has a set
        beside[name] = _judged(other, enrich(other, collection, cfg, must_test=False), limits, {})
    rule = set_rule(atlas, collection).to_dict("records") if len(atlas.table("baselines")) else []
    return _judged(atlas, found, limits, beside, rule)


def _judged(
    atlas: Atlas,
    found: Enrichment,
    limits: VerdictThresholds,
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


def _eligible(features: pd.DataFrame, limits: VerdictThresholds) -> pd.Series:
    return features["verdict"].isin(LATER) & (features["spelling"] < limits.spelling)


def _null_shares(features: pd.DataFrame, share_F: np.ndarray, limits: VerdictThresholds) -> pd.DataFrame:
    """Share of the live features that would be gene-set features with these shares, by layer."""
    reached_F = share_F >= limits.gene_set
    verdict_F = np.where(_eligible(features, limits) & reached_F, SET, features["verdict"])
    verdict_F = np.where((verdict_F == SET) & ~reached_F, POLYSEMANTIC, verdict_F)
    shares = verdict_shares({PERMUTED: pd.DataFrame({"layer": features["layer"], "verdict": verdict_F})})
    return shares[shares["verdict"] == SET]


def judged_features(features: pd.DataFrame, found: Enrichment, limits: VerdictThresholds) -> pd.DataFrame:
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
    """The field's rule: at least three of a feature's ten strongest genes are in one set of at most 200
    genes, and Fisher's exact test survives Benjamini-Hochberg over every feature and set. The same is asked
    of random directions at equal firing rates, of the embedding's directions, and of the features with the
    genes' names permuted: among all genes, and among genes that are about as frequent.

    One row a group of features and rival: of, features (n), share, rival, rival_share, rival_low,
    rival_high (lowest and highest draw or permutation), draws, excess, low, high (95 %, Welch).

    Groups: all live features, those of later layers, those that are more than a token, those that read other
    genes, and all against sets of at most 50 genes. Rivals are of the same group. Empty where no set of
    at most `cfg.largest` genes has any in the data. Raises ScxError for an atlas without random directions.
    """
    cfg = cfg or RuleConfig()
    baselines = atlas.table("baselines")
    if not len(baselines):
        raise ScxError("This atlas was made without random directions.", "Make it anew with `scx atlas`.")
    own = _live(_with_strongest_genes(atlas))
    others = [
        ("random directions" if is_random(str(name)) else str(name), _live(part))
        for name, part in baselines.groupby("source", observed=True, sort=False)
        if name != ONE_HOT  # a token stands in few genes: it has no ten strongest
    ]
    tokens = gene_tokens(atlas)
    genes = tokens.index.tolist()
    rank_G = np.argsort(np.argsort(tokens.to_numpy(), kind="stable"), kind="stable")
    bin_G = rank_G * cfg.bins // max(len(genes), 1)  # equal numbers of genes, by frequency
    rng = np.random.default_rng(cfg.seed)
    orders = {
        NAMES_PERMUTED: [rng.permutation(len(genes)) for _ in range(cfg.permutations)],
        IN_BINS: [permuted_within(bin_G, rng) for _ in range(cfg.permutations)],
    }
    found = []
    small = {f"all, sets of at most {SMALL} genes": GROUPS["all"]}
    for largest, groups in ((cfg.largest, GROUPS), (SMALL, small)):
        sets = tuple(one for one in collection.sets if len(one.genes) <= largest)
        if not sets:
            continue
        fit = FitConfig(smallest=1, largest=largest, other_species=True)  # the caller has checked the species
        try:
            member_SG = fit_sets(replace(collection, sets=sets), genes, fit).member_SG
        except ScxError:  # no set of so few genes has any in this data
            continue
        for of, inside in groups.items():
            rows = own[inside(own)]
            if not len(rows):
                continue
            real, n = _share_that_meets(rows, genes, member_SG, cfg)
            rivals: dict[str, list[tuple[float, int]]] = {}
            for name, part in others:
                part = part[inside(part)]
                if len(part):
                    rivals.setdefault(name, []).append(_share_that_meets(part, genes, member_SG, cfg))
            for name, permutations in orders.items():
                rivals[name] = [
                    _share_that_meets(rows, genes, member_SG[:, order], cfg) for order in permutations
                ]
            for rival, drawn in rivals.items():
                shares = [share for share, _ in drawn]
                held = interval(real, n, shares, [size for _, size in drawn])
                columns = {"of": of, "features": n, "share": real, "rival": rival}
                limits = {"rival_low": min(shares), "rival_high": max(shares), "draws": len(shares)}
                found.append(columns | {"rival_share": float(np.mean(shares))} | limits | held._asdict())
    return pd.DataFrame(found)


def _with_strongest_genes(atlas: Atlas) -> pd.DataFrame:
    """The features with their ten strongest genes."""
    leading = atlas.table("genes").groupby(["layer", "feature"], sort=False).head(10)
    joined = leading["gene"].astype(str).groupby([leading["layer"], leading["feature"]]).agg(" ".join)
    return atlas.features.drop(columns="genes").join(joined.rename("genes"), on=["layer", "feature"])


def _live(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.assign(verdict=rows["verdict"].astype(str))
    return rows[~rows["verdict"].isin([DEAD, RARE])]


def _share_that_meets(
    units: pd.DataFrame, genes: list[str], member_SG: sp.csr_matrix, cfg: RuleConfig
) -> tuple[float, int]:
    """Share of the units that meet the rule, and their number."""
    place = {gene: number for number, gene in enumerate(genes)}
    lists = [
        np.array([place[gene] for gene in names.split(" ")[: cfg.genes] if gene in place], dtype=np.int64)
        for names in units["genes"].fillna("")
    ]
    found = overlaps(indicator(lists, len(genes)), member_SG.tocsr())
    q_E = q_values(found.p_E, found.n_tests)
    met = np.unique(found.feature_E[(found.shared_E >= cfg.shared) & (q_E <= cfg.fdr)])
    return len(met) / max(len(lists), 1), len(lists)
