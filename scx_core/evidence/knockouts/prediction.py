"""How well fast attributions predict measured knock-outs, on cells of which one half chooses (method §8).

For each type: cells are drawn with the seed and put into two halves in turn. In every cell, each
attribution is held against the knock-outs of all genes of the sentence: Spearman with `gap` and with `text`,
and the share of its 20 strongest genes whose sign is that of the measured `gap`. The first half says which
attribution is best, the second how good it is. Three measured rows stand beside: `text` as a prediction of
`gap`, `gap` as one of `text`, and `gap` with the second nearest neutral gene instead of the nearest: what one
measurement says of another is what may be asked of an attribution.
Legend: G genes of a sentence, C cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from scx_core.cells.differential import moments, t_scores
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.edits import Editor
from scx_core.evidence.knockouts.estimates import BEST, FAST, Attributor
from scx_core.evidence.knockouts.measured_effects import Measurer
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.resampling import CORRELATION, SHARE, MeanInterval, mean_interval, one_group

STRONGEST = 20
OTHER_NEUTRAL = "gap, another neutral gene"
MEASURED = ("gap", "text", OTHER_NEUTRAL)
GOAL = (0.75, 0.9)  # Spearman with gap, and the sign of the strongest


@dataclass(frozen=True)
class PredictConfig:
    """On which cells attributions are judged."""

    cells: int = option(16, "Cells a type; half of them choose, half of them report", minimum=4)
    seed: int = option(0, "Seed that draws cells and bootstraps", minimum=0)


class PredictionScore(NamedTuple):
    """How well one attribution predicts, over the cells of one type: means with intervals over cells."""

    name: str
    gap: MeanInterval
    text: MeanInterval
    sign: MeanInterval


class TypeScores(NamedTuple):
    """Scores of all attributions of a type, in the half that chooses and in the half that reports."""

    label: str
    n_first: int
    n_second: int
    first: dict[str, PredictionScore]
    second: dict[str, PredictionScore]


def values_in_cell(tracer: Tracer, row: int, label: str, editors: Sequence[Editor]) -> dict[str, np.ndarray]:
    """All attributions and measured knock-outs of one cell, each [G]. `editors`: nearest neutral, second."""
    plan = tracer.plan(label)
    first, second = Measurer(tracer, plan, editors[0]), Measurer(tracer, plan, editors[1])
    measured = first.singles(row).genes
    found = {way: np.array([getattr(gene, way) for gene in measured]) for way in ("text", "gap")}
    found[OTHER_NEUTRAL] = np.array([gene.gap for gene in second.singles(row, ways=("gap",)).genes])
    one = Attributor(first, editors[0].sentence(row))
    return found | {name: fast(one) for name, fast in FAST.items()}


def t_test(tracer: Tracer, label: str, seed: int) -> dict[str, float]:
    """Welch's t of every gene of the table, the type's cells against all other labelled ones."""
    labels = tracer.table.labels
    own, others = (np.flatnonzero(at) for at in (labels == label, (labels != label) & (labels != "")))
    rng = np.random.default_rng(seed)
    drawn = [np.sort(rng.permutation(rows)[:2000]) for rows in (own, others)]
    score_G = t_scores(*(moments(tracer.table, rows) for rows in drawn))
    return dict(zip(map(str, tracer.table.symbols), score_G.tolist(), strict=True))


def score(
    name: str, cells: Sequence[Mapping[str, np.ndarray]], rows: np.ndarray, donors: Any
) -> PredictionScore:
    """Mean over cells of the within-cell agreement of one attribution with the measured knock-outs."""
    sampling = one_group(len(rows), 0, None if donors is None else donors[rows])
    gap, text, sign = [], [], []
    for cell in cells:
        value_G = cell[name]
        strongest = np.argsort(-np.abs(value_G), kind="stable")[:STRONGEST]
        gap.append(spearman(value_G, cell["gap"]))
        text.append(spearman(value_G, cell["text"]))
        sign.append(float((np.sign(value_G[strongest]) == np.sign(cell["gap"][strongest])).mean()))
    parts = ((gap, CORRELATION), (text, CORRELATION), (sign, SHARE))
    return PredictionScore(name, *(mean_interval(np.array(part), sampling, ends) for part, ends in parts))


def spearman(first_G: np.ndarray, second_G: np.ndarray) -> float:
    """Rank correlation; 0 where one of them has a single value, or of fewer than three genes."""
    if len(first_G) < 3 or np.ptp(first_G) == 0 or np.ptp(second_G) == 0:
        return 0.0
    return float(spearmanr(first_G, second_G).statistic)


def scores_of_type(
    label: str, cells: Sequence[Mapping[str, np.ndarray]], rows: np.ndarray, donors: np.ndarray | None
) -> TypeScores:
    """Scores in both halves: every second cell is of the second."""
    halves = []
    for start in (0, 1):
        mine, at = cells[start::2], rows[start::2]
        halves.append({name: score(name, mine, at, donors) for name in mine[0]})
    return TypeScores(label, len(cells[::2]), len(cells[1::2]), *halves)


def judge(
    tracer: Tracer,
    labels: Sequence[str],
    cfg: PredictConfig | None = None,
    progress: Progress = silent,
) -> list[TypeScores]:
    """Judge all attributions in these types. Raises ScxError for no type at all, or one of fewer than two
    cells: one half of them chooses, the other reports."""
    cfg = cfg or PredictConfig()
    sizes = tracer.table.cells_per_type()
    few = [label for label in labels if sizes.get(label, 0) < 2]
    if few or not labels:
        raise ScxError(
            f"{tracer.table.name}: {few[0]} has fewer than two cells."
            if few
            else f"{tracer.table.name} has no cell type with enough cells.",
            "Name types with more cells (--type), or open more cells.",
        )
    editors = (Editor(tracer), Editor(tracer, nearest=1))
    out = []
    for done, label in enumerate(labels):
        drawn = tracer.draw(label, ConsensusConfig(cells=cfg.cells, seed=cfg.seed))
        rows = np.random.default_rng(cfg.seed).permutation(drawn)
        answer, expression = tracer.answer_for(label), t_test(tracer, label, cfg.seed)
        cells = []
        for number, row in enumerate(rows.tolist()):
            progress(
                done * len(rows) + number,
                len(labels) * len(rows),
                f"{label}: cell {number + 1} of {len(rows)}",
            )
            found = values_in_cell(tracer, row, answer, editors)
            genes = editors[0].sentence(row).cell.genes
            cells.append(found | {"t_test": np.array([expression[gene] for gene in genes])})
        out.append(scores_of_type(label, cells, rows, tracer.table.donors))
    return out


def chosen(found: Sequence[TypeScores]) -> str:
    """The attribution with the highest mean Spearman with `gap` over types, in the half that chooses."""
    names = [name for name in found[0].first if name not in MEASURED]
    return max(names, key=lambda name: np.mean([one.first[name].gap.mean for one in found]))


def reaches_goal(one: TypeScores, name: str) -> bool:
    """Whether an attribution predicts well enough in the half that reports (`GOAL`)."""
    found = one.second[name]
    return found.gap.mean >= GOAL[0] and found.sign.mean >= GOAL[1]


def to_json(found: Sequence[TypeScores], cfg: PredictConfig) -> dict[str, Any]:
    """A plain dict for `json.dump`."""

    def plain(half: Mapping[str, PredictionScore]) -> dict[str, Any]:
        return {
            name: {key: getattr(one, key)._asdict() for key in ("gap", "text", "sign")}
            for name, one in half.items()
        }

    types = [one._asdict() | {"first": plain(one.first), "second": plain(one.second)} for one in found]
    names = [name for name in found[0].second if name not in MEASURED]
    goal = {name: [one.label for one in found if reaches_goal(one, name)] for name in names}
    return {
        "config": to_dict(cfg),
        "default": BEST,
        "chosen": chosen(found),
        "goal": {"spearman": GOAL[0], "sign": GOAL[1], "reached": goal},
        "types": types,
    }
