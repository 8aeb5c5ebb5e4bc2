"""Search, filter and sort the features of an atlas; fast enough to answer while one types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from scx_core.atlas.store import Atlas
from scx_core.runs import option
from scx_core.runs.config import check

# Where a searched text is looked for.
TEXTS = ("label", "genes", "family", "cell_type", "gene_set", "piece", "writes")


@dataclass(frozen=True)
class FindConfig:
    """Which features, and in what order."""

    text: str = option("", "Text in the label, the strongest genes, family, cell type, gene set or tokens")
    verdict: Literal[
        "all", "gene", "family", "gene set", "cell type", "position", "spelling", "prompt", "polysemantic",
        "rare", "dead",
    ] = option("all", "Only features with this verdict")  # fmt: skip
    layer: int | None = option(None, "Only this layer", minimum=0)
    cell_type: str = option("", "Only features whose strongest cell type is this")
    stable: bool = option(False, "Only features that get the same verdict on both halves of the cells")
    sort: Literal["layer", "score", "mass", "frequency", "maximum", "top5", "type_share"] = option(
        "score", "Sorted by this figure, the largest first; layer: by layer and number"
    )
    limit: int = option(50, "Rows at most; 0: all", minimum=0)

    def __post_init__(self) -> None:
        check(self)


def find(atlas: Atlas, cfg: FindConfig) -> pd.DataFrame:
    """The features that `cfg` asks for: rows of `Atlas.features`, equal ones by layer, number."""
    table = atlas.feature_table
    where = _where(table, cfg)
    if where is not None:
        table = table.filter(where)
    order = [("layer", "ascending"), ("feature", "ascending")]
    if cfg.sort != "layer":
        order = [(cfg.sort, "descending"), *order]
    rows = pc.sort_indices(table.select([name for name, _ in order]), sort_keys=order)
    return table.take(rows[: cfg.limit] if cfg.limit else rows).to_pandas()


def _where(table: pa.Table, cfg: FindConfig) -> pa.ChunkedArray | None:
    """Which rows; None for all."""
    tests = []
    if cfg.text:
        found = [pc.fill_null(_holds(table[name], cfg.text), False) for name in TEXTS]
        tests.append(_joined(found, pc.or_))
    for name, wanted in (("verdict", cfg.verdict), ("cell_type", cfg.cell_type)):
        if wanted and wanted != "all":
            tests.append(pc.fill_null(pc.equal(table[name].cast(pa.string()), wanted), False))
    if cfg.layer is not None:
        tests.append(pc.equal(table["layer"], cfg.layer))
    if cfg.stable:
        tests.append(table["stable"])
    return _joined(tests, pc.and_) if tests else None


def _joined(parts: list[pa.ChunkedArray], join: pc.Function) -> pa.ChunkedArray:
    first, *rest = parts
    for part in rest:
        first = join(first, part)
    return first


def _holds(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    """Whether each row holds the text, whatever the case; asked once for every different text."""
    if not pa.types.is_dictionary(column.type):
        return pc.match_substring(column, text, ignore_case=True)
    parts = [
        pc.take(pc.match_substring(part.dictionary, text, ignore_case=True), part.indices)
        for part in column.chunks
    ]
    return pa.chunked_array(parts, pa.bool_())
