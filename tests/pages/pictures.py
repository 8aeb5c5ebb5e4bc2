"""What the picture of a circuit is told, and what it would report, in a page that runs without a browser."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest


def told(app: AppTest, name: str = "picture") -> dict[str, Any]:
    """What the page tells a component: its arguments."""
    found = [one.proto for one in app.get("component_instance")]
    args = [json.loads(one.json_args) for one in found if one.component_name.endswith(f".{name}")]
    (only,) = [one for one in args if not one.get("fixed")]
    return only


def words(app: AppTest) -> str:
    """Everything that stands in the picture."""
    return json.dumps(told(app)["drawing"], ensure_ascii=False)


def box(app: AppTest, label: str) -> str:
    """The id of the first box of this label."""
    return next(node["id"] for node in told(app)["drawing"]["nodes"] if node["box"]["label"] == label)
