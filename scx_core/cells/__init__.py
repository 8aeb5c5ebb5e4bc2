"""Opens a file of single cells and says what was understood. A path (or "embedded", or an AnnData
object) comes in; a cell table goes out: sparse rows read on demand, gene symbols, labels, donors, and
the findings behind each choice, together with splits and lists of known markers."""

from scx_core.cells.cell_table import CellTable
from scx_core.cells.formats.sources import EMBEDDED, keep_upload
from scx_core.cells.planted import PLANTED, RULES, Rule, planted_cells, rule_of

from .choices import CellChoices, Finding, as_names
from .markers import Markers, all_markers, foreign_markers, known_markers, shared_markers, types_with
from .opening import cell_map, genes_per_cell, open_cells
from .split import Split, split_cells, with_choosing
