"""What a notebook shows of a result: the drawing that can be touched, tables with units, n and intervals.

In comes any result that says `@shown` (scx_core/display.py); out goes a fragment of HTML with nothing loaded
from elsewhere and every name escaped. Circuits stand in a frame of their own, which may run scripts and
reach nothing else; the rest has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scx_core.atlas import Atlas, Feature
from scx_core.circuits import Circuit
from scx_core.circuits.difference import Difference
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.evidence.curves import Curves
from scx_core.evidence.feature_edits import FeatureEdits
from scx_core.evidence.knockouts.gene_lists import GeneLists
from scx_core.evidence.null_rates import NullRates
from scx_core.evidence.redundancy import Redundancy
from scx_core.evidence.rivals.rivals import Rivals
from scx_core.evidence.smallest.smallest_circuit import Smallest
from scx_core.evidence.stability import Stability
from scx_core.figures.notebook import of_atlas, of_circuits, of_evidence, of_models
from scx_core.figures.notebook.page import Block, fragment
from scx_core.validation import Validation

BLOCKS: dict[type, Callable[[Any], list[Block]]] = {
    Circuit: of_circuits.circuit_blocks,
    Difference: of_circuits.difference_blocks,
    Smallest: of_evidence.smallest_blocks,
    Curves: of_evidence.curves_blocks,
    FeatureEdits: of_evidence.edits_blocks,
    GeneLists: of_evidence.gene_lists_blocks,
    Redundancy: of_evidence.redundancy_blocks,
    Stability: of_evidence.stability_blocks,
    Rivals: of_evidence.rivals_blocks,
    NullRates: of_evidence.null_rates_blocks,
    TypeEvidence: of_evidence.type_blocks,
    Validation: of_models.validation_blocks,
    Atlas: of_atlas.atlas_blocks,
    Feature: of_atlas.feature_blocks,
}


def html_of(result: Any) -> str | None:
    """The fragment for a notebook; None for what is shown as plain text."""
    blocks = BLOCKS.get(type(result))
    return None if blocks is None else fragment(blocks(result))
