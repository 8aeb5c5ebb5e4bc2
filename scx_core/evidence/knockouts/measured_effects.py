"""Measured knock-outs: what the real model loses when genes are edited out of a cell's sentence (method §9).

Nothing is frozen and no transcoder stands in. Two measures of every edited sentence: the target of the
circuit, in its own unit, and the label's log-odds over whole answers, log p(label) − log Σ p(other labels),
in nats. A knock-out is the value before less the value after, so that a gene which speaks for the answer has
a positive one, as its frozen attribution should. The ways to edit are in edits.py.
Legend: R edited prompts, K answers, M nodes of the answer tree, C cells, G genes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.attribution.target import TargetPlan
from scx_core.cells.choices import as_names
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.interventions import target_values
from scx_core.evidence.knockouts.edits import Editor, Read, Sentence, read_edited
from scx_core.language import answers_of
from scx_core.language.answer_tree import AnswerTree, answer_scores, answer_tree
from scx_core.runs.progress import Progress, silent

SINGLE_WAYS = ("text", "gap")


class TargetValues(NamedTuple):
    """`target` in the unit of the circuit's target, `log_odds` of the label in nats (NaN without a label)."""

    target: np.ndarray
    log_odds: np.ndarray


class GeneKnockout(NamedTuple):
    """What one cell loses without one gene. `text`, `gap`: the ways; `_log_odds`: the second measure.

    None where it was not measured.
    """

    gene: str
    rank: int
    text: float | None = None
    gap: float | None = None
    text_log_odds: float | None = None
    gap_log_odds: float | None = None


class CellKnockouts(NamedTuple):
    """All single knock-outs of one cell, by rank; `target` and `log_odds` are the values without one."""

    row: int
    target: float
    log_odds: float
    genes: tuple[GeneKnockout, ...]


class JointKnockout(NamedTuple):
    """One edit of several genes at once in one cell: which of them the sentence held, and what was lost."""

    row: int
    held: tuple[str, ...]
    target: float
    log_odds: float


class Measurer:
    """A tracer's model and cells, ready to measure edits of one target."""

    def __init__(self, tracer: Tracer, plan: TargetPlan, editor: Editor | None = None) -> None:
        if plan.kind == "feature":
            raise ScxError(
                "A knock-out reads the model's answer; a feature is none.", "Choose an answer as the target."
            )
        self.tracer, self.plan = tracer, plan
        self.editor = editor or Editor(tracer)
        self.tree = answer_tree(answers_of(tracer.lm, tracer.labels, tracer.lead), [plan.forced])
        self.value = target_at(self.tree, plan)
        self._own = tracer.labels.index(plan.answer) if plan.answer in tracer.labels else None

    def read(self, sentence: Sentence, edited: Sequence[Sequence[int]]) -> TargetValues:
        """Both measures of each edited prompt (token ids) of a cell, [R]."""
        found = read_edited(self.tracer.lm, sentence.cell.ids, edited, self.tree, self.value)
        return TargetValues(found.value_R, self._log_odds(found))

    def _log_odds(self, found: Read) -> np.ndarray:
        if self._own is None:
            return np.full(len(found.value_R), np.nan)
        others = np.delete(found.answers_RK, self._own, 1)
        return found.answers_RK[:, self._own] - np.logaddexp.reduce(others, 1)

    def singles(
        self, row: int, genes: Sequence[str] | None = None, ways: Sequence[str] = SINGLE_WAYS
    ) -> CellKnockouts:
        """Single knock-outs of the genes of a cell's sentence (default: all of them), in both ways.

        Raises ScxError when the sentence holds none of `genes`.
        """
        genes = as_names(genes)
        sentence = self.editor.sentence(row)
        spans = [span for span in sentence.cell.spans if genes is None or span.gene in genes]
        if not spans:
            raise ScxError(*_absent(genes or (), [row]))
        names = [span.gene for span in spans]
        edited = [ids for way in ways for ids in self.editor.singles(sentence, names, way)]
        values = self.read(sentence, [sentence.cell.ids, *edited])
        lost: dict[str, np.ndarray] = {}
        for w, way in enumerate(ways):
            part = slice(1 + w * len(names), 1 + (w + 1) * len(names))
            lost[way] = values.target[0] - values.target[part]
            if self._own is not None:
                lost[f"{way}_log_odds"] = values.log_odds[0] - values.log_odds[part]
        rows = tuple(
            GeneKnockout(span.gene, span.rank, **{key: float(x[i]) for key, x in lost.items()})
            for i, span in enumerate(spans)
        )
        return CellKnockouts(row, float(values.target[0]), float(values.log_odds[0]), rows)

    def together(
        self, row: int, sets: Sequence[Sequence[str]], way: str = "text"
    ) -> tuple[TargetValues, list[tuple[str, ...]]]:
        """Both measures of a cell as it is and with all genes of each set edited at once, [1 + S]; and which
        genes of each set its sentence holds; the others change nothing (see edits.py).

        `way` is text, gap, end or front (over-expression).
        """
        sentence = self.editor.sentence(row, extra=max((len(genes) for genes in sets), default=0))
        own = set(sentence.cell.genes)
        edited = [self.editor.together(sentence, tuple(genes), way) for genes in sets]
        held = [tuple(gene for gene in genes if gene in own) for genes in sets]
        return self.read(sentence, [sentence.cell.ids, *edited]), held


def target_at(tree: AnswerTree, plan: TargetPlan) -> Callable[[torch.Tensor], torch.Tensor]:
    """The target of the plan from logits at the nodes of the tree, [R, M, V] → float64 [R]."""
    if plan.kind == "answer":
        own = tree.labels.index(plan.answer)
        against = [k for k, label in enumerate(tree.labels) if label in plan.against]

        def log_odds(logits_RMV: torch.Tensor) -> torch.Tensor:
            score_RK = answer_scores(logits_RMV, tree)
            return score_RK[:, own] - score_RK[:, against].logsumexp(1)

        return log_odds
    node = tree.place[tuple(plan.forced)]
    return lambda logits_RMV: target_values(logits_RMV[:, [node]].double(), plan)


def _absent(genes: Sequence[str], rows: Sequence[int]) -> tuple[str, str]:
    where = (
        f"The sentence of cell {rows[0]} holds"
        if len(rows) == 1
        else f"The sentences of {len(rows)} cells hold"
    )
    return (
        f"{where} none of {', '.join(gene[:40] for gene in genes) or 'no gene'}.",
        "Choose genes of its sentence; `scx trace` lists them.",
    )


def knock_out_all(
    tracer: Tracer,
    rows: Sequence[int] | np.ndarray,
    plan: TargetPlan,
    *,
    genes: Sequence[str] | None = None,
    ways: Sequence[str] = SINGLE_WAYS,
    editor: Editor | None = None,
    progress: Progress = silent,
) -> list[CellKnockouts]:
    """Single knock-outs in many cells: of every gene of each sentence, or of those of `genes` that it holds.

    A cell whose sentence holds none of them is left out. Raises ScxError when that leaves no cell.
    """
    genes = as_names(genes)
    measurer = Measurer(tracer, plan, editor)
    found = []
    for done, row in enumerate(rows):
        if genes is None or set(genes) & set(measurer.editor.sentence(int(row)).cell.genes):
            found.append(measurer.singles(int(row), genes, as_names(ways)))
        progress(done + 1, len(rows), f"cell {done + 1} of {len(rows)}")
    if not found:
        raise ScxError(*_absent(genes or (), [int(row) for row in rows]))
    return found


def knock_out_together(
    tracer: Tracer,
    rows: Sequence[int] | np.ndarray,
    plan: TargetPlan,
    genes: Sequence[str],
    *,
    way: str = "text",
    editor: Editor | None = None,
    progress: Progress = silent,
) -> list[JointKnockout]:
    """The same genes edited at once in many cells; `way` as in edits.py, `front` is over-expression.

    Raises ScxError when a gene is none of the table, or when no cell's sentence holds any of them and the
    edit is not `front`, which puts them in.
    """
    genes = as_names(genes)
    measurer = Measurer(tracer, plan, editor)
    unknown = [gene for gene in genes if gene not in set(map(str, tracer.table.symbols))]
    if unknown or not genes:
        raise ScxError(
            f"{tracer.table.name} has no gene {unknown[0][:40]!r}." if unknown else "No gene is given.",
            "Give symbols of the file's genes.",
        )
    found = []
    for done, row in enumerate(rows):
        values, held = measurer.together(int(row), [genes], way)
        lost = (float(value[0] - value[1]) for value in values)
        found.append(JointKnockout(int(row), held[0], *lost))
        progress(done + 1, len(rows), f"cell {done + 1} of {len(rows)}")
    if way != "front" and not any(one.held for one in found):
        raise ScxError(*_absent(genes, [int(row) for row in rows]))
    return found


def to_rows(found: Sequence[CellKnockouts]) -> list[dict[str, Any]]:
    """Plain rows, one a cell and gene, for JSON and tables."""
    return [{"row": cell.row} | gene._asdict() for cell in found for gene in cell.genes]


class JointDrops(NamedTuple):
    """`before_C`: log-odds of the answer over whole answers, log p(answer) − log Σ p(others), in nats.
    `drop_SC`: that less the same without the genes of each set. `held_SC`: how many the sentence held."""

    before_C: np.ndarray
    drop_SC: np.ndarray
    held_SC: np.ndarray


def joint_drops(
    tracer: Tracer,
    rows: Sequence[int] | np.ndarray,
    answer: str,
    sets: Sequence[Sequence[str]],
    way: str = "text",
) -> JointDrops:
    """Each set of genes edited at once in every cell: out of the sentence, the next genes moving up, or
    another `way` of edits.py."""
    measurer = Measurer(tracer, tracer.plan(answer))
    odds_C1S, held_CS = [], []
    for row in np.asarray(rows).tolist():
        values, held = measurer.together(row, sets, way)
        odds_C1S.append(values.log_odds)
        held_CS.append([len(genes) for genes in held])
    odds_1SC = np.array(odds_C1S).T
    return JointDrops(odds_1SC[0], odds_1SC[0] - odds_1SC[1:], np.array(held_CS, dtype=np.float64).T)
