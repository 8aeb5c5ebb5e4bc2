"""A validation in a notebook: its verdict first, then the figures and what could do as well."""

from __future__ import annotations

from scx_core.figures.notebook.page import Banner, Block, Fold, Title
from scx_core.figures.report.validation import (
    baselines_table,
    classes_table,
    figures_table,
    labels_table,
    layers_table,
)
from scx_core.validation import Validation
from scx_core.validation.warnings import NOT, READ, judged

_TITLES = {READ: "May be read", NOT: "Not to be read"}


def validation_blocks(found: Validation) -> list[Block]:
    """The verdict, warnings, tables."""
    said = judged(found)
    title = f"Validation: {_TITLES.get(said.read, 'To be read with care').lower()}"
    first: Block = said.words if said.read == READ else Banner(said.words, grave=said.read == NOT)
    cautions = tuple(f"{one.text} {one.remedy}" for one in found.warnings)
    beside = baselines_table(found)
    more = (layers_table(found), classes_table(found), labels_table(found))
    return [
        Title(title),
        first,
        figures_table(found),
        *([beside] if beside else []),
        *([Fold(f"Warnings: {len(cautions)}", cautions)] if cautions else []),
        Fold("By layer, class of token and label", more),
    ]
