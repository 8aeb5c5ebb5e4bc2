"""What a validation lets one say: each sentence with its figure, its baseline, its interval, and whether it
holds."""

from __future__ import annotations

from scx_core.statistics.claim import Claim
from scx_core.statistics.intervals import UNKNOWN, wilson
from scx_core.validation.above_baselines import YES
from scx_core.validation.baselines import BASELINES
from scx_core.validation.result import Added, Validation


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


def _of_features(found: Validation, added: Added) -> list[Claim]:
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
