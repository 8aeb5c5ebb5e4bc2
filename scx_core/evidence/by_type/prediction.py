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
from scx_core.statistics.resampling import CORRELATION, SHARE, MeanInterval, Sampling, mean_interval


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
    circuit_of: Mapping[str, float], gradient_of: Mapping[str, float], measured: Sequence[CellKnockouts]
) -> dict[str, list[Any]]:
    """What `predict_knockouts` compares, a row a cell and gene, as columns: the cell's row of the table,
    gene, rank, both predictions and both measured knock-outs."""
    rows = [
        (cell.row, gene.gene, gene.rank, circuit_of.get(gene.gene, 0.0), gradient_of.get(gene.gene, 0.0),
         gene.gap, gene.text)
        for cell in measured
        for gene in cell.genes
    ]  # fmt: skip
    names = ("row", "gene", "rank", "circuit", "gradient", "gap", "text")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
