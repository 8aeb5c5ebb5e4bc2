"""Colours that a file keeps for the categories of a column, as scanpy does: `uns["COLUMN_colors"]`."""

from __future__ import annotations

from typing import Any

KEY, MOST = "_colors", 1000  # colours of one column


def column_of(key: str) -> str | None:
    """The column whose colours are kept under a key of uns; None of any other key."""
    return key.removesuffix(KEY) if key.endswith(KEY) and key != KEY else None


def palette_in(value: Any) -> tuple[str, ...]:
    """Colours as #rrggbb; () where one of them is none, or there are too many."""
    from matplotlib.colors import is_color_like, to_hex

    found = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(found, (list, tuple)) or not 0 < len(found) <= MOST:
        return ()
    named = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in found]
    if not all(isinstance(one, str) and is_color_like(one) for one in named):
        return ()
    return tuple(to_hex(one) for one in named)
