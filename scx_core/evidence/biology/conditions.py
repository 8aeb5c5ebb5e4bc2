"""Two conditions within one cell type: which features and genes tell them apart, and is it the known answer?

Of each cell of the type: mean activation of every feature over the tokens, every gene's log-normalised
expression, its height in the sentence (1 for the first of n genes, 1/n for the last, 0 outside) and its
frozen attribution to the type's answer (0 outside). Each is compared between the conditions, the condition
less the reference: t over cells, p by permutation, q over its family (Benjamini-Hochberg); with donors on
both sides also their own test. A gene's score by features is Σ t(feature) · share of the feature's activation
that stands at the gene, in these cells: high where features that rise read it.

The known answer is a gene set (for interferon the hallmark response): AUROC and hits among the first k of
every ranking over the same candidates, the genes that enough sentences hold. Beside them Welch's t and
Wilcoxon's test of expression, and mean expression, which need no model; and the same between random halves of
the reference cells, where nothing should be found.
Legend: C cells, F features of all layers, G candidates, X columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from scx_core.atlas.match.common_cells import Side, activations, classes_and_genes, mlp_streams
from scx_core.cells import CellTable
from scx_core.cells.choices import did_you_mean
from scx_core.cells.differential import log_expression, wilcoxon_scores
from scx_core.circuits import Tracer
from scx_core.circuits.feature_names import name_in
from scx_core.errors import ScxError
from scx_core.evidence.rankings.marker_scores import auroc
from scx_core.evidence.studies.told_features import BATCH, cell_means
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import gene_sentences
from scx_core.statistics.hypothesis_tests import NullSplit, Q, family, null_split, p_values, q_values
from scx_core.statistics.resampling import MeanInterval, Sampling, two_groups

FEATURES, EFFECT, HEIGHT, T_TEST, WILCOXON, MEAN = RANKINGS = (
    *("features", "attribution", "sentence", "t-test", "wilcoxon", "expression"),
)
WORDS = {
    FEATURES: "genes that rising features read",
    EFFECT: "attribution to the answer, |t|",
    HEIGHT: "height in the sentence, t",
    T_TEST: "DE, t-test",
    WILCOXON: "DE, Wilcoxon",
    MEAN: "most expressed",
}


@dataclass(frozen=True)
class ConditionConfig:
    """How many cells are compared, and what counts as a candidate."""

    cells: int = option(150, "Cells of each condition, at most", minimum=4)
    least: float = option(
        0.1, "Share of a condition's sentences that a candidate gene stands in", minimum=0.0
    )
    first: int = option(20, "Strongest genes of each ranking that are held against the gene set", minimum=1)
    features: int = option(10, "Features that are listed", minimum=1)
    splits: int = option(20, "Random halves of the reference cells", minimum=1)
    seed: int = option(0, "Seed of draws, permutations and halves", minimum=0)


class Compared(NamedTuple):
    """Rows of a type in both conditions: those of the condition first, then of the reference."""

    rows: np.ndarray
    n_first: int
    donors: list[str] | None

    @property
    def n_second(self) -> int:
        """Cells of the reference."""
        return len(self.rows) - self.n_first


class KnownAnswer(NamedTuple):
    """A ranking against the gene set: AUROC with interval (None without a gene of the set), `hits` of the
    first k; the same AUROC in random halves of the reference: mean, least and most."""

    ranking: str
    auroc: MeanInterval | None
    hits: int
    first: tuple[str, ...]
    null_mean: float | None
    null_least: float | None
    null_most: float | None


class Told(NamedTuple):
    """Of one kind of value, how many of `tested` columns differ by cells, by donors (None: no donors), and
    between random halves of the reference (mean and most)."""

    kind: str
    tested: int
    cells: int
    donors: int | None
    null: NullSplit | None


class ToldFeature(NamedTuple):
    """A feature that tells the conditions apart. `low`, `high`: interval of the difference (over donors where
    both sides have them); `auroc` of cells by its activation; `genes` that it reads here, `share` of its
    activation at genes of the set."""

    layer: int
    feature: int
    name: str
    reference: float
    condition: float
    low: float
    high: float
    q: float
    donors_q: float | None
    auroc: float
    genes: tuple[str, ...]
    share: float


class NamedGene(NamedTuple):
    """A gene asked for by name: its place in each ranking of candidates (None: it is no candidate), and how
    well its expression alone tells cells of the two conditions apart (AUROC)."""

    gene: str
    places: dict[str, int] | None
    auroc: float | None


class Conditions(NamedTuple):
    """Everything about one type."""

    label: str
    answer: str
    reference: str
    condition: str
    n: tuple[int, int]
    units: str
    set_name: str
    set_size: int
    candidates: int
    in_set: tuple[str, ...]
    told: tuple[Told, ...]
    known: tuple[KnownAnswer, ...]
    features: tuple[ToldFeature, ...]
    genes: tuple[NamedGene, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers with intervals and n."""
        return self._asdict() | {
            "told": [one._asdict() | {"null": one.null and one.null.to_json()} for one in self.told],
            "known": [one._asdict() | {"auroc": one.auroc and one.auroc._asdict()} for one in self.known],
            "features": [one._asdict() for one in self.features],
            "genes": [one._asdict() for one in self.genes],
        }


def compared(
    tracer: Tracer, label: str, column: str, reference: str, condition: str, cfg: ConditionConfig
) -> Compared:
    """Cells of the type in both conditions. Raises ScxError for an unknown column, value or type, or few."""
    table = tracer.table
    if column not in table.obs.columns:
        raise ScxError(
            f"{table.name} has no column {column!r} of conditions.",
            did_you_mean(column, [str(name) for name in table.obs.columns]),
        )
    if label not in table.types:
        raise ScxError(f"{table.name} holds no cell of the type {label!r}.", did_you_mean(label, table.types))
    value_C = table.obs[column].astype(str).to_numpy()
    rng, parts = np.random.default_rng([cfg.seed, 1]), []
    for name in (condition, reference):
        if name not in value_C:
            raise ScxError(
                f"The column {column!r} of {table.name} has no value {name!r}.",
                did_you_mean(name, sorted(set(value_C))),
            )
        rows = np.flatnonzero((value_C == name) & (table.labels == label))
        if len(rows) < 4:
            raise ScxError(
                f"{table.name} has {len(rows)} cells of {label!r} in {name!r}.", "At least 4 are needed."
            )
        parts.append(np.sort(rng.permutation(rows)[: cfg.cells]))
    rows = np.concatenate(parts)
    return Compared(rows, len(parts[0]), tracer.donors(rows))


class Values(NamedTuple):
    """What is compared: [C, F] of features, [C, G] of the candidates' expression, height and attribution;
    activation of every feature at every candidate [G, F], and in sum [F]."""

    genes: tuple[str, ...]
    feature_CF: np.ndarray
    expression_CG: np.ndarray
    height_CG: np.ndarray
    effect_CG: np.ndarray
    mass_GF: sp.csr_matrix
    mass_F: np.ndarray


def conditions(
    tracer: Tracer,
    label: str,
    column: str,
    reference: str,
    condition: str,
    gene_set: tuple[str, Sequence[str]],
    *,
    answer: str | None = None,
    named: Sequence[str] = (),
    cfg: ConditionConfig | None = None,
    progress: Progress = silent,
) -> Conditions:
    """Features and genes that tell two conditions of a type apart, against a gene set (name, genes)."""
    cfg = cfg or ConditionConfig()
    cells = compared(tracer, label, column, reference, condition, cfg)
    answer = answer or tracer.answer_for(label)
    values = read_values(tracer, cells, answer, cfg, progress)
    progress(3, 4, "tests and random halves")
    by_cell = two_groups(cells.n_first, cells.n_second, cfg.seed)
    by_donor = two_groups(cells.n_first, cells.n_second, cfg.seed, donors=cells.donors)
    in_set_G = np.isin(values.genes, [gene.upper() for gene in gene_set[1]])
    scores = gene_scores(tracer.table, cells.rows, by_cell, values)
    told, q_of = _told(values, cells, by_cell, by_donor, cfg)
    known = _known(tracer.table, scores, values, cells, in_set_G, cfg)
    features = _features(tracer, values, cells, by_donor, q_of, in_set_G, cfg)
    genes = tuple(_named(gene, values, scores, cells) for gene in dict.fromkeys(one.upper() for one in named))
    progress(4, 4, "")
    about = tracer.about({"conditions": to_dict(cfg)}, seed=cfg.seed) | {"column": column}
    return Conditions(
        *(label, answer, reference, condition, (cells.n_first, cells.n_second), by_donor.note),
        *(gene_set[0], len(set(gene_set[1])), len(values.genes)),
        tuple(np.array(values.genes)[in_set_G].tolist()),
        told,
        known,
        features,
        genes,
        about,
    )


def read_values(
    tracer: Tracer, cells: Compared, answer: str, cfg: ConditionConfig, progress: Progress = silent
) -> Values:
    """Sentences, expression, attributions and features of the cells."""
    rows, config = cells.rows, tracer.lm.sentence_config
    sentences = gene_sentences(tracer.table, rows, config.n_genes, config.tie_seed)
    names = sorted({gene for sentence in sentences for gene in sentence})
    column = {gene: g for g, gene in enumerate(names)}
    height_CG = np.zeros((len(rows), len(names)))
    for c, sentence in enumerate(sentences):
        at = [column[gene] for gene in sentence]
        height_CG[c, at] = 1 - np.arange(len(sentence)) / config.n_genes
    sampling = two_groups(cells.n_first, cells.n_second, cfg.seed)
    kept = family(height_CG > 0, sampling, cfg.least)
    genes = tuple(np.array(names)[kept].tolist())
    place = {str(gene): g for g, gene in enumerate(tracer.table.symbols)}
    expression_CG = log_expression(tracer.table, rows)[:, [place[gene] for gene in genes]].toarray()
    progress(1, 4, "features of the cells")
    feature_CF = cell_means(tracer, rows)
    mass_GF, mass_F = gene_mass(tracer, rows, genes)
    progress(2, 4, "attributions of the cells")
    effect_CG = np.zeros((len(rows), len(genes)))
    column = {gene: g for g, gene in enumerate(genes)}
    for c, row in enumerate(rows.tolist()):
        for one in tracer.gene_effects(row, answer):
            if one.gene in column:
                effect_CG[c, column[one.gene]] = one.effect
    return Values(genes, feature_CF, expression_CG, height_CG[:, kept], effect_CG, mass_GF, mass_F)


@torch.no_grad()
def gene_mass(tracer: Tracer, rows: np.ndarray, genes: Sequence[str]) -> tuple[sp.csr_matrix, np.ndarray]:
    """Sum of activations of every feature at each gene's tokens [G, F], and at all tokens but the first of
    each cell [F]."""
    side = Side(tracer.lm, tracer.transcoders)
    number = {str(gene): g for g, gene in enumerate(tracer.table.symbols)}
    layers = range(len(side.transcoders.layers))
    n_all = len(layers) * side.transcoders.n_features
    at_GF, all_F = sp.csr_matrix((len(number), n_all)), np.zeros(n_all)

    def attempt(some: slice) -> tuple[sp.csr_matrix, np.ndarray]:
        cells = tracer.encode(rows[some])
        io, (_, gene_GN) = mlp_streams(side.lm, cells), classes_and_genes(cells, number, True)
        z_NF = sp.hstack([activations(side, io, layer, cells) for layer in layers], format="csr")
        return gene_GN @ z_NF, np.asarray(z_NF.sum(0)).ravel()

    for some_GF, some_F in MicroBatch().pieces(attempt, len(rows), BATCH):
        at_GF, all_F = at_GF + some_GF, all_F + some_F
    return at_GF.tocsr()[[number[gene] for gene in genes]], all_F


def welch_t(value_CX: np.ndarray, first_C: np.ndarray) -> np.ndarray:
    """Welch's t of every column, first group less second, [X]; 0 where neither varies."""
    parts = [value_CX[first_C], value_CX[~first_C]]
    mean_X = parts[0].mean(0) - parts[1].mean(0)
    error_X = np.sqrt(sum(part.var(0, ddof=1) / len(part) for part in parts))
    return np.divide(mean_X, error_X, out=np.zeros_like(mean_X), where=error_X > 1e-12)


def gene_scores(
    table: CellTable, rows: np.ndarray, by_cell: Sampling, values: Values
) -> dict[str, np.ndarray]:
    """Every ranking's score of the candidates, [G]; more is stronger."""
    first_C = by_cell.group_C == 0
    found = _own_scores(values, first_C)
    place = {str(gene): g for g, gene in enumerate(table.symbols)}
    wilcoxon = wilcoxon_scores(table, rows[first_C], rows[~first_C])
    found[WILCOXON] = wilcoxon[[place[gene] for gene in values.genes]]
    return {name: found[name] for name in RANKINGS}


def _own_scores(values: Values, first_C: np.ndarray) -> dict[str, np.ndarray]:
    t_F = welch_t(values.feature_CF.astype(np.float64), first_C)
    live_F = values.mass_F > 0
    share_F = np.where(live_F, t_F, 0.0) / np.where(live_F, values.mass_F, 1.0)
    return {
        FEATURES: np.asarray(values.mass_GF @ share_F).ravel(),
        EFFECT: np.abs(welch_t(values.effect_CG, first_C)),
        HEIGHT: welch_t(values.height_CG, first_C),
        T_TEST: welch_t(values.expression_CG, first_C),
        MEAN: values.expression_CG.mean(0),
    }


def _told(
    values: Values, cells: Compared, by_cell: Sampling, by_donor: Sampling, cfg: ConditionConfig
) -> tuple[tuple[Told, ...], dict[str, np.ndarray]]:
    """How many columns of each kind differ; q of the features by cells and donors ([F], nan: not tested)."""
    live_F = (values.feature_CF != 0).mean(0) > cfg.least / 2
    kinds = {
        FEATURES: values.feature_CF[:, live_F].astype(np.float64),
        EFFECT: values.effect_CG,
        HEIGHT: values.height_CG,
        T_TEST: values.expression_CG.astype(np.float64),
    }
    donors = np.array(cells.donors) if cells.donors is not None else None
    found, q_of = [], {}
    for kind, value_CX in kinds.items():
        q_X = q_values(p_values(by_cell, value_CX, cfg.seed))
        donors_q_X = q_values(p_values(by_donor, value_CX)) if by_donor.kind == "donors" else None
        own = value_CX[cells.n_first :]
        null = null_split(own, cfg.seed, None if donors is None else donors[cells.n_first :], cfg.splits)
        by_donors = None if donors_q_X is None else int((donors_q_X < Q).sum())
        found.append(Told(kind, value_CX.shape[1], int((q_X < Q).sum()), by_donors, null))
        if kind == FEATURES:
            q_of = {name: np.full(len(live_F), np.nan) for name in ("cells", "donors")}
            q_of["cells"][live_F] = q_X
            if donors_q_X is not None:
                q_of["donors"][live_F] = donors_q_X
    return tuple(found), q_of


def _known(
    table: CellTable,
    scores: dict[str, np.ndarray],
    values: Values,
    cells: Compared,
    in_set_G: np.ndarray,
    cfg: ConditionConfig,
) -> tuple[KnownAnswer, ...]:
    """Every ranking against the set, and in random halves of the reference cells."""
    own = slice(cells.n_first, None)
    reference = values._replace(
        **{
            name: getattr(values, name)[own]
            for name in ("feature_CF", "expression_CG", "height_CG", "effect_CG")
        }
    )
    rng, nulls = np.random.default_rng([cfg.seed, 2]), {name: list[float]() for name in RANKINGS}
    rows = cells.rows[own]
    for _ in range(cfg.splits if in_set_G.any() and not in_set_G.all() else 0):
        first_C = np.isin(np.arange(len(rows)), rng.permutation(len(rows))[: len(rows) // 2])
        for name, score_G in _own_scores(reference, first_C).items():
            if name != MEAN and (found := auroc(score_G, in_set_G)):
                nulls[name].append(found.mean)
    order = {name: np.argsort(-score_G, kind="stable")[: cfg.first] for name, score_G in scores.items()}
    return tuple(
        KnownAnswer(
            name,
            auroc(score_G, in_set_G),
            int(in_set_G[order[name]].sum()),
            tuple(np.array(values.genes)[order[name]].tolist()),
            *((float(np.mean(held)), min(held), max(held)) if (held := nulls[name]) else (None, None, None)),
        )
        for name, score_G in scores.items()
    )


def _features(
    tracer: Tracer,
    values: Values,
    cells: Compared,
    by_donor: Sampling,
    q_of: dict[str, np.ndarray],
    in_set_G: np.ndarray,
    cfg: ConditionConfig,
) -> tuple[ToldFeature, ...]:
    """The features with the largest |t| of those with q < 0.05 by cells."""
    first_C = np.arange(len(cells.rows)) < cells.n_first
    t_F = np.abs(welch_t(values.feature_CF.astype(np.float64), first_C))
    t_F[~(q_of["cells"] < Q)] = 0.0
    chosen = [f for f in np.argsort(-t_F, kind="stable")[: cfg.features].tolist() if t_F[f] > 0]
    if not chosen:
        return ()
    value_CX = values.feature_CF[:, chosen].astype(np.float64)
    span, n_features, found = by_donor.of(value_CX), tracer.transcoders.n_features, []
    for x, f in enumerate(chosen):
        mass_G = np.asarray(values.mass_GF[:, [f]].todense()).ravel()
        key = (f // n_features, f % n_features)
        top = [values.genes[g] for g in np.argsort(-mass_G, kind="stable")[:3].tolist() if mass_G[g] > 0]
        area = auroc(value_CX[:, x], first_C)
        donors_q = float(q_of["donors"][f])
        found.append(
            ToldFeature(
                *key,
                name_in(tracer.names, *key) or "",
                float(value_CX[~first_C, x].mean()),
                float(value_CX[first_C, x].mean()),
                float(span.low[x]),
                float(span.high[x]),
                float(q_of["cells"][f]),
                None if np.isnan(donors_q) else donors_q,
                area.mean if area else float("nan"),
                tuple(top),
                float(mass_G[in_set_G].sum() / max(values.mass_F[f], 1e-12)),
            )
        )
    return tuple(found)


def _named(gene: str, values: Values, scores: dict[str, np.ndarray], cells: Compared) -> NamedGene:
    if gene not in values.genes:
        return NamedGene(gene, None, None)
    g = values.genes.index(gene)
    places = {name: 1 + int((score_G > score_G[g]).sum()) for name, score_G in scores.items()}
    area = auroc(values.expression_CG[:, g], np.arange(len(cells.rows)) < cells.n_first)
    return NamedGene(gene, places, area.mean if area else None)
