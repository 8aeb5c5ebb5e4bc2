"""How far each process of a training is, where several share it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.words import safe
from scx_core.runs import RunFolder
from scx_core.runs.ranks import ranks_of

_STATES = {"running": "running", "ended": "ended", "failed": "failed", "dead": "gone"}


def ranks_table(run: RunFolder) -> None:
    """A row a process: step, speed of all, memory, device; nothing for a training of one process."""
    ranks = ranks_of(run)
    if not ranks:
        return
    config = st.column_config
    rows = [
        {
            "process": rank.rank,
            "state": _STATES.get(rank.state, rank.state),
            "step": rank.step,
            "speed": rank.tokens_per_second,
            "memory": rank.memory / 1e9,
            "device": rank.device,
        }
        for rank in ranks
    ]
    columns = {
        "process": config.NumberColumn("Process"),
        "state": config.TextColumn("State"),
        "step": config.NumberColumn("Step", format="localized"),
        "speed": config.NumberColumn(
            "Tokens a second", format="localized", help="Of all processes together, as this one sees it."
        ),
        "memory": config.NumberColumn("Memory, GB", format="%.2f"),
        "device": config.TextColumn("Device"),
    }
    with st.expander(f"{len(ranks)} processes", expanded=True):
        st.dataframe(pd.DataFrame(rows), column_config=columns, hide_index=True, width="stretch")
        for rank in ranks:
            if rank.error:
                st.caption(f"Process {rank.rank}: {safe(rank.error)}")
