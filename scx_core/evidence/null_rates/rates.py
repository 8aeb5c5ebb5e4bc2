"""How often each significance call of this software says something where there is nothing to say.

Activations and effects are made once; then labels are dealt anew, or signs turned, over and over, and the
same function that calls in earnest calls again. Of each call: the share of tests with p below the nominal
level (or of intervals that leave 0 out), and the share of whole families, after Benjamini and Hochberg, in
which anything is called.

| call | what is dealt anew |
|---|---|
| difference, genes / features | which cells of two types pooled belong to which side |
| difference over donors | which of each donor's cells belong to which side |
| consensus, genes / features | the sign of each cell's effects |
| consensus over donors | the sign of each cell's effects, beside what its donor adds to all of its cells |
| knock-out gene tables | the sign of each cell's effects, a gene only where a cell holds it |
| paired rankings | which of two random gene sets of the same ranks counts as the circuit's |
| gene sets of features | the names of the genes in the sets |
| conditions within a type | which cells of the type are of which condition (`of_features`) |
| features of a batch | which cells of each type are of which batch |
| the verdict "cell type" | which cells are of which type |
| features matched between sets | coordinates, tokens or gene names of the second set |

Legend: C cells, X genes or features, R runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.cells.choices import as_names
from scx_core.circuits import Tracer
from scx_core.circuits.consensus import ConsensusConfig
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.measured_effects import joint_drops
from scx_core.evidence.rankings.rankers import mean_places, rank_matched
from scx_core.evidence.stability import StabilityConfig, readings
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.hypothesis_tests import Q, family, p_values, q_values
from scx_core.statistics.intervals import Interval, bootstrap, wilson
from scx_core.statistics.resampling import held_intervals, one_group, two_groups

NOMINAL = 0.05


@dataclass(frozen=True)
class NullConfig:
    """How often, and on how many cells."""

    repeats: int = option(200, "Runs of each call with labels dealt anew", minimum=10)
    cells: int = option(16, "Cells of each of two types", minimum=4)
    sets: int = option(12, "Random gene sets for the paired rankings", minimum=3)
    donors: int = option(5, "Donors that cells are dealt to where none are known", minimum=2)
    seed: int = option(0, "Seed of cells, labels and signs", minimum=0)


NULLS = NullConfig()


class Rate(NamedTuple):
    """One call where nothing is to be found: `rate` of its `tests` a run (mean and bootstrap over runs), and
    in how many of `runs` families anything was called (Wilson); None where it makes no such family."""

    call: str
    runs: int
    tests: int
    rate: float
    low: float
    high: float
    any_found: int | None
    any_low: float | None
    any_high: float | None
    nominal: float = NOMINAL

    @property
    def within(self) -> bool:
        """Whether the rate, and that of families, may be the nominal one or less."""
        return self.low <= self.nominal and (self.any_low is None or self.any_low <= NOMINAL)


@shown
class NullRates(NamedTuple):
    """All calls."""

    rates: tuple[Rate, ...]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        within = sum(rate.within for rate in self.rates)
        return f"<NullRates: {within} of {counted(len(self.rates), 'call')} within the nominal rate>"

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        rates = [one._asdict() | {"within": one.within} for one in self.rates]
        return {"nominal": NOMINAL, "rates": rates, "provenance": self.provenance}


Calls = Callable[[np.random.Generator], np.ndarray]  # p of each test of one run


def null_rates(
    tracer: Tracer,
    types: tuple[str, str] | None = None,
    *,
    cfg: NullConfig = NULLS,
    progress: Progress = silent,
) -> NullRates:
    """Every call under labels dealt anew, on cells of two types (default: the two most frequent).

    Raises ScxError when the table has fewer than two types, or one has fewer than four cells.
    """
    if types and (isinstance(types, str) or len(types) != 2):
        raise ScxError(
            f"Two cell types are wanted, not {', '.join(map(repr, as_names(types)))}.", "Name two types."
        )
    first, second = types or tuple(str(name) for name in tracer.table.cells_per_type().index[:2])
    rows = [tracer.draw(name, ConsensusConfig(cells=cfg.cells, seed=cfg.seed)) for name in (first, second)]
    if min(map(len, rows)) < 4:
        raise ScxError(f"{first} or {second} has fewer than four cells.", "Take other types.")
    every, answer = np.concatenate(rows), tracer.answer_for(first)
    found = readings(tracer, every, answer, StabilityConfig(cells=len(every)), progress=progress)
    donor_C = _donors(tracer.donors(every), len(every), cfg)
    calls: dict[str, Calls] = {}
    for kind, reading in found.items():
        value_CX = reading.effect_CX
        calls[f"difference, {kind}"] = difference_call(value_CX, kind, None)
        calls[f"difference over donors, {kind}"] = difference_call(value_CX, kind, donor_C)
        calls[f"consensus, {kind}"] = _consensus(value_CX[: len(rows[0])], None)
        calls[f"consensus over donors, {kind}"] = _consensus(value_CX, donor_C)
    drop_SC = _random_drops(tracer, rows[0], answer, cfg)
    calls["paired rankings and curves"] = _paired(drop_SC)
    rates = []
    for done, (name, call) in enumerate(calls.items()):
        progress(done, len(calls) + 1, name)
        rates.append(rate_of(name, call, cfg))
    genes_CX = np.where(found["genes"].effect_CX == 0, np.nan, found["genes"].effect_CX)[: len(rows[0])]
    rates.append(rate_of("knock-out gene tables (intervals)", _held(genes_CX), cfg, family=False))
    about = tracer.about({"nulls": to_dict(cfg)}, seed=cfg.seed, cells=every.tolist(), types=[first, second])
    return NullRates(tuple(rates), about)


def _donors(known: Sequence[str] | None, n: int, cfg: NullConfig) -> np.ndarray:
    """The cells' donors, or donors that they are dealt to evenly."""
    if known is not None and len(set(known)) >= 4:
        return np.array(known, dtype=object)
    return np.random.default_rng([cfg.seed, 3]).permutation(np.arange(n) % cfg.donors)


def difference_call(value_CX: np.ndarray, kind: str, donor_C: np.ndarray | None) -> Calls:
    """The sides dealt anew: cells, or sides within each donor that has cells of both."""

    def run(rng: np.random.Generator) -> np.ndarray:
        n = len(value_CX)
        first_C = rng.permutation(n) < n // 2
        order = np.concatenate([np.flatnonzero(first_C), np.flatnonzero(~first_C)])
        donors = None if donor_C is None else donor_C[order]
        sampling = two_groups(n // 2, n - n // 2, int(rng.integers(2**31)), donors=donors)
        tested = value_CX[order]
        if kind == "features":
            tested = tested[:, family(tested != 0, sampling, 0.3)]
        return p_values(sampling, tested, int(rng.integers(2**31)))

    return run


def _consensus(value_CX: np.ndarray, donor_C: np.ndarray | None) -> Calls:
    """Each cell's effects by a random sign: their mean is 0. Donors vary beside, by as much as a cell does: a
    t over donors takes their means for normal. Were each donor's mean the same but for its sign, all would
    have one sign in 2 ** (1 − donors) of the cases, a quarter for three, and no test could tell."""

    def run(rng: np.random.Generator) -> np.ndarray:
        sampling = one_group(len(value_CX), int(rng.integers(2**31)), donor_C)
        drawn_CX = value_CX * _signs(len(value_CX), rng)
        if sampling.kind == "donors":
            n_donors = sampling.count_BU.shape[1]
            of_donor = rng.normal(size=(n_donors, value_CX.shape[1])) * value_CX.std(0)
            drawn_CX = drawn_CX + of_donor[sampling.unit_C]
        return p_values(sampling, drawn_CX, int(rng.integers(2**31)))

    return run


def _signs(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice([-1.0, 1.0], (n, 1))


def _held(value_CX: np.ndarray) -> Calls:
    """1 where an interval holds 0, 0 where not: what a gene table is told from 0 by."""

    def run(rng: np.random.Generator) -> np.ndarray:
        sampling = one_group(len(value_CX), int(rng.integers(2**31)))
        _, low_X, high_X = held_intervals(sampling, value_CX * _signs(len(value_CX), rng))
        enough_X = (~np.isnan(value_CX)).sum(0) >= 6
        return np.asarray(((low_X <= 0) & (high_X >= 0))[enough_X & ~np.isnan(low_X)], dtype=float)

    return run


def _random_drops(tracer: Tracer, rows: np.ndarray, answer: str, cfg: NullConfig) -> np.ndarray:
    """What the answer loses in each cell without random genes of about the same ranks, [S, C]."""
    sentences = [cell.genes for cell in tracer.encode(rows)]
    places = mean_places(sentences, tracer.lm.sentence_config.n_genes)
    rng = np.random.default_rng([cfg.seed, 4])
    top = sorted(places, key=lambda gene: (places[gene], gene))[5:15]
    return joint_drops(
        tracer, rows, answer, [rank_matched(places, top, rng) for _ in range(cfg.sets)]
    ).drop_SC


def _paired(drop_SC: np.ndarray) -> Calls:
    """One random set plays the circuit, the others its rivals; which of each pair, cell by cell, is dealt."""

    def run(rng: np.random.Generator) -> np.ndarray:
        order = rng.permutation(len(drop_SC))
        ahead_CX = (drop_SC[order[0]] - drop_SC[order[1:]]).T
        sampling = one_group(len(ahead_CX), int(rng.integers(2**31)))
        return p_values(sampling, ahead_CX * _signs(len(ahead_CX), rng), int(rng.integers(2**31)))

    return run


def gene_set_rate(atlas: Any, collection: Any, cfg: NullConfig = NULLS) -> Rate:
    """How many features are called enriched, and in how many runs any, with the sets' gene names permuted;
    the nominal level is the false discovery rate of `EnrichConfig`."""
    from scx_core.atlas.gene_sets.enrich import EnrichConfig, best_sets, feature_genes, permuted
    from scx_core.atlas.gene_sets.shared_genes import fit_sets

    enrich = EnrichConfig()
    found = feature_genes(atlas, enrich)
    member_SG = fit_sets(collection, found.genes, enrich, atlas.meta.get("organism")).member_SG
    tested = int((np.diff(found.list_FG.indptr) > 0).sum())
    rng = np.random.default_rng([cfg.seed, 5])
    called_R = np.array(
        [
            (best_sets(found, permuted(member_SG, rng), enrich.fdr).set_F >= 0).sum()
            for _ in range(cfg.repeats)
        ]
    )
    return _counted("gene sets of features (features called)", called_R, tested, called_R > 0)


def rate_of(name: str, call: Calls, cfg: NullConfig, family: bool = True, nominal: float = NOMINAL) -> Rate:
    """The rate of a call: `call` gives the p of each test of one run, or 0 where it calls and 1 where not."""
    rng = np.random.default_rng([cfg.seed, *name.encode()])
    p_RX = [call(rng) for _ in range(cfg.repeats)]
    below_R = np.array([(p_X < NOMINAL).sum() for p_X in p_RX])
    tests = round(float(np.mean([len(p_X) for p_X in p_RX])))
    any_R = np.array([(q_values(p_X) < Q).any() for p_X in p_RX]) if family else None
    return _counted(name, below_R, tests, any_R)._replace(nominal=nominal)


def _counted(name: str, below_R: np.ndarray, tests: int, any_R: np.ndarray | None) -> Rate:
    """Tests of one run go together, so the interval of their rate draws runs."""
    n, rate_R = len(below_R), below_R / max(1, tests)
    span = bootstrap(rate_R[:, None], lambda sums_K1: sums_K1[:, 0] / n)
    if any_R is None:
        return Rate(name, n, tests, float(rate_R.mean()), *span, None, None, None)
    anything: Interval = wilson(int(any_R.sum()), n)
    return Rate(name, n, tests, float(rate_R.mean()), *span, int(any_R.sum()), *anything)


def null_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table."""
    rows: list[tuple[str, ...]] = []
    for one in result["rates"]:
        any_words = "–"
        if one["any_found"] is not None:
            any_words = f"{one['any_found']} of {one['runs']} [{one['any_low']:.3f}, {one['any_high']:.3f}]"
        rate = f"{one['rate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        within = "yes" if one["within"] else "no"
        if one["nominal"] != NOMINAL:
            within += f" (of {one['nominal']:g})"
        rows.append((one["call"], str(one["runs"]), str(one["tests"]), rate, any_words, within))
    return ("call", "runs", "tests a run", "rate at the level", "families with a call", "within"), rows
