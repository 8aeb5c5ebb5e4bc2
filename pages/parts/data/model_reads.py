"""What the model in use reads and answers: asked once, shown on the data page, told in badges."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.in_use import model_name
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Memory
from pages.parts.common.session import Context, context, use
from pages.parts.common.words import count, safe
from pages.parts.data.cell_source import correct, draft
from scx_core.cells import CellChoices, CellTable
from scx_core.cells.formats.label_files import write_mapping
from scx_core.runs import runs_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.delta_generator import DeltaGenerator

    from scx_core.language import Fit, Language, Mapped, RawAnswers, Suggested

_RAW: Memory[RawAnswers] = Memory(16)
_SUGGESTED: Memory[tuple[Suggested, ...]] = Memory(16)
NO_ANSWER = ""
_BOX, _MOST_BOXES = 56, 10  # pixels of a type's row, and rows that are seen without scrolling
_ROW, _HEAD = 35, 38  # pixels of a table's row and of its head


def asked(ctx: Context, table: CellTable, ask: bool) -> RawAnswers | None:
    """The raw answers of the model in use, where they are known; else, with `ask`, asked now."""
    lm = loaders.language(ctx)
    key = (*loaders.cells_key(table), *loaders.model_key(lm))
    if not ask:
        return _RAW.peek(key)

    def make() -> RawAnswers:
        from scx_core.language import raw_answers

        with lm.lock, st.spinner("Asking the model …"):
            return raw_answers(lm, table)

    return _RAW.get(key, make)


def fits(ctx: Context, table: CellTable) -> tuple[Fit, ...]:
    """Whether cells and model fit, as far as it is known without a long wait."""
    from scx_core.language import fit_of, is_small, map_labels

    mapped = map_labels(loaders.language(ctx), table, table.given_answers)
    return fit_of(mapped, asked(ctx, table, is_small(ctx.model)))


def badges(found: Sequence[Fit]) -> str:
    """Badges of a fit: green for what speaks for it, orange for what does not."""
    return " ".join(f":{'green' if one.good else 'orange'}-badge[{safe(one.words)}]" for one in found)


def reading_view(ctx: Context, table: CellTable, source: str, place: DeltaGenerator) -> None:
    """The section of the data page. `place` takes the badges that say whether cells and model fit."""
    st.markdown("### What the model reads and answers")
    if not table.types:
        st.caption("The cells have no types yet: there is nothing to compare its answers with.")
        return
    with shown_errors():
        if not _ready(ctx):
            return
        lm = loaders.language(ctx)
        _terms(lm, table)
        raw = asked(ctx, table, ask=True)
        if raw is not None:
            _prompt(raw)
            _answers(raw)
        _mapping(lm, table, source)
        place.markdown(badges(fits(ctx, table)))


def _ready(ctx: Context) -> bool:
    """A small model is asked at once, another when a person wants it: reading it can take minutes."""
    # With it comes torch, for which the page Start must not wait.
    from pages.parts.data.checkpoint import checkpoint_here
    from scx_core.language import is_small

    if not checkpoint_here(ctx.model):
        return False
    key = f"ask {ctx.model}"
    if is_small(ctx.model) or st.session_state.get(key):
        return True
    st.caption(f"{safe(model_name(ctx.model))} is large: it is loaded and asked when you want it.")
    if st.button("Load the model and ask it"):
        st.session_state[key] = True
        st.rerun()
    return False


def _terms(lm: Language, table: CellTable) -> None:
    from scx_core.language import name_warnings, terms_of, text_warnings

    for text in (*text_warnings(lm), *name_warnings(lm, table)):
        st.warning(safe(text), icon=":material/warning:")
    shown = {"checkpoint": "Model", "genes asked for": "Genes asked for", "prompt": "Prompt"}
    terms = dict(terms_of(lm))
    st.markdown("  \n".join(f":gray[{name}] {safe(terms[what])}" for what, name in shown.items()))
    with st.expander("All that is known of how it is read"):
        st.markdown(
            "  \n".join(f":gray[{safe(what.capitalize())}] {safe(value)}" for what, value in terms.items())
        )


def _prompt(raw: RawAnswers) -> None:
    from scx_core.language import shortened

    first = raw.answers[0]
    st.markdown(f"**The prompt as sent**, of the cell {safe(first.cell)}: {raw.tokens:,} tokens.")
    st.code(shortened(raw.prompt), language=None, wrap_lines=True)


def _answers(raw: RawAnswers) -> None:
    st.markdown(f"**What it writes then**, its likeliest token each time. {safe(raw.words)}")
    if raw.warning:
        st.warning(safe(raw.warning), icon=":material/warning:")
    st.caption(f"{safe(raw.right_words)} {safe(raw.form_words)} n = {raw.n} cells, drawn with a seed.")
    rows = pd.DataFrame(
        {
            "cell": [one.cell for one in raw.answers],
            "the data call it": [one.label for one in raw.answers],
            "raw answer": [one.text for one in raw.answers],
            "ended by": [one.ended or "not ended" for one in raw.answers],
            "read as": [one.parsed or "no label" for one in raw.answers],
        }
    )
    st.dataframe(rows, hide_index=True, height=_HEAD + _ROW * min(5, raw.n))


def _mapping(lm: Language, table: CellTable, source: str) -> None:
    """A box a type, those without an answer first; what is chosen counts once the button is pressed."""
    from scx_core.language import map_labels

    mapped = map_labels(lm, table, table.given_answers)
    without = [one.label for one in mapped if not one.answer]
    st.markdown("**The names of the data and the answers of the model**")
    told = f"{len(mapped) - len(without)} of {len(mapped)} types have an answer."
    if without:
        told += f" Without one, and not scored: {', '.join(without)}."
    st.caption(safe(told))
    key = f"mapping {table.fingerprint} {table.choices.answers} {lm.fingerprint}"
    boxes, actions = st.columns([4, 1])
    suggested = {one.label: one for one in _suggestions(lm, table, mapped, key, actions)}
    with boxes.container(height=_BOX * _MOST_BOXES if len(mapped) > _MOST_BOXES else "content", border=False):
        new = {
            one.label: _answer_box(lm, table, one, suggested.get(one.label), f"{key} {one.label}")
            for one in sorted(mapped, key=lambda one: bool(one.answer))
        }
    same = new == {one.label: one.answer for one in mapped}
    actions.button(
        "Use this mapping", width="stretch", disabled=same, type="secondary" if same else "primary",
        on_click=_keep, args=(source, new), help="It is kept as a file, and with every run.",
    )  # fmt: skip
    if table.choices.answers is not None:
        actions.button("Back to the proposal", width="stretch", on_click=_set, args=(source, None))


def _answer_box(lm: Language, table: CellTable, one: Mapped, suggested: Suggested | None, key: str) -> str:
    """A row: the type, how many cells, the answer that stands for it, and why."""
    label, box, why = st.columns([3, 3, 4], vertical_alignment="center")
    label.markdown(f"{safe(one.label)}  \n:gray[{count(table.cells_per_type()[one.label], table.unit)}]")
    why.caption(safe(one.why if suggested is None else suggested.words))
    name = f"Answer for {safe(one.label)}"
    if not lm.labels:
        typed = box.text_input(name, one.answer, placeholder="none", key=key, label_visibility="collapsed")
        return typed.strip()
    answers = [NO_ANSWER, *lm.labels]
    chosen = box.selectbox(
        name, answers, answers.index(one.answer), format_func=lambda answer: answer or "none", key=key,
        label_visibility="collapsed",
    )  # fmt: skip
    return str(chosen)


def _suggestions(
    lm: Language, table: CellTable, mapped: Sequence[Mapped], key: str, place: DeltaGenerator
) -> tuple[Suggested, ...]:
    """What the model writes for the types without an answer, once a person asked; it fills their boxes."""
    found = _SUGGESTED.peek(key)
    if all(one.answer for one in mapped):
        return ()
    if found is None and place.button(
        "Propose answers", width="stretch",
        help="Asks the model about a few cells of every type and proposes what it writes for most cells of "
        "one type and few of any other. Right by definition then, not by evidence: say yes only where the "
        "name means the type.",
    ):  # fmt: skip
        from scx_core.language import suggest_answers

        with lm.lock, st.spinner("Asking the model …"):
            found = _SUGGESTED.get(key, lambda: suggest_answers(lm, table, mapped))
        for one in found:
            if one.answer and not st.session_state.get(f"{key} {one.label}"):  # a person's choice stays
                st.session_state[f"{key} {one.label}"] = one.answer
    return found or ()


def _keep(source: str, mapping: dict[str, str]) -> None:
    _set(source, str(write_mapping(runs_root() / "answers", mapping)))


def _set(source: str, path: str | None) -> None:
    """The mapping becomes one of the choices about these cells; where they are in use, at once."""
    ctx, before = context(), draft(source, CellChoices())
    correct(source, answers=path)
    if (source, before) == (ctx.data, ctx.cells):
        use(cells=dataclasses.replace(before, answers=path))
