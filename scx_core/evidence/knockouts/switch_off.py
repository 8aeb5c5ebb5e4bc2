"""One gene switched off: the real model reads the cells again without it, and what it answers before and
after.

The probabilities are of whole answers, among the model's own answers (they add up to 1), means over the cells
whose sentence holds the gene. Beside the loss stand what the circuit's frozen attribution says of the gene,
and the same edit of another gene of each sentence, drawn with a seed: what any gene would do.
Legend: C cells, K answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.attribution.target import TargetPlan
from scx_core.circuits import Circuit, Tracer
from scx_core.circuits.circuit import MeasuredMean
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.edits import Editor, read_edited
from scx_core.evidence.knockouts.gene_tables import held_means, plan_of, rows_of
from scx_core.evidence.knockouts.measured_effects import Measurer
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.resampling import one_group


class SwitchedOff(NamedTuple):
    """`before`, `after`: mean probability of each answer, by name. `given_before`, `given_after`: in how many
    of the `n` cells that hold the gene the model gives `answer`; `n_cells` were looked at.

    `lost`: of the target, before less after, in `unit`; `other`: the same for another gene of each sentence.
    `predicted`: the frozen attribution of the gene, mean over the cells that hold it; None without a circuit.
    """

    gene: str
    answer: str
    way: str
    n: int
    n_cells: int
    before: dict[str, float]
    after: dict[str, float]
    given_before: int
    given_after: int
    lost: MeasuredMean
    other: MeasuredMean | None
    predicted: float | None
    unit: str
    provenance: dict[str, Any]

    def words(self) -> str:
        """ "B 97% → T 41%": the likeliest answer before and after; one name where it stays."""
        first, last = (max(mean, key=lambda name: mean[name]) for mean in (self.before, self.after))
        return (
            f"{first} {self.before[first]:.0%} → {'' if first == last else last + ' '}{self.after[last]:.0%}"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        parts = {"lost": self.lost._asdict(), "other": self.other._asdict() if self.other else None}
        return self._asdict() | parts | {"words": self.words()}


def switch_off(
    tracer: Tracer,
    circuit: Circuit,
    gene: str,
    *,
    way: str = "text",
    seed: int = 0,
    plan: TargetPlan | None = None,
    progress: Progress = silent,
) -> SwitchedOff:
    """Switch a gene off in the cells of a circuit; `way` as in edits.py (text: taken out, the rest moves up).

    Raises ScxError for a difference, for a feature as target, and where no sentence holds the gene.
    """
    found = switch_off_in(
        tracer,
        rows_of(circuit),
        plan or plan_of(tracer, circuit),
        gene,
        way=way,
        seed=seed,
        progress=progress,
    )
    known = next((row for row in circuit.genes if row.gene == gene), None)
    predicted = known.effect / known.share if known is not None and known.share > 0 else None
    return found._replace(predicted=predicted, unit=circuit.target.unit)


def switch_off_in(
    tracer: Tracer,
    rows: Sequence[int],
    plan: TargetPlan,
    gene: str,
    *,
    way: str = "text",
    seed: int = 0,
    progress: Progress = silent,
) -> SwitchedOff:
    """The same in these cells, without a circuit: nothing is predicted."""
    measurer = Measurer(tracer, plan, Editor(tracer))
    draw = np.random.default_rng(seed)
    held, score_CRK, value_CR = [], [], []
    for done, row in enumerate(rows):
        sentence = measurer.editor.sentence(int(row))
        genes = sentence.cell.genes
        if gene in genes:
            others = [name for name in genes if name != gene] or [gene]
            other = str(others[draw.integers(len(others))])
            edited = [ids for name in (gene, other) for ids in measurer.editor.singles(sentence, [name], way)]
            ids = sentence.cell.ids
            read = read_edited(tracer.lm, ids, [ids, *edited], measurer.tree, measurer.value)
            held.append(int(row))
            score_CRK.append(read.answers_RK)
            value_CR.append(read.value_R)
        progress(done + 1, len(rows), f"without {gene}: cell {done + 1} of {len(rows)}")
    if not held:
        where = "this cell" if len(rows) == 1 else f"these {len(rows)} cells"
        raise ScxError(f"No sentence of {where} holds {gene[:40]}.", "Choose a gene of the circuit.")
    score_RCK, value_RC = np.array(score_CRK).swapaxes(0, 1), np.array(value_CR).T
    p_RCK = np.exp(score_RCK - np.logaddexp.reduce(score_RCK, 2, keepdims=True))
    lost_C2 = (value_RC[0] - value_RC[1:]).T
    lost, rival = held_means(lost_C2, one_group(len(held), seed, tracer.donors(held)))
    names = list(measurer.tree.labels)
    given_RC = np.array(names)[score_RCK.argmax(2)]
    return SwitchedOff(
        gene,
        plan.answer,
        way,
        len(held),
        len(rows),
        dict(zip(names, p_RCK[0].mean(0).tolist(), strict=True)),
        dict(zip(names, p_RCK[1].mean(0).tolist(), strict=True)),
        int((given_RC[0] == plan.answer).sum()),
        int((given_RC[1] == plan.answer).sum()),
        lost or MeasuredMean(float(lost_C2[:, 0].mean()), n=len(held)),
        rival,
        None,
        "",
        tracer.about({"way": way, "seed": seed}, cells=held, gene=gene),
    )
