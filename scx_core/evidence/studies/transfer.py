"""A model trained on one study, asked about others that it never saw.

Answers beside a logistic regression on log-normalised genes, trained on the same cells; the genes and
features that its circuits name in each study; transcoders trained on one study used on another; features that
tell the study, and what the answer does without them. Cells of the training study are its test cells alone.
Legend: C cells, K answers, S studies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from scx_core.cells import CellTable
from scx_core.circuits import Tracer
from scx_core.evidence.studies.told_features import ToldBy, Without, answers_without, cell_means, told_by
from scx_core.evidence.studies.top_overlap import Overlap, StudyEffects, effects_of, overlaps
from scx_core.language import answer_form, encode_cells, predicted, score_labels
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.intervals import Interval
from scx_core.transcoders import TranscoderSet
from scx_core.validation import validate
from scx_core.validation.held_out import draw_rows
from scx_core.validation.label_agreement import balanced, difference, expression, fit_logistic, share


@dataclass(frozen=True)
class TransferConfig:
    """From how many cells of each study it is said."""

    named: int = option(600, "Cells of a study that are named, at most, drawn with the seed", minimum=10)
    orders: int = option(3, "Orders of equal genes that an answer is averaged over", minimum=1)
    traced: int = option(20, "Cells of each type and study whose genes and features are compared", minimum=4)
    top: int = option(20, "Strongest genes, and features, that are compared", minimum=1)
    permutations: int = option(10_000, "Permutations of each overlap", minimum=100)
    measured: int = option(80, "Cells of a study that stand-ins for the MLPs are measured on", minimum=10)
    told: int = option(25, "Cells of each type and study whose features are asked for the study", minimum=5)
    held: int = option(20, "Features that tell the study most and are held at their mean", minimum=1)
    seed: int = option(0, "Seed of draws, permutations and bootstraps", minimum=0)


class StudyAccuracy(NamedTuple):
    """One study of `n` cells: the model's answers (mean over tie orders; `orders`: each order alone), and
    those of logistic regression on the model's genes and on all genes shared by the studies. `ahead`: the
    model less the logistic regression on all shared genes, paired. Balanced accuracies count each type the
    same.
    """

    study: str
    n: int
    accuracy: float
    interval: Interval
    balanced: float
    balanced_interval: Interval
    orders: tuple[float, ...]
    recall: dict[str, float]
    logistic: float
    logistic_balanced: float
    logistic_all: float
    logistic_all_balanced: float
    ahead: float
    ahead_interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        spans = {
            key: getattr(self, key)._asdict() for key in ("interval", "balanced_interval", "ahead_interval")
        }
        return self._asdict() | spans


class Fit(NamedTuple):
    """A set on one study's cells (`n`): how well it stands in there. `whose`: where it was trained."""

    study: str
    whose: str
    n: int
    fvu: float
    ce_recovered: float
    ce_interval: Interval
    agreement: float
    agreement_interval: Interval
    l0: float


class Transfer(NamedTuple):
    """All of it; the first study is the one that the model was trained on (its test cells)."""

    accuracy: tuple[StudyAccuracy, ...]
    overlaps: tuple[Overlap, ...]
    tops: dict[str, dict[str, dict[str, list[str]]]]
    fits: tuple[Fit, ...]
    told: tuple[ToldBy, ...]
    without: tuple[Without, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, with intervals and n."""
        fits = [
            one._asdict()
            | {key: getattr(one, key)._asdict() for key in ("ce_interval", "agreement_interval")}
            for one in self.fits
        ]
        return {
            "accuracy": [one.to_json() for one in self.accuracy],
            "overlaps": [one._asdict() for one in self.overlaps],
            "tops": self.tops,
            "fits": fits,
            "told": [one._asdict() for one in self.told],
            "without": [one.to_json() for one in self.without],
            "provenance": self.provenance,
        }


class Study(NamedTuple):
    """One study: its tracer (the one model and set, its cells over the model's genes), the rows that may be
    looked at, and the same cells over all genes that the studies share."""

    tracer: Tracer
    rows: np.ndarray
    shared: CellTable


def transfer_study(
    studies: Mapping[str, Study],
    train_rows: np.ndarray,
    there: Mapping[str, tuple[TranscoderSet, np.ndarray]],
    cfg: TransferConfig | None = None,
    progress: Progress = silent,
) -> Transfer:
    """`studies`: the training study first. `train_rows`: its cells that the model was trained on. `there`: of
    other studies, a set trained on them (with the same model) and the rows that it was not trained on."""
    cfg = cfg or TransferConfig()
    progress(0, 4, "answers")
    accuracy = tuple(_accuracies(studies, train_rows, cfg))
    progress(1, 4, "genes and features")
    found = {name: _effects(study, cfg) for name, study in studies.items()}
    shared = overlaps(found, cfg.top, cfg.permutations, cfg.seed)
    tops = {
        name: {
            label: {
                "genes": one.genes.top(cfg.top, set(one.genes.effect)),
                "features": one.features.top(cfg.top, set(one.features.effect)),
            }
            for label, one in by.items()
        }
        for name, by in found.items()
    }
    progress(2, 4, "transcoders")
    fits = tuple(_fits(studies, there, cfg))
    progress(3, 4, "features that tell the study")
    told, without = _told(studies, train_rows, cfg)
    first = next(iter(studies.values())).tracer
    progress(4, 4, "")
    return Transfer(
        accuracy, tuple(shared), tops, fits, told, without,
        first.about({"transfer": to_dict(cfg)}, seed=cfg.seed),
    )  # fmt: skip


def answers_over_orders(tracer: Tracer, rows: np.ndarray, orders: int) -> tuple[list[str], list[list[str]]]:
    """The answer of each row by the mean log-probability over orders of equal genes, and by each order."""
    lm, lead, scores = tracer.lm, answer_form(tracer.lm, tracer.table).lead, []
    for seed in range(orders):
        cells = encode_cells(lm, tracer.table, rows, sentences=replace(lm.sentence_config, tie_seed=seed))
        scores.append(score_labels(lm, cells, tracer.labels, lead))
    single = [predicted(one, tracer.labels) for one in scores]
    return predicted(np.mean(scores, 0), tracer.labels), single


def _accuracies(
    studies: Mapping[str, Study], train_rows: np.ndarray, cfg: TransferConfig
) -> list[StudyAccuracy]:
    home, out = next(iter(studies.values())), []
    few, every = fit_logistic(home.tracer.table, train_rows), fit_logistic(home.shared, train_rows)
    for name, (tracer, every_row, shared) in studies.items():
        rows = draw_rows(every_row, cfg.named, cfg.seed)
        truth = tracer.table.answers[rows].astype(str)
        given, single = answers_over_orders(tracer, rows, cfg.orders)
        right_C = np.array(given) == truth
        few_C, every_C = few.labels_of(tracer.table, rows) == truth, every.labels_of(shared, rows) == truth
        accuracy, interval = share(right_C)
        even, even_interval = balanced(truth, right_C)
        ahead, ahead_interval = difference(right_C, every_C)
        out.append(
            StudyAccuracy(
                name,
                len(rows),
                accuracy,
                interval,
                even,
                even_interval,
                tuple(float((np.array(one) == truth).mean()) for one in single),
                {label: float(right_C[truth == label].mean()) for label in sorted(set(truth.tolist()))},
                float(few_C.mean()),
                balanced(truth, few_C)[0],
                float(every_C.mean()),
                balanced(truth, every_C)[0],
                ahead,
                ahead_interval,
            )
        )
    return out


def _drawn(study: Study, label: str, n: int, seed: int) -> np.ndarray:
    """At most n of the study's rows of a type, drawn with the seed."""
    return draw_rows(study.rows[study.tracer.table.labels[study.rows] == label], n, seed)


def _effects(study: Study, cfg: TransferConfig) -> dict[str, StudyEffects]:
    """Of every type with four cells or more."""
    found = {}
    for label in study.tracer.table.types:
        rows = _drawn(study, label, cfg.traced, cfg.seed)
        if len(rows) >= 4:
            found[label] = effects_of(study.tracer, rows, label)
    return found


def _fits(
    studies: Mapping[str, Study], there: Mapping[str, tuple[TranscoderSet, np.ndarray]], cfg: TransferConfig
) -> list[Fit]:
    """The training study's set on every study, and the one that was trained there on the same rows."""
    home, out = next(iter(studies)), []
    for name, study in studies.items():
        rows = there[name][1] if name in there else study.rows
        some = draw_rows(rows, cfg.measured, cfg.seed)
        sets = {home: study.tracer.transcoders} | ({name: there[name][0]} if name in there else {})
        for whose, coders in sets.items():
            found = validate(study.tracer.lm, coders, study.tracer.table, some, per_layer=False)
            out.append(
                Fit(
                    name,
                    whose,
                    found.n_cells,
                    found.fvu,
                    found.ce_recovered,
                    found.intervals["ce_recovered"],
                    found.label_agreement,
                    found.intervals["label_agreement"],
                    found.l0,
                )
            )
    return out


def _told(
    studies: Mapping[str, Study], train_rows: np.ndarray, cfg: TransferConfig
) -> tuple[tuple[ToldBy, ...], tuple[Without, ...]]:
    """Features told by the study over all of them; by donor and condition within each that knows them."""
    rows = {name: _some_of_each(study, cfg) for name, study in studies.items()}
    value = {name: cell_means(study.tracer, rows[name]) for name, study in studies.items()}
    genes = {name: expression(study.tracer.table, rows[name]).toarray() for name, study in studies.items()}
    types = {name: study.tracer.table.labels[rows[name]].astype(str) for name, study in studies.items()}
    home = next(iter(studies.values())).tracer
    n = home.transcoders.n_features
    group_C = np.concatenate([np.repeat(name, len(one)) for name, one in rows.items()])
    parts = [np.concatenate(list(one.values())) for one in (value, types, genes)]
    told = [told_by("study", parts[0], group_C, parts[1], n, parts[2], most=cfg.held, seed=cfg.seed)]
    for name, study in studies.items():
        for what, group in _groupings(study.tracer.table, rows[name]).items():
            words = f"{what} of {name}"
            told.append(
                told_by(words, value[name], group, types[name], n, genes[name], most=cfg.held, seed=cfg.seed)
            )
    if not told[0].features:
        return tuple(told), ()
    at_home = cell_means(home, draw_rows(train_rows, len(rows[next(iter(studies))]), cfg.seed))
    without = answers_without(
        {
            name: (study.tracer, draw_rows(study.rows, cfg.measured, cfg.seed))
            for name, study in studies.items()
        },
        [(layer, number) for layer, number, *_ in told[0].features],
        at_home.mean(0),
        (at_home != 0).mean(0),
        seed=cfg.seed,
    )
    return tuple(told), without


def _some_of_each(study: Study, cfg: TransferConfig) -> np.ndarray:
    """Some rows of each type."""
    types = study.tracer.table.types
    return np.concatenate([_drawn(study, label, cfg.told, cfg.seed) for label in types])


def _groupings(table: CellTable, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Donor and condition of the rows, where a study has two or more."""
    found: dict[str, np.ndarray] = {}
    if table.donors is not None:
        found["donor"] = table.donors[rows].astype(str)
    if "condition" in table.obs:
        found["condition"] = table.obs["condition"].astype(str).to_numpy()[rows]
    return {name: group for name, group in found.items() if len(set(group.tolist()) - {""}) > 1}
