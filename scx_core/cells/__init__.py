"""Opens a file of single cells and says what was understood. A path (or "embedded", or an AnnData
object) comes in; a cell table goes out: sparse rows read on demand, gene symbols, labels, donors, and
the findings behind each choice, together with splits and lists of known markers."""

from .choices import CellChoices, Finding
from .opening import open_cells
from .split import Split, split_cells
from .table import CellTable

__all__ = ["CellChoices", "CellTable", "Finding", "Split", "open_cells", "split_cells"]
