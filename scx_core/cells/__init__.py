"""Opens a file of single cells and says what was understood. A path (or "embedded", or an AnnData
object) comes in; a cell table goes out: sparse rows read on demand, gene symbols, labels, donors, and
the findings behind each choice, together with splits and lists of known markers."""

from importlib import import_module
from typing import TYPE_CHECKING

from .choices import CellChoices, Finding, as_names
from .markers import Markers, all_markers, foreign_markers, known_markers, shared_markers, types_with

# What follows reads files: it brings pandas, anndata and zarr, half a second that the dashboard's first page
# must not wait for. So it is imported when it is first asked for; the types of it are known all the same.
if TYPE_CHECKING:
    from scx_core.cells.cell_table import CellTable
    from scx_core.cells.formats.sources import EMBEDDED, keep_upload
    from scx_core.cells.planted import PLANTED, RULES, Rule, planted_cells, rule_of

    from .opening import cell_map, genes_per_cell, open_cells
    from .split import Split, split_cells, with_choosing
else:
    _LATER = {
        "cell_table": ("CellTable",),
        "formats.sources": ("EMBEDDED", "keep_upload"),
        "planted": ("PLANTED", "RULES", "Rule", "planted_cells", "rule_of"),
        "opening": ("cell_map", "genes_per_cell", "open_cells"),
        "split": ("Split", "split_cells", "with_choosing"),
    }
    _HOME = {name: module for module, names in _LATER.items() for name in names}

    def __getattr__(name):
        """A name of `_LATER`, kept once it is imported."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return found

    def __dir__():
        """What a person completes."""
        return sorted({*globals(), *_HOME})
