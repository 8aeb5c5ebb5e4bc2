"""What is computed when a person asks for it: kept for all sessions, shown as a table, downloadable."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common.words import safe, unlinked
from scx_core.runs import Progress

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
# A column: title, format of its numbers (None for text, "switch" for yes or no), help, width.
Column = tuple[Any, ...]


class Memory(Generic[T]):
    """At most `size` values, the longest unused dropped first.

    Keys are contents (fingerprints, settings) and never an `id()`, which Python uses again. Not Streamlit's
    own cache: that one replays what a function drew, and ours draw their progress.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made when it is not there. An exception of `make` keeps nothing."""
        found = self.peek(key)
        if found is None:
            found = make()
            with self._lock:
                self._values[key] = found
                while len(self._values) > self._size:
                    self._values.popitem(last=False)
        return found

    def peek(self, key: Hashable) -> T | None:
        """The value of `key` if it is there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def forget(self, key: Hashable) -> None:
        """Drop the value of `key`."""
        with self._lock:
            self._values.pop(key, None)

    def asked_for(self, key: Hashable, button: str, make: Callable[[], T], **options: Any) -> T | None:
        """The value of `key` once a person has pressed `button` (with the `options` of st.button)."""
        return self.get(key, make) if st.button(button, **options) else self.peek(key)


def progress_in(place: DeltaGenerator, words: str = "", counted: bool = False) -> Progress:
    """A progress bar in `place`, with the message or `words`; `counted` adds "3 of 30"."""

    def tell(done: int, total: int, message: str = "") -> None:
        text = safe(message or words) + (f": {done} of {total}" if counted else "")
        place.progress(min(1.0, done / max(1, total)), text=text)

    return tell


def columns_of(columns: Mapping[str, Column]) -> dict[str, Any]:
    """Columns for st.dataframe from their titles, formats, help and widths."""
    return {name: _column(name, *column) for name, column in columns.items()}


def _column(
    name: str, title: str, form: str | None = None, words: str | None = None, width: Any = None
) -> Any:
    config = st.column_config
    words = None if words is None else unlinked(words)
    if form is None:
        return config.TextColumn(title, help=words, width=width)
    if form == "switch":
        return config.CheckboxColumn(title, help=words, width=width)
    return config.NumberColumn(title, format=form or None, help=words, width=width)


def table(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], columns: Mapping[str, Column], **options: Any
) -> Any:
    """Rows under those `columns` that they have, with the `options` of st.dataframe; returns its event."""
    import pandas as pd  # the page Start needs `Memory` alone, and must not wait for this

    rows = pd.DataFrame(rows)
    config = columns_of({name: column for name, column in columns.items() if name in rows})
    options = {"hide_index": True, "column_order": list(config)} | options
    return st.dataframe(rows, column_config=config, **options)


def download(
    label: str,
    data: bytes | str | Callable[[], bytes],
    name: str,
    mime: str = "text/csv",
    *,
    place: Any = st,
    key: str | None = None,
    kind: str = "tertiary",
) -> None:
    """A button that gives a file `name`; a function as `data` makes it when it is asked for."""
    place.download_button(
        label, data, name, mime, icon=":material/download:", type=kind, on_click="ignore",
        key=key or f"download {name}",
    )  # fmt: skip
