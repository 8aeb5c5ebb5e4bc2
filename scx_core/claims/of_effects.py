"""What an effect is: frozen attribution beside measured knock-outs, these beside a plain pass of the model;
and what rankings and smallest circuits let one say.

Legend: G genes of a sentence, C cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scx_core.attribution.target import TargetPlan
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.claims.claim import Claim
from scx_core.evidence import Editor, Measurer
from scx_core.evidence.knockouts.estimates import BEST, FAST, Attributor
from scx_core.evidence.knockouts.prediction import GOAL, PredictionScore, score, t_test
from scx_core.evidence.rankings.rankings import Rankings, TypeRankings
from scx_core.evidence.smallest.faithfulness import FAINT_SHARE
from scx_core.evidence.smallest.smallest_circuit import Smallest
from scx_core.language import answers_of
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.resampling import mean_interval, one_group

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
    scores: dict[str, PredictionScore],
    held: Sequence[dict[str, np.ndarray]],
) -> list[Claim]:
    frozen, best, random, rival = (scores[name] for name in (FROZEN, BEST, RANDOM, "t_test"))
    n, goal = len(rows), f"wanted {GOAL[0]:g}; differential expression {rival.gap.mean:.2f}"
    lost = np.array([_lost(cell) for cell in held])
    part = mean_interval(lost, one_group(len(rows), 0, tracer.donors(rows)))
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


def ranking_claims(found: Rankings) -> list[Claim]:
    """That the circuit's genes matter more to the model than each rival's, type by type: by joint knock-outs,
    and by known markers. `interval` is that of the figure; whether it holds is decided cell by cell."""
    return [claim for held in found.types for claim in (*_knock_outs(held), *_markers(held))]


def _knock_outs(held: TypeRankings) -> list[Claim]:
    own = held.of("circuit")
    return [
        Claim(
            f"Without the circuit's {len(own.genes)} strongest genes the model is less sure of {held.answer} "
            f"than without as many by another ranking: {rival.words}.",
            own.drop.mean,
            rival.drop.mean,
            rival.words,
            (own.drop.low, own.drop.high),
            held.n,
            rival.verdict == "circuit",
        )
        for rival in held.rankings
        if rival.ahead is not None
    ]


def _markers(held: TypeRankings) -> list[Claim]:
    """None where the type has no list of markers. A count has no interval."""
    own = held.of("circuit").markers
    return [
        Claim(
            f"More of the circuit's strongest genes are known markers of {held.label} than of as many by "
            f"another ranking: {rival.words}.",
            len(own),
            len(rival.markers),
            rival.words,
            None,
            held.n_ranked,
            len(own) > len(rival.markers),
        )
        for rival in held.rankings
        if rival.name in ("t-test", "expression") and own is not None and rival.markers is not None
    ]


def smallest_claims(found: Smallest) -> list[Claim]:
    """That features make enough of the target to speak of shares, that the set keeps what was asked for, and
    that it keeps more than random features like it. One cell verifies nothing: no claims."""
    ours, random, ahead = found.sets["ours"], found.sets["random"], found.ahead
    if ours.unseen is None or ours.low is None or ours.high is None:
        return []
    n, span = len(found.cells["unseen"]), (ours.low, ours.high)
    added = found.added
    within = None if added.low is None or added.high is None else (added.low, added.high)
    return [
        Claim(
            f"The features make enough of {found.target} for a share of it to say something.",
            added.mean,
            FAINT_SHARE * abs(found.logits["full"]),
            f"{FAINT_SHARE:.0%} of the target",
            within,
            n,
            not found.faint and within is not None and within[0] > 0,
        ),
        Claim(
            f"{ours.size} features keep {found.wanted:.0%} of what all features add to {found.target}, in "
            "cells that the search did not see.",
            ours.unseen,
            found.wanted,
            "the share asked for",
            span,
            n,
            ours.unseen >= found.wanted and not found.faint,
        ),
        Claim(
            f"They keep more than as many random features of the same layers and activation "
            f"({found.target}).",
            ours.unseen,
            random.unseen,
            f"mean of {ahead['draws']:.0f} random sets",
            span,
            n,
            ahead["low"] is not None and ahead["low"] > 0 and not found.faint,
        ),
    ]
