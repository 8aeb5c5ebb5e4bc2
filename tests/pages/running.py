"""Run the app as Streamlit would, without a browser, and read what it says."""

from __future__ import annotations

import re
from pathlib import Path

from streamlit.testing.v1 import AppTest

PAGES = ("start", "data", "train", "validate", "circuits", "evidence", "features", "rate")
ROOT = Path(__file__).resolve().parents[2]
_KINDS = ("title", "header", "markdown", "caption", "error", "warning", "info", "success", "code", "text")


def open_page(page: str = "start", app: AppTest | None = None) -> AppTest:
    """A page of the app, run once; in the session of `app` if there is one."""
    app = app or AppTest.from_file(ROOT / "app.py", default_timeout=240)
    if not len(app.session_state):
        app.run()
    return app.switch_page(f"pages/{page}.py").run()


def said(app: AppTest) -> str:
    """Everything that the page says, as a person reads it: without the backslashes of Markdown."""
    words = [str(element.value) for kind in _KINDS for element in app.get(kind)]
    words += [str(box.value) for box in app.selectbox]
    words += [f"{metric.label} {metric.value} {metric.delta}" for metric in app.metric]
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", "\n".join(words))


def well(app: AppTest) -> AppTest:
    """The app, after checking that it shows no traceback."""
    assert not app.exception, [element.value for element in app.exception]
    return app


def button(app: AppTest, label: str):
    """The button with this label."""
    return next(found for found in app.button if found.label == label)


def starting(app: AppTest, words: str):
    """The button whose label begins so, as that of a job, which says how long it will take."""
    return next(found for found in app.button if found.label.startswith(words))


def pick(app: AppTest, label: str):
    """The selectbox with this label."""
    return next(found for found in app.selectbox if found.label == label)


def type_into(app: AppTest, key: str, text: str) -> AppTest:
    """The app after a person typed a text into a field that completes names, whether it is offered or not."""
    box = app.selectbox(key=key)
    offered = [one for one in box.options if one == text]
    box.options += [] if offered or not text else [text]
    return box.set_value(text or None).run()
