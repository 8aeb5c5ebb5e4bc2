"""Random rules planted into simulated cells: does the software find the genes, and only them?

A planting is a rule of a random kind's genes, marker, passenger and labels, drawn from one pool of genes with
names that mean nothing. Four plantings, one of each kind, share a model (`scx_core/build/plantings.py`), in
which the same gene may belong to several rules: what a gene means depends on the cell's marker.

| kind | on when | n |
|---|---|---|
| both | A and B | 2 |
| pairs | A and B, or C and D | 4 |
| unless | A unless B | 2 |
| twoof | two of A, B, C | 3 |

Each method gives every gene of the table a strength for "on" against "off". A planting is recovered by a
method when its n strongest genes are exactly the rule's n genes, the marker left out (the law says nothing of
a cell without it). Recovered by features: so is the ranking by what the features of the smallest circuit read
(`circuit_reading.py`).
Methods know the label and its rival, and the cells; not the rule, nor its genes. n only judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.attribution.target import TargetPlan
from scx_core.cells import Rule
from scx_core.cells.differential import log_expression
from scx_core.circuits import Tracer
from scx_core.evidence.circuit_reading import ReadingConfig, circuit_reading
from scx_core.evidence.knockouts.influence import gene_influences
from scx_core.evidence.knockouts.measured_effects import Measurer
from scx_core.evidence.rankings.rankers import gradient_times_input, linear_tracer
from scx_core.runs.options import option
from scx_core.validation.held_out import draw_rows

KINDS: tuple[tuple[str, str, int, Callable[..., bool]], ...] = (
    ("both", "A and B", 2, lambda a, b: a and b),
    ("pairs", "A and B, or C and D", 4, lambda a, b, c, d: (a and b) or (c and d)),
    ("unless", "A unless B", 2, lambda a, b: a and not b),
    ("twoof", "two of A, B, C", 3, lambda a, b, c: a + b + c >= 2),
)
KIND_WORDS = {name: words for name, words, _, _ in KINDS}
NEAR = 4  # rows of a truth table that one gene would change are drawn so many times as often as the others
# Share of a model's cells by kind: the rule of four genes is learned last.
SHARE = {"both": 0.2, "pairs": 0.4, "unless": 0.2, "twoof": 0.2}
METHODS = {
    "influence": "measured knock-outs, alone and beside each other gene",
    "singles": "measured knock-outs, one gene at a time",
    "features": "what the smallest circuit's features read",
    "circuit": "circuit (frozen attribution)",
    "gradient": "gradient × input, real model",
    "linear": "frozen attribution, linear maps for MLPs",
    "t-test": "differential expression, on against off",
    "random features": "what random features of the same layers and activation read",
    "random": "random genes",
}
LINEAR_CELLS = 200


class Planting(NamedTuple):
    """One rule: its number of all, and its kind."""

    number: int
    kind: str
    rule: Rule


class PlantedPool(NamedTuple):
    """The plantings that share a model, and all genes of its cells but the markers."""

    plantings: tuple[Planting, ...]
    genes: tuple[str, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in order."""
        return tuple(one.rule for one in self.plantings)


@dataclass(frozen=True)
class ScoreConfig:
    """On how many cells a planting is scored."""

    cells: int = option(12, "Cells of each label that the methods look at", minimum=2)
    features: bool = option(True, "Search the smallest circuit and read its features")
    seed: int = option(0, "Seed of the draws", minimum=0)


def draw_pool(number: int, seed: int, n_genes: int = 16) -> PlantedPool:
    """Plantings 4 × number … 4 × number + 3: one of each kind, with random genes, markers and labels.

    The genes of a rule differ from each other; those of two rules may be the same.
    """
    rng = np.random.default_rng([seed, number])
    names = iter(_words(rng, n_genes + 4 * len(KINDS)))
    genes = [next(names).upper() for _ in range(n_genes)]
    plantings = list[Planting]()
    for place in rng.permutation(len(KINDS)).tolist():
        kind, words, n, active = KINDS[place]
        *own, passenger = (genes[g] for g in rng.permutation(n_genes)[: n + 1].tolist())
        marker, called = next(names).upper(), (next(names), next(names))
        rule = Rule(next(names), words, tuple(own), marker, passenger, active, called)
        plantings.append(Planting(len(KINDS) * number + len(plantings), kind, rule))
    return PlantedPool(tuple(plantings), tuple(genes))


def _words(rng: np.random.Generator, n: int) -> list[str]:
    """n different words of four letters, consonant and vowel in turn."""
    consonants, vowels = np.array(list("bdfgklmnprstvz")), np.array(list("aeiou"))
    found: dict[str, None] = {}
    while len(found) < n:
        parts = [rng.choice(consonants), rng.choice(vowels), rng.choice(consonants), rng.choice(vowels)]
        found["".join(parts)] = None
    return list(found)


class Recovery(NamedTuple):
    """One method on one planting: its strongest genes with their strengths, and how many of the rule's n
    genes are among its n strongest."""

    method: str
    strongest: tuple[tuple[str, float], ...]
    hits: int
    n: int

    @property
    def exact(self) -> bool:
        """Whether the n strongest are the rule's."""
        return self.hits == self.n


class PlantingScore(NamedTuple):
    """What every method finds of one planting; `right` of `tried` held-out cells have the rule's label.

    `circuit`: size, share kept in unseen cells and nodes of the smallest circuit (None: it was not searched,
    `skipped` says why)."""

    planting: Planting
    right: int
    tried: int
    recoveries: tuple[Recovery, ...]
    circuit: dict[str, Any] | None
    skipped: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        rule = self.planting.rule
        return {
            "planting": self.planting.number,
            "kind": self.planting.kind,
            "words": rule.words,
            "genes": list(rule.genes),
            "marker": rule.marker,
            "passenger": rule.passenger,
            "labels": list(rule.labels),
            "right": self.right,
            "tried": self.tried,
            "circuit": self.circuit,
            "skipped": self.skipped,
            "methods": {
                one.method: {
                    "exact": one.exact,
                    "hits": one.hits,
                    "n": one.n,
                    "strongest": [[gene, value] for gene, value in one.strongest],
                }
                for one in self.recoveries
            },
        }


def score_plantings(
    tracer: Tracer,
    pool: PlantedPool,
    held_out: np.ndarray,
    cfg: ScoreConfig | None = None,
    only_right: bool = True,
) -> list[PlantingScore]:
    """Every method on every planting of a model, on held-out cells that the model calls right; on any of the
    rule's cells without `only_right` (a control, which is right by chance, may call all cells alike)."""
    cfg = cfg or ScoreConfig()
    train = np.setdiff1d(np.arange(tracer.table.n_cells), held_out)
    linear = linear_tracer(tracer, draw_rows(train, LINEAR_CELLS, cfg.seed))
    called = np.array(tracer.predict(held_out))
    found = []
    for planting in pool.plantings:
        own = np.isin(tracer.table.labels[held_out], planting.rule.labels)
        right = own & (called == tracer.table.labels[held_out])
        counts = int(right.sum()), int(own.sum())
        read = held_out[right if only_right else own]
        found.append(_score(tracer, linear, planting, read, train, counts, cfg))
    return found


def _score(
    tracer: Tracer,
    linear: Tracer,
    planting: Planting,
    read: np.ndarray,
    train: np.ndarray,
    counts: tuple[int, int],
    cfg: ScoreConfig,
) -> PlantingScore:
    rule, labels = planting.rule, tracer.table.labels
    rows = [draw_rows(read[labels[read] == label], cfg.cells, cfg.seed) for label in rule.labels]
    if min(map(len, rows)) < 2:
        return PlantingScore(planting, *counts, (), None, "the model calls too few cells right")
    plan = tracer.plan(rule.labels[0], [rule.labels[1]])
    strengths = _by_knock_outs(tracer, plan, np.concatenate(rows))
    strengths |= _by_attribution(tracer, linear, plan, rule, np.concatenate(rows))
    strengths["t-test"] = _t_test(tracer, rule, train)
    rng = np.random.default_rng([cfg.seed, planting.number])
    strengths["random"] = dict(
        zip(map(str, tracer.table.symbols), rng.random(tracer.table.n_genes), strict=True)
    )
    circuit, skipped = None, "not asked for"
    if cfg.features:
        reading = circuit_reading(tracer, *rule.labels, np.concatenate(rows), ReadingConfig(seed=cfg.seed))
        strengths["features"], strengths["random features"] = reading.genes, reading.random
        circuit, skipped = reading.to_json(), ""
    recoveries = tuple(_recovery(name, strengths[name], rule) for name in METHODS if name in strengths)
    return PlantingScore(planting, *counts, recoveries, circuit, skipped)


def _by_knock_outs(tracer: Tracer, plan: TargetPlan, rows: np.ndarray) -> dict[str, dict[str, float]]:
    alone, both = gene_influences(Measurer(tracer, plan), rows)
    return {"singles": alone, "influence": both}


def _by_attribution(
    tracer: Tracer, linear: Tracer, plan: TargetPlan, rule: Rule, rows: np.ndarray
) -> dict[str, dict[str, float]]:
    on, off = rule.labels
    cells = {
        "circuit": [{one.gene: one.effect for one in tracer.gene_effects(int(r), on, [off])} for r in rows],
        "gradient": gradient_times_input(tracer.lm, plan, tracer.encode(rows)),
        "linear": [{one.gene: one.effect for one in linear.gene_effects(int(r), on, [off])} for r in rows],
    }
    return {name: mean_size(found) for name, found in cells.items()}


def mean_size(cells: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean |value| of each gene over the cells, 0 where a cell has none of it."""
    total: dict[str, float] = {}
    for cell in cells:
        for gene, value in cell.items():
            total[gene] = total.get(gene, 0.0) + abs(float(value)) / len(cells)
    return total


def _t_test(tracer: Tracer, rule: Rule, train: np.ndarray) -> dict[str, float]:
    """Welch's |t| of log expression, training cells that are on against those that are off."""
    on_CG, off_CG = (
        log_expression(tracer.table, train[tracer.table.labels[train] == label]).toarray()
        for label in rule.labels
    )
    spread_G = on_CG.var(0, ddof=1) / len(on_CG) + off_CG.var(0, ddof=1) / len(off_CG)
    t_G = np.abs(on_CG.mean(0) - off_CG.mean(0)) / np.sqrt(np.maximum(spread_G, 1e-12))
    return dict(zip(map(str, tracer.table.symbols), t_G.tolist(), strict=True))


def _recovery(method: str, strength: Mapping[str, float], rule: Rule) -> Recovery:
    order = sorted(
        (gene for gene in strength if gene != rule.marker), key=lambda gene: (-strength[gene], gene)
    )
    top = order[: len(rule.genes)]
    hits = len(set(top) & set(rule.genes))
    shown = tuple((gene, float(strength[gene])) for gene in order[: len(rule.genes) + 2])
    return Recovery(method, shown, hits, len(rule.genes))
