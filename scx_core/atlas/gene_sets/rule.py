"""The field's rule for gene sets, held against what could do as well.

A feature counts when at least three of its ten strongest genes are in one set of at most 200 genes, and
Fisher's exact test survives Benjamini–Hochberg over every feature and set. The same is asked of random
directions at equal firing rates, of the embedding's directions, and of the features with the genes' names
permuted: among all genes, and among genes that are about as frequent.
Legend: F units, S sets, G genes of the background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scx_core.atlas.gene_sets.fisher import benjamini_hochberg, indicator, overlaps
from scx_core.atlas.gene_sets.sets import GeneSets
from scx_core.atlas.gene_sets.shared_genes import FitConfig, fit_sets
from scx_core.atlas.judge.excess import interval, is_random
from scx_core.atlas.judge.protocol import CONTEXT, DEAD, RARE
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError
from scx_core.runs import option
from scx_core.runs.config import check

BEYOND = 0.9  # of the variance: what the token explains less of is more than a token
PERMUTED, IN_BINS = "names permuted", "names permuted among genes as frequent"


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
        PERMUTED: [rng.permutation(len(genes)) for _ in range(cfg.permutations)],
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
            real, n = _share(rows["genes"], genes, member_SG, cfg)
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
            found.setdefault(label, []).append(_share(cut["genes"], genes, member_SG, cfg))
    for name, orders in shuffles.items():
        found[name] = [_share(rows["genes"], genes, member_SG[:, order], cfg) for order in orders]
    return found


def _share(
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
