"""Search, filter and sort the features of an atlas; fast enough to answer while one types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from scx_core.atlas.tables.atlas import SELDOM, Atlas
from scx_core.cells import known_markers
from scx_core.cells.gene_aliases import genes_meant
from scx_core.runs import option
from scx_core.runs.options import check

# Columns that a text is searched in.
TEXTS = ("family", "cell_type", "gene_set", "piece", "writes")  # and in `Atlas.search_text`


@dataclass(frozen=True)
class FindConfig:
    """Which features, and in what order."""

    text: str = option(
        "", "Text in the label, the strongest genes, family, cell type, gene set or tokens; or L2-513, or 513"
    )
    verdict: Literal[
        "all", "context", "family", "gene", "gene set", "cell type", "position", "token", "spelling",
        "prompt", "polysemantic", "rare", "dead",
    ] = option("all", "Only features with this verdict")  # fmt: skip
    layer: int | None = option(None, "Only this layer", minimum=0, unsaid="all")
    cell_type: str = option("", "Only features whose strongest cell type is this")
    stable: bool = option(False, "Only features that get the same verdict on both halves of the cells")
    sort: Literal[
        "layer", "score", "mass", "frequency", "maximum", "top5", "type_share", "token_share", "context_share"
    ] = option(
        "score",
        "Sorted by this figure, the largest first; layer: by layer and number; score, where a gene is "
        "searched: by the share of the activation that is at that gene",
    )
    limit: int = option(50, "Rows at most; 0: all", minimum=0)

    def __post_init__(self) -> None:
        check(self)


Labels = Mapping[tuple[int, int], str]  # by layer and feature


class FoundFeatures(NamedTuple):
    """Some of the features that were asked for, and how many there are of them."""

    rows: pd.DataFrame
    total: int


_NAME = re.compile(r"(?:(?:L|layer)?\s*(\d+)\s*[·:.,/_\- ]\s*(?:F|feature)?\s*)?(\d+)", re.IGNORECASE)


def find(atlas: Atlas, cfg: FindConfig) -> pd.DataFrame:
    """The features that `cfg` asks for: rows of `Atlas.features`, people's labels in place of the automatic
    ones. Equal ones stay in order of layer, number. Where the text is a gene, the column `reads` says the
    share of each feature's activation mass that is at it (NaN: none of its strongest)."""
    return find_part(atlas, cfg, 0, cfg.limit).rows


def find_part(atlas: Atlas, cfg: FindConfig, start: int, count: int) -> FoundFeatures:
    """`count` of them from number `start` on (0: all) instead of `cfg.limit`, and how many match."""
    table, given = atlas.feature_table, atlas.given_labels()
    where, reads = _where(atlas, cfg, given), _reads(atlas, cfg.text)
    row_M = np.arange(len(table)) if where is None else np.flatnonzero(where.to_numpy())
    verdicts = table["verdict"].cast(pa.string())
    if cfg.sort == "layer":  # what never fires is never on top, whatever comes first
        dead = pc.equal(verdicts, "dead").to_numpy(zero_copy_only=False)
        ordered = np.concatenate([row_M[~dead[row_M]], row_M[dead[row_M]]])
    else:
        by_gene = reads is not None and cfg.sort == "score"
        figures = reads if reads is not None and by_gene else table[cfg.sort].to_numpy()
        values = np.nan_to_num(figures.astype(float), nan=-1.0 if by_gene else np.finfo(float).min)
        last = SELDOM if by_gene else ("dead",)  # a rare one's score is 0 already
        for name in last:
            here = pc.equal(verdicts, name).to_numpy(zero_copy_only=False)
            values = np.where(here, -np.inf if name == "dead" else -2.0, values) if here.any() else values
        ordered = _largest_first(row_M, values, start + count if count else len(row_M))
    wanted = ordered[start : start + count] if count else ordered[start:]
    rows = _relabelled(table.take(wanted).to_pandas(), given)
    if reads is not None:
        rows = rows.assign(reads=reads[wanted])
    return FoundFeatures(rows, len(row_M))


def _largest_first(row_M: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """The `n` rows with the largest values, the largest first; equal ones stay in order. Sorts no more of
    them than it must."""
    held = np.nan_to_num(values[row_M], nan=-np.inf)
    if n < len(held):
        least = np.partition(held, len(held) - n)[len(held) - n]
        row_M, held = row_M[held >= least], held[held >= least]
    return row_M[np.argsort(-held, kind="stable")][:n]


def labels_of(atlas: Atlas, features: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Labels of a few features by layer and number, people's before the automatic ones. Numbers that the
    atlas does not hold are left out."""
    own = atlas.given_labels()
    n_layers, n_units = int(atlas.meta["n_layers"]), int(atlas.meta["n_units"])
    column = atlas.feature_table["label"]
    return {
        (layer, number): own.get((layer, number)) or str(column[layer * n_units + number].as_py())
        for layer, number in features
        if 0 <= layer < n_layers and 0 <= number < n_units
    }


def named(text: str) -> tuple[int | None, int] | None:
    """Layer and number that a text such as "L2·513", "L2-513", "2:513" or "513" (any layer) means, if it
    is one."""
    found = _NAME.fullmatch(text.strip())
    if found is None or len(text) > 20:
        return None
    return (None if found[1] is None else int(found[1])), int(found[2])


def _relabelled(rows: pd.DataFrame, own: Labels) -> pd.DataFrame:
    if not own or rows.empty:
        return rows
    labels = [
        own.get((layer, feature), label)
        for layer, feature, label in zip(rows["layer"], rows["feature"], rows["label"], strict=True)
    ]
    return rows.assign(label=labels)


def _where(atlas: Atlas, cfg: FindConfig, given: Labels) -> pa.ChunkedArray | None:
    """Which rows; None for all."""
    table, tests = atlas.feature_table, []
    if cfg.text:
        tests.append(_matching_text(atlas, cfg.text, given))
    for name, wanted in (("verdict", cfg.verdict), ("cell_type", cfg.cell_type)):
        if wanted and wanted != "all":
            tests.append(pc.fill_null(pc.equal(table[name].cast(pa.string()), wanted), False))
    if cfg.layer is not None:
        tests.append(pc.equal(table["layer"], cfg.layer))
    if cfg.stable:
        tests.append(table["stable"])
    return reduce(pc.and_, tests) if tests else None


def _matching_text(atlas: Atlas, text: str, given: Labels) -> pa.ChunkedArray:
    """Which rows a text means: by number, else where it stands in what is known of the feature."""
    table = atlas.feature_table
    number = named(text)
    if number is not None:
        layer, feature = number
        here = pc.equal(table["feature"], feature)
        return here if layer is None else pc.and_(here, pc.equal(table["layer"], layer))
    genes = genes_meant(text, atlas.genes)
    if genes:  # what the tab of a gene shows
        return _of_genes(atlas, genes)
    found = [pc.fill_null(_holds(table[name], text), False) for name in TEXTS]
    types = types_meant(text, atlas.meta.get("types", ()))
    if types:
        found.append(pc.is_in(table["cell_type"].cast(pa.string()), pa.array(types, pa.string())))
    found.append(pc.match_substring(atlas.search_text, text.lower()))
    people = [_key(*feature) for feature, label in given.items() if text.lower() in label.lower()]
    if people:
        keys = _key(table["layer"].to_numpy().astype(np.int64), table["feature"].to_numpy())
        found.append(pa.chunked_array([np.isin(keys, people)]))
    return reduce(pc.or_, found)


def _reads(atlas: Atlas, text: str) -> np.ndarray | None:
    """Share of each feature's mass at the gene that a text means (the largest where it means several); None
    where it means none."""
    genes = genes_meant(text, atlas.genes) if text and named(text) is None else ()
    if not genes:
        return None
    reads, n_units = np.full(len(atlas.feature_table), np.nan), int(atlas.meta["n_units"])
    for gene in genes:
        rows = atlas.gene(gene)
        places = (rows["layer"] * n_units + rows["feature"]).to_numpy().astype(int)
        reads[places] = np.fmax(reads[places], rows["reads"].to_numpy().astype(float))
    return reads


def _of_genes(atlas: Atlas, genes: Iterable[str]) -> pa.ChunkedArray:
    """Features that read one of the genes or write it."""
    table = atlas.feature_table
    keys = [_key(row.layer, row.feature) for gene in genes for row in atlas.gene(gene).itertuples()]
    here = np.isin(_key(table["layer"].to_numpy().astype(np.int64), table["feature"].to_numpy()), keys)
    return pa.chunked_array([here])


def types_meant(text: str, types: Iterable[str]) -> list[str]:
    """The cell types that a text means by another name of theirs: "B cell" for "CD19+ B"."""
    wanted = text.strip().lower().removesuffix("s")
    found = []
    for name in types:
        known = known_markers(name)
        if wanted and known is not None and known.cell_type.lower() == wanted:
            found.append(name)
    return found


def _key(layer: Any, feature: Any) -> Any:
    return layer * 2**32 + feature


def _holds(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    """Whether each row holds the text, whatever the case; asked once for every different text."""
    parts = [
        pc.take(pc.match_substring(part.dictionary, text, ignore_case=True), part.indices)
        for part in column.chunks
    ]
    return pa.chunked_array(parts, pa.bool_())
