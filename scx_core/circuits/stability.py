"""What else could decide what a circuit says: the order of tied genes, or the wording of the prompt.

Ties: the mean gene effects of the same cells under other tie seeds. Prompts: one consensus a prompt, on the
same cells. A checkpoint of Cell2Sentence was trained on fifteen templates, one drawn for each cell: what its
circuits say of a cell type should not depend on which of them is asked with. Beside both stands how alike
random halves of the cells are: that much cells alone decide.
Legend: C cells, X genes or features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from scx_core.cells.choices import as_names
from scx_core.circuits.circuit import Circuit
from scx_core.circuits.consensus import ConsensusConfig, Merged
from scx_core.circuits.trace import TraceConfig
from scx_core.circuits.tracer import CONSENSUS, TRACE, Tracer
from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import prompts as known_prompts
from scx_core.statistics.intervals import Interval, wilson
from scx_core.transcoders.check import opened_as_is, other_text_words

SEEDS, TOPS = (0, 1, 2, 3, 4), (10, 20)
ALL = "all"
SPLITS = 5  # random halves of the cells, a prompt

Effects = Mapping[str, float]


class TieStability(NamedTuple):
    """How alike the strongest genes are under other tie seeds.

    `jaccard`: of the so many strongest, (mean, least) over all pairs of seeds. `halves`: the same between the
    rankings of two random halves of the cells under one seed, (mean, least) over seeds: what cells alone
    decide. `genes`: the strongest ten of each seed.
    """

    jaccard: dict[int, tuple[float, float]]
    halves: dict[int, tuple[float, float]]
    genes: dict[int, tuple[str, ...]]
    n_cells: int


def tie_stability(
    tracer: Tracer,
    label: str,
    rows: Sequence[int] | np.ndarray,
    *,
    answer: str | None = None,
    against: Sequence[str] | None = None,
    seeds: Sequence[int] = SEEDS,
    tops: Sequence[int] = TOPS,
    progress: Progress = silent,
) -> TieStability:
    """Mean gene effects (frozen attribution) of these cells under each tie seed, ranked by size and compared.

    Only the tie order changes: the cells, the model and the target stay. Raises ScxError when the model has
    no such answer.
    """
    rows = np.asarray(rows, dtype=np.int64)
    answer = answer or tracer.answer_for(label)
    rng = np.random.default_rng(0)
    strongest: dict[int, list[str]] = {}
    halves: dict[int, list[float]] = {top: [] for top in tops}
    for done, seed in enumerate(seeds, 1):
        effects = _effects(with_ties(tracer, seed), rows, answer, against)
        strongest[seed] = _ranked(effects)
        half = rng.permutation(len(rows)) < len(rows) // 2
        parts = [
            [one for one, here in zip(effects, half, strict=True) if here == side] for side in (True, False)
        ]
        if min(map(len, parts)):
            first, second = map(_ranked, parts)
            for top in tops:
                halves[top].append(jaccard(first[:top], second[:top]))
        progress(done, len(seeds), "tie orders")
    pairs = list(combinations(seeds, 2))
    found = {top: [jaccard(strongest[a][:top], strongest[b][:top]) for a, b in pairs] for top in tops}
    return TieStability(
        {top: _mean_least(values) for top, values in found.items()},
        {top: _mean_least(values) for top, values in halves.items()},
        {seed: tuple(genes[:10]) for seed, genes in strongest.items()},
        len(rows),
    )


def jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    """Shared over all, 1 for two empty sets."""
    both = set(first) | set(second)
    return len(set(first) & set(second)) / len(both) if both else 1.0


def by_size(effects: Effects) -> list[str]:
    """Names by |effect|, the largest first."""
    return sorted(effects, key=lambda name: (-abs(effects[name]), name))


def _mean_least(values: Sequence[float]) -> tuple[float, float]:
    return (float(np.mean(values)), float(min(values))) if values else (1.0, 1.0)


def with_ties(tracer: Tracer, seed: int) -> Tracer:
    """The tracer, with another order of ties and the same lead before the answer."""
    lm = replace(tracer.lm, wanted=replace(tracer.lm.sentence_config, tie_seed=seed))
    return replace(tracer, lm=lm)


def _effects(
    tracer: Tracer, rows: np.ndarray, answer: str, against: Sequence[str] | None
) -> list[dict[str, float]]:
    return [
        {gene.gene: gene.effect for gene in tracer.gene_effects(int(row), answer, against)} for row in rows
    ]


def _ranked(cells: Sequence[dict[str, float]]) -> list[str]:
    """Genes by |mean effect| over the cells, a cell without the gene counting as 0."""
    sums: dict[str, float] = {}
    for cell in cells:
        for gene, effect in cell.items():
            sums[gene] = sums.get(gene, 0.0) + effect
    return by_size(sums)


class Alike(NamedTuple):
    """How alike two rankings by |effect| are: Jaccard index of the so many strongest (1 the same, 0 none
    shared), and Spearman's correlation of the signed effects over all that either holds (absent: 0; nan
    for fewer than 3)."""

    jaccard: dict[int, float]
    spearman: float
    n: int


class PromptPair(NamedTuple):
    """Two prompts and how alike their circuits are, in genes and in features."""

    first: str
    second: str
    genes: Alike
    features: Alike


class Summary(NamedTuple):
    """One figure over pairs of prompts (mean, least, most), and the same between halves of the cells."""

    what: str
    pairs: tuple[float, float, float]
    halves: tuple[float, float, float]


class PromptAgreement(NamedTuple):
    """The circuits of one cell type by prompt, on the same cells, and how alike they are. `halves`: two
    random halves of the cells under one prompt. `other_text`: prompts that the set was not trained on."""

    label: str
    answer: str
    n_cells: int
    circuits: dict[str, Circuit]
    pairs: tuple[PromptPair, ...]
    halves: tuple[PromptPair, ...]
    other_text: tuple[str, ...]

    def called(self, prompt: str) -> tuple[int, int, Interval]:
        """In how many cells the model gives the answer with a prompt, of how many; Wilson's interval."""
        k = round(self.circuits[prompt].scores.get("called", 0.0) * self.n_cells)
        return k, self.n_cells, wilson(k, self.n_cells)

    def summaries(self) -> tuple[Summary, ...]:
        """Each figure over all pairs, beside the halves."""
        figures: list[tuple[str, Callable[[PromptPair], float]]] = []
        for kind in ("genes", "features"):
            figures += [(f"{kind}: Jaccard of the top {top}", _top(kind, top)) for top in TOPS]
            figures.append((f"{kind}: Spearman of the effects", _spearman(kind)))
        return tuple(
            Summary(what, _spread(map(of, self.pairs)), _spread(map(of, self.halves))) for what, of in figures
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, and the circuits in their own format."""
        rows = []
        for name, circuit in self.circuits.items():
            k, n, (low, high) = self.called(name)
            rows.append(
                {
                    "prompt": name,
                    "score": circuit.target.value,
                    "unit": circuit.target.unit,
                    "called": {"k": k, "n": n, "low": low, "high": high},
                    "genes": by_size({gene.gene: gene.effect for gene in circuit.genes})[:10],
                    "trained_on": name not in self.other_text,
                }
            )
        return {
            "label": self.label,
            "answer": self.answer,
            "n_cells": self.n_cells,
            "prompts": rows,
            "agreement": [one._asdict() for one in self.summaries()],
            "pairs": [_plain(pair) for pair in self.pairs],
            "halves": [_plain(pair) for pair in self.halves],
            "circuits": {name: circuit.to_json() for name, circuit in self.circuits.items()},
        }


def prompts_of(lm: Language, asked: Sequence[str]) -> list[str]:
    """The prompts that are asked for: names or texts of templates, or `all`: those that the checkpoint was
    trained on. Raises ScxError for fewer than two, or one that does not exist."""
    names: list[str] = []
    for one in as_names(asked):
        parts = [one] if "{" in one else [part.strip() for part in one.split(",") if part.strip()]
        names += [name for part in parts for name in (trained_on(lm) if part == ALL else [part])]
    names = list(dict.fromkeys(names))
    own = lm.sentence_config.prompt
    if len(names) < 2:
        raise ScxError(
            f"Only one prompt is asked for ({', '.join(names)}): there is nothing to compare it with.",
            f"Name at least two, as --prompts {own},NAME. Known: {', '.join(known_prompts())}.",
        )
    for name in names:
        lm.prompt_for(replace(lm.sentence_config, prompt=name))
    return names


def trained_on(lm: Language) -> list[str]:
    """The templates that a checkpoint was trained on; of a model of our own its prompt."""
    if lm.contract is None:
        return [lm.sentence_config.prompt]
    return [name for name in known_prompts() if name.startswith("c2s-")]


def prompt_agreement(
    tracer: Tracer,
    label: str,
    names: Sequence[str],
    *,
    answer: str | None = None,
    against: Sequence[str] | None = None,
    trace: TraceConfig = TRACE,
    cfg: ConsensusConfig = CONSENSUS,
    progress: Progress = silent,
) -> PromptAgreement:
    """The consensus of a cell type with each prompt, on the same cells, and how alike they are.

    The transcoders stay; on a prompt that they were not trained on they are used as they are, and that
    circuit's provenance says so. Raises ScxError when the table has no such cells or the model no such
    answer.
    """
    rows = tracer.draw(label, cfg)
    answer = answer or tracer.answer_for(label)
    circuits: dict[str, Circuit] = {}
    effects: dict[str, tuple[Effects, Effects]] = {}
    halves: list[PromptPair] = []
    other: list[str] = []
    for done, name in enumerate(names):
        one = with_prompt(tracer, name)
        if other_text_words(one.lm, tracer.transcoders):
            other.append(name)
        plan = one.plan(answer, against, trace.target, trace.token)
        merged = one.merged(rows, plan, trace, cfg, silent, label)
        circuits[name] = one.combined(label, rows, plan, merged, trace, cfg)
        effects[name] = _mean(merged)
        # how alike two random halves of the cells are under one prompt, `SPLITS` times
        rng, found = np.random.default_rng(cfg.seed), []
        for _ in range(SPLITS if len(merged) > 1 else 0):
            order = rng.permutation(len(merged)).tolist()
            parts = order[: len(order) // 2], order[len(order) // 2 :]
            first, second = (_mean([merged[c] for c in part]) for part in parts)
            found.append(_pair(name, name, first, second))
        halves += found
        progress(done + 1, len(names), f"{label}: prompt {name[:24]}")
    pairs = tuple(_pair(a, b, effects[a], effects[b]) for a, b in combinations(names, 2))
    return PromptAgreement(label, answer, len(rows), circuits, pairs, tuple(halves), tuple(other))


def with_prompt(tracer: Tracer, name: str) -> Tracer:
    """The tracer with another prompt; its transcoders marked where they were trained on another."""
    lm = replace(tracer.lm, wanted=replace(tracer.lm.sentence_config, prompt=name))
    coders = opened_as_is(lm, tracer.transcoders)
    return replace(tracer, lm=lm, transcoders=coders, rep=tracer.rep._replace(lm=lm))


def _mean(cells: Sequence[Merged]) -> tuple[Effects, Effects]:
    """Mean effect over the cells of every gene and of every feature, 0 where a cell's circuit lacks it."""
    genes: dict[str, float] = {}
    features: dict[str, float] = {}
    for cell in cells:
        for gene, (effect, _) in cell.genes.items():
            genes[gene] = genes.get(gene, 0.0) + effect / len(cells)
        for (name, node), value_3 in zip(cell.nodes.items(), cell.value_M3.tolist(), strict=True):
            if node.kind == "feature":
                features[name] = features.get(name, 0.0) + value_3[2] / len(cells)
    return genes, features


def _pair(a: str, b: str, first: tuple[Effects, Effects], second: tuple[Effects, Effects]) -> PromptPair:
    return PromptPair(a, b, *(alike(one, other) for one, other in zip(first, second, strict=True)))


def alike(first: Effects, second: Effects) -> Alike:
    """How alike two rankings of genes or features are."""
    ranked = by_size(first), by_size(second)
    union = sorted({*first, *second})
    value_2X = np.array([[one.get(name, 0.0) for name in union] for one in (first, second)])
    defined = len(union) >= 3 and bool((np.ptp(value_2X, axis=1) > 0).all())
    return Alike(
        {top: jaccard(ranked[0][:top], ranked[1][:top]) for top in TOPS},
        float(spearmanr(*value_2X).statistic) if defined else float("nan"),
        len(union),
    )


def _top(kind: str, top: int) -> Callable[[PromptPair], float]:
    return lambda pair: getattr(pair, kind).jaccard[top]


def _spearman(kind: str) -> Callable[[PromptPair], float]:
    return lambda pair: getattr(pair, kind).spearman


def _spread(values: Iterable[float]) -> tuple[float, float, float]:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return float("nan"), float("nan"), float("nan")
    return float(np.mean(known)), min(known), max(known)


def _plain(pair: PromptPair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "genes": pair.genes._asdict(),
        "features": pair.features._asdict(),
    }
