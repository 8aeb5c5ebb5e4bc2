"""What an effect is: frozen attribution beside measured knock-outs, these beside a plain pass of the model.

Legend: G genes of a sentence, C cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scx_core.attribution.target import TargetPlan
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.evidence import Editor, Measurer
from scx_core.evidence.knockouts.estimates import BEST, FAST, Attributor
from scx_core.evidence.knockouts.prediction import GOAL, Score, score, t_test
from scx_core.language import answers_of
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.claim import Claim
from scx_core.statistics.mean_over_cells import estimate
from scx_core.statistics.resampling import one_group

STRONGEST, EXACT = 10, 1e-5
FROZEN, RANDOM = "frozen", "random"


def effect_claims(
    tracer: Tracer, labels: Sequence[str], cells: int, seed: int, progress: Progress = silent
) -> list[Claim]:
    """For each type: how well frozen attribution and the estimated knock-out rank and sign the genes of a
    cell as measured knock-outs do (a neutral gene in the place, `gap`), and how much of the ten strongest
    effects is lost without these genes; then that measured values are those of a plain pass of the model."""
    editor, found, gaps = Editor(tracer), list[Claim](), list[float]()
    for done, label in enumerate(labels):
        progress(done, len(labels), f"knock-outs: {label}")
        rows = tracer.draw(label, ConsensusConfig(cells=cells, seed=seed))
        answer = tracer.answer_for(label)
        plan, expression = tracer.plan(answer), t_test(tracer, label, seed)
        measurer, held = Measurer(tracer, plan, editor), []
        for row in map(int, rows):
            single, sentence = measurer.singles(row), editor.sentence(row)
            one = Attributor(measurer, sentence)
            held.append(
                {way: np.array([getattr(gene, way) for gene in single.genes]) for way in ("gap", "text")}
                | {name: FAST[name](one) for name in (FROZEN, BEST, RANDOM)}
                | {"t_test": np.array([expression[gene] for gene in sentence.cell.genes])}
            )
        gaps.append(_miss(measurer, int(rows[0])))
        scores = {name: score(name, held, rows, tracer.table.donors) for name in held[0]}
        found += _of_type(tracer, answer, rows, scores, held)
    progress(len(labels), len(labels), "")
    found.append(
        Claim(
            "A measured knock-out is what a plain pass of the model over the edited sentence says.",
            max(gaps),
            EXACT,
            "largest difference that passes (log-odds of the whole answer)",
            None,
            len(gaps),
            max(gaps) <= EXACT,
        )
    )
    return found


def _of_type(
    tracer: Tracer,
    answer: str,
    rows: np.ndarray,
    scores: dict[str, Score],
    held: Sequence[dict[str, np.ndarray]],
) -> list[Claim]:
    frozen, best, random, rival = (scores[name] for name in (FROZEN, BEST, RANDOM, "t_test"))
    n, goal = len(rows), f"wanted {GOAL[0]:g}; differential expression {rival.gap.mean:.2f}"
    lost = np.array([_lost(cell) for cell in held])
    part = estimate(lost, one_group(len(rows), 0, tracer.donors(rows)))
    return [
        Claim(
            f"Frozen attribution ranks the genes of a cell of {answer} as knock-outs do (Spearman).",
            frozen.gap.mean,
            best.gap.mean,
            f"the estimated knock-out; {goal}",
            frozen.gap[1:],
            n,
            frozen.gap.mean >= GOAL[0],
        ),
        Claim(
            f"The estimated knock-out ranks the genes of a cell of {answer} as knock-outs do (Spearman).",
            best.gap.mean,
            frozen.gap.mean,
            f"frozen attribution; {goal}",
            best.gap[1:],
            n,
            best.gap.mean >= GOAL[0] and best.gap.low > max(frozen.gap.mean, rival.gap.mean),
        ),
        Claim(
            f"The estimated knock-out has the sign of the knock-out in the 20 strongest genes of {answer}.",
            best.sign.mean,
            frozen.sign.mean,
            f"frozen attribution; wanted {GOAL[1]:g}; random {random.sign.mean:.2f}",
            best.sign[1:],
            n,
            best.sign.mean >= GOAL[1],
        ),
        Claim(
            f"Without each of the {STRONGEST} strongest genes of {answer} the model loses what frozen "
            "attribution gives them (knock-outs over attributions, sums).",
            part.mean,
            1.0,
            "all of it",
            part[1:],
            n,
            part.low > 0.8 and part.high < 1.25,
        ),
    ]


def _lost(cell: dict[str, np.ndarray]) -> float:
    """Of one cell: the knock-outs of the genes with the largest attributions over these, sum over sum."""
    top = np.argsort(-cell[FROZEN], kind="stable")[:STRONGEST]
    total = float(cell[FROZEN][top].sum())
    return float(cell["gap"][top].sum()) / total if abs(total) > 1e-9 else 0.0


def _miss(measurer: Measurer, row: int) -> float:
    """Largest difference between measured log-odds and those of plain passes, over the cell as it is and its
    first and last gene taken out."""
    sentence = measurer.editor.sentence(row)
    names = [sentence.cell.genes[0], sentence.cell.genes[-1]]
    edited = [sentence.cell.ids, *measurer.editor.singles(sentence, names, "gap")]
    plain = [_plain_log_odds(measurer.tracer, measurer.plan, ids) for ids in edited]
    return float(np.abs(measurer.read(sentence, edited).log_odds - np.array(plain)).max())


def _plain_log_odds(tracer: Tracer, plan: TargetPlan, ids: Sequence[int]) -> float:
    """Log-odds of the whole answer by one plain pass of the model for every label, nothing shared."""
    scores = {}
    for label, answer in answers_of(tracer.lm, tracer.labels, tracer.lead).items():
        whole = torch.tensor([[*ids, *answer]], device=tracer.lm.device)
        with torch.no_grad():
            logits_TV = tracer.lm.model(input_ids=whole, use_cache=False).logits[0].double()
        logp_TV = logits_TV.log_softmax(-1)
        scores[label] = sum(float(logp_TV[len(ids) - 1 + i, token]) for i, token in enumerate(answer))
    rivals = [value for label, value in scores.items() if label != plan.answer]
    return scores[plan.answer] - float(np.logaddexp.reduce(rivals))
