"""Over-representation of gene sets among the genes of an atlas' features: Fisher's exact test of every
feature and set, Benjamini-Hochberg over all of them, and a null in which the genes' names are permuted.

A feature's genes are the strongest of its mass that it prefers: their share of its mass is at least `lift`
times their share of the gene tokens. Background: every gene that stood in a sentence of the atlas. The
null permutes the genes' names, tests and corrects as before, and counts what is found by chance.
Legend: F features, S sets, G genes of the background, E pairs of feature and set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import hypergeom

from scx_core.atlas.gene_sets.gmt import GeneSets
from scx_core.atlas.gene_sets.shared_genes import FitConfig, FittedSets, fit_sets
from scx_core.atlas.judge.protocol import DEAD
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError
from scx_core.runs import option
from scx_core.statistics.hypothesis_tests import q_values

BLOCK = 8192  # features whose overlaps are held at a time
LEAST = 3  # genes of a feature; with fewer there is nothing to enrich


@dataclass(frozen=True)
class EnrichConfig(FitConfig):
    """How features' genes are tested against sets."""

    genes: int = option(20, "Strongest genes of a feature that are tested", minimum=LEAST, maximum=1000)
    lift: float = option(
        2.0, "A gene is a feature's own when its share of the mass is so many times its share of the tokens",
        minimum=0.0,
    )  # fmt: skip
    fdr: float = option(
        0.05, "False discovery rate (Benjamini-Hochberg over all tests)", minimum=1e-12, maximum=1.0
    )
    permutations: int = option(20, "Permutations of the genes' names for the null", minimum=1, maximum=10_000)
    kept: int = option(10, "Sets kept of each feature", minimum=1, maximum=1000)
    seed: int = option(0, "Seed of the permutations", minimum=0)


class FeatureGenes(NamedTuple):
    """Of all features, live or not: the genes that are tested [F, G], 0/1, and shares of mass [F, G]."""

    genes: list[str]
    list_FG: sp.csr_matrix
    share_FG: sp.csr_matrix


class Best(NamedTuple):
    """Each feature's most significant set, −1 where none is, [F], and the share of its mass there; and all
    significant pairs [E] with p and q."""

    set_F: np.ndarray
    share_F: np.ndarray
    pairs: pd.DataFrame
    n_tests: int


class Enrichment(NamedTuple):
    """`table`: layer, feature, gene_set, source, shared, list, size, genes (shared ones), p, q, share (of the
    feature's mass), the most significant of each feature first. `best` by row of `Atlas.features`.
    `null_share_PF` are the best sets' shares of mass with permuted names, 0 where no set is significant.
    `record` says what was done and found, in plain JSON."""

    table: pd.DataFrame
    best: pd.DataFrame
    null_share_PF: np.ndarray
    record: dict[str, Any]


def gene_tokens(atlas: Atlas) -> pd.Series:
    """How many tokens of each gene the sentences of an atlas hold, by gene: the background of all tests."""
    slots = atlas.table("slots")
    tokens = slots[slots["gene"] != ""].groupby("gene", observed=True)["tokens"].sum()
    return tokens.set_axis(tokens.index.astype(str))


def feature_genes(atlas: Atlas, cfg: EnrichConfig) -> FeatureGenes:
    """Lists and shares of mass from the atlas' tables; dead features have empty rows."""
    tokens = gene_tokens(atlas)
    genes = tokens.index.tolist()
    rows = atlas.table("genes")
    number = rows["layer"].to_numpy() * int(atlas.meta["n_units"]) + rows["feature"].to_numpy()
    gene = pd.Index(genes).get_indexer(rows["gene"].astype(str))
    share = rows["share"].to_numpy(dtype=float)
    expected = (tokens / tokens.sum()).to_numpy()[gene]
    order = rows.groupby(["layer", "feature"], sort=False).cumcount().to_numpy()
    own = (order < cfg.genes) & (share >= cfg.lift * expected)
    own &= (atlas.features["verdict"] != DEAD).to_numpy()[number]
    own &= (np.bincount(number[own], minlength=len(atlas.features)) >= LEAST)[number]
    shape = (len(atlas.features), len(genes))
    lists = sp.csr_matrix((np.ones(int(own.sum()), dtype=np.int32), (number[own], gene[own])), shape)
    shares = sp.csr_matrix((share, (number, gene)), shape)
    return FeatureGenes(genes, lists.sorted_indices(), shares)


def best_sets(found: FeatureGenes, member_SG: sp.csr_matrix, fdr: float) -> Best:
    """Test every list against every set. Of tests with p > fdr nothing is kept: they cannot be significant,
    and the adjusted p of significant ones does not depend on them."""
    parts, n_tests = [], 0
    for start in range(0, found.list_FG.shape[0], BLOCK):
        part = overlaps(found.list_FG[start : start + BLOCK], member_SG)
        n_tests += part.n_tests
        low = part.p_E <= fdr
        columns = {"row": part.feature_E[low] + start, "set": part.set_E[low]}
        parts.append(pd.DataFrame(columns | {"shared": part.shared_E[low], "p": part.p_E[low]}))
    pairs = pd.concat(parts, ignore_index=True)
    pairs["q"] = q_values(pairs["p"].to_numpy(), n_tests)
    pairs = pairs[pairs["q"] <= fdr].reset_index(drop=True)
    rows, sets = pairs["row"].to_numpy(), pairs["set"].to_numpy()
    held = found.share_FG[rows].multiply(member_SG[sets]).sum(axis=1)
    pairs["share"] = np.asarray(held, dtype=float).ravel()
    pairs = pairs.sort_values(["row", "p", "share"], ascending=[True, True, False], kind="stable")
    first = pairs.drop_duplicates("row")
    set_F = np.full(found.list_FG.shape[0], -1)
    set_F[first["row"]] = first["set"]
    share_F = np.zeros(len(set_F))
    share_F[first["row"]] = first["share"]
    return Best(set_F, share_F, pairs.reset_index(drop=True), n_tests)


def enrich(
    atlas: Atlas, collection: GeneSets, cfg: EnrichConfig | None = None, *, must_test: bool = True
) -> Enrichment:
    """Test an atlas' features against gene sets; the atlas stays as it is (`with_gene_sets`).

    Raises ScxError when sets and data do not fit (`fit_sets`), or no feature has genes to test (`must_test`).
    """
    cfg = cfg or EnrichConfig()
    found = feature_genes(atlas, cfg)
    fitted = fit_sets(collection, found.genes, cfg, atlas.meta.get("organism"))
    tested_F = np.diff(found.list_FG.indptr) > 0
    if must_test and not tested_F.any():
        problem = f"No feature of this atlas prefers {LEAST} genes by a factor of {cfg.lift:g}."
        raise ScxError(problem, "Lower the lift, or take more cells.")
    best = best_sets(found, fitted.member_SG, cfg.fdr)
    rng = np.random.default_rng(cfg.seed)
    nulls = [best_sets(found, permuted(fitted.member_SG, rng), cfg.fdr) for _ in range(cfg.permutations)]
    live_F = (atlas.features["verdict"] != DEAD).to_numpy()

    def share_enriched(of: Best) -> float:
        return float(((of.set_F >= 0) & live_F).sum() / max(live_F.sum(), 1))

    record = {
        "sets": collection.name,
        "config": asdict(cfg),
        "notes": list(fitted.notes),
        "warning": fitted.warning,
        "background": len(found.genes),
        "tested_sets": len(fitted.sets),
        "tested_features": int(tested_F.sum()),
        "tests": best.n_tests,
        "live_features": int(live_F.sum()),
        "enriched": share_enriched(best),
        "enriched_by_chance": float(np.mean([share_enriched(null) for null in nulls])),
    }
    names = np.array([*(one.name for one in fitted.sets), ""], dtype=object)[best.set_F]
    return Enrichment(
        _table(atlas, found, fitted, best.pairs, cfg.kept),
        pd.DataFrame({"gene_set": names, "set_share": best.share_F}),
        np.stack([null.share_F for null in nulls]),
        record,
    )


def _table(
    atlas: Atlas, found: FeatureGenes, fitted: FittedSets, pairs: pd.DataFrame, kept: int
) -> pd.DataFrame:
    """The pairs by name, with the genes that feature and set share, the feature's strongest first."""
    pairs = pairs.groupby("row", sort=False).head(kept)
    rows, sets = pairs["row"].to_numpy(), pairs["set"].to_numpy()
    shared = found.list_FG[rows].multiply(fitted.member_SG[sets]).multiply(found.share_FG[rows]).tocsr()
    genes = np.array(found.genes, dtype=object)
    named = []
    for start, end in pairwise(shared.indptr):
        order = np.argsort(-shared.data[start:end], kind="stable")
        named.append(" ".join(genes[shared.indices[start:end][order]]))
    layer, feature = np.divmod(rows, int(atlas.meta["n_units"]))
    return pd.DataFrame(
        {
            "layer": layer,
            "feature": feature,
            "gene_set": [fitted.sets[number].name for number in sets],
            "source": [fitted.sets[number].source for number in sets],
            "shared": pairs["shared"].to_numpy(),
            "list": np.diff(found.list_FG.indptr)[rows],
            "size": np.diff(fitted.member_SG.indptr)[sets],
            "genes": named,
            "p": pairs["p"].to_numpy(),
            "q": pairs["q"].to_numpy(),
            "share": pairs["share"].to_numpy(),
        }
    )


class Overlaps(NamedTuple):
    """Pairs of a feature and a set that share genes, sorted by feature, then set, [E] each, with the upper
    tail's p. All other of the `n_tests` pairs have p = 1."""

    feature_E: np.ndarray
    set_E: np.ndarray
    shared_E: np.ndarray
    p_E: np.ndarray
    n_tests: int


def overlaps(lists_FG: sp.csr_matrix, sets_SG: sp.csr_matrix) -> Overlaps:
    """Test every feature's list of genes against every set (Fisher's exact test, "greater").

    Both matrices hold 0 and 1 over the same G genes, the background: what could have been drawn.
    p = P(X ≥ shared) with X hypergeometric (G genes, of which a set's are marked, a list's are drawn).
    """
    shared = (lists_FG.astype(np.int32) @ sets_SG.astype(np.int32).T).tocsr()
    shared.sort_indices()
    shared.eliminate_zeros()
    drawn_F, marked_S = np.diff(lists_FG.indptr), np.diff(sets_SG.indptr)
    feature_E = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
    set_E = shared.indices.astype(np.int64)
    p_E = upper_tail(shared.data, lists_FG.shape[1], marked_S[set_E], drawn_F[feature_E])
    n_tests = int((drawn_F > 0).sum()) * sets_SG.shape[0]
    return Overlaps(feature_E, set_E, shared.data, p_E, n_tests)


def upper_tail(shared_E: np.ndarray, n_genes: int, marked_E: np.ndarray, drawn_E: np.ndarray) -> np.ndarray:
    """P(X ≥ shared) of the hypergeometric distribution, [E]; equal cases are computed once."""
    if not len(shared_E):
        return np.zeros(0)
    radix = n_genes + 1
    key_E = (shared_E.astype(np.int64) * radix + marked_E) * radix + drawn_E
    key, place_E = np.unique(key_E, return_inverse=True)
    rest, drawn = np.divmod(key, radix)
    shared, marked = np.divmod(rest, radix)
    return hypergeom.sf(shared - 1, n_genes, marked, drawn)[place_E]


def permuted(rows_XG: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Rows of genes with the genes' names permuted: the same permutation for all rows, so that they keep
    their sizes and what they have in common."""
    return rows_XG[:, rng.permutation(rows_XG.shape[1])].sorted_indices()
