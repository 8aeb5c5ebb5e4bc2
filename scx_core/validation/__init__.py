"""How well transcoders stand in for a model's MLPs, measured on held-out cells.

In come a language model, a transcoder set and rows of a cell table; out goes a `Validation`: losses, KL,
sparsity, dead features and label agreement, whole, by layer and by token class, with warnings in plain
words. Thresholds and the seed paper's figures are in `warnings.py`; `compare_runs` holds whole training
runs side by side.
"""

from scx_core.validation.baselines import BASELINES, linear_maps
from scx_core.validation.held_out import ValidationRows, draw_rows, held_out_rows, validation_rows
from scx_core.validation.label_agreement import accuracy_by_tie_seed
from scx_core.validation.result import Validation, validation_beside
from scx_core.validation.run_comparison import (
    RunRow,
    compare_runs,
    comparison_provenance,
    name_of,
    setting,
    trainings,
)
from scx_core.validation.validate import validate
from scx_core.validation.warnings import PAPER, cautions, verdict
from scx_core.validation.work import ValidationWork, validation_work
