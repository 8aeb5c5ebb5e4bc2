"""Start: what have I got, and how do I see a circuit?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import streamlit as st

from pages.parts.circuits.entry import ask_for_embedded, last_circuit
from pages.parts.common import loaders
from pages.parts.common.in_use import set_name
from pages.parts.common.messages import heading, shown_errors
from pages.parts.common.page import run_page
from pages.parts.common.session import Context, context
from pages.parts.common.words import FORMS, HELP, KINDS, count, large, number, percent, safe
from scx_core.errors import ScxError

# By scx_core.validation.warnings.Judgement.read, which comes with torch: this page must not wait for it.
_STANDING = {
    "no": ("red", "circuits not to be read"),
    "with care": ("orange", "read circuits with care"),
    "yes": ("green", "circuits can be read"),
}
_FAMILIES = {
    "gpt_neox": "GPT-NeoX", "gpt2": "GPT-2", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3",
    "gemma2": "Gemma 2",
}  # fmt: skip


def page() -> None:
    """What to do first; the cards come last, as they load everything."""
    heading(
        "Which genes, and which steps, made the call?",
        "scX opens a language model that names cell types from a cell's genes, and shows what it uses.",
    )
    ctx = context()
    own = ctx.model != "embedded"
    last_circuit()
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        left.markdown(
            "**Three steps to a circuit**\n"
            "1. **Cells**: the embedded blood cells, or your own file (Data).\n"
            "2. **Model and transcoders**: the embedded ones, or some trained on your cells (Train).\n"
            "3. **Circuit**: choose a cell type, see its genes and the steps between them (Circuits)."
        )
        if own and right.button("Go to the circuits", type="primary", width="stretch", help=HELP["circuit"]):
            st.switch_page("pages/circuits.py")
        kind: Literal["primary", "secondary"] = "secondary" if own else "primary"
        if right.button("Show me a circuit", type=kind, width="stretch", help=HELP["circuit"]):
            ask_for_embedded()
            st.switch_page("pages/circuits.py")
        right.caption("B cells, with the embedded cells, model and transcoders.")

    st.markdown("### What is loaded")
    _cards(ctx)


def _cards(ctx: Context) -> None:
    """Cells, model and transcoders side by side, in plain words, each with its own error."""
    parts: tuple[tuple[str, str, Callable[[Context], None], str, str], ...] = (
        ("Cells", ":material/grid_on:", _cells, "pages/data.py", "Look at them, or use your own"),
        ("Model", ":material/psychology:", _model, "pages/train.py", "Train one on your cells"),
        ("Transcoders", ":material/stacks:", _transcoders, "pages/validate.py", "May I trust them?"),
    )
    for column, (title, icon, fill, page, link) in zip(st.columns(3), parts, strict=True):
        with column.container(border=True, height="stretch", vertical_alignment="distribute"):
            with st.container():
                st.markdown(f"### {icon} {title}")
                with shown_errors():
                    fill(ctx)
            st.page_link(page, label=link, icon=":material/arrow_forward:")


def _cells(ctx: Context) -> None:
    table = loaders.cells(ctx)
    st.markdown(f"**{safe(table.name)}** :gray-badge[loaded]")
    unlabelled = int((table.labels == "").sum())
    without = f", {count(unlabelled, table.unit)} without one" if unlabelled else ""
    st.markdown(
        f"{count(table.n_cells, table.unit)} × {count(table.n_genes, 'gene')}, {safe(table.values_kind)}.  \n"
        f"{count(len(table.types), 'cell type')} from the column {safe(table.choices.label)}{without}.  \n"
        f"{safe(table.organism)}."
    )


def _model(ctx: Context) -> None:
    from pages.parts.data.model_reads import badges, fits

    lm = loaders.language(ctx)
    st.markdown(f"**{safe(lm.name)}** :gray-badge[loaded]")
    size, family = sum(p.numel() for p in lm.model.parameters()), lm.facts.family.model_type
    answers = f"Answers with one of {len(lm.labels)} cell types." if lm.labels else "States no cell types."
    st.markdown(
        f"{_FAMILIES.get(family, safe(family))}, {count(lm.facts.n_layers, 'layer')} × {lm.facts.width}, "
        f"{large(size)} parameters.  \n"
        f"Reads the top {lm.sentence_config.n_genes} genes of a cell. {answers}  \n"
        f"On {safe(str(lm.device).upper())}, {safe(str(lm.dtype).removeprefix('torch.'))}."
    )
    with suppress(ScxError):  # told in the cells' own card
        st.markdown(f"With these cells: {badges(fits(ctx, loaders.cells(ctx)))}")


def _transcoders(ctx: Context) -> None:
    found = loaders.transcoders(ctx)
    st.markdown(f"**{safe(set_name(ctx.transcoders))}** :gray-badge[loaded]")
    metrics = found.meta.get("metrics", {})
    form = "" if found.form == "transcoder" else f"{FORMS[found.form]} (not for tracing), "
    measured = (
        f"CE recovered {number(metrics.get('ce_recovered'), 4)}, every MLP replaced "
        f"({count(metrics.get('cells', 0), 'held-out cell')})."
        if metrics
        else "Nothing is written beside them: validate them first."
    )
    dead = [layer.get("dead") for layer in metrics.get("per_layer", []) if layer.get("dead") is not None]
    worst = f"  \nDead features: at most {percent(max(dead), 1)} of a layer." if dead else ""
    st.markdown(
        f"{form}{KINDS.get(found.kind, safe(found.kind))}, {count(len(found.layers), 'layer')} × "
        f"{count(found.n_features, 'feature')}.  \n{measured}{worst}"
    )
    from scx_core.validation.standing import standing_of

    with suppress(ScxError):  # told in the card of the cells, or of the model
        parts = {"data": loaders.cells(ctx), "model": loaders.language(ctx), "transcoders": found}
        standing = standing_of(parts, found.folder)
        if standing is None:
            st.markdown(":orange-badge[not validated]")
        else:
            where = "" if standing.same_data else f", measured on {safe(standing.data)}, not on these cells"
            colour, words = _STANDING[standing.read]
            st.markdown(f":{colour}-badge[{words}{where}]")


run_page("pages/start.py", page)
