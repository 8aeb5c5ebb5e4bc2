"""What a user may decide about a file of cells, and how a detection is reported back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


def _choice(help_text: str) -> Any:
    """An optional setting whose default is detection."""
    return field(default=None, metadata={"help": help_text})


@dataclass(frozen=True)
class CellChoices:
    """Settings that override what is detected in a file; None means detect."""

    symbols: str | None = _choice("where the gene symbols are: 'index' or a column of var")
    values: str | None = _choice("which matrix holds the expression: 'X', 'raw' or 'layers/NAME'")
    label: str | None = _choice("the column of obs with the cell types")
    donor: str | None = _choice("the column of obs with the donors; 'none' to use no donors")
    organism: str | None = _choice("a column of obs or var, or the organism's name itself")
    genome: str | None = _choice("10x files of several genomes: the genome to keep")
    labels_file: str | None = _choice("a CSV or TSV to join to the cells: cell ids first, then columns such as labels")


class Finding(NamedTuple):
    """One detection: what was chosen, on what evidence, and what could be chosen instead.

    `topic` is symbols, values, label, donor, organism, cells, genes or file. `alternatives` are valid
    values of the `CellChoices` field of the same name. `level` is ok, note or warning.
    """

    topic: str
    choice: str
    evidence: str
    alternatives: tuple[str, ...] = ()
    level: str = "ok"
