"""Curated edges of a gene network among the pairs of genes that features, circuits or plain counts join.

Each way ranks pairs of genes; the same number of its strongest pairs is taken from each:
- features: Σ over features of share(a)·share(b), shares of the feature's mass (atlas) at its strongest genes;
- circuits: the same over the features of the types' consensus circuits, with each gene's part of the absolute
  direct edges from genes into the feature: two genes that one feature of a circuit reads;
- co-expression: |Spearman| of log-normalised expression over cells;
- co-occurrence: the number of cells whose sentence holds both;
- spelled alike: the length of the common beginning of both names, two letters at least (a language model
  reads pieces of names, so this could be all that features do). "Not spelled alike" is the same ranking
  without such pairs.

Two relations are counted: `direct`, curated edges (factor, target) between the two genes, either way round;
and `shared factor`, factors that have both genes as targets, wherever the factor itself is. Two nulls:
`edges` rewires the curated edges (configuration model: each factor keeps its number of targets, each target
its number of factors, no loops, no doubles) and leaves the pairs; it is the same for all ways. `graph`
rewires which genes a feature holds (each feature keeps its number of genes, each gene its number of features)
and makes the pairs anew; for features and circuits only. Fold: hits over the mean of the null's. Its
interval resamples factors (edges of one factor are no independent draws) and is at least the exact Poisson
interval of the hits; p is one-sided over rewirings.
All is about genes of the universe: those that stand in at least `least` of the cells' sentences.
Legend: G genes, C cells, F factors, E curated edges, S slots (a gene of a feature), K rewirings.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import stats

from scx_core.cells import CellTable
from scx_core.cells.differential import log_expression
from scx_core.errors import ScxError
from scx_core.runs.options import option
from scx_core.sentences import rank_matrix
from scx_core.statistics.intervals import UNKNOWN, Interval, bootstrap

FEATURES, CIRCUITS, COEXPRESSION, TOGETHER, SPELLING = WAYS = (
    *("features", "circuits", "co-expression", "co-occurrence", "spelled alike"),
)


UNLIKE = ", not spelled alike"


@dataclass(frozen=True)
class NetworkConfig:
    """Which pairs count as joined, and how often the nulls are drawn."""

    genes: int = option(5, "Strongest genes of a feature that it joins", minimum=2, maximum=50)
    pairs: str = option("500,2000", "Numbers of strongest pairs of each way, separated by commas")
    circuit_cells: int = option(
        20, "Cells of each type that circuits are traced in (0: no circuits)", minimum=0
    )
    feature_cells: int = option(
        300, "Cells in which the genes of features are read, where there is no atlas", minimum=10
    )
    cells: int = option(
        2000, "Cells that co-expression and co-occurrence are counted in, at most", minimum=10
    )
    least: float = option(
        0.02, "Share of the sentences that a gene stands in, at least", minimum=0.0, maximum=1.0
    )
    rewirings: int = option(500, "Rewirings of the curated edges", minimum=20)
    graph_rewirings: int = option(100, "Rewirings of the genes of features", minimum=20)
    seed: int = option(0, "Seed of draws and rewirings", minimum=0)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of pairs. Raises ScxError for what is no number."""
        parts = [part.strip() for part in self.pairs.split(",") if part.strip()]
        if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ScxError(f"{self.pairs!r} are no numbers of pairs.", "Give such as 500,2000.")
        return tuple(sorted({int(part) for part in parts}))


def read_edges(path: Path | str) -> list[tuple[str, str]]:
    """(factor, target) in upper case, each once, without loops, in the file's order. The first two columns of
    a tab-separated file (also .gz) count. Raises ScxError when it cannot be read or has no edge."""
    path = Path(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open() as file:
            rows = [line.rstrip("\n").split("\t") for line in file if line.strip() and line[0] != "#"]
    except (OSError, UnicodeDecodeError) as error:
        raise ScxError(
            f"The network {path.name} cannot be read ({error}).", "Give a TSV: factor, target."
        ) from error
    short = next((k for k, row in enumerate(rows, 1) if len(row) < 2), None)
    if short is not None or not rows:
        where = f"line {short} of {path.name} has one column" if short else f"{path.name} is empty"
        raise ScxError(
            f"The network cannot be read: {where}.", "Give a TSV: factor, target, and what you like."
        )
    pairs = ((row[0].strip().upper(), row[1].strip().upper()) for row in rows)
    return list(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1] and all(pair)))


class Slots(NamedTuple):
    """A bipartite graph: slot s says that feature `feature_S` holds gene `gene_S` (number in the universe)
    with `weight_S` of it; of one feature a gene stands once."""

    feature_S: np.ndarray
    gene_S: np.ndarray
    weight_S: np.ndarray

    def scores(self, n_genes: int) -> np.ndarray:
        """Σ over features of weight·weight for each pair of genes, [G, G], diagonal 0."""
        shape = (int(self.feature_S.max(initial=-1)) + 1, n_genes)
        held_FG = sp.csr_matrix((self.weight_S, (self.feature_S, self.gene_S)), shape=shape)
        found_GG = (held_FG.T @ held_FG).toarray()
        np.fill_diagonal(found_GG, 0.0)
        return found_GG


def feature_slots(genes: pd.DataFrame, universe: Sequence[str], most: int) -> Slots:
    """The strongest `most` genes of every feature (columns layer, feature, gene, share), as far as they are
    of the universe."""
    number = {gene: g for g, gene in enumerate(universe)}
    top = genes.assign(gene=genes["gene"].astype(str).str.upper())
    top = top.sort_values(["layer", "feature", "share"], ascending=[True, True, False], kind="stable")
    top = top.groupby(["layer", "feature"], sort=False).head(most)
    top = top[top["gene"].isin(number)].drop_duplicates(["layer", "feature", "gene"])
    feature_S = top.groupby(["layer", "feature"], sort=True).ngroup().to_numpy()
    return Slots(feature_S, top["gene"].map(number).to_numpy(int), top["share"].to_numpy(float))


def circuit_slots(circuits: Mapping[str, Any], universe: Sequence[str], most: int) -> Slots:
    """Genes that feed a feature of a type's consensus circuit: parts of its absolute edges from genes."""
    rows = []
    for label, circuit in circuits.items():
        node = {one.id: one for one in circuit.nodes}
        for edge in circuit.edges:
            source, target = node[edge.source], node[edge.target]
            if source.kind == "embedding" and source.gene and target.kind == "feature":
                rows.append((label, edge.target, source.gene, abs(edge.weight)))
    found = pd.DataFrame(rows, columns=["layer", "feature", "gene", "share"])
    whole = found.groupby(["layer", "feature"])["share"].transform("sum")
    return feature_slots(found.assign(share=found["share"] / whole.where(whole > 0, 1.0)), universe, most)


def rewired(slots: Slots, rng: np.random.Generator, sweeps: float = 3.0) -> Slots:
    """Genes of slots swapped between features: each feature keeps how many genes it holds and with which
    weights, each gene how many features hold it."""
    gene = slots.gene_S.tolist()
    feature = slots.feature_S.tolist()
    held = set(zip(feature, gene, strict=True))
    n = len(gene)
    for a, b in rng.integers(0, n, (int(sweeps * n), 2)).tolist():
        one, other = (feature[a], gene[b]), (feature[b], gene[a])
        if feature[a] == feature[b] or gene[a] == gene[b] or one in held or other in held:
            continue
        held -= {(feature[a], gene[a]), (feature[b], gene[b])}
        held |= {one, other}
        gene[a], gene[b] = gene[b], gene[a]
    return slots._replace(gene_S=np.array(gene, dtype=int))


def rewired_edges(edge_E2: np.ndarray, rng: np.random.Generator, sweeps: float = 5.0) -> np.ndarray:
    """Targets swapped between edges: factors keep how many targets they have, targets how many factors; no
    loop and no edge twice. [E, 2]."""
    first, second = edge_E2[:, 0].tolist(), edge_E2[:, 1].tolist()
    held, n = set(zip(first, second, strict=True)), len(first)
    for a, b in rng.integers(0, n, (int(sweeps * n), 2)).tolist():
        one, other = (first[a], second[b]), (first[b], second[a])
        if one in held or other in held or one[0] == one[1] or other[0] == other[1]:
            continue
        held -= {(first[a], second[a]), (first[b], second[b])}
        held |= {one, other}
        second[a], second[b] = second[b], second[a]
    return np.stack([np.array(first, dtype=int), np.array(second, dtype=int)], 1)


class Measures(NamedTuple):
    """The universe and what cells alone say of each pair: [G, G] with diagonal 0."""

    genes: tuple[str, ...]
    coexpression_GG: np.ndarray
    together_GG: np.ndarray
    spelling_GG: np.ndarray
    n_cells: int


def measures(table: CellTable, n_genes: int, tie_seed: int, cfg: NetworkConfig) -> Measures:
    """Read up to `cfg.cells` labelled cells once: who stands in their sentences of `n_genes`, how high."""
    labelled = np.flatnonzero(table.labels != "")
    rows = np.sort(np.random.default_rng([cfg.seed, 1]).permutation(labelled)[: cfg.cells])
    ranked_CR = rank_matrix(table.rows(rows), rows, n_genes, tie_seed)
    cell_N = np.repeat(np.arange(len(rows)), (ranked_CR >= 0).sum(1))
    held_CG = np.zeros((len(rows), table.n_genes), dtype=np.float32)
    held_CG[cell_N, ranked_CR[ranked_CR >= 0]] = 1.0
    kept = np.flatnonzero(held_CG.mean(0) >= max(cfg.least, 1 / len(rows)))
    held_CG = held_CG[:, kept]
    rank_CG = pd.DataFrame(log_expression(table, rows)[:, kept].toarray()).rank().to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        together = np.nan_to_num(np.abs(np.corrcoef(rank_CG.T)))
    names = tuple(table.symbols.astype(str)[kept].tolist())
    found = [together, (held_CG.T @ held_CG).astype(float), _alike(names)]
    for one in found:
        np.fill_diagonal(one, 0.0)
    return Measures(names, found[0], found[1], found[2], len(rows))


def _alike(names: Sequence[str]) -> np.ndarray:
    """Length of the common beginning of two names; 0 below two letters."""
    longest = max(map(len, names))
    letters = np.array([list(name.ljust(longest, "\0")) for name in names])
    same_GGL = (letters[:, None] == letters[None]) & (letters != "\0")[:, None]
    length_GG = np.cumprod(same_GGL, axis=2).sum(2).astype(float)
    return np.where(length_GG >= 2, length_GG, 0.0)


def strongest_pairs(score_GG: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """The `n` pairs with the highest positive score as a symmetric mask [G, G]; equal ones by chance."""
    first, second = np.triu_indices(len(score_GG), 1)
    score_P = score_GG[first, second]
    order = rng.permutation(len(score_P))
    order = order[np.argsort(-score_P[order], kind="stable")]
    chosen = order[score_P[order] > 0][:n]
    joined_GG = np.zeros(score_GG.shape, dtype=bool)
    joined_GG[first[chosen], second[chosen]] = joined_GG[second[chosen], first[chosen]] = True
    return joined_GG


DIRECT, SHARED = "direct", "shared factor"


class Relation(NamedTuple):
    """Curated edges [E, 2] as (factor, gene): genes of the universe have their number there, other factors
    higher ones; and K rewirings of them [K, E, 2]."""

    name: str
    edge_E2: np.ndarray
    null_KE2: np.ndarray
    n_factors: int

    def hits(self, joined_GG: np.ndarray, edge_E2: np.ndarray) -> np.ndarray:
        """Hits among the joined pairs by factor, [F]."""
        if self.name == DIRECT:
            hit_E = joined_GG[edge_E2[:, 0], edge_E2[:, 1]]
            return np.bincount(edge_E2[hit_E, 0], minlength=self.n_factors).astype(float)
        shape = (self.n_factors, len(joined_GG))
        ones = np.ones(len(edge_E2), dtype=np.float32)
        target_FG = sp.csr_matrix((ones, (edge_E2[:, 0], edge_E2[:, 1])), shape=shape)
        joined = sp.csr_matrix(joined_GG.astype(np.float32))
        return np.asarray((target_FG @ joined).multiply(target_FG).sum(1)).ravel() / 2


def relations(edges: Sequence[tuple[str, str]], genes: Sequence[str], cfg: NetworkConfig) -> list[Relation]:
    """Both relations as far as they lie within the universe, with their rewirings."""
    at = {gene: g for g, gene in enumerate(genes)}
    factor = dict(at)
    for name, target in edges:
        if target in at:
            factor.setdefault(name, len(factor))
    found = []
    for name in (DIRECT, SHARED):
        kept = [(factor[a], at[b]) for a, b in edges if b in at and (name == SHARED or a in at)]
        edge_E2 = np.array(kept, dtype=int).reshape(-1, 2)
        rng, nulls, one = np.random.default_rng([cfg.seed, 3]), [], edge_E2
        for _ in range(cfg.rewirings if len(edge_E2) > 1 else 0):
            one = rewired_edges(one, rng)
            nulls.append(one)
        if nulls:
            found.append(Relation(name, edge_E2, np.stack(nulls), len(factor)))
    return found


def fold_interval(hits: int, expected: float, over_factors: Interval) -> Interval:
    """The wider of the interval over factors and the exact Poisson interval (Garwood 1936) of so few hits;
    nan where nothing is expected."""
    if expected <= 0:
        return UNKNOWN
    low = stats.chi2.ppf(0.025, 2 * hits) / 2 / expected if hits else 0.0
    high = stats.chi2.ppf(0.975, 2 * hits + 2) / 2 / expected
    return Interval(float(np.fmin(low, over_factors.low)), float(np.fmax(high, over_factors.high)))


class Enrichment(NamedTuple):
    """Of one relation, way and number of pairs: `hits` in `pairs` pairs, fold over the mean hits of the
    rewired edges (`expected`), its interval over factors and p; the same over rewired graphs for ways that
    have one (else None)."""

    relation: str
    way: str
    asked: int
    pairs: int
    hits: int
    expected: float
    fold: float
    low: float
    high: float
    p: float
    graph_expected: float | None
    graph_fold: float | None
    graph_p: float | None
    found: tuple[tuple[str, str], ...]


def enrichment(
    way: str,
    joined_GG: np.ndarray,
    asked: int,
    relation: Relation,
    genes: Sequence[str],
    rewired_K: np.ndarray | None = None,
) -> Enrichment:
    """`rewired_K`: hits a pair of as many pairs of rewired graphs, [K]."""
    hit_F = relation.hits(joined_GG, relation.edge_E2)
    null_KF = np.stack([relation.hits(joined_GG, one) for one in relation.null_KE2])
    pairs, hits, expected = int(joined_GG.sum()) // 2, round(float(hit_F.sum())), float(null_KF.sum(1).mean())
    sums = np.stack([hit_F, null_KF.mean(0)], 1)
    sums = sums[np.unique(relation.edge_E2[:, 0])]
    span = fold_interval(hits, expected, bootstrap(sums, lambda total_K2: total_K2[:, 0] / total_K2[:, 1]))
    p = (1 + int((null_KF.sum(1) >= hits - 1e-6).sum())) / (1 + len(null_KF))
    graph: tuple[float | None, ...] = (None, None, None)
    if rewired_K is not None:
        mean = float(rewired_K.mean()) * pairs
        at_least = int((rewired_K * pairs >= hits - 1e-6).sum())
        graph = (mean, hits / mean if mean else math.nan, (1 + at_least) / (1 + len(rewired_K)))
    named = relation.edge_E2 if relation.name == DIRECT else relation.edge_E2[:0]
    found = tuple((genes[a], genes[b]) for a, b in named.tolist() if joined_GG[a, b])
    fold = hits / expected if expected else math.nan
    return Enrichment(
        relation.name,
        way,
        asked,
        pairs,
        hits,
        expected,
        fold,
        span.low,
        span.high,
        p,
        graph[0],
        graph[1],
        graph[2],
        found,
    )


def graph_hits(
    slots: Slots,
    kept_GG: np.ndarray,
    numbers: Sequence[int],
    related: Sequence[Relation],
    cfg: NetworkConfig,
) -> dict[tuple[str, int], np.ndarray]:
    """Hits a pair among the strongest pairs of rewired graphs, [K] by relation and number of pairs; each
    graph goes on from the last. `kept_GG`: pairs that count at all."""
    rng, one = np.random.default_rng([cfg.seed, 2]), slots
    found: dict[tuple[str, int], list[float]] = {(held.name, n): [] for held in related for n in numbers}
    for _ in range(cfg.graph_rewirings):
        one = rewired(one, rng)
        score_GG = one.scores(len(kept_GG)) * kept_GG
        for n in numbers:
            joined_GG = strongest_pairs(score_GG, n, rng)
            for held in related:
                hits = held.hits(joined_GG, held.edge_E2).sum()
                found[held.name, n].append(float(hits / max(1.0, joined_GG.sum() / 2)))
    return {key: np.array(values) for key, values in found.items()}
