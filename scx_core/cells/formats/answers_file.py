"""A person's mapping from the cell types of a data set to the answers of a model, as a file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

from scx_core.errors import ScxError
from scx_core.runs.files import to_json_text, write_json


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
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScxError(
            f"The mapping of labels {path} cannot be read ({error}).", "Check the path."
        ) from error
    if path.suffix.lower() == ".json":
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ScxError(f"{path.name} is no JSON: {error}.", 'Write {"label": "answer", ...}.') from error
        if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
            raise ScxError(f"{path.name} is no mapping of labels.", 'Write {"label": "answer", ...}.')
        return found
    sign = "\t" if "\t" in text else ","
    rows = [
        [field.strip() for field in row] for row in csv.reader(io.StringIO(text), delimiter=sign) if any(row)
    ]
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
