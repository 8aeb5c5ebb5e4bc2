"""What the real model's answer loses when whole sets of genes are taken out of cells together (method §9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.circuits import Tracer
from scx_core.evidence.knockouts.measure import Measurer


class Taken(NamedTuple):
    """`before_C`: log-odds of the answer over whole answers, log p(answer) − log Σ p(others), in nats.
    `drop_SC`: that less the same without the genes of each set. `held_SC`: how many the sentence held."""

    before_C: np.ndarray
    drop_SC: np.ndarray
    held_SC: np.ndarray


def taken_together(
    tracer: Tracer, rows: Sequence[int] | np.ndarray, answer: str, sets: Sequence[Sequence[str]]
) -> Taken:
    """Each set of genes out of the sentence at once, the next genes moving up, in every cell."""
    measurer = Measurer(tracer, tracer.plan(answer))
    most = max((len(genes) for genes in sets), default=0)
    odds_C1S, held = [], []
    for row in np.asarray(rows).tolist():
        sentence = measurer.editor.sentence(row, extra=most)
        own = set(sentence.cell.genes)
        edited = [measurer.editor.together(sentence, tuple(genes), "text") for genes in sets]
        odds_C1S.append(measurer.read(sentence, [sentence.cell.ids, *edited]).log_odds)
        held.append([len(own & set(genes)) for genes in sets])
    odds_1SC = np.array(odds_C1S).T
    return Taken(odds_1SC[0], odds_1SC[0] - odds_1SC[1:], np.array(held, dtype=np.float64).T)
