"""Evidence: what a circuit says, held against the real model and against the baselines that could win.

In come a tracer, cells and a target; out come measured effects of edited sentences, with intervals and the
number of cells behind them, and rankings and attributions judged by how well they predict them (method §9).
"""

from scx_core.evidence.knockouts.edits import WAYS, Editor
from scx_core.evidence.knockouts.gene_tables import GeneOverCells, over_cells, seconds_for, with_knockouts
from scx_core.evidence.knockouts.measured_effects import (
    CellKnockouts,
    GeneKnockout,
    JointKnockout,
    Measurer,
    knock_out_all,
    knock_out_together,
)

__all__ = [
    "WAYS",
    "CellKnockouts",
    "Editor",
    "GeneKnockout",
    "GeneOverCells",
    "JointKnockout",
    "Measurer",
    "knock_out_all",
    "knock_out_together",
    "over_cells",
    "seconds_for",
    "with_knockouts",
]
