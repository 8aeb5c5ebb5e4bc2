"""Widgets whose value outlives a visit to another page: Streamlit forgets those that are not drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

_STORE = "scx_kept"


def kept(name: str, default: Any, options: Sequence[Any] | None = None) -> str:
    """Give the widget `name` its last value, or the default where that is no option now. Returns its key."""
    key = f"kept {name}"
    value = st.session_state.get(key, _values().get(name, default))
    if options is not None and value not in options:
        value = default
    st.session_state[key] = value
    return key


def keep(name: str, value: Any) -> Any:
    """Note what the widget gave."""
    _values()[name] = value
    return value


def last(name: str, default: Any) -> Any:
    """What the widget gave last, whether it is drawn now or not."""
    return st.session_state.get(f"kept {name}", _values().get(name, default))


def put(name: str, value: Any) -> None:
    """What the widget shall show when it is drawn next."""
    st.session_state.pop(f"kept {name}", None)
    _values()[name] = value


def forget(*names: str) -> None:
    """Back to the defaults."""
    for name in names:
        st.session_state.pop(f"kept {name}", None)
        _values().pop(name, None)


def _values() -> dict[str, Any]:
    return st.session_state.setdefault(_STORE, {})
