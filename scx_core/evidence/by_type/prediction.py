"""Does a circuit predict knock-outs in cells that it was not made from, better than gradient × input does?

Both predictions are made from the same cells: the mean effect of a gene where it is present (0 for a gene
that those cells never hold). In every unseen cell they are held against the measured knock-outs of all genes
of its sentence, a neutral gene in the place: Spearman's rank correlation, and the share of the strongest
predicted genes whose knock-out has the predicted sign.
Legend: G genes of a sentence, C cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits import Circuit
from scx_core.evidence.knockouts.measured_effects import CellKnockouts
from scx_core.evidence.knockouts.prediction import STRONGEST, spearman
from scx_core.statistics.hypothesis_tests import p_values
from scx_core.statistics.resampling import (
    CORRELATION,
    SHARE,
    MeanInterval,
    Sampling,
    mean_interval,
    one_group,
)

RIVALS = {
    "gradient": "gradient × input",
    "rank": "the place in the sentence",
    "differential": "differential expression (t-test)",
}


class Predicted(NamedTuple):
    """Means over unseen cells: `spearman` with the measured knock-outs, `sign` of the strongest."""

    spearman: MeanInterval
    sign: MeanInterval


class Prediction(NamedTuple):
    """The circuit's prediction beside that of gradient × input; `ahead`: the circuit's rank correlation less
    the gradient's, cell by cell, `p` that it is 0. `strongest`: genes whose signs are compared."""

    circuit: Predicted
    gradient: Predicted
    ahead: MeanInterval
    p: float
    strongest: int
    n: int
    units: str

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        both = {
            name: {key: value._asdict() for key, value in getattr(self, name)._asdict().items()}
            for name in ("circuit", "gradient")
        }
        return self._asdict() | both | {"ahead": self.ahead._asdict()}


def where_present(circuit: Circuit) -> dict[str, float]:
    """Each gene's mean frozen attribution over the cells that hold it."""
    return {gene.gene: gene.effect / gene.share for gene in circuit.genes if gene.share > 0}


def mean_where_present(cells: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each gene's mean over the cells that hold it."""
    held: dict[str, list[float]] = {}
    for cell in cells:
        for gene, effect in cell.items():
            held.setdefault(gene, []).append(effect)
    return {gene: float(np.mean(values)) for gene, values in held.items()}


def predict_knockouts(
    circuit_of: Mapping[str, float],
    gradient_of: Mapping[str, float],
    measured: Sequence[CellKnockouts],
    sampling: Sampling,
    seed: int = 0,
) -> Prediction:
    """Hold both predictions against knock-outs of cells that neither was made from; `sampling` is of them."""
    rank_2C, sign_2C = np.zeros((2, len(measured))), np.zeros((2, len(measured)))
    for c, cell in enumerate(measured):
        gap_G = np.array([gene.gap for gene in cell.genes], dtype=np.float64)
        for m, effect_of in enumerate((circuit_of, gradient_of)):
            effect_G = np.array([effect_of.get(gene.gene, 0.0) for gene in cell.genes])
            top = np.argsort(-np.abs(effect_G), kind="stable")[:STRONGEST]
            rank_2C[m, c] = spearman(effect_G, gap_G)
            sign_2C[m, c] = (np.sign(effect_G[top]) == np.sign(gap_G[top])).mean()
    own, rival = (
        Predicted(mean_interval(rank_C, sampling, CORRELATION), mean_interval(sign_C, sampling, SHARE))
        for rank_C, sign_C in zip(rank_2C, sign_2C, strict=True)
    )
    ahead_C = rank_2C[0] - rank_2C[1]
    p = float(p_values(sampling, ahead_C[:, None], seed)[0])
    ahead = mean_interval(ahead_C, sampling)
    return Prediction(own, rival, ahead, p, STRONGEST, len(measured), sampling.kind)


def by_cell(
    circuit_of: Mapping[str, float],
    gradient_of: Mapping[str, float],
    measured: Sequence[CellKnockouts],
    differential_of: Mapping[str, float] | None = None,
) -> dict[str, list[Any]]:
    """What is compared, a row a cell and gene, as columns: the cell's row of the table, gene, rank, both
    predictions, both measured knock-outs, and the gene's score by differential expression where given."""
    rows = [
        (cell.row, gene.gene, gene.rank, circuit_of.get(gene.gene, 0.0), gradient_of.get(gene.gene, 0.0),
         gene.gap, gene.text)
        for cell in measured
        for gene in cell.genes
    ]  # fmt: skip
    names = ("row", "gene", "rank", "circuit", "gradient", "gap", "text")
    found = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    if differential_of is not None:
        found["differential"] = [float(differential_of.get(gene, 0.0)) for gene in found["gene"]]
    return found


def with_rivals(
    prediction: Mapping[str, Any],
    knockouts: Mapping[str, Sequence[Any]],
    sampling: Sampling | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The JSON of a prediction with `rivals`, strongest first: `name`, `spearman`, `sign`, the circuit
    `ahead` of it and `p`, cell by cell, from the columns of `by_cell`. `sampling`: of the cells (default:
    over cells, for records of before). What has its rivals, or no such columns, comes back as it is."""
    if "rivals" in prediction or not set(RIVALS) & set(knockouts):
        return dict(prediction)
    row_R = np.asarray(knockouts["row"])
    cells = [np.flatnonzero(row_R == row) for row in dict.fromkeys(row_R.tolist())]
    sampling = sampling or one_group(len(cells), seed)
    gap_R = np.asarray(knockouts["gap"], dtype=np.float64)
    score_of = {name: np.asarray(knockouts[name], dtype=np.float64) for name in RIVALS if name in knockouts}
    if "rank" in score_of:  # the first gene is the most expressed
        score_of["rank"] = 1 + score_of["rank"].max(initial=0.0) - score_of["rank"]
    own = np.asarray(knockouts["circuit"], dtype=np.float64)
    own_C = np.array([spearman(own[at], gap_R[at]) for at in cells])
    rivals: list[dict[str, Any]] = []
    for name, score_R in score_of.items():
        rank_C, sign_C = np.zeros((2, len(cells)))
        for c, at in enumerate(cells):
            top = at[np.argsort(-np.abs(score_R[at]), kind="stable")[:STRONGEST]]
            rank_C[c] = spearman(score_R[at], gap_R[at])
            sign_C[c] = (np.sign(score_R[top]) == np.sign(gap_R[top])).mean()
        rivals.append(
            {
                "name": RIVALS[name],
                "spearman": mean_interval(rank_C, sampling, CORRELATION)._asdict(),
                "sign": mean_interval(sign_C, sampling, SHARE)._asdict(),
                "ahead": mean_interval(own_C - rank_C, sampling)._asdict(),
                "p": float(p_values(sampling, (own_C - rank_C)[:, None], seed)[0]),
            }
        )
    return dict(prediction) | {"rivals": sorted(rivals, key=lambda one: -one["spearman"]["mean"])}
