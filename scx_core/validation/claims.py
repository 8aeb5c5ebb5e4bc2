"""What a validation lets one say: each sentence with its figure, its baseline, its interval, and whether it
holds."""

from __future__ import annotations

from scx_core.intervals import UNKNOWN, wilson
from scx_core.validation.added import YES
from scx_core.validation.baselines import BASELINES
from scx_core.validation.claim import Claim
from scx_core.validation.result import Validation


def validation_claims(found: Validation) -> list[Claim]:
    """Every sentence that a validation table supports or refuses.

    A comparison holds where its paired interval lies above 0, not where one figure is larger; the last one
    follows the rule in `added.needed`. Without baselines (a table of format 1, or no training cells) only the
    sentences on the model itself are there.
    """
    spans, n = found.intervals, found.n_cells
    counts = [sum(row) for row in found.confusion.original]
    most = max(counts, default=0)
    commonest = most / max(1, sum(counts))
    own = spans.get("label_accuracy_orig", wilson(round(found.label_accuracy_orig * n), n))
    claims = [
        Claim(
            "The model names the cells better than always guessing the commonest type.",
            found.label_accuracy_orig,
            commonest,
            "the commonest type",
            own,
            n,
            own.low > commonest,
        )
    ]
    if found.logistic is not None:
        claims.append(
            Claim(
                "The model names the cells better than logistic regression on the same genes.",
                found.label_accuracy_orig,
                found.logistic.accuracy,
                "logistic regression",
                own,
                n,
                found.logistic.ahead_interval.low > 0,
            )
        )
    added = found.added
    if added is None:
        return claims
    best, by_labels = BASELINES[added.best], BASELINES[added.labels_by]
    return [
        *claims,
        Claim(
            "The transcoders recover more of the loss than any stand-in without features.",
            found.ce_recovered,
            added.ce_recovered,
            best,
            spans.get("ce_recovered", UNKNOWN),
            n,
            added.won_back_interval.low > 0,
        ),
        Claim(
            "More cells keep their label with the transcoders than with any stand-in without features.",
            found.label_agreement,
            added.agreement,
            by_labels,
            spans.get("label_agreement", UNKNOWN),
            n,
            added.agreement_gain_interval.low > 0,
        ),
        Claim(
            "The features' values matter for the right answer.",
            found.label_accuracy_transcoder,
            added.accuracy_at_mean,
            "every feature held at its mean",
            spans.get("label_accuracy_transcoder", UNKNOWN),
            n,
            added.accuracy_gain_interval.low > 0,
        ),
        Claim(
            "Features are needed to explain this model, so its circuits can be read as what it computes.",
            added.won_back,
            added.ce_recovered,
            f"recovered without features ({best})",
            added.won_back_interval,
            n,
            added.needed == YES,
        ),
    ]
