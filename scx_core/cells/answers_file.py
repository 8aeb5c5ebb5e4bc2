"""A person's mapping from the cell types of a data set to the answers of a model, as a file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from ..errors import ScxError


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
