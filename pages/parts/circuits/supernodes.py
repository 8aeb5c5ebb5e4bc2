"""Features that act as one step: proposed, named and changed by a person, drawn as one box."""

from __future__ import annotations

import hashlib

import pandas as pd
import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.session import kept
from pages.parts.common.words import count
from scx_core.circuits import Circuit
from scx_core.circuits.supernodes import from_names, propose
from scx_core.figures.captions import feature_title
from scx_core.figures.drawing.text import plain

_WORDS = (
    "Features of one layer that read the same genes and features and write to the same ones are proposed as "
    "one step. Give features the same name to join them, an empty one to let a feature stand alone."
)


def joined() -> bool:
    """Whether steps are drawn as one box. Above the drawing."""
    words = "Draws each step as one box. What belongs to a step is below the circuit."
    return bool(kept(st.toggle, "Join features that act together", "join steps", False, help=words))


def with_steps(circuit: Circuit, place: st.delta_generator.DeltaGenerator) -> Circuit:
    """The circuit with its steps: the proposal, or what a person made of it in the table in `place`."""
    features = [node for node in circuit.nodes if node.kind == "feature" and node.layer is not None]
    if not features:
        return circuit
    proposed = circuit.supernodes or propose(circuit)
    names = {member: step.name for step in proposed for member in step.members}
    table = pd.DataFrame(
        {
            "id": [node.id for node in features],
            "feature": [f"L{node.layer}·{node.feature}" for node in features],
            "layer": [node.layer for node in features],
            "name": [feature_title(node) for node in features],
            "driven_by": [plain(node.driven_by or "", 24) for node in features],
            "effect": [node.effect for node in features],
            "step": [names.get(node.id, "") for node in features],
        }
    ).sort_values(["step", "layer"], ascending=[False, True])
    with place.expander(f"Steps: {count(len(proposed), 'group')} of features that act together"):
        st.caption(_WORDS)
        edited = _editor(table)
        with shown_errors():
            chosen = from_names(circuit, dict(zip(edited["id"], edited["step"].fillna(""), strict=True)))
            return circuit._replace(supernodes=chosen)
    return circuit


def _editor(table: pd.DataFrame) -> pd.DataFrame:
    config = st.column_config
    mark = hashlib.sha256("\n".join(table["id"]).encode()).hexdigest()[:12]
    return st.data_editor(
        table,
        key=f"steps {mark}",  # another circuit, another table
        hide_index=True,
        column_order=["feature", "name", "driven_by", "effect", "step"],
        disabled=["feature", "name", "driven_by", "effect"],
        column_config={
            "feature": config.TextColumn("Feature"),
            "name": config.TextColumn("Active at"),
            "driven_by": config.TextColumn("Driven by"),
            "effect": config.NumberColumn("Frozen attribution", format="%.3f"),
            "step": config.TextColumn(
                "Step", max_chars=60, help="The same name joins features of one layer."
            ),
        },
    )
