"""What a user may decide about a file of cells, and how a detection is reported back."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

from scx_core.runs.options import option

DETECTED = "detected, and said"


@dataclass(frozen=True)
class CellChoices:
    """Settings that override what is detected in a file; None means detect."""

    symbols: str | None = option(
        None, "where the gene symbols are: 'index' or a column of var", unsaid=DETECTED
    )
    values: str | None = option(
        None, "which matrix holds the expression: 'X', 'raw' or 'layers/NAME'", unsaid=DETECTED
    )
    label: str | None = option(None, "the column of obs with the cell types", unsaid=DETECTED)
    donor: str | None = option(None, "the column of obs with the donors; '-' for none", unsaid=DETECTED)
    organism: str | None = option(
        None, "a column of obs or var, or the organism's name itself", unsaid=DETECTED
    )
    genome: str | None = option(
        None, "10x files of several genomes: the genome to keep", unsaid="the only one"
    )
    labels_file: str | None = option(
        None, "CSV or TSV to join to the cells: cell ids, then columns such as labels"
    )
    answers: str | None = option(
        None, "JSON or two columns that map cell types to the model's answers (an empty one: none)"
    )


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


def did_you_mean(wanted: str, known: Sequence[str]) -> str:
    """A remedy for a name that does not exist: the nearest known one, else the known ones."""
    if not known:
        return "There is nothing to choose from."
    lower = {name.lower(): name for name in reversed(known)}
    near = difflib.get_close_matches(str(wanted).lower(), list(lower), n=1, cutoff=0.6)
    listed = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return f"Did you mean '{lower[near[0]]}'? There are: {listed}." if near else f"Choose one of: {listed}."


@overload
def as_names(given: str | Iterable[str]) -> list[str]: ...
@overload
def as_names(given: str | Iterable[str] | None) -> list[str] | None: ...
def as_names(given: str | Iterable[str] | None) -> list[str] | None:
    """Names that a person gave: a bare string is one name, never its letters; None stays None."""
    if given is None:
        return None
    return [given] if isinstance(given, str) else [*given]
