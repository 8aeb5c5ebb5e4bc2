"""A form from a configuration: the same options, words and limits as on the command line and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import streamlit as st

from pages.parts.common.words import KINDS, READS, WRITES, safe
from scx_core.runs import Option, from_dict, options_of, to_dict

T = TypeVar("T")
_NAMES = {
    "k": "Active features (k)",
    "l1": "L1 penalty",
    "l0": "L0 penalty",
    "target_l0": "Target L0",
    "skip": "Affine path (skip)",
    "error": "Error term",
    "normalise": "Normalise activations",
    "warmup": "Warm-up, steps",
    "decay": "Decay, share of the steps",
    "anneal": "Annealing of k, share of the steps",
    "skip_prompt": "Leave the prompt out",
    "finetune_steps": "Fine-tuning, steps",
    "finetune_rate": "Fine-tuning, rate",
    "held_out": "Test cells, share",
    "choose": "Choosing cells, share",
    "best_at_end": "End with the best checkpoint",
    "n_genes": "Genes a sentence",
    "kind": "Activation",
    "reads": "Features read",
    "writes": "Features write to",
    "expansion": "Features × width",
    "revive": "Revival loss",
    "dead_after": "Dead after, tokens",
    "processes": "Processes (devices)",
    "parallel": "Processes share out",
    "micro_batch_cells": "Cells at once",
    "precision": "Precision of the model",
    "seed": "Seed",
    "readings": "Cells read",
    "labels_file": "Labels file, by its path",
}
_CHOICES = {"kind": KINDS, "reads": READS, "writes": WRITES}


def config_form(base: T, key: str, names: Sequence[str] | None = None, columns: int = 3) -> T:
    """Widgets for the options of `base` (or those called `names`), and the configuration that they make.

    `key` must change with `base`, as a widget keeps its value. Raises ScxError for values that do not fit.
    """
    values = to_dict(base)
    wanted = [opt for opt in options_of(type(base)) if names is None or opt.name in names]
    for place, opt in enumerate(wanted):
        if place % columns == 0:  # a row of its own, so that a switch does not push its column out of step
            places = st.columns(columns, vertical_alignment="bottom")
        with places[place % columns]:
            values[opt.name] = _widget(opt, values[opt.name], f"{key} {opt.name}")
    return from_dict(type(base), values)


def label_of(opt: Option) -> str:
    """An option's name for people."""
    return _NAMES.get(opt.name) or opt.name.replace("_", " ").capitalize()


def _widget(opt: Option, value: Any, key: str) -> Any:
    label, words = label_of(opt), safe(opt.help) + (f" ({safe(opt.unit)})" if opt.unit else "")
    if opt.choices is not None:
        choices = list(opt.choices)
        return st.selectbox(
            label,
            choices,
            index=choices.index(value),
            format_func=lambda name: _CHOICES.get(opt.name, {}).get(name, name),
            help=words,
            key=key,
        )
    if opt.type is bool:
        return st.toggle(label, value=value, help=words, key=key)
    if opt.type is str or opt.optional:
        typed = st.text_input(label, value=value or "", help=words, key=key)
        return typed or (None if opt.optional else "")
    whole = opt.type is int
    low, high = (opt.type(limit) if limit is not None else None for limit in (opt.minimum, opt.maximum))
    return st.number_input(
        label,
        min_value=low,
        max_value=high,
        value=value,
        step=1 if whole else _step(value),
        format="%d" if whole else "%g",
        help=words,
        key=key,
    )


def _step(value: float) -> float:
    """A tenth of the value's magnitude, so that the arrows are of use for 0.0002 as for 0.5."""
    return float(f"{abs(value) / 10:.0e}") if value else 0.1
