"""The documents are read in the repository too: links out of docs/ lead to the site's copy of what they name.

`../README.md` and its like are pages of the site that include the file; a link to a file of code becomes the
module's name and a link to the page of the rooms.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
# file of the repository → page of the site that shows it
PAGES = {
    "README.md": "explanation/readme.md",
    "CONTRIBUTING.md": "explanation/contributing.md",
    "CHANGELOG.md": "explanation/changelog.md",
    "models/embedded/README.md": "explanation/embedded.md",
    "models/planted/README.md": "explanation/planted-card.md",
}
LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")


def in_site(text: str, here: Path, docs: Path) -> str:
    """The text of the document at `here` with its links turned to the site's pages."""

    def turned(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = (here.parent / target).resolve()
        if path.is_relative_to(docs) or not path.is_relative_to(ROOT):
            return found[0]
        inside = path.relative_to(ROOT).as_posix()
        if inside in PAGES:
            return f"](/{PAGES[inside]}{anchor})"
        if inside.startswith("scx_core/") and inside.endswith(".py"):
            module = inside.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            return f"](/reference/rooms.md) in `{module}`"
        return found[0]

    return LINK.sub(turned, text)


def read(app: Sphinx, name: str, content: list[str]) -> None:
    """Before a page is parsed."""
    docs = Path(app.srcdir).resolve()
    content[0] = in_site(content[0], docs / f"{name}.md", docs)


def included(app: Sphinx, path: Path, name: str, content: list[str]) -> None:
    """Before a file that a page includes is parsed: its links are seen from the page."""
    docs = Path(app.srcdir).resolve()
    given = (docs / path).resolve()
    text = in_site(content[0], given, docs)

    def from_page(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        path = (given.parent / target).resolve()
        if "://" in target or target.startswith("/") or not path.is_relative_to(docs):
            return found[0]
        return f"](/{path.relative_to(docs).as_posix()}{anchor})"

    content[0] = LINK.sub(from_page, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("source-read", read)
    app.connect("include-read", included)
    return {"parallel_read_safe": True}
