"""The blocks that a result is shown with, as one fragment of HTML whose style touches nothing around it."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from scx_core.figures.report.page import part_html
from scx_core.figures.report.parts import Picture, Table


class Title(NamedTuple):
    """What it is, and one line below."""

    text: str
    below: str = ""


class Banner(NamedTuple):
    """A sentence that must be read first; `grave`: in red."""

    text: str
    grave: bool = True


class Frame(NamedTuple):
    """A whole page in a frame of so many pixels."""

    page: str
    height: int
    title: str


class Fold(NamedTuple):
    """What opens when it is asked for."""

    title: str
    blocks: tuple[Block, ...]


class Ready(NamedTuple):
    """HTML whose every name is escaped already."""

    html: str


Block: TypeAlias = "str | Table | Picture | Title | Banner | Frame | Fold | Ready"


def fragment(blocks: Iterable[Block]) -> str:
    """The blocks in their order."""
    style = (Path(__file__).parent / "notebook.css").read_text(encoding="utf-8")
    return f'<div class="scx-result"><style>{style}</style>{"".join(map(_block, blocks))}</div>'


def framed(page: str, height: int, title: str) -> str:
    """A frame that may run the page's scripts, and reach neither the notebook nor anything else."""
    return (
        f'<iframe title="{html.escape(title)}" sandbox="allow-scripts" width="100%" height="{int(height)}" '
        f'style="border:0;border-radius:8px;background:#fff" srcdoc="{html.escape(page)}"></iframe>'
    )


def _block(block: Block) -> str:
    if isinstance(block, Title):
        below = f'<div class="below">{html.escape(block.below)}</div>' if block.below else ""
        return f'<div class="title">{html.escape(block.text)}</div>{below}'
    if isinstance(block, Banner):
        kind = "grave" if block.grave else "mild"
        return f'<div class="banner {kind}" role="alert">{html.escape(block.text)}</div>'
    if isinstance(block, Frame):
        return framed(block.page, block.height, block.title)
    if isinstance(block, Fold):
        inside = "".join(map(_block, block.blocks))
        return f"<details><summary>{html.escape(block.title)}</summary>{inside}</details>"
    return block.html if isinstance(block, Ready) else part_html(block)
