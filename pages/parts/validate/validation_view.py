"""The validation of what is in use, saved beside the set or measured here: verdict, warnings, figures,
losses, by layer and class, labels."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import pandas as pd
import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.charts import confusion_chart, loss_chart, narrow, stand_in_chart
from pages.parts.common.results import Column, Memory, download, table
from pages.parts.common.session import Context
from pages.parts.common.tasks import sources
from pages.parts.common.words import FORMS, HELP, number, percent, safe
from scx_core.figures import table_csv
from scx_core.runs.files import to_json_text
from scx_core.statistics.intervals import Interval
from scx_core.tasks import Task
from scx_core.tasks.estimates import START
from scx_core.tasks.task import table_task
from scx_core.validation import (
    PAPER,
    Validation,
    ValidationRows,
    ValidationWork,
    validation_beside,
    validation_rows,
    validation_work,
)
from scx_core.validation.standing import kept_validation, validations_stamp
from scx_core.validation.warnings import NOT, READ, WITH_CARE, judged

_LOSSES = (
    ("original", "ce_orig"),
    ("transcoders", "ce_transcoder"),
    ("MLPs at their mean", "ce_mean"),
    ("no MLPs", "ce_zero"),
)
_SPANS = {"ce_recovered": "ce_recovered", "kl": "kl", "agreement": "label_agreement"}
# The box of the verdict, by whether circuits may be read; warnings of single figures stand below it.
_BOXES = {READ: (st.success, "verified"), WITH_CARE: (st.warning, "warning"), NOT: (st.error, "block")}
_FIGURE = 150  # pixels: two in a row on a telephone, three beside the chart
_MEASURED: Memory[tuple[Validation | None]] = Memory(12)
_WORK: Memory[ValidationWork] = Memory(12)
_COLUMNS: dict[str, Column] = {
    "layer": ("Layer", "%d"),
    "token_class": ("Token class", None, "Prompt words, gene names, the answer."),
    "n_tokens": ("Tokens", "%d"),
    "ce": ("CE", "%.3f", "Only this layer replaced. " + HELP["ce"]),
    "ce_orig": ("CE, original", "%.3f", HELP["ce"]),
    "ce_transcoder": ("CE, transcoders", "%.3f", HELP["ce"]),
    "ce_mean": ("CE, mean", "%.3f", HELP["ce"]),
    "ce_zero": ("CE, no MLP", "%.3f", HELP["ce"]),
    "ce_recovered": ("CE recovered", "%.4f", HELP["ce_recovered"]),
    "kl": ("KL", "%.4f", HELP["kl"]),
    "mark": ("Mark", None, "What is odd about CE recovered; said above the table."),
    "fvu": ("FVU", "%.4f", HELP["fvu"]),
    "l0": ("L0", "%.1f", HELP["l0"]),
    "dead": ("Dead", "percent", HELP["dead"]),
    "prompt_mass": ("On prompt words", "percent", "Share of the activation on prompt words and punctuation."),
    "gene_features": (
        "Gene features",
        "percent",
        "Share of firing features with most of their mass on genes.",
    ),
}


def rows_to_measure(ctx: Context) -> ValidationRows:
    """Test cells of the table in use, and those that the baselines are fitted on."""
    return validation_rows(loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx))


def known(ctx: Context) -> tuple[Validation | None, bool]:
    """What is known without measuring, and whether it was measured in this app."""
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    marks = {"data": table.fingerprint, "model": lm.fingerprint, "transcoders": coders.fingerprint}
    parts = {"data": table, "model": lm, "transcoders": coders}
    kept = _MEASURED.get((*_key(ctx), validations_stamp()), lambda: (kept_validation(parts),))[0]
    if kept is not None:
        return kept, True
    return validation_beside(coders.folder, marks), False


def work(ctx: Context, rows: ValidationRows) -> ValidationWork:
    """What measuring on these cells will take; from a timed pass of the model."""
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)

    def make() -> ValidationWork:
        with lm.lock:
            return validation_work(lm, coders, table, rows.test, fit=rows.train)

    return _WORK.get((*_key(ctx), len(rows.test), len(rows.train)), make)


def task(ctx: Context, rows: ValidationRows) -> Task:
    """The question that a job answers. Raises ScxError."""
    n_cells = len(rows.test)
    parts = {"model": loaders.language(ctx), "transcoders": loaders.transcoders(ctx)}
    return table_task(
        "validation", f"Validation on {n_cells:,} cells", sources(ctx), loaders.cells(ctx),
        {"cells": n_cells}, **parts,
    )._replace(seconds=START + work(ctx, rows).seconds)  # fmt: skip


def _key(ctx: Context) -> tuple[Hashable, ...]:
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    marks = (coders.fingerprint, str(coders.meta.get("as_is")))
    return (*loaders.cells_key(table), *loaders.model_key(lm), *marks)


def validation_view(found: Validation) -> None:
    """Everything, from the sentence to the tables."""
    warnings = found.warnings
    judgement = judged(found)
    show, icon = _BOXES[judgement.read]
    show(f"**{safe(judgement.words)}**", icon=f":material/{icon}:")
    for caution in warnings:
        with st.container(border=True):
            st.markdown(
                f":orange[:material/warning:] {safe(caution.text)}  \n**What to do:** {safe(caution.remedy)}"
            )
    left, right = st.columns([4, 5], gap="large")
    with left:
        st.markdown("### Figures")
        what = "" if found.form == "transcoder" else f"{FORMS[found.form]}. "
        st.caption(
            f"{what}All MLPs replaced at once, n = {found.n_cells:,} test cells, {found.n_tokens:,} tokens. "
            + (f"95% intervals over {found.drawn_over}; shares: Wilson's. " if found.intervals else "")
            + safe(found.split)
        )
        figures(found)
    with right:
        st.markdown("### Losses", help=HELP["ce"])
        st.caption("Seed paper: C2S-Pythia-410m on the heart atlas, arXiv 2509.14723.")
        loss_chart(_losses(found))
    beside(found)
    layers, classes = st.tabs(["By layer", "By token class"])
    with layers:
        if found.layer_words:
            st.caption(safe(found.layer_words))
        _table(_layers(found), "by_layer")
    with classes:
        rows = [{"token_class": name} | row._asdict() for name, row in found.by_token_class.items()]
        _table(pd.DataFrame(rows), "by_token_class")
    labels(found)


def figures(found: Validation) -> None:
    """The headline figures, the paper's beside where it gives them."""
    spans = found.intervals
    rows: Sequence[tuple[str, str, str, float | None, int]] = (
        ("CE recovered", number(found.ce_recovered, 4), "ce_recovered", PAPER["ce_recovered"], 3),
        ("KL, nats a token", number(found.kl, 4), "kl", PAPER["kl"], 3),
        ("L0", number(found.l0, 1), "l0", None, 0),
        ("FVU", number(found.fvu, 4), "fvu", None, 0),
        ("Dead features", percent(found.dead, 1), "dead", None, 0),
        ("Label agreement", percent(found.label_agreement, 1), "agreement", None, 0),
    )
    with st.container(horizontal=True):
        for name, value, term, paper, digits in rows:
            shown = share_span if value.endswith("%") else span
            between = shown(spans[_SPANS[term]]) if _SPANS.get(term) in spans else None
            with st.container(width=_FIGURE):
                st.metric(name, value, between, "off", help=HELP[term], delta_arrow="off")
                if paper is not None:
                    st.caption(f"seed paper {number(paper, digits)}")


def span(found: Interval, digits: int = 3) -> str:
    """A 95% interval in brackets."""
    return f"[{number(found.low, digits)}, {number(found.high, digits)}]"


def share_span(found: Interval) -> str:
    """A 95% interval of a share in brackets, in per cent as the share itself."""
    return f"[{percent(found.low, 1)}, {percent(found.high, 1)}]"


def points_span(found: Interval) -> str:
    """A 95% interval of a difference of shares in brackets, in percentage points as the difference itself."""
    low, high = ("–" if math.isnan(end) else f"{100 * end:+.1f}" for end in found)
    return f"[{low}, {high}]"


def stand_ins(found: Validation) -> pd.DataFrame:
    """Transcoders and what has no features: name, figure, value, low, high, one row a bar."""
    names = {
        "ce_recovered": "CE recovered",
        "label_agreement": "Label agreement",
        "label_accuracy": "Label accuracy",
    }
    own = (found.ce_recovered, found.label_agreement, found.label_accuracy_transcoder)
    spans = found.intervals | {"label_accuracy": found.intervals["label_accuracy_transcoder"]}
    rows = [
        (FORMS[found.form], title, value, *spans[key])
        for (key, title), value in zip(names.items(), own, strict=True)
    ]
    for row in found.baselines:
        rows += [(row.name, title, getattr(row, key), *row.intervals[key]) for key, title in names.items()]
    return pd.DataFrame(rows, columns=["name", "figure", "value", "low", "high"])


def beside(found: Validation) -> None:
    """What could do as well without features, and what features add."""
    st.markdown("### Are the features needed?", help=HELP["baselines"])
    added = found.added
    if added is None:
        st.caption(
            "Nothing without features was held beside them: measured before there were such rows, or there "
            "are no cells to fit them on. Measure again, with 50 cells or more."
        )
        return
    names = {row.key: row.name for row in found.baselines}
    won = f"Of the loss that {names[added.best]} leaves, the features win back {percent(added.won_back, 1)} "
    won += f"{share_span(added.won_back_interval)}."
    if math.isnan(added.won_back):
        won = f"With {names[added.best]} no loss is left that features could win back."
    ends = points_span(added.agreement_gain_interval)
    more = f"a difference of {100 * added.agreement_gain:+.1f} points {ends}"
    st.caption(
        f"{won} They keep the label of {percent(found.label_agreement, 1)} of the cells, "
        f"{names[added.labels_by]} of {percent(added.agreement, 1)}: {more}. With every feature at its mean "
        f"{percent(added.accuracy_at_mean, 1)} of the cells are named rightly, with the features "
        f"{percent(found.label_accuracy_transcoder, 1)}."
    )
    rows = stand_ins(found)
    stand_in_chart(rows)
    download("Stand-ins (CSV)", table_csv(rows), "stand_ins.csv")


def _accuracies(found: Validation) -> str:
    """The model's accuracy with its interval, balanced, and beside logistic regression."""
    spans = found.intervals
    if not spans:
        return ""
    words = (
        f"95% interval of the original model's accuracy {share_span(spans['label_accuracy_orig'])}; balanced "
        f"accuracy {percent(found.balanced_accuracy_orig, 1)} {share_span(spans['balanced_accuracy_orig'])}. "
        f"One answer for every cell, the commonest: {percent(found.confusion.one_answer, 1)}. "
    )
    made = found.logistic
    if made is None:
        return words
    low, high = made.ahead_interval
    who = "the model is ahead" if low > 0 else "the regression is ahead" if high < 0 else "a tie"
    return words + (
        f"Logistic regression on the same {made.n_genes:,} genes, fitted on {made.n_train:,} training cells: "
        f"{percent(made.accuracy, 1)} {share_span(made.accuracy_interval)}, balanced "
        f"{percent(made.balanced_accuracy, 1)}: {who}."
    )


def _losses(found: Validation) -> pd.DataFrame:
    names = {"transcoders": FORMS[found.form].lower() if found.form != "sae" else "SAEs"}
    here = [(names.get(what, what), getattr(found, key), "here") for what, key in _LOSSES]
    paper = [(what, PAPER[key], "seed paper") for what, key in _LOSSES if key in PAPER]
    return pd.DataFrame(here + paper, columns=["what", "value", "whose"])


def _table(rows: pd.DataFrame, name: str) -> None:
    table(rows, _COLUMNS, column_order=None)
    download(f"{name.replace('_', ' ').capitalize()} (CSV)", table_csv(rows), f"validation_{name}.csv")


def _layers(found: Validation) -> pd.DataFrame:
    """A row a layer, without the column of marks where there are none."""
    rows = pd.DataFrame([row._asdict() for row in found.per_layer])
    return rows if rows["mark"].any() else rows.drop(columns="mark")


def labels(found: Validation) -> None:
    """Accuracy before and after, and which types are taken for which."""
    st.markdown("### Labels")
    st.caption(
        f"Label accuracy {percent(found.label_accuracy_orig, 1)} with the original model, "
        f"{percent(found.label_accuracy_transcoder, 1)} with every MLP replaced; "
        f"{percent(found.label_agreement, 1)} of {found.n_cells:,} test cells keep their label. "
        + _accuracies(found),
        help=f"{HELP['balanced']} {HELP['logistic']}",
    )
    confusion = found.confusion
    parts = (("Original model", confusion.original), ("Every MLP replaced", confusion.transcoder))
    if narrow(confusion.labels):
        with st.container(key="stacked"):  # below each other where the window is narrow
            columns = st.columns(2)
    else:
        columns = [st.container(key=f"scrolled-{name}") for name, _ in parts]
    for column, (title, counts) in zip(columns, parts, strict=True):
        rows = [
            (true, predicted, counts[i][j])
            for i, true in enumerate(confusion.labels)
            for j, predicted in enumerate(confusion.labels)
        ]
        frame = pd.DataFrame(rows, columns=["true", "predicted", "cells"])
        with column:
            confusion_chart(frame, list(confusion.labels), title)
            file = f"confusion_{title.lower().replace(' ', '_')}.csv"
            download(f"Confusion, {title[:1].lower()}{title[1:]} (CSV)", table_csv(frame), file)
    whole = to_json_text(found.to_json(), indent=1).encode()
    download("The whole validation (JSON)", whole, "validation.json", "application/json")
