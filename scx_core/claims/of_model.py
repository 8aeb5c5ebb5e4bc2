"""What a validation lets one say of model and transcoders; and whether the model gives the answer that a
circuit explains, and everyone it is set against is named."""

from __future__ import annotations

import numpy as np

from scx_core.circuits import Tracer
from scx_core.claims.claim import Claim
from scx_core.language import answers_of, decision, score_answers
from scx_core.statistics.intervals import UNKNOWN, wilson
from scx_core.validation.baselines import BASELINES
from scx_core.validation.result import AddedByFeatures, Validation
from scx_core.validation.warnings import YES


def answer_claims(tracer: Tracer, cells: int, seed: int) -> list[Claim]:
    """For every answer of the model: that its cells are called so more often than other cells are; that a
    circuit's "called" is the answer that `predict` gives, beside what one token would say; and that each
    other answer is named as a competitor or as left out.

    `cells`: at most so many of each type, drawn with the seed.
    """
    labels = tracer.table.labels
    rows = np.concatenate(
        [_drawn(np.flatnonzero(labels == name), cells, seed) for name in tracer.table.types]
    )
    encoded = tracer.encode(rows)
    predicted_C = np.array(tracer.predict(rows))
    known = [label for label in tracer.labels if (labels[rows] == label).any()]
    found, called, by_token = [], [], []
    answers = answers_of(tracer.lm, tracer.labels, tracer.lead)
    score_BKW = score_answers(tracer.lm, [cell.ids for cell in encoded], list(answers.values()), batch=8)
    for label in known:
        own = labels[rows] == label
        found.append(_given(label, predicted_C == label, own))
        plan = tracer.plan(label)
        at = np.flatnonzero(own)
        asked = tracer.plans_in_cells([encoded[i] for i in at], plan)
        called += [bool(one) == (predicted_C[i] == label) for (_, one), i in zip(asked, at, strict=True)]
        first = _first_token(answers, label, tracer.labels, score_BKW[at])
        by_token += (first == (predicted_C[at] == label)).tolist()
    share, n = float(np.mean(called)), len(called)
    found.append(
        Claim(
            "A circuit says of a cell that the model gives the answer exactly where the whole answer is the "
            "likeliest of all, as validate counts.",
            share,
            float(np.mean(by_token)),
            "the decision token alone, asked against its competitors",
            wilson(sum(called), n)[:2],
            n,
            share == 1.0,
        )
    )
    return [*found, _named(tracer)]


def _drawn(rows: np.ndarray, cells: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:cells])


def _given(label: str, predicted_C: np.ndarray, own: np.ndarray) -> Claim:
    """That the model gives the answer to most cells of the type, and more often than to others."""
    k, n = int(predicted_C[own].sum()), int(own.sum())
    interval, others = wilson(k, n), float(predicted_C[~own].mean()) if (~own).any() else 0.0
    return Claim(
        f"The model calls more than half of the cells of {label} so, by its whole answer.",
        k / n,
        max(0.5, others),
        f"a half (of other types' cells {others:.2f} are called so)",
        interval[:2],
        n,
        interval.low > max(0.5, others),
    )


def _first_token(
    answers: dict[str, tuple[int, ...]], label: str, labels: list[str], score_BKW: np.ndarray
) -> np.ndarray:
    """Whether the label's decision token beats each of its competitors' tokens there, [B]: what one token
    would call the answer."""
    at = decision(answers, label, None)
    place, own = len(at.forced), labels.index(label)
    rivals = [labels.index(name) for name in at.covered]
    return score_BKW[:, own, place] > score_BKW[:, rivals, place].max(1)


def _named(tracer: Tracer) -> Claim:
    """That no answer of the model is left unnamed by any target."""
    named = []
    for label in tracer.labels:
        plan = tracer.plan(label)
        named.append({label, *plan.against, *(plan.left_out or ())} == set(tracer.labels))
    n = len(named)
    return Claim(
        "A circuit names every other answer of the model, as one it is read against or as left out.",
        sum(named) / n,
        1.0,
        "all answers named",
        wilson(sum(named), n)[:2],
        n,
        all(named),
    )


def validation_claims(found: Validation) -> list[Claim]:
    """Every sentence that a validation table supports or refuses.

    A comparison holds where its paired interval lies above 0, not where one figure is larger; the last one
    follows the rule in `added.needed`. Without baselines (a table of format 1, or no training cells) only the
    sentences on the model itself are there.
    """
    claims = _of_the_model(found)
    return claims if found.added is None else [*claims, *_of_features(found, found.added)]


def _of_the_model(found: Validation) -> list[Claim]:
    """That it names cells better than the commonest type, and than logistic regression."""
    n, right = found.n_cells, found.label_accuracy_orig
    counts = [sum(row) for row in found.confusion.original]
    commonest = max(counts, default=0) / max(1, sum(counts))
    own = found.intervals.get("label_accuracy_orig", wilson(round(right * n), n))
    better = "The model names the cells better than"
    words = f"{better} always guessing the commonest type."
    claims = [Claim(words, right, commonest, "the commonest type", own, n, own.low > commonest)]
    if (rival := found.logistic) is not None:
        ahead = rival.ahead_interval.low > 0
        words = f"{better} logistic regression on the same genes."
        claims.append(Claim(words, right, rival.accuracy, "logistic regression", own, n, ahead))
    return claims


def _of_features(found: Validation, added: AddedByFeatures) -> list[Claim]:
    """That transcoders do more than any stand-in without features."""
    best, by_labels = BASELINES[added.best], BASELINES[added.labels_by]
    figures = (
        (
            "The transcoders recover more of the loss than any stand-in without features.",
            "ce_recovered", added.ce_recovered, best, added.won_back_interval,
        ),
        (
            "More cells keep their label with the transcoders than with any stand-in without features.",
            "label_agreement", added.agreement, by_labels, added.agreement_gain_interval,
        ),
        (
            "The features' values matter for the right answer.",
            "label_accuracy_transcoder", added.accuracy_at_mean, "every feature held at its mean",
            added.accuracy_gain_interval,
        ),
    )  # fmt: skip
    n, spans = found.n_cells, found.intervals
    claims = [
        Claim(words, getattr(found, key), baseline, beside, spans.get(key, UNKNOWN), n, gain.low > 0)
        for words, key, baseline, beside, gain in figures
    ]
    words = "Features are needed to explain this model, so its circuits can be read as what it computes."
    beside, needed = f"recovered without features ({best})", added.needed == YES
    return [
        *claims,
        Claim(words, added.won_back, added.ce_recovered, beside, added.won_back_interval, n, needed),
    ]
