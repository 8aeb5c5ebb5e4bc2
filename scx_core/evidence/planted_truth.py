"""Methods scored on simulated cells whose label's law is known: who finds the rule's genes, and only them?

For each rule, cells of both of its labels that the model calls right are taken from those it was not trained
on. The target is the rule's "on" against its "off". Every method gives each gene of a cell a strength; two
figures hold it against the truth:

- recovered: of a rule with n genes, the share of them among the method's n strongest (mean strength over the
  cells, 0 where a gene is absent);
- flips: the truth table says for each gene of each cell whether its removal alone changes the label. The
  figure is the chance that such a gene has a larger strength than one whose removal changes nothing (area
  under the ROC curve; 0.5 is chance), over all genes of all cells of the rule.

The gene that marks a rule is left out of both: the law says nothing of a cell without it.
Intervals: 95% bootstrap over cells.
Legend: C cells, G genes of the table, K resamples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.cells import PLANTED, RULES, CellTable, Rule, rule_of
from scx_core.cells.differential import log_expression
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.measured_effects import Measurer
from scx_core.evidence.rankings.rankers import gradient_times_input, linear_tracer
from scx_core.language import predicted, replaced_mlps, score_labels
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.runs.provenance import provenance
from scx_core.sentences import EncodedCell
from scx_core.statistics.intervals import wilson
from scx_core.validation.held_out import draw_rows, held_out_rows

WORDS = {
    "circuit": "circuit (frozen attribution)",
    "gradient": "gradient × input, real model",
    "linear": "frozen attribution, linear maps for MLPs",
    "t-test": "differential expression, on against off",
    "knock-out": "measured knock-outs, one gene at a time",
    "joint": "measured knock-outs, alone or with a second gene",
}
LINEAR_CELLS = 300
RESAMPLES = 500


@dataclass(frozen=True)
class PlantedConfig:
    """How many cells the methods are scored on."""

    cells: int = option(20, "Cells of each label that are looked at", minimum=2)
    joint_cells: int = option(6, "Of these, cells in which pairs of genes are taken out", minimum=1)
    accuracy_cells: int = option(500, "Held-out cells that the accuracy is measured on", minimum=10)
    seed: int = option(0, "Seed of the draws and bootstraps", minimum=0)


class CountedShare(NamedTuple):
    """k of n, with Wilson's interval."""

    k: int
    n: int

    def to_json(self) -> dict[str, float]:
        """CountedShare and interval."""
        low, high = wilson(self.k, self.n)
        return {"k": self.k, "n": self.n, "share": self.k / max(1, self.n), "low": low, "high": high}


class RuleScore(NamedTuple):
    """One method on one rule: both figures with intervals over `n` cells; None where it is not defined."""

    method: str
    n: int
    recovered: tuple[float, float, float]
    flips: tuple[float, float, float] | None
    strongest: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain types, with the method in words."""
        return self._asdict() | {"words": WORDS[self.method]}


def score_planted(
    tracer: Tracer, cfg: PlantedConfig | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """The scores of every method on every rule, the model's accuracy, and what linear maps can do.

    Raises ScxError when the cells or the model's answers are not those of the planted rules.
    """
    cfg = cfg or PlantedConfig()
    _check(tracer)
    held_out = held_out_rows(tracer.lm, tracer.transcoders, tracer.table)
    train = np.setdiff1d(np.arange(tracer.table.n_cells), held_out)
    linear = linear_tracer(tracer, draw_rows(train, LINEAR_CELLS, cfg.seed))
    answers = _answers(tracer, linear, draw_rows(held_out, cfg.accuracy_cells, cfg.seed))
    rules: dict[str, Any] = {}
    for done, rule in enumerate(RULES):
        progress(done, len(RULES), f"rule: {rule.words}")
        rules[rule.name] = _score_rule(tracer, linear, rule, held_out, train, cfg)
    return {
        "simulated": True,
        "answers": answers,
        "rules": rules,
        "mean": _means(rules),
        "provenance": provenance(
            config=to_dict(cfg), data=tracer.table, model=tracer.lm, transcoders=tracer.transcoders
        ),
    }


def _check(tracer: Tracer) -> None:
    wanted = {label for rule in RULES for label in rule.labels}
    if set(tracer.table.types) != wanted or not wanted <= set(tracer.labels):
        raise ScxError(
            "Rules are known for the planted cells and their model only.",
            f"Use the cells, the model and the transcoders “{PLANTED}”.",
        )


def _answers(tracer: Tracer, linear: Tracer, rows: np.ndarray) -> dict[str, Any]:
    """Whole-answer accuracy of the model, and with linear maps, transcoders or nothing as its MLPs; the rows
    of the truth tables one by one; with guesses among a rule's two labels as the baseline."""
    cells, truth = tracer.encode(rows), tracer.table.labels[rows]
    ways = {
        "model": {},
        "transcoders": tracer.transcoders.stand_ins(),
        "linear maps": linear.transcoders.stand_ins(),
        "no MLPs": {k: lambda x_BTd: x_BTd * 0 for k in range(tracer.lm.facts.n_layers)},
    }
    predicted_labels = {}
    for name, stand_ins in ways.items():
        with replaced_mlps(tracer.lm, stand_ins):
            predicted_labels[name] = np.array(
                predicted(score_labels(tracer.lm, cells, tracer.labels, tracer.lead), tracer.labels)
            )
    corner: dict[str, list[bool]] = {}
    for cell, label, guess in zip(cells, truth, predicted_labels["model"], strict=True):
        rule = rule_of(str(label))
        row = "".join("1" if gene in cell.genes else "0" for gene in rule.genes)
        corner.setdefault(f"{rule.name} {row}", []).append(bool(label == guess))
    return {
        "accuracy": _shares(predicted_labels, truth),
        "agreement": _shares(predicted_labels, predicted_labels["model"]),
        "guessing": 0.5,
        "truth_table": {name: CountedShare(sum(c), len(c)).to_json() for name, c in sorted(corner.items())},
    }


def _shares(labels: dict[str, np.ndarray], reference: np.ndarray) -> dict[str, dict[str, float]]:
    """Of each way, the share of the cells that have the reference's label."""
    n = len(reference)
    return {name: CountedShare(int((g == reference).sum()), n).to_json() for name, g in labels.items()}


def _score_rule(
    tracer: Tracer, linear: Tracer, rule: Rule, held_out: np.ndarray, train: np.ndarray, cfg: PlantedConfig
) -> dict[str, Any]:
    rows = np.concatenate([_right_rows(tracer, label, held_out, cfg) for label in rule.labels])
    on, off = rule.labels
    cells, plan = tracer.encode(rows), tracer.plan(on, [off])
    flips = [_flips(rule, cell.genes) for cell in cells]
    measurer = Measurer(tracer, plan)
    single = [_single(measurer, int(row)) for row in rows]
    strengths: dict[str, list[dict[str, float]]] = {
        "circuit": [_frozen(tracer, int(row), rule) for row in rows],
        "gradient": gradient_times_input(tracer.lm, plan, cells),
        "linear": [_frozen(linear, int(row), rule) for row in rows],
        "knock-out": [lost for lost, _ in single],
    }
    strengths = {
        name: [{gene: abs(value) for gene, value in cell.items()} for cell in found]
        for name, found in strengths.items()
    }
    scores = [_score(name, found, rule, flips, cfg.seed) for name, found in strengths.items()]
    rng = np.random.default_rng(cfg.seed)
    some = np.sort(rng.permutation(len(cells))[: 2 * cfg.joint_cells])
    joint = [_joint(measurer, int(rows[c]), single[c][0]) for c in some]
    scores.append(_score("joint", joint, rule, None, cfg.seed))
    scores.insert(3, _score_t_test(tracer.table, rule, train, cells, flips, cfg.seed))
    both = [
        (truth[gene], flipped)
        for truth, (_, found) in zip(flips, single, strict=True)
        for gene, flipped in found.items()
        if gene in truth
    ]
    right = [truth == flipped for truth, flipped in both]
    needed = [flipped for truth, flipped in both if truth]
    return {
        "words": rule.words,
        "genes": rule.genes,
        "passenger": rule.passenger,
        "cells": len(rows),
        "scores": {score.method: score.to_json() for score in scores},
        # Does the model follow the rule where a gene is taken out? Of all genes, and of those that decide.
        "model_follows": CountedShare(sum(right), len(right)).to_json(),
        "model_follows_where_it_flips": CountedShare(sum(needed), len(needed)).to_json(),
    }


def _right_rows(tracer: Tracer, label: str, held_out: np.ndarray, cfg: PlantedConfig) -> np.ndarray:
    """Held-out cells of the label that the model calls so."""
    rows = held_out[tracer.table.labels[held_out] == label]
    rows = rows[np.array(tracer.predict(rows)) == label]
    if len(rows) < 2:
        raise ScxError(f"The model calls {len(rows)} held-out cells {label!r}.", "Train it longer.")
    return draw_rows(rows, cfg.cells, cfg.seed)


def _flips(rule: Rule, genes: Sequence[str]) -> dict[str, bool]:
    """Whether the rule gives another label without each gene but the one that marks it."""
    own = rule.label(set(genes))
    return {gene: rule.label(set(genes) - {gene}) != own for gene in genes if gene != rule.marker}


def _frozen(tracer: Tracer, row: int, rule: Rule) -> dict[str, float]:
    on, off = rule.labels
    return {gene.gene: gene.effect for gene in tracer.gene_effects(row, on, [off])}


def _single(measurer: Measurer, row: int) -> tuple[dict[str, float], dict[str, bool]]:
    """What the real model's target loses without each gene, and whether its sign changes."""
    found = measurer.singles(row, ways=("text",))
    lost = {one.gene: float(one.text or 0.0) for one in found.genes}
    return lost, {gene: found.target * (found.target - value) < 0 for gene, value in lost.items()}


def _joint(measurer: Measurer, row: int, alone: dict[str, float]) -> dict[str, float]:
    """The most that a gene changes the target by, alone or with one other gene out already."""
    pairs = list(itertools.combinations(alone, 2))
    value_R = measurer.together(row, pairs)[0].target
    found = {gene: abs(value) for gene, value in alone.items()}
    for (a, b), value in zip(pairs, (value_R[0] - value_R[1:]).tolist(), strict=True):
        found[a] = max(found[a], abs(value - alone[b]))
        found[b] = max(found[b], abs(value - alone[a]))
    return found


def _score(
    name: str,
    cells: Sequence[dict[str, float]],
    rule: Rule,
    flips: Sequence[dict[str, bool]] | None,
    seed: int,
) -> RuleScore:
    """Both figures of a method that has a strength for each gene of each cell."""
    genes = sorted({gene for cell in cells for gene in cell} - {rule.marker})
    strength_CG = np.array([[cell.get(gene, 0.0) for gene in genes] for cell in cells])
    n = len(cells)
    drawn_KC = _draws(n, seed)
    recovered = [_recovered(genes, mean_G, rule) for mean_G in (drawn_KC @ strength_CG)]
    found = (_recovered(genes, strength_CG.mean(0), rule), *_ends(recovered))
    order = np.argsort(-strength_CG.mean(0), kind="stable")
    area = None
    if flips is not None:
        area = _area_with_interval(
            [[cell[gene] for gene in truth] for cell, truth in zip(cells, flips, strict=True)],
            [list(truth.values()) for truth in flips],
            drawn_KC,
        )
    return RuleScore(name, n, found, area, tuple(genes[k] for k in order[: len(rule.genes)]))


def _draws(n: int, seed: int) -> np.ndarray:
    """How often each of n cells is drawn in each resample, [K, C]."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)


def _recovered(genes: Sequence[str], strength_G: np.ndarray, rule: Rule) -> float:
    top = np.argsort(-strength_G, kind="stable")[: len(rule.genes)]
    return float(np.mean([genes[k] in rule.genes for k in top]))


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(np.asarray(values), [2.5, 97.5])
    return float(low), float(high)


def _area_with_interval(
    strengths: Sequence[Sequence[float]], truths: Sequence[Sequence[bool]], drawn_KC: np.ndarray
) -> tuple[float, float, float]:
    """Area under the ROC curve over all genes of all cells, with its bootstrap over cells."""
    value_N = np.concatenate([np.asarray(one) for one in strengths])
    truth_N = np.concatenate([np.asarray(one, dtype=bool) for one in truths])
    cell_N = np.repeat(np.arange(len(truths)), [len(one) for one in truths])
    areas = [_area(value_N, truth_N, drawn_C[cell_N]) for drawn_C in drawn_KC[: RESAMPLES // 2]]
    return (_area(value_N, truth_N, np.ones(len(value_N))), *_ends(areas))


def _area(value_N: np.ndarray, truth_N: np.ndarray, weight_N: np.ndarray) -> float:
    """Weighted chance that a true one is larger than a false one; ties count half."""
    levels, place_N = np.unique(value_N, return_inverse=True)
    true_L = np.bincount(place_N, weight_N * truth_N, len(levels))
    false_L = np.bincount(place_N, weight_N * ~truth_N, len(levels))
    below_L = np.cumsum(false_L) - false_L / 2
    whole = true_L.sum() * false_L.sum()
    return float((true_L * below_L).sum() / whole) if whole else 0.5


def _score_t_test(
    table: CellTable,
    rule: Rule,
    train: np.ndarray,
    cells: Sequence[EncodedCell],
    flips: Sequence[dict[str, bool]],
    seed: int,
) -> RuleScore:
    """Welch's |t| of the training cells that are on against those that are off, log expression."""
    groups = [
        log_expression(table, train[table.labels[train] == label]).toarray().astype(np.float64)
        for label in rule.labels
    ]
    genes = [str(gene) for gene in table.symbols if gene != rule.marker]
    kept_G = np.array([gene != rule.marker for gene in table.symbols])
    groups = [group_CG[:, kept_G] for group_CG in groups]
    t_G = np.abs(_welch(*groups))
    rng = np.random.default_rng(seed)
    redrawn = [
        _recovered(genes, np.abs(_welch(*(g[rng.integers(0, len(g), len(g))] for g in groups))), rule)
        for _ in range(RESAMPLES // 5)
    ]
    strength = dict(zip(genes, t_G.tolist(), strict=True))
    drawn_KC = _draws(len(cells), seed)
    area = _area_with_interval(
        [[strength[gene] for gene in truth] for truth in flips],
        [list(truth.values()) for truth in flips],
        drawn_KC,
    )
    order = np.argsort(-t_G, kind="stable")[: len(rule.genes)]
    found = (_recovered(genes, t_G, rule), *_ends(redrawn))
    return RuleScore("t-test", sum(map(len, groups)), found, area, tuple(genes[k] for k in order))


def _welch(on_CG: np.ndarray, off_CG: np.ndarray) -> np.ndarray:
    spread_G = on_CG.var(0, ddof=1) / len(on_CG) + off_CG.var(0, ddof=1) / len(off_CG)
    return (on_CG.mean(0) - off_CG.mean(0)) / np.sqrt(np.maximum(spread_G, 1e-12))


def _means(rules: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Each method's two figures, mean over the rules."""
    out: dict[str, dict[str, float | None]] = {}
    for name in WORDS:
        scores = [rule["scores"][name] for rule in rules.values()]
        areas = [score["flips"][0] for score in scores if score["flips"] is not None]
        out[name] = {
            "recovered": float(np.mean([score["recovered"][0] for score in scores])),
            "flips": float(np.mean(areas)) if areas else None,
        }
    return out
