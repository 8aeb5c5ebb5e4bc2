"""What the figures say: their intervals, what features add over stand-ins that have none, and the failure
signs of the seed paper in plain words, each with its threshold and a remedy.

Legend: C cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from scx_core.cells import CellTable
from scx_core.metrics import ce_recovered
from scx_core.statistics.intervals import UNKNOWN, Interval, bootstrap
from scx_core.validation.baselines import BASELINES, FEATURES_MEAN
from scx_core.validation.label_agreement import TRANSCODER, Answers, balanced, difference, share
from scx_core.validation.measure import Losses
from scx_core.validation.result import AddedByFeatures, BaselineRow, Caution, LayerRow, Validation

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
    kl_span = bootstrap(kl, lambda t: t[:, 0] / t[:, 1], groups_C)
    return {
        "ce_recovered": bootstrap(spent, lambda t: ce_recovered(*t.T), groups_C),
        "kl": Interval(*map(float, np.clip(kl_span, 0.0, None))),  # no divergence is below 0
        "label_accuracy": share(answers.right_C(name))[1],
        "label_agreement": share(answers.same_label_C(name))[1],
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
) -> AddedByFeatures:
    """The transcoders against the best of the baselines, over the same cells."""
    best = min(rows, key=lambda row: row.ce)
    by_labels = max(rows, key=lambda row: row.label_agreement)
    left = losses.ce[best.key].total - losses.ce["orig"].total
    won = ce_recovered(*(losses.ce[key].total for key in (best.key, "transcoder", "orig")))
    spent = np.stack([losses.cells_C(key) for key in (best.key, "transcoder", "orig")], 1)
    gain, gain_interval = difference(
        answers.same_label_C(TRANSCODER), answers.same_label_C(by_labels.key), groups_C
    )
    lost, lost_interval = difference(answers.right_C(TRANSCODER), answers.right_C(FEATURES_MEAN), groups_C)
    found = AddedByFeatures(
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


def needed(added: AddedByFeatures) -> str:
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


# The seed paper's own figures (arXiv 2509.14723, C2S-Pythia-410m on the heart atlas), to show beside ours.
PAPER = MappingProxyType(
    {
        "ce_orig": 2.48,
        "ce_transcoder": 4.63,
        "ce_zero": 12.67,
        "ce_recovered": 0.789,
        "kl": 2.406,
        "source": "arXiv:2509.14723",
    }
)

FORMS = {"sae": "SAEs of their outputs", "cross-layer": "cross-layer transcoders"}


class Thresholds(NamedTuple):
    """Where a figure becomes a warning. They are judgements: the paper gives signs, not limits.

    `ce_recovered`, `agreement`, `accuracy`: below is bad. `fvu`, `dead`, `prompt_mass`: above is bad.
    `l0_few`: fewer active features a token than this say almost nothing; more than `l0_many`, and more than
    the share `l0_share` of all features, are no longer sparse. `cells`: with fewer, one cell moves a
    share by over 2 points.
    """

    ce_recovered: float = 0.9
    fvu: float = 0.3
    l0_few: float = 1.0
    l0_many: float = 32.0
    l0_share: float = 0.05
    dead: float = 0.25
    prompt_mass: float = 0.5
    agreement: float = 0.9
    accuracy: float = 0.5
    cells: int = 50


DEFAULT = Thresholds()


def cautions(found: Validation, limits: Thresholds = DEFAULT) -> tuple[Caution, ...]:
    """Every warning that the figures call for, the gravest first."""
    return (*_whole_model(found, limits), *_layers(found, limits), *_labels(found, limits))


NOT, WITH_CARE, READ = "no", "with care", "yes"  # whether circuits may be read as the model's reasons


class Judgement(NamedTuple):
    """`read`: whether circuits may be read as the model's reasons (NOT, WITH_CARE, READ), and why, in one or
    two sentences for a biologist."""

    read: str
    words: str


def verdict(found: Validation, limits: Thresholds = DEFAULT) -> str:
    """The words of `judged`."""
    return judged(found, limits).words


def judged(found: Validation, limits: Thresholds = DEFAULT) -> Judgement:
    """May circuits of these transcoders be read as the model's reasons?

    They may only where features are needed: where no stand-in without features does nearly as well
    (`added.needed`, by the rule of `needed`).
    """
    share = f"{found.label_agreement:.0%} of {found.n_cells} held-out cells keep their label"
    signs = {caution.sign for caution in cautions(found, limits)}
    if "mlps" in signs:
        words = "Do not read circuits of this model: it predicts no better with its MLPs than without them."
        return Judgement(NOT, words)
    if found.form != "transcoder":
        return Judgement(
            WITH_CARE,
            f"With {FORMS[found.form]} in place of all MLPs, {share} and {found.ce_recovered:.1%} of the "
            "loss is recovered. They are for comparison: circuits go through transcoders of one MLP each.",
        )
    if signs & {"reconstruction", "agreement"}:
        return Judgement(
            NOT,
            f"Do not read circuits from these transcoders yet: with all MLPs replaced, {share} and "
            f"{found.ce_recovered:.1%} of the loss is recovered.",
        )
    if "accuracy" in signs:
        return Judgement(
            WITH_CARE,
            f"The transcoders follow the model ({share}), but the model names only "
            f"{found.label_accuracy_orig:.0%} of the cells rightly: its circuits explain many mistakes.",
        )
    return _with_features(found, share, signs)


def _with_features(found: Validation, share: str, signs: set[str]) -> Judgement:
    """The judgement of transcoders that follow a model which answers: are their features needed?"""
    close = (
        f"The transcoders stand in closely for the model ({share}, {found.ce_recovered:.1%} of the loss "
        "recovered)"
    )
    if found.added is None:
        return Judgement(
            WITH_CARE,
            f"{close}. Whether their features are needed was not measured: nothing without features was "
            "held beside them. Until it is, do not take circuits for what the model computes.",
        )
    if found.added.needed == NO:
        return Judgement(WITH_CARE, f"{close}, but {_without_features(found)}")
    if signs - {"cells", "logistic"}:
        words = (
            f"The transcoders follow the model ({share}), but read its circuits with the warnings in mind."
        )
        return Judgement(WITH_CARE, words)
    if found.added.needed == YES:
        return Judgement(
            READ,
            f"{close}, and their features are needed: the best stand-in without features "
            f"({BASELINES[found.added.best]}) recovers {found.added.ce_recovered:.1%}. Its circuits can be "
            "read as what the model computes.",
        )
    return Judgement(
        WITH_CARE,
        f"{close}. Part of what the model does needs no feature: {BASELINES[found.added.best]} "
        f"recovers {found.added.ce_recovered:.1%} of the loss and {BASELINES[found.added.labels_by]} keeps "
        f"{found.added.agreement:.0%} of the labels. Circuits show how features add to that.",
    )


def _without_features(found: Validation) -> str:
    """Why features are not needed, in a clause and a sentence."""
    added = found.added
    assert added is not None  # asked for where it is there
    row = next(row for row in found.baselines if row.key == added.best)
    return (
        f"{BASELINES[added.best]} does nearly as well ({row.label_agreement:.0%} keep their label, "
        f"{row.ce_recovered:.1%} recovered): features are not needed to explain this model. A circuit shows "
        "how the transcoders follow it, not steps that the model has to take."
    )


def _share_interval(found: Interval) -> str:
    """The interval of a share in brackets, in per cent as the share itself; "" where it is unknown."""
    return "" if found.low != found.low else f"[{found.low:.0%}, {found.high:.0%}]"


def _whole_model(found: Validation, limits: Thresholds) -> Iterator[Caution]:
    if found.ce_zero <= found.ce_orig:
        yield Caution(
            "mlps",
            (),
            f"The model predicts no worse without its MLPs (CE {found.ce_zero:.3f}) than with them "
            f"({found.ce_orig:.3f}), so CE recovered says nothing.",
            "Check that this is a trained model and that the prompt is the one it was trained with.",
        )
    # "not ≥" and not "<", so that an undefined ratio counts as failed.
    elif not found.ce_recovered >= limits.ce_recovered:
        yield Caution(
            "reconstruction",
            (),
            f"The transcoders lose much of what the MLPs do: CE recovered is {found.ce_recovered:.3f} "
            f"(wanted ≥ {limits.ce_recovered}; the seed paper had {PAPER['ce_recovered']}). Circuits "
            "describe the transcoders more than the model.",
            "Train longer, with more features, or allow more active features a token.",
        )
    if found.added is not None and found.added.needed == NO:
        held = "nor do the labels" if found.added.accuracy_gain_interval.low <= 0 else "but the labels do"
        yield Caution(
            "features",
            (),
            f"The loss hardly depends on features, {held}: {_without_features(found)} With every feature at "
            f"its mean the model names {found.added.accuracy_at_mean:.0%} of the cells rightly, with the "
            f"transcoders {found.label_accuracy_transcoder:.0%}.",
            "Read gene effects and measured knock-outs, not features. For features that matter, take a model "
            "whose MLPs are not nearly linear.",
        )
    if found.dead > limits.dead:
        yield Caution(
            "dead",
            _where(found.per_layer, lambda row: row.dead > limits.dead),
            f"{found.dead:.0%} of the features were never active on {found.n_tokens:,} tokens "
            f"(wanted ≤ {limits.dead:.0%}).",
            "Use fewer features, a lower sparsity penalty, a shorter warm-up, or dead-feature revival "
            "(TopK with auxiliary loss); with few cells, validate on more first.",
        )
    if found.n_cells < limits.cells:
        yield Caution(
            "cells",
            (),
            f"Only {found.n_cells} held-out cells: a single one moves accuracy and agreement by "
            f"{1 / found.n_cells:.1%}.",
            f"Hold out at least {limits.cells} cells before comparing settings.",
        )


def _layers(found: Validation, limits: Thresholds) -> Iterator[Caution]:
    rows, n = found.per_layer, found.n_features
    if bad := _where(rows, lambda row: not row.fvu <= limits.fvu):
        yield Caution(
            "fvu",
            bad,
            f"{_named(bad)}: the transcoder leaves {_worst(rows, bad, 'fvu', max):.0%} of the MLP's variance "
            f"unexplained (wanted ≤ {limits.fvu:.0%}); traces through it hold large error nodes.",
            "Train longer or with more active features.",
        )
    if bad := _where(rows, lambda row: row.l0 < limits.l0_few):
        yield Caution(
            "silent",
            bad,
            f"{_named(bad)}: almost nothing is active ({_worst(rows, bad, 'l0', min):.2f} features a token), "
            "so a circuit has nothing to show there.",
            "Lower the sparsity penalty, or raise k.",
        )
    if bad := _where(rows, lambda row: row.l0 > max(limits.l0_many, limits.l0_share * n)):
        yield Caution(
            "dense",
            bad,
            f"{_named(bad)}: {_worst(rows, bad, 'l0', max):.0f} of {n} features are active a token, more "
            f"than {limits.l0_share:.0%}: too many to have one meaning each.",
            "Raise the sparsity penalty, or lower k.",
        )
    if bad := _where(rows, lambda row: row.prompt_mass > limits.prompt_mass):
        yield Caution(
            "prompt",
            bad,
            f"{_named(bad)}: {_worst(rows, bad, 'prompt_mass', max):.0%} of the activation is on prompt "
            "words and punctuation, not on genes; circuits may show the sentence's form only.",
            "Train on more cells, or leave the prompt's tokens out of training; read genes, not features.",
        )


def _labels(found: Validation, limits: Thresholds) -> Iterator[Caution]:
    counts = [sum(row) for row in found.confusion.original]
    largest = found.confusion.one_answer
    if found.label_agreement < limits.agreement:
        yield Caution(
            "agreement",
            (),
            f"Only {found.label_agreement:.0%} of the cells keep their label when the MLPs are replaced "
            f"(wanted ≥ {limits.agreement:.0%}).",
            "Train the transcoders longer, or look at the confusion table for the types that suffer.",
        )
    several = sum(count > 0 for count in counts) > 1
    if found.label_accuracy_orig < limits.accuracy or (several and found.label_accuracy_orig <= largest):
        yield Caution(
            "accuracy",
            (),
            f"The model itself names {found.label_accuracy_orig:.0%} of the cells rightly (always guessing "
            f"the commonest type: {largest:.0%}); its circuits explain its answers, right or wrong.",
            "Check that labels, organism and prompt are those the model was trained with. Train a model on "
            "these cells; one that was trained on them needs more steps, or more cells of each type.",
        )
    if found.logistic is not None and found.logistic.ahead_interval.high < 0:
        yield Caution(
            "logistic",
            (),
            "Logistic regression on the same genes names more cells rightly "
            f"({found.logistic.accuracy:.0%} {_share_interval(found.logistic.accuracy_interval)}) than the "
            f"model ({found.label_accuracy_orig:.0%}).",
            "To name cells, use the regression; this model's circuits explain its own answers only.",
        )
    if len(found.confusion.labels) < 2:
        yield Caution(
            "labels",
            (),
            "There is one candidate label only, so accuracy and agreement say nothing.",
            "Validate on cells of several types.",
        )


def _where(rows: Sequence[LayerRow], bad: Callable[[LayerRow], bool]) -> tuple[int, ...]:
    return tuple(row.layer for row in rows if bad(row))


def _named(layers: Sequence[int]) -> str:
    """Layers in words, counted from 0 as everywhere."""
    return f"Layer {layers[0]}" if len(layers) == 1 else f"Layers {', '.join(map(str, layers))}"


def _worst(rows: Sequence[LayerRow], layers: Sequence[int], name: str, pick: Callable) -> float:
    return pick(getattr(row, name) for row in rows if row.layer in layers)
