"""A form from a configuration: the same options, words and limits as on the command line and in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import streamlit as st

from pages.parts.common.words import KINDS, READS, WRITES, safe
from scx_core.errors import ScxError
from scx_core.runs import Option, from_dict, options_of, read_json, runs_root, to_dict, write_json

T = TypeVar("T")
FORMS, FILE = "scx_forms", "forms.json"  # in the session, and in the runs folder
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


def config_form(
    base: T,
    key: str,
    names: Sequence[str] | None = None,
    columns: int = 3,
    *,
    keep: bool = False,
    named: Mapping[str, str] | None = None,
) -> T:
    """Widgets for the options of `base` (or those called `names`), and the configuration that they make.

    `key` must change with `base`, as a widget keeps its value. `keep`: also over a reload and a restart.
    `named`: labels of options where the page has another control of that name. Raises ScxError for values
    that do not fit.
    """
    values, given = to_dict(base), _given() if keep else {}
    wanted = [opt for opt in options_of(type(base)) if names is None or opt.name in names]
    for place, opt in enumerate(wanted):
        if place % columns == 0:  # a row of its own, so that a switch does not push its column out of step
            places = st.columns(columns, vertical_alignment="bottom")
        name, first = f"{key} {opt.name}", values[opt.name]
        with places[place % columns]:
            values[opt.name] = _widget(
                opt, _kept(base, opt, given.get(name, first)), name, (named or {}).get(opt.name)
            )
        if keep:
            remember_form(name, values[opt.name], first)
    return from_dict(type(base), values)


def _kept(base: Any, opt: Option, value: Any) -> Any:
    """A value of an earlier session, if it is one that the option may have still."""
    try:
        from_dict(type(base), to_dict(base) | {opt.name: value})
    except ScxError:
        return getattr(base, opt.name)
    return value


def form_value(name: str, default: Any) -> Any:
    """What a person chose in a form, in this session or an earlier one."""
    return _given().get(name, default)


def remember_form(name: str, value: Any, default: Any) -> None:
    """Keep what a person chose over a reload and a restart; the default needs no keeping."""
    given = _given()
    if given.get(name, default) == value:
        return
    given.pop(name, None)
    if value != default:
        given[name] = value
    _write(given)


def changed_in(prefix: str) -> bool:
    """Whether a person changed anything in the forms whose keys begin so."""
    return any(name.startswith(f"{prefix} ") for name in _given())


def forget_forms(prefix: str) -> None:
    """Forms whose keys begin so have their first values again."""
    given = _given()
    for name in [name for name in given if name.startswith(f"{prefix} ")]:
        del given[name]
    for name in [name for name in st.session_state if str(name).startswith(f"{prefix} ")]:
        del st.session_state[name]
    _write(given)


def _given() -> dict[str, Any]:
    """What was changed in forms, by the key of the widget; read from the runs folder once a session."""
    if FORMS not in st.session_state:
        st.session_state[FORMS] = {}
        with suppress(ScxError):
            path = runs_root() / FILE
            found = read_json(path) if path.exists() else {}
            st.session_state[FORMS] = dict(found) if isinstance(found, dict) else {}
    return st.session_state[FORMS]


def _write(given: dict[str, Any]) -> None:
    with suppress(ScxError, OSError):  # a form works where nothing can be written
        path = runs_root() / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, given, durable=False)


def label_of(opt: Option) -> str:
    """An option's name for people."""
    return _NAMES.get(opt.name) or opt.name.replace("_", " ").capitalize()


def _widget(opt: Option, value: Any, key: str, named: str | None = None) -> Any:
    label, words = named or label_of(opt), safe(opt.help) + (f" ({safe(opt.unit)})" if opt.unit else "")
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
