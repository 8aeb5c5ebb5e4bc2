"""What lies in the runs folder, and deleting it: asked for twice, never what is at work or in use."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.parts.common.messages import show_error
from pages.parts.common.results import Column, table
from pages.parts.common.session import context, last_used
from pages.parts.common.words import count, safe, size
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, runs_root
from scx_core.runs.kept import Kept, delete_kept, kept

_COLUMNS: dict[str, Column] = {
    "what": ("What",),
    "of": ("Of", None, None, "medium"),
    "state": ("State",),
    "size": ("Size, MB", "%.1f"),
    "changed": ("Changed",),
    "name": ("Place in the runs folder", None, None, "large"),
}


def delete_button(run: RunFolder) -> None:
    """Delete a training or a build with all that it made, once it is confirmed."""
    used = in_use(run.name)
    words = "It is in use: choose another model or set first." if used else None
    with st.popover("Delete", icon=":material/delete:", disabled=used, help=words):
        if not used:
            _confirm([one for one in kept() if one.name == run.name], run.name)


def in_use(name: str) -> bool:
    """Whether the cells, the model or the set in use, here or in the session that chose last, lie in it."""
    place, used = (runs_root() / name).resolve(), (context(), last_used() or context())
    sources = [source for ctx in used for source in (ctx.data, ctx.model, ctx.transcoders)]
    return any((runs_root() / source).resolve().is_relative_to(place) for source in sources)


@st.fragment
def kept_view() -> None:
    """Everything, to be chosen and deleted."""
    with st.expander("What is kept: runs, jobs, evidence, atlases, answers", icon=":material/folder_open:"):
        if not st.toggle("Show all that lies in the runs folder", key="show kept"):
            return
        found = kept()
        if not found:
            st.caption("Nothing yet.")
            return
        rows = pd.DataFrame(
            [
                {
                    "what": one.what,
                    "of": one.says,
                    "state": one.state,
                    "size": one.bytes / 1e6,
                    "changed": pd.Timestamp(one.changed, unit="s"),
                    "name": one.name,
                }
                for one in found
            ]
        )
        picked = table(rows, _COLUMNS, on_select="rerun", selection_mode="multi-row", key="kept rows")
        chosen = [found[row] for row in picked.selection.rows if row < len(found)]
        total = sum(one.bytes for one in chosen)
        st.caption(f"{count(len(found), 'thing')}, {size(sum(one.bytes for one in found))}.")
        label = f"Delete {count(len(chosen), 'thing')}, {size(total)}" if chosen else "Delete what is chosen"
        with st.popover(label, icon=":material/delete:", disabled=not chosen):
            _confirm(chosen, "chosen")


def _confirm(chosen: Sequence[Kept], where: str) -> None:
    """Says what goes, and deletes it once that is confirmed."""
    for one in chosen[:10]:
        st.markdown(f"- {safe(one.says or one.name)} :gray[{safe(one.what)}, {size(one.bytes)}]")
    if len(chosen) > 10:
        st.caption(f"and {len(chosen) - 10} more")
    st.markdown("It cannot be brought back.")
    if not st.button("Delete for good", type="primary", key=f"confirm {where}"):
        return
    for one in chosen:
        try:
            if in_use(one.name):
                raise ScxError(f"{one.name} is in use.", "Choose another model or set first.")
            delete_kept(one.name)
        except ScxError as error:
            show_error(error)
            return
    st.rerun()
