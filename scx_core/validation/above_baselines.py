"""Intervals of the table's figures, and what features add over stand-ins that have none.

Legend: C cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scx_core.cells import CellTable
from scx_core.metrics import ce_recovered
from scx_core.statistics.intervals import UNKNOWN, Interval, bootstrap
from scx_core.validation.baselines import BASELINES, FEATURES_MEAN
from scx_core.validation.label_agreement import TRANSCODER, Answers, balanced, difference, share
from scx_core.validation.measure import Losses
from scx_core.validation.result import Added, BaselineRow

# When features are needed. Judgements, as thresholds are; what is measured stands beside them.
WELL = 0.95  # a stand-in without features that recovers this share of the loss does nearly as well, ...
LABELS = 0.10  # ... where it keeps the label of hardly fewer cells (share of all)
POOR = 0.90  # one that recovers no more than this leaves something to explain, ...
HALF = 0.5  # ... of which features must win back half
YES, PARTLY, NO = "yes", "partly", "no"


def groups_of(table: CellTable, rows: np.ndarray) -> tuple[np.ndarray | None, str]:
    """What is drawn for intervals: the cells' donors, where two or more are known; and how that is said."""
    cells = f"{len(rows):,} cells"
    if table.donors is None:
        return None, f"{cells} (no donors are known)"
    donors_C = table.donors[rows].astype(str)
    n = len(set(donors_C.tolist()) - {""})
    if n < 2:
        return None, f"{cells} (of {'one donor' if n else 'unknown donors'}: nothing is said of other donors)"
    return donors_C, f"{n} donors"


def intervals_of(
    losses: Losses, answers: Answers, name: str, groups_C: np.ndarray | None
) -> dict[str, Interval]:
    """The intervals of one stand-in's figures."""
    tokens_C, orig_C, zero_C, own_C = (losses.cells_C(key) for key in ("tokens", "orig", "zero", name))
    spent = np.stack([zero_C, own_C, orig_C], 1)
    kl = np.stack([losses.cells_C(f"{name} kl"), tokens_C], 1)
    return {
        "ce_recovered": bootstrap(spent, lambda t: ce_recovered(*t.T), groups_C),
        "kl": bootstrap(kl, lambda t: t[:, 0] / t[:, 1], groups_C),
        "label_accuracy": share(answers.right_C(name))[1],
        "label_agreement": share(answers.kept_C(name))[1],
    }


def baseline_row(key: str, losses: Losses, answers: Answers, groups_C: np.ndarray | None) -> BaselineRow:
    """One baseline's figures."""
    intervals = intervals_of(losses, answers, key, groups_C)
    figure, intervals["balanced_accuracy"] = balanced(answers.truth_C, answers.right_C(key), groups_C)
    ce = losses.ce[key].total
    return BaselineRow(
        key=key,
        name=BASELINES[key],
        ce=ce,
        ce_recovered=ce_recovered(losses.ce["zero"].total, ce, losses.ce["orig"].total),
        kl=losses.kl[key].total,
        label_accuracy=answers.accuracy(key),
        label_agreement=answers.agreement(key),
        balanced_accuracy=figure,
        intervals=intervals,
    )


def added_by_features(
    rows: Sequence[BaselineRow], losses: Losses, answers: Answers, groups_C: np.ndarray | None
) -> Added:
    """The transcoders against the best of the baselines, over the same cells."""
    best = min(rows, key=lambda row: row.ce)
    by_labels = max(rows, key=lambda row: row.label_agreement)
    left = losses.ce[best.key].total - losses.ce["orig"].total
    won = ce_recovered(*(losses.ce[key].total for key in (best.key, "transcoder", "orig")))
    spent = np.stack([losses.cells_C(key) for key in (best.key, "transcoder", "orig")], 1)
    gain, gain_interval = difference(answers.kept_C(TRANSCODER), answers.kept_C(by_labels.key), groups_C)
    lost, lost_interval = difference(answers.right_C(TRANSCODER), answers.right_C(FEATURES_MEAN), groups_C)
    found = Added(
        best=best.key,
        ce_recovered=best.ce_recovered,
        won_back=won if left > 0 else float("nan"),
        won_back_interval=bootstrap(spent, lambda t: ce_recovered(*t.T), groups_C) if left > 0 else UNKNOWN,
        labels_by=by_labels.key,
        agreement=by_labels.label_agreement,
        agreement_gain=gain,
        agreement_gain_interval=gain_interval,
        accuracy_at_mean=answers.accuracy(FEATURES_MEAN),
        accuracy_gain=lost,
        accuracy_gain_interval=lost_interval,
        needed="",
    )
    return found._replace(needed=needed(found))


def needed(added: Added) -> str:
    """Whether features are needed to explain the model.

    "no": the best stand-in without features recovers at least `WELL` of the loss and keeps the labels of all
    but `LABELS` of the cells that the transcoders keep. "yes": it recovers at most `POOR`, features win back
    at least `HALF` of what it leaves, and keep more labels than any such stand-in, the interval above 0.
    "partly" between the two.
    """
    if added.ce_recovered >= WELL and added.agreement_gain <= LABELS:
        return NO
    sure = added.won_back_interval.low > 0 and added.agreement_gain_interval.low > 0
    if added.ce_recovered <= POOR and added.won_back >= HALF and sure:
        return YES
    return PARTLY
