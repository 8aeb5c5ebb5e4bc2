"""An atlas in memory or in a folder of Parquet files; of long tables only the rows asked for are read; labels
that people give features."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scx_core.atlas.judge.protocol import VERDICTS, VerdictThresholds
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.runs import append_jsonl, read_json, read_jsonl, write_json
from scx_core.runs.files import check_links, check_object, replace_atomic

FILE, LABELS_FILE = "atlas.json", "labels.jsonl"
LONGEST = 200  # letters of a label or an author
FORMAT, FORMATS = 2, (1, 2)  # written; read. The first had no baselines, and no token or context
TABLES = (
    *("features", "genes", "families", "pieces", "types", "donors", "ranks", "histogram", "examples"),
    *("writes", "shares", "slots", "readers", "sets", "baselines", "curve"),
)
ADDED = ("baselines", "curve")  # empty in an atlas of the first format
ROW_GROUP = 16_384  # rows that are read at least
WHOLE = 1 << 20  # of the table of features, which is read at once
NOTHING = pa.table({"layer": pa.array([], pa.int32())})
SET_COLUMNS = {
    **dict.fromkeys(("layer", "feature", "shared", "list", "size"), pa.int32()),
    **dict.fromkeys(("gene_set", "source", "genes"), pa.string()),
    **dict.fromkeys(("p", "q", "share"), pa.float64()),
}
EXACT = ("p", "q")  # numbers that may be smaller than 32 bits can say
SELDOM = {"rare": 1, "dead": 2}  # verdicts that no list begins with
PLAIN = ("label", "genes")  # texts that hardly repeat
_KINDS = {
    "whole": "whole numbers",
    "number": "numbers",
    "text": "texts",
    "switch": "yes and no",
    "list": "lists",
}
_OF = {"layer": "whole", "feature": "whole"}
# The columns of an atlas of any format that are read by name, and what they hold.
COLUMNS: dict[str, dict[str, str]] = {
    "features": _OF
    | dict.fromkeys(("tokens", "cells", "n_half"), "whole")
    | dict.fromkeys(("frequency", "mass", "mean", "maximum", "score", "type_share", "top5"), "number")
    | dict.fromkeys(
        ("verdict", "label", "genes", "family", "cell_type", "gene_set", "piece", "writes"), "text"
    )
    | {"stable": "switch"},
    "genes": _OF | {"gene": "text", "share": "number"},
    "families": _OF | {"family": "text", "share": "number"},
    "pieces": _OF | {"text": "text", "share": "number"},
    "types": _OF | {"cell_type": "text", "share": "number"},
    "donors": _OF | {"donor": "text", "share": "number"},
    "ranks": _OF | {"first": "whole", "last": "whole", "share": "number"},
    "histogram": _OF | {"low": "number", "high": "number", "tokens": "whole"},
    "examples": _OF
    | dict.fromkeys(("row", "position", "start"), "whole")
    | dict.fromkeys(("kind", "gene", "cell_type"), "text")
    | {"value": "number", "tokens": "list", "values": "list"},
    "writes": _OF | {"kind": "text", "text": "text", "token": "whole", "weight": "number"},
    # features: a mean over permutations where gene sets were tested
    "shares": {"layer": "whole", "data": "text", "verdict": "text", "share": "number", "features": "number"},
    "slots": {"gene": "text", "text": "text", "token": "whole", "piece": "whole"},
    "readers": _OF | {"gene": "text", "share": "number"},
    "sets": _OF | dict.fromkeys(("gene_set", "genes", "source"), "text") | {"p": "number", "q": "number"},
    "baselines": {},
    "curve": {},
}
_STATED = {"name": (str, type(None)), "fingerprint": (str, type(None))}
# What is asked of atlas.json.
META: dict[str, Any] = {
    "format": int,
    "n_layers": int,
    "n_units": int,
    "of_units": int,  # of neurons, where not all were measured
    "n_cells": int,
    "n_tokens": int,
    "source": {"name": str, "kind": str},
    "types": [str],
    "donors": [str],
    "cells_of_types": [int],  # of the types above
    "cells_of_donors": [int],
    "organism": (str, type(None)),
    "thresholds": dict.fromkeys(VerdictThresholds._fields, (int, float)),
    "beside": [str],
    "provenance": {"data": _STATED, "model": _STATED, "transcoders": _STATED},
    "gene_sets": {"sets": str, "notes": [str], "warning": (str, type(None))},
}
_GIVEN = {"layer": int, "feature": int, "label": str, "author": str, "time": str}
_BESIDE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,79}")


class Given(NamedTuple):
    """A label that a person gave a feature, its author and time (UTC, ISO 8601). An empty one takes
    it back."""

    layer: int
    feature: int
    label: str
    author: str
    time: str


@shown
class Feature(NamedTuple):
    """All that an atlas knows of one feature. `row` is its row of `Atlas.features`; the tables are those of
    the folder, the largest first. `examples` have `texts` beside `tokens`. `thresholds`: those of the atlas,
    by which the verdict was given."""

    row: pd.Series
    genes: pd.DataFrame
    families: pd.DataFrame
    pieces: pd.DataFrame
    types: pd.DataFrame
    donors: pd.DataFrame
    ranks: pd.DataFrame
    histogram: pd.DataFrame
    examples: pd.DataFrame
    writes: pd.DataFrame
    sets: pd.DataFrame
    labels: tuple[Given, ...]
    thresholds: dict[str, Any] = {}  # noqa: RUF012 (never written to)

    def __repr__(self) -> str:
        row = self.row
        return f"<Feature L{row['layer']}·{row['feature']} {str(row['label'])[:80]!r}: {row['verdict']}>"


@shown
@dataclass(frozen=True, eq=False)
class Atlas:
    """One unit source's tables (see the room's opening words). `beside` are the atlases of the units that
    it is held against, by name; `folder` is None until it is saved."""

    meta: dict[str, Any]
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    beside: Mapping[str, Atlas] = field(default_factory=dict)
    folder: Path | None = None

    def __repr__(self) -> str:
        layers, units = self.meta["n_layers"], self.meta["n_units"]
        where = "in memory" if self.folder is None else str(self.folder)
        return f"<Atlas of {layers} × {counted(units, 'feature')}, {where}>"

    @staticmethod
    def open(folder: Path | str) -> Atlas:
        """The atlas in a folder. Raises ScxError when there is none, a table is missing or of another kind,
        or something in the folder leads out of it."""
        found = _opened(Path(folder))
        names = found.meta.get("beside", [])
        if odd := next((name for name in names if not _BESIDE.fullmatch(name)), None):
            problem = f"{found.folder}/{FILE} names {odd[:60]!r}, which is no folder in this one."
            raise ScxError(problem, "Make it anew with `scx atlas`.")
        return replace(found, beside={name: _opened(Path(folder) / name) for name in names})

    def save(self, folder: Path | str) -> Atlas:
        """Write the folder and return the atlas as saved; labels that people gave there stay.

        atlas.json comes last: a folder without it is not whole. Raises ScxError when the disk is full.
        """
        folder = Path(folder)
        saved = {name: other.save(folder / name) for name, other in self.beside.items()}
        for name in TABLES:
            table = self._read(name)
            replace_atomic(folder / f"{name}.parquet", partial(_write, table, name))
        write_json(folder / FILE, self.meta)
        return Atlas(self.meta, {}, saved, folder)

    def with_tables(
        self, tables: Mapping[str, pd.DataFrame], meta: dict[str, Any], beside: Mapping[str, Atlas]
    ) -> Atlas:
        """The atlas with other tables in the place of its own; a saved one is changed on disk.

        Raises ScxError when the disk is full.
        """
        stored = narrowed(tables)
        if self.folder is None:
            return Atlas(meta, {**self.tables, **stored}, beside)
        for name, table in stored.items():
            replace_atomic(self.folder / f"{name}.parquet", partial(_write, table, name))
        write_json(self.folder / FILE, meta)
        return Atlas(meta, {}, beside, self.folder)

    def in_memory(self) -> Atlas:
        """The same atlas with its tables in memory and no folder; `with_tables` then changes no file."""
        return Atlas(self.meta, {name: self._read(name) for name in TABLES}, self.beside)

    @cached_property
    def features(self) -> pd.DataFrame:
        """One row a feature, automatic labels; indexed 0, 1, … in the order of layer and feature."""
        return self.feature_table.to_pandas()

    @cached_property
    def feature_table(self) -> pa.Table:
        """The same in Arrow's columns, which are faster to search."""
        return _by_dictionary(self._read("features")).unify_dictionaries().combine_chunks()

    @cached_property
    def search_text(self) -> pa.ChunkedArray:
        """Label and strongest genes of each feature, one a line, in lower case."""
        table = self.feature_table
        return pc.utf8_lower(pc.binary_join_element_wise(table["label"], table["genes"], "\n"))

    @property
    def shares(self) -> pd.DataFrame:
        """Verdict shares by layer, data and verdict."""
        return self.table("shares")

    def table(self, name: str, layer: int | None = None, feature: int | None = None) -> pd.DataFrame:
        """A table, or the rows of a layer or a feature. Raises ScxError for a name that there is not."""
        if name not in TABLES:
            raise ScxError(f"An atlas has no table {name!r}.", f"Tables: {', '.join(TABLES)}.")
        wanted = {"layer": layer, "feature": feature}
        asked = [pc.field(key) == value for key, value in wanted.items() if value is not None]
        where = asked[0] if len(asked) == 1 else asked[0] & asked[1] if asked else None
        return self._read(name, where).to_pandas()

    def feature(self, layer: int, number: int) -> Feature:
        """All of one feature. Raises ScxError when there is none of this number."""
        self._check(layer, number)
        rest = {
            name: self.table(name, layer, number)
            for name in Feature._fields
            if name in TABLES and name != "features"
        }
        rest["examples"]["texts"] = [
            [self._texts.get(int(token), "") for token in tokens] for tokens in rest["examples"]["tokens"]
        ]
        given = tuple(one for one in self.given() if (one.layer, one.feature) == (layer, number))
        return Feature(
            row=self.features.iloc[self._index(layer, number)],
            labels=given,
            thresholds=self.meta.get("thresholds", {}),
            **rest,
        )

    @cached_property
    def genes(self) -> frozenset[str]:
        """The genes that stand in the sentences of this atlas."""
        return frozenset(self._slots["gene"].cast(pa.string()).unique().to_pylist()) - {"", None}

    def gene(self, symbol: str) -> pd.DataFrame:
        """The features that read a gene or write it, the strongest readers first; those that (nearly) never
        fire, whose shares rest on a handful of tokens, come last.

        Columns: those of `features`, `reads` (share of the feature's mass that is on the gene) and `pushes`
        (weight on the gene's first token where that is among the feature's tokens; other genes may begin
        with it too). Raises ScxError for a gene that no sentence of this atlas holds.
        """
        wanted = symbol.upper()
        slots = self._slots
        own = slots.filter(pc.equal(slots["gene"].cast(pa.string()), wanted))
        if not len(own):
            raise ScxError(
                f"{wanted} stands in no sentence of this atlas.", "Check the symbol, or take more cells."
            )
        first = own.filter(pc.equal(own["piece"], 0))["token"].to_numpy()
        columns = ["layer", "feature", "share"]
        if self.folder is None:
            readers = self._read("readers", pc.field("gene") == wanted, columns)
        else:
            readers = rows_where(self.folder / "readers.parquet", "gene", wanted, columns)
        row_R = self._index(*(readers[name].to_numpy().astype(int) for name in ("layer", "feature")))
        share_R = readers["share"].to_numpy()
        reads = pd.Series(share_R, row_R, name="reads").groupby(level=0).sum()  # once a feature, in any file
        token_P, row_P, weight_P = self._pushing
        here_P = np.isin(token_P, first)
        pushes = pd.Series(weight_P[here_P], row_P[here_P], name="pushes").groupby(level=0).max()
        both = pd.concat([reads, pushes], axis=1).sort_index()
        found = self.feature_table.take(both.index.to_numpy()).to_pandas()
        found = found.assign(reads=both["reads"].to_numpy(), pushes=both["pushes"].to_numpy())
        seldom = found["verdict"].astype(str).map(SELDOM).fillna(0)
        order = found.assign(often=-seldom).sort_values(
            ["often", "reads", "pushes"], ascending=False, kind="stable", ignore_index=True
        )
        return order.drop(columns="often")

    def labels(self) -> dict[str, str]:
        """Label by name ("L2·513"): the latest that a person gave, else the automatic one. Dead and
        polysemantic features have none of the automatic ones."""
        table = self.features
        named = table[~table["verdict"].isin(["dead", "rare", "polysemantic"])]
        found = {
            f"L{layer}·{feature}": str(label)
            for layer, feature, label in zip(named["layer"], named["feature"], named["label"], strict=True)
        }
        return found | {f"L{layer}·{feature}": one for (layer, feature), one in self.given_labels().items()}

    def given(self) -> list[Given]:
        """All labels that people gave, the lines of labels.jsonl, the oldest first. Raises ScxError when one
        is damaged."""
        if self.folder is None:
            return []
        path = self.folder / LABELS_FILE
        try:
            return [Given(**check_object(record, _GIVEN, path)) for record in read_jsonl(path)]
        except TypeError as error:
            problem = f"{path} holds a line that is no label ({error})."
            raise ScxError(problem, "Remove that line.") from error

    def given_labels(self) -> dict[tuple[int, int], str]:
        """The latest label that a person gave, by layer and feature, without those that were taken back."""
        latest = {(one.layer, one.feature): one.label for one in self.given()}
        return {key: label for key, label in latest.items() if label}

    def give_label(self, layer: int, number: int, label: str, author: str) -> Given:
        """Keep a person's label, with the time. An empty label brings the automatic one back. Raises
        ScxError for an atlas that is not saved, an unknown feature, a missing author, or a text that is too
        long."""
        self._check(layer, number)
        if self.folder is None:
            raise ScxError("This atlas is not saved, so it cannot keep labels.", "Save it first.")
        label, author = " ".join(label.split()), " ".join(author.split())
        if not author:
            raise ScxError("A label needs an author.", "Give a name, such as your initials.")
        if max(len(label), len(author)) > LONGEST:
            raise ScxError(f"A label is longer than {LONGEST} letters.", "Shorten it.")
        given = Given(layer, number, label, author, datetime.now(UTC).isoformat(timespec="seconds"))
        append_jsonl(self.folder / LABELS_FILE, given._asdict())
        return given

    @cached_property
    def _slots(self) -> pa.Table:
        return self._read("slots")

    @cached_property
    def _pushing(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Token, row of `features` and weight of every token that a feature pushes up."""
        columns = ["layer", "feature", "token", "weight"]
        found = self._read("writes", (pc.field("token") >= 0) & (pc.field("weight") > 0), columns)
        layer_P, feature_P, token_P, weight_P = (found[name].to_numpy() for name in columns)
        return token_P, self._index(layer_P.astype(int), feature_P), weight_P

    @cached_property
    def _texts(self) -> dict[int, str]:
        slots = self._slots
        return dict(zip(slots["token"].to_pylist(), slots["text"].to_pylist(), strict=True))

    def _index(self, layer: Any, number: Any) -> Any:
        return layer * int(self.meta["n_units"]) + number

    def _check(self, layer: int, number: int) -> None:
        layers, units = int(self.meta["n_layers"]), int(self.meta["n_units"])
        if not (0 <= layer < layers and 0 <= number < units):
            raise ScxError(
                f"This atlas has no feature {number} in layer {layer}.",
                f"Layers run from 0 to {layers - 1}, features from 0 to {units - 1}.",
            )

    def _read(
        self, name: str, where: pc.Expression | None = None, columns: list[str] | None = None
    ) -> pa.Table:
        if self.folder is None:
            table = self.tables.get(name, NOTHING) if name in ADDED else self.tables[name]
            table = table if where is None else table.filter(where)
            return table.select(columns) if columns else table
        path = self.folder / f"{name}.parquet"
        if name in ADDED and not path.is_file():
            return NOTHING
        try:
            if where is None:  # without the detour by a data set, which costs more than a small table
                with pq.ParquetFile(path) as file:
                    return file.read(columns)
            return pq.read_table(path, columns=columns, filters=where)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from error


def _write(table: pa.Table, name: str, path: Path) -> None:
    if name == "features":  # opened first: fast rather than small
        texts = [one.name for one in table.schema if pa.types.is_dictionary(one.type)]
        pq.write_table(table, path, compression="none", use_dictionary=texts, row_group_size=WHOLE)
    else:
        pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)


def _opened(folder: Path) -> Atlas:
    """An atlas without what lies beside it."""
    meta = check_object(read_json(folder / FILE), META, folder / FILE)
    if meta.get("format") not in FORMATS:
        raise ScxError(f"{folder / FILE} is no atlas of this version.", "Make it anew with `scx atlas`.")
    check_links(folder)
    for name in TABLES:
        if name not in ADDED and not (folder / f"{name}.parquet").is_file():
            problem = f"The atlas {folder} lacks {name}.parquet."
            raise ScxError(problem, "Make it anew with `scx atlas`.")
    missing = sorted({"n_layers", "n_units", "source"} - meta.keys())
    unknown = sorted(meta.get("thresholds", {}).keys() - {*VerdictThresholds._fields})
    if unknown:
        problem = f"{folder / FILE}: there is no threshold {unknown[0][:60]!r}."
        raise ScxError(problem, "Make it anew with `scx atlas`.")
    if missing:
        raise ScxError(f"{folder / FILE} lacks {', '.join(missing)}.", "Make it anew with `scx atlas`.")
    for name in TABLES:
        _check_columns(folder, name)
    _check_rows(folder / "features.parquet", meta)
    return Atlas(meta, {}, {}, folder)


def _check_rows(path: Path, meta: dict[str, Any]) -> None:
    """Raises ScxError unless the table of features has each feature once, in order, with a known verdict."""
    layers, units = meta["n_layers"], meta["n_units"]
    table = pq.read_table(path, columns=["layer", "feature", "verdict"])
    at_F, unit_F = (table[name].to_numpy().astype(np.int64) for name in ("layer", "feature"))
    in_order = len(table) == layers * units and np.array_equal(at_F * units + unit_F, np.arange(len(table)))
    if not (len(table) and in_order and unit_F.max() < units):
        problem = f"{path} has not one row for each of {layers} × {units} features, in their order."
        raise ScxError(problem, "Make the atlas anew with `scx atlas`.")
    unknown = set(table["verdict"].cast(pa.string()).unique().to_pylist()) - set(VERDICTS)
    if unknown:
        problem = (
            f"{path} has the verdict {str(min(unknown, key=str))[:60]!r}, which is none of this version."
        )
        raise ScxError(problem, "Make the atlas anew with `scx atlas`.")


def _check_columns(folder: Path, name: str) -> None:
    """Raises ScxError when a table lacks a column that is read, or has one of another kind."""
    path = folder / f"{name}.parquet"
    if name in ADDED and not path.is_file():
        return
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    for column, kind in COLUMNS[name].items():
        if column not in schema.names or (rows and not _is_of(schema.field(column).type, kind)):
            problem = f"{path} lacks the column {column!r}, or it holds no {_KINDS[kind]}."
            raise ScxError(problem, "Make the atlas anew with `scx atlas`.")


def _is_of(kind: pa.DataType, wanted: str) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if wanted == "text":
        return pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_null(value)
    if wanted == "list":
        return pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if wanted == "switch":
        return pa.types.is_boolean(kind)
    return pa.types.is_integer(kind) or (wanted == "number" and pa.types.is_floating(kind))


def as_arrow(tables: Mapping[str, pd.DataFrame]) -> dict[str, pa.Table]:
    """Tables as they are stored: 32-bit numbers, text by dictionary; `readers` is `genes` by gene, so that
    one gene's rows lie together."""
    stored = narrowed(tables)
    # By name, so that the names that a group of rows runs from and to say whether a gene can be in it.
    genes = tables["genes"].astype({"gene": str})
    by_gene = genes.sort_values(["gene", "layer", "feature"], kind="stable")
    stored["sets"] = pa.schema(SET_COLUMNS.items()).empty_table()
    for name in ADDED:  # of those that are held beside there are none
        stored.setdefault(name, NOTHING)
    stored["readers"] = _narrow(pa.Table.from_pandas(by_gene, preserve_index=False))
    return stored


def _by_dictionary(table: pa.Table) -> pa.Table:
    """The table with its texts by dictionary, as `narrowed` stores them, whoever wrote it."""
    for place, one in enumerate(table.schema):
        if one.name not in PLAIN and not pa.types.is_dictionary(one.type) and _is_of(one.type, "text"):
            texts = table[one.name].cast(pa.string()).dictionary_encode()
            table = table.set_column(place, one.name, texts)
    return table


def narrowed(tables: Mapping[str, pd.DataFrame]) -> dict[str, pa.Table]:
    """Tables in Arrow's columns, of 32 bits and with texts by dictionary."""
    return {
        name: _narrow(pa.Table.from_pandas(table, preserve_index=False)) for name, table in tables.items()
    }


def _narrow(table: pa.Table) -> pa.Table:
    fields = []
    for one in table.schema:
        kind = one.type
        if pa.types.is_float64(kind) and one.name not in EXACT:
            kind = pa.float32()
        elif pa.types.is_int64(kind):
            kind = pa.int32()
        elif one.name in PLAIN:
            kind = pa.string()
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            kind = pa.dictionary(pa.int32(), pa.string())
        fields.append(pa.field(one.name, kind))
    columns = [
        table[one.name].cast(pa.string()).combine_chunks().dictionary_encode().cast(one.type)
        if pa.types.is_dictionary(one.type)
        else table[one.name].cast(one.type, safe=False)
        for one in fields
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def rows_where(path: Path, column: str, text: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of the rows whose `column`, by which the file is sorted, is `text`: only groups of rows
    that can hold it are read. Arrow's own filters do so for numbers, but read all groups where texts are held
    by dictionary. Raises ScxError for a damaged file."""
    try:
        with pq.ParquetFile(path) as file:
            place = file.schema_arrow.get_field_index(column)
            groups = [n for n in range(file.num_row_groups) if _may_hold(file.metadata, n, place, text)]
            found = file.read_row_groups(groups, columns=[*columns, column])
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    return found.filter(pc.equal(found[column].cast(pa.string()), text)).select(list(columns))


def _may_hold(metadata: pq.FileMetaData, group: int, place: int, text: str) -> bool:
    known = metadata.row_group(group).column(place).statistics
    return known is None or not known.has_min_max or known.min <= text <= known.max


def unreadable(path: Path, error: Exception) -> ScxError:
    """The error for a damaged file of an atlas."""
    problem = f"{path} could not be read ({str(error)[:120]})."
    return ScxError(problem, "Make the atlas anew with `scx atlas`.")
