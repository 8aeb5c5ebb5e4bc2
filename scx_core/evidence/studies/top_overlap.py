"""Do two studies name the same genes, or features, of a type? Overlap of the strongest, against its null.

From the cells of each study: the mean frozen attribution of every gene, and the mean total effect of every
feature, on one answer of one model. The overlap of the `top` strongest is held against two nulls, each with
`permutations` draws: the second study's ranking permuted over all names that both studies hold, and permuted
only within bins of like names (genes: by mean place in the sentence; features: by the share of cells in which
they are active), because what is expressed everywhere is named everywhere. Beside it stand rivals without a
circuit: the strongest by differential expression and by expression. Control: other types.
Legend: X names (genes or features), C cells, P permutations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.attribution.backward import total_effects
from scx_core.attribution.target import frozen_for, target_row
from scx_core.cells.differential import moments, strongest, t_scores
from scx_core.circuits import Tracer
from scx_core.circuits.trace import span_effects
from scx_core.evidence.rankings.rankers import mean_places

BINS = 10
ALL_NAMES, LIKE_NAMES = "all names", "names of the same level"


class NamedEffects(NamedTuple):
    """Mean effects over `n` cells and the level of each name: its mean place, or the share of cells."""

    effect: dict[str, float]
    level: dict[str, float]
    n: int

    def top(self, n: int, among: set[str]) -> list[str]:
        """The n strongest positive ones among some names."""
        names = [name for name, value in self.effect.items() if value > 0 and name in among]
        return sorted(names, key=lambda name: (-self.effect[name], name))[:n]


class StudyEffects(NamedTuple):
    """One type of one study: what the model's circuit says of genes and features, and two rankings of genes
    that need no model (strongest first)."""

    genes: NamedEffects
    features: NamedEffects
    differential: list[str]
    expressed: list[str]


class Overlap(NamedTuple):
    """How many of the `top` strongest two studies share, beside the mean of each null and its p (one-sided,
    (1 + draws at least as many) / (1 + draws)). `names`: how many both hold."""

    what: str
    label: str
    first: str
    second: str
    shared: int
    top: int
    names: int
    expected: dict[str, float]
    p: dict[str, float]
    common: tuple[str, ...]
    n_first: int
    n_second: int


def effects_of(tracer: Tracer, rows: Sequence[int] | np.ndarray, label: str) -> StudyEffects:
    """Genes and features of these cells for the answer to `label`; one forward and backward pass a cell."""
    plan, rows = tracer.plan(tracer.answer_for(label)), np.asarray(rows)
    gene_sum: dict[str, float] = {}
    feature_sum: dict[str, float] = {}
    active: dict[str, int] = {}
    cells = tracer.encode(rows)
    for cell in cells:
        frozen = frozen_for(tracer.rep, cell, plan)
        target, bias, _ = target_row(frozen, plan)
        found = total_effects(frozen, target, bias)
        for gene in span_effects(found.token_T, cell.spans):
            gene_sum[gene.gene] = gene_sum.get(gene.gene, 0.0) + gene.effect
        for layer, (held, effect_N) in enumerate(zip(frozen.layers, found.features, strict=True)):
            sum_F = np.zeros(tracer.transcoders.n_features)
            number_N = held.feature_N.cpu().numpy()
            np.add.at(sum_F, number_N, effect_N.double().cpu().numpy())
            for number in np.unique(number_N).tolist():
                name = f"L{layer}·{number}"
                feature_sum[name] = feature_sum.get(name, 0.0) + float(sum_F[number])
                active[name] = active.get(name, 0) + 1
    n = len(cells)
    places = mean_places([cell.genes for cell in cells], tracer.lm.sentence_config.n_genes)
    table = tracer.table
    others = np.flatnonzero((table.labels != label) & (table.labels != ""))
    own = np.flatnonzero(table.labels == label)
    return StudyEffects(
        NamedEffects({name: value / n for name, value in gene_sum.items()}, places, n),
        NamedEffects(
            {name: value / n for name, value in feature_sum.items()},
            {name: k / n for name, k in active.items()},
            n,
        ),
        strongest(table.symbols, t_scores(moments(table, own), moments(table, others))),
        sorted(places, key=lambda gene: (places[gene], gene)),
    )


def overlap(
    first: NamedEffects, second: NamedEffects, top: int, permutations: int, seed: int
) -> tuple[list[str], int, dict[str, float], dict[str, float]]:
    """Names shared by both tops, how many names both hold, the mean of each null and its p."""
    names = sorted(set(first.effect) & set(second.effect))
    among = set(names)
    one = set(first.top(top, among))
    other = second.top(top, among)
    common = [name for name in other if name in one]
    in_first_X = np.array([name in one for name in names])
    in_second_X = np.array([name in set(other) for name in names])
    level_X = np.array([second.level[name] for name in names])
    rng, expected, p = np.random.default_rng(seed), {}, {}
    for null, bin_X in ((ALL_NAMES, np.zeros(len(names), dtype=int)), (LIKE_NAMES, _bins(level_X))):
        drawn_P = _permuted(in_first_X, in_second_X, bin_X, permutations, rng)
        expected[null] = float(drawn_P.mean())
        p[null] = float((1 + (drawn_P >= len(common)).sum()) / (1 + permutations))
    return common, len(names), expected, p


def _bins(level_X: np.ndarray) -> np.ndarray:
    """The decile of each level, [X]."""
    order_X = np.argsort(np.argsort(level_X, kind="stable"), kind="stable")
    return order_X * BINS // max(1, len(level_X))


def _permuted(
    first_X: np.ndarray, second_X: np.ndarray, bin_X: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Overlaps [P] when the second membership is permuted within bins: a hypergeometric draw in each."""
    total_P = np.zeros(n, dtype=np.int64)
    for one in np.unique(bin_X):
        mine = bin_X == one
        good, drawn = int(first_X[mine].sum()), int(second_X[mine].sum())
        if good and drawn:
            total_P += rng.hypergeometric(good, int(mine.sum()) - good, drawn, n)
    return total_P


def overlaps(
    found: Mapping[str, Mapping[str, StudyEffects]], top: int = 20, permutations: int = 10_000, seed: int = 0
) -> list[Overlap]:
    """Every pair of studies in `found` (study → type → effects): genes, features, and the two rankings
    without a circuit, type by type; and, as a control, genes of each type against those of other types.
    """
    studies, out = list(found), []
    for a, first in enumerate(studies):
        for second in studies[a + 1 :]:
            both = [label for label in found[first] if label in found[second]]
            for label in both:
                one, other = found[first][label], found[second][label]
                pairs = {
                    "genes": (one.genes, other.genes),
                    "features": (one.features, other.features),
                    "DE genes": (_ranked(one, one.differential), _ranked(other, other.differential)),
                    "most expressed genes": (_ranked(one, one.expressed), _ranked(other, other.expressed)),
                }
                for what, (x, y) in pairs.items():
                    out.append(_line(what, label, first, second, x, y, top, permutations, seed))
                for rival in both:
                    if rival != label:
                        x, y = one.genes, found[second][rival].genes
                        words = f"{label} and {rival}"
                        out.append(
                            _line("genes of other types", words, first, second, x, y, top, permutations, seed)
                        )
    return out


def _ranked(one: StudyEffects, genes: Sequence[str]) -> NamedEffects:
    """A ranking as effects, over the genes that the sentences hold."""
    held = [gene for gene in genes if gene in one.genes.level]
    scores = dict.fromkeys(one.genes.level, 0.0) | {gene: 1.0 / (k + 1) for k, gene in enumerate(held)}
    return NamedEffects(scores, one.genes.level, one.genes.n)


def _line(
    what: str,
    label: str,
    first: str,
    second: str,
    one: NamedEffects,
    other: NamedEffects,
    top: int,
    permutations: int,
    seed: int,
) -> Overlap:
    common, n_names, expected, p = overlap(one, other, top, permutations, seed)
    return Overlap(
        what, label, first, second, len(common), top, n_names, expected, p, tuple(common), one.n, other.n
    )


def to_rows(found: Sequence[Overlap]) -> list[dict[str, Any]]:
    """Plain rows for JSON."""
    return [one._asdict() for one in found]
