"""The pictures of the gallery: what an example has drawn, whether pyplot knows it or not.

`scx.pl` makes figures without pyplot, so that a process that draws many keeps none; they are found by the
axes that an example holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper

from scx_core.figures.drawing.pen import picture_bytes


def pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Write the block's figures; reStructuredText that shows them, those of pyplot last."""
    own = drawn(block_vars["example_globals"])
    paths = []
    for figure, path in zip(own, block_vars["image_path_iterator"], strict=False):
        Path(path).write_bytes(picture_bytes(figure, "png"))
        paths.append(path)
    shown = figure_rst(paths, gallery_conf["src_dir"]) if paths else ""
    return shown + matplotlib_scraper(block, block_vars, gallery_conf)


def drawn(names: dict[str, Any]) -> list[Figure]:
    """The figures of the axes among these names that pyplot does not hold, each once."""
    figures = [one.get_figure(root=True) for one in names.values() if isinstance(one, Axes)]
    held = [pyplot.figure(number) for number in pyplot.get_fignums()]
    return [one for one in dict.fromkeys(figures) if one is not None and one not in held]
