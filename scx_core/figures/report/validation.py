"""A validation as tables: figures with intervals beside the seed paper's, what could do as well, by layer and
token class, and which labels are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.figures.drawing.text import plain
from scx_core.figures.report.parts import Table
from scx_core.statistics.intervals import Interval
from scx_core.validation import PAPER, Validation

_FIGURES = {
    "ce_orig": ("cross-entropy, the model itself", "nats a token"),
    "ce_transcoder": ("cross-entropy, transcoders for all MLPs", "nats a token"),
    "ce_zero": ("cross-entropy, MLPs at zero", "nats a token"),
    "ce_mean": ("cross-entropy, MLPs at their mean", "nats a token"),
    "ce_recovered": ("CE recovered", "share"),
    "kl": ("KL divergence from the model", "nats a token"),
    "fvu": ("variance unexplained (FVU)", "share"),
    "l0": ("active features (L0)", "a token and layer"),
    "dead": ("dead features", "share"),
    "label_accuracy_orig": ("cells named rightly, the model itself", "share"),
    "label_accuracy_transcoder": ("cells named rightly, with transcoders", "share"),
    "label_agreement": ("cells that keep their label", "share"),
}
_SHARES = ("ce_recovered", "label_accuracy", "label_agreement")


def figures_table(found: Validation) -> Table:
    """The figures of the whole model."""
    rows = tuple(
        {"figure": words, "unit": unit, **_with(found.intervals.get(name), getattr(found, name))}
        | {"paper": PAPER.get(name)}
        for name, (words, unit) in _FIGURES.items()
    )
    note = (
        f"n = {found.n_cells:,} held-out cells, {found.n_tokens:,} tokens, every MLP replaced at once. "
        f"95% intervals: shares of cells by Wilson, others by bootstrap over {found.drawn_over or 'cells'}. "
        f"{plain(found.split, 300)}"
    )
    columns = (
        ("figure", ("figure",)), ("unit", ("unit",)), ("here [95%]", ("shown",)),
        ("seed paper", ("paper",)),
    )  # fmt: skip
    return Table("validation", "Figures on held-out cells", note, columns, rows)


def baselines_table(found: Validation) -> Table | None:
    """The transcoders beside stand-ins without features; None where these were not measured."""
    if not found.baselines:
        return None
    own = {"label_accuracy": "label_accuracy_transcoder"}
    held = [("transcoders", {key: getattr(found, own.get(key, key)) for key in (*_SHARES, "kl")}, found)]
    held += [(one.name, one._asdict(), one) for one in found.baselines]  # type: ignore[misc]
    rows = []
    for name, values, whose in held:
        row: dict[str, Any] = {"by": plain(name, 60)}
        for key in (*_SHARES, "kl"):
            spans = whose.intervals
            found_at = own.get(key, key) if whose is found else key
            row |= _with(spans.get(found_at), values[key], key)
        rows.append(row)
    titles = ("CE recovered", "cells named rightly", "cells that keep their label", "KL, nats a token")
    columns: list[tuple[str, tuple[str, ...]]] = [("in place of the MLPs", ("by",))]
    columns += [(title, (f"{key}_shown",)) for title, key in zip(titles, (*_SHARES, "kl"), strict=True)]
    note = (
        "What has no features, on the same cells: where one of these does as well, features explain little."
    )
    return Table("baselines", "Beside stand-ins without features", note, tuple(columns), tuple(rows))


def layers_table(found: Validation) -> Table:
    """One row a layer."""
    rows = tuple(row._asdict() for row in found.per_layer)
    titles = {
        "layer": "layer", "ce_recovered": "CE recovered", "ce": "CE, nats", "kl": "KL, nats", "fvu": "FVU",
        "l0": "L0", "dead": "dead", "prompt_mass": "activation at prompt words",
    }  # fmt: skip
    columns = tuple((title, (name,)) for name, title in titles.items())
    rows = tuple({key: None if value != value else value for key, value in row.items()} for row in rows)
    return Table("layers", "By layer", plain(found.layer_words, 600), columns, rows)


def classes_table(found: Validation) -> Table:
    """One row a class of tokens."""
    rows = tuple(
        {"class": name, **{key: None if value != value else value for key, value in row._asdict().items()}}
        for name, row in found.by_token_class.items()
    )
    titles = {
        "class": "tokens", "n_tokens": "n", "ce_orig": "CE, model", "ce_transcoder": "CE, transcoders",
        "ce_recovered": "CE recovered", "kl": "KL, nats", "l0": "L0",
    }  # fmt: skip
    columns = tuple((title, (name,)) for name, title in titles.items())
    return Table("token_classes", "By class of token", "Losses of predicting such a token.", columns, rows)


def labels_table(found: Validation) -> Table:
    """One row a true label: how many cells the model, and the transcoders, name rightly."""
    held = found.confusion
    rows = tuple(
        {"label": label, "n": sum(model), "model": model[k], "transcoders": coders[k]}
        for k, (label, model, coders) in enumerate(
            zip(held.labels, held.original, held.transcoder, strict=True)
        )
        if sum(model)
    )
    columns = (
        ("label", ("label",)), ("cells", ("n",)), ("named rightly by the model", ("model",)),
        ("with transcoders", ("transcoders",)),
    )  # fmt: skip
    return Table("labels", "By label", "Held-out cells.", columns, rows)


def _with(span: Interval | None, value: float, name: str = "") -> dict[str, Any]:
    """A figure with its interval, and both as text with three decimals, under keys that begin with `name`."""
    lead = f"{name}_" if name else ""
    known = span is not None and span.low == span.low
    low, high = (span.low, span.high) if known and span is not None else (None, None)
    text = "–" if value != value else f"{value:.3f}"
    text += "" if low is None else f" [{low:.3f}, {high:.3f}]"
    found: Mapping[str, Any] = {"value": None if value != value else value, "low": low, "high": high}
    return {f"{lead}{key}": one for key, one in found.items()} | {f"{lead}shown": text.replace("-", "−")}
