"""What a person gives beside the cells: a table of labels, and a mapping of labels to a model's answers.

Labels are joined to the cells, for formats such as 10x that hold none, or in place of the file's own. Any
usual table is read: commas, tabs, semicolons or blanks between the fields, quoted or not, a header of
the rows' length, one field shorter (as R's write.table has it), or none.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from scx_core.cells.detection.name_rules import clean_text, whole_characters
from scx_core.errors import ScxError
from scx_core.runs.files import is_folder, is_there, read_json, to_json_text, unpacked, write_json

from .guarded_reads import reading

_SEPARATORS = ("\t", ",", ";", "|", " ")
_NUMBERED = re.compile(r"-\d+$")
LARGEST_FILE = 1 << 30  # bytes of text, unpacked: ten million cells have a third of that


class Joined(NamedTuple):
    """obs with the columns of the file, their names, and a sentence on how the cells were matched."""

    obs: pd.DataFrame
    columns: tuple[str, ...]
    note: str


def join_labels(obs: pd.DataFrame, labels_file: str, name: str) -> Joined:
    """obs with the columns of the file, whose first holds the cell ids.

    Ids are matched as a whole. Where none is, "-1" at their end may lack on one side, if that leaves every id
    distinct on both. Cells that the file does not name stay without a label. Raises ScxError when the file is
    missing, has one column only, names a cell twice, or names none of the cells.
    """
    path = Path(labels_file).expanduser()
    if not is_there(path) or is_folder(path):
        raise ScxError(f"There is no labels file {str(path)[:200]}.", "Check the path.")
    cells = pd.Index(clean_text(obs.index))
    table = read_label_table(path, set(cells))
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise ScxError(f"{path.name} names the cell '{twice}' twice.", "Keep one line a cell.")
    ids, how = cells, ""
    if not cells.isin(table.index).any():
        ids, table, how = _shortened(cells, table, path.name, name)
    joined = table.reindex(ids).set_axis(obs.index, axis=0)
    n_found = int(ids.isin(table.index).sum())
    replaced = [column for column in joined.columns if column in obs.columns]
    note = f"{path.name} names {n_found:,} of {len(obs):,} cells{how}"
    if n_unknown := len(table) - len(set(ids) & set(table.index)):
        note += f"; {n_unknown:,} of its lines are of no cell here"
    if replaced:
        note += f"; its columns {', '.join(replaced[:4])} take the place of the file's own"
    obs = pd.concat([obs.drop(columns=replaced), joined], axis=1)
    return Joined(obs, tuple(map(str, joined.columns)), note + ".")


def _shortened(
    cells: pd.Index, table: pd.DataFrame, file: str, name: str
) -> tuple[pd.Index, pd.DataFrame, str]:
    """Ids of both sides without "-1" at their end. Raises ScxError when none match, or two become equal."""
    short_cells, short_ids = (
        pd.Index([_NUMBERED.sub("", one) for one in ids]) for ids in (cells, table.index)
    )
    if not short_cells.isin(short_ids).any():
        raise ScxError(
            f"{file} names none of the cells of {name} (it has '{table.index[0]}', the cells are like "
            f"'{cells[0]}').",
            "Its first column must hold the cell ids (barcodes).",
        )
    for ids, short, whose in ((cells, short_cells, name), (table.index, short_ids, file)):
        if short.has_duplicates:
            place = int(short.duplicated().argmax())
            first = ids[list(short).index(short[place])]
            raise ScxError(
                f"{file} and {name} write their cell ids differently ('{table.index[0]}', '{cells[0]}'), and "
                f"without the number at the end '{first}' and '{ids[place]}' of {whose} would be one cell.",
                "Write the cell ids in the labels file as the cells have them.",
            )
    table = table.set_axis(short_ids, axis=0)
    return short_cells, table, " (matched without the number behind the hyphen)"


def read_label_table(path: Path, known: set[str]) -> pd.DataFrame:
    """A table by its first column, all as text. `known` ids tell a first line of values from a header.

    Raises ScxError when it is no text, has one column only, names no cell, or names two columns alike.
    """
    with reading(f"The labels file {path.name}"):
        data = unpacked(path, LARGEST_FILE)
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if not lines:
        raise ScxError(f"The labels file {path.name} is empty.", "Give cell ids first, then 'cell_type'.")
    with reading(f"The labels file {path.name}"):
        separator = _separator(lines)
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, skipinitialspace=True))
    rows = [[field.strip() for field in row] for row in rows]
    width = max(map(len, rows))
    if width < 2:
        raise ScxError(
            f"{path.name} has one column only.", "Give a CSV with cell ids first, then 'cell_type'."
        )
    odd = next((number for number, row in enumerate(rows[1:], 2) if len(row) != width), None)
    if odd is not None:
        raise ScxError(
            f"The labels file {path.name}: line {odd} has {len(rows[odd - 1])} fields, others have {width}.",
            "Quote the fields that hold the separator, or use tabs.",
        )
    header, body = rows[0], rows[1:]
    if header[0] in known or _NUMBERED.sub("", header[0]) in {_NUMBERED.sub("", one) for one in known}:
        names, body = ["cell_type", *(f"column_{n}" for n in range(2, width))], rows
    else:
        names = header if len(header) == width - 1 else header[1:]
    if not body:
        raise ScxError(
            f"The labels file {path.name} has one line only, and it names no cell.",
            "Give one line a cell: its id, then its type.",
        )
    if twice := next((name for n, name in enumerate(names) if name and name in names[:n]), ""):
        raise ScxError(
            f"The labels file {path.name} has two columns called '{twice}'.", "Give each a name of its own."
        )
    columns = {name or f"column_{n}": [row[n] for row in body] for n, name in enumerate(names, 1)}
    return pd.DataFrame(columns, index=clean_text([row[0] for row in body]), dtype=object)


def _separator(lines: list[str]) -> str:
    """The sign that parts the fields: the one that gives most lines one and the same number of fields."""

    def score(sign: str) -> tuple[float, int]:
        sizes = [len(row) for row in csv.reader(lines[1:200] or lines, delimiter=sign, skipinitialspace=True)]
        common = max(set(sizes), key=sizes.count) if sizes else 1
        return (sizes.count(common) / len(sizes) if common > 1 else 0.0, -_SEPARATORS.index(sign))

    return max(_SEPARATORS, key=score)


def write_mapping(folder: str | Path, mapping: Mapping[str, str]) -> Path:
    """Keep a mapping as JSON in `folder`, under a name that stands for its content: the same mapping
    is the same file, another one another."""
    text = to_json_text(dict(sorted(mapping.items())), indent=2)
    path = Path(folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if not path.is_file():
        write_json(path, json.loads(text))
    return path


def read_mapping(path: str | Path) -> dict[str, str]:
    """A mapping from a file: JSON ({"label": "answer"}) or a table with two columns (CSV, TSV).

    Raises ScxError when it cannot be read, or names a label twice.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".json":
        found = read_json(path)
        if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
            raise ScxError(f"{path.name} is no mapping of labels.", 'Write {"label": "answer", ...}.')
        return {whole_characters(label): whole_characters(answer) for label, answer in found.items()}
    with reading(f"The mapping of labels {path}"):
        text = unpacked(path, LARGEST_FILE).decode("utf-8-sig")
    sign = "\t" if "\t" in text else ","
    with reading(path.name):
        fields = list(csv.reader(io.StringIO(text), delimiter=sign))
    rows = [[field.strip() for field in row] for row in fields if any(row)]
    if not rows or any(len(row) != 2 for row in rows):
        raise ScxError(f"{path.name} is no table of two columns.", "Give: label, answer.")
    if [word.lower() for word in rows[0]] in (
        ["label", "answer"],
        ["cell_type", "answer"],
        ["type", "answer"],
    ):
        rows = rows[1:]
    labels = [row[0] for row in rows]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ScxError(f"{path.name} names the label {twice!r} twice.", "Keep one line a label.")
    return dict(rows)
