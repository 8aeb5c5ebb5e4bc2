"""scX: which genes, and which internal steps, made a single-cell language model call a cell what it did.

In a notebook, in scanpy's manner: `import scx_core as scx`, then

    scx.pp    cells and their sentences, the model that reads them
    scx.tl    train, validate, trace, consensus, difference, knock-outs, smallest circuit, atlas, annotate
    scx.pl    circuits, genes, sentences, verdicts, training runs

These three are what is kept stable. Everything else can be imported too, and is internal: rooms through which
data flows one way (docs/architecture.md). Nothing is loaded before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

from scx_core.display import draw_with

__version__ = "0.1.0"
__all__ = ["__version__", "pl", "pp", "tl"]

draw_with("scx_core.figures.notebook", "html_of")  # what a notebook shows of a result


def __getattr__(name: str) -> Any:
    """The notebook's three modules, imported when they are first asked for."""
    if name in ("pp", "tl", "pl"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What a notebook completes."""
    return sorted({*globals(), *__all__})
