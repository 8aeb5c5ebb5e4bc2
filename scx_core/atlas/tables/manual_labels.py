"""Labels that people give features: one line each in labels.jsonl beside the atlas, the latest counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from scx_core.errors import ScxError
from scx_core.runs import append_jsonl, read_jsonl

FILE = "labels.jsonl"
LONGEST = 200  # letters of a label or an author


class Given(NamedTuple):
    """A label with its author and when it was given (UTC, ISO 8601). An empty label takes one back."""

    layer: int
    feature: int
    label: str
    author: str
    time: str

    @staticmethod
    def read(path: Path) -> list[Given]:
        """All labels in a file, the oldest first. Raises ScxError when a line is damaged."""
        try:
            return [Given(**record) for record in read_jsonl(path)]
        except TypeError as error:
            problem = f"{path} holds a line that is no label ({error})."
            raise ScxError(problem, "Remove that line.") from error


def add_label(path: Path, layer: int, feature: int, label: str, author: str) -> Given:
    """Add one line. Raises ScxError when the author is missing or a text is too long."""
    label, author = " ".join(label.split()), " ".join(author.split())
    if not author:
        raise ScxError("A label needs an author.", "Give a name, such as your initials.")
    if max(len(label), len(author)) > LONGEST:
        raise ScxError(f"A label is longer than {LONGEST} letters.", "Shorten it.")
    given = Given(layer, feature, label, author, datetime.now(UTC).isoformat(timespec="seconds"))
    append_jsonl(path, given._asdict())
    return given


def current(given: Sequence[Given]) -> list[Given]:
    """The latest label of each feature, without those that were taken back."""
    latest = {(one.layer, one.feature): one for one in given}
    return [one for one in latest.values() if one.label]
