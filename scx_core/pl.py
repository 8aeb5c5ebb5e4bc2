"""Plots in a notebook, in scanpy's manner: circuits, genes, sentences, features, training runs.

Figures are matplotlib axes, in scanpy's manner: `ax` draws into axes of one's own, `save` writes a file,
`show` says whether a notebook shows the figure at once (by default where neither of the two is given);
without a notebook nothing is shown. Pages are `Html`, a str that a notebook shows. All draw
what `scx export` writes.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core import figures
from scx_core.circuits import Circuit
from scx_core.display import in_notebook
from scx_core.errors import ScxError
from scx_core.figures import View, markers_of
from scx_core.figures.drawing.pen import PICTURE_FORMATS, picture_bytes
from scx_core.runs.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scx_core.atlas import Atlas
    from scx_core.circuits.difference import Difference

__all__ = ["Html", "atlas", "cell_sentence", "circuit", "circuit_page", "genes", "pair", "runs", "save"]


class Html(str):
    """A page or a part of one as text; a notebook shows it, and `str` writes it to a file."""

    __slots__ = ("height",)
    height: int | None

    def __new__(cls, text: str, height: int | None = None) -> Html:
        """`height`: pixels of the frame of a whole page; None for a part of a page."""
        made = super().__new__(cls, text)
        made.height = height
        return made

    def _repr_html_(self) -> str:
        if self.height is None:
            return str(self)
        page = html.escape(str(self), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="{self.height}" style="border:0"></iframe>'


def _finished(figure: Figure, ax: Axes | None, show: bool | None, save: str | Path | None) -> Axes:
    """Write and show a figure as it was asked for. Returns its axes."""
    if save is not None:
        kind = Path(save).suffix.lower().removeprefix(".")
        if kind not in PICTURE_FORMATS:
            known = ", ".join(f".{name}" for name in PICTURE_FORMATS)
            raise ScxError(f"{str(save)[:80]!r} is no figure that can be written.", f"Names end in {known}.")
        write_atomic(Path(save), picture_bytes(figure, kind))
    wanted = (ax is None and save is None) if show is None else show
    if wanted and in_notebook():
        from IPython.display import Image, display

        width = int(figure.get_size_inches()[0] * 110)  # pixels on the screen; the picture has 300 an inch
        display(Image(picture_bytes(figure, "png"), width=width))
    return ax if ax is not None else figure.axes[0]


def _drawing(circuit: Circuit, view: dict[str, Any]) -> figures.Drawing:
    return figures.simplify(circuit, View(**view), markers=markers_of(circuit)[0] or frozenset())


def circuit(
    circuit: Circuit,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    **view: Any,
) -> Axes:
    """Draw a circuit: genes below, features by layer, the answer on top.

    Parameters
    ----------
    circuit
        Of a cell, a type, or a difference.
    ax
        Axes to draw into (default: a figure of its own, at its size in print).
    show
        Whether a notebook shows it at once (default: where neither `ax` nor `save` is given).
    save
        File on .png, .svg or .pdf (default: none is written).
    **view
        Fields of `View`: size ("wide" or "column"), max_genes, max_features, max_edges, show_errors …

    Returns
    -------
    matplotlib.axes.Axes
        Its figure has the final size in print.

    Raises
    ------
    ScxError
        A field of `View` cannot have this value, or the file's name does not end in a format.

    References
    ----------
    docs/method.md §6: a link's width is the share of its target's input.

    Examples
    --------
    >>> import scx_core as scx
    >>> type(scx.pl.circuit(scx.tl.trace_cell("embedded", 0, nodes=32), size="column")).__name__
    'Axes'
    """
    return _finished(figures.circuit_figure(_drawing(circuit, view), ax), ax, show, save)


def circuit_page(circuit: Circuit, *, height: int = 720, **view: Any) -> Html:
    """Draw a circuit as an interactive page, with nothing loaded from elsewhere.

    Parameters
    ----------
    circuit
        Of a cell, a type, or a difference.
    height
        Pixels of the frame in a notebook.
    **view
        As for `circuit`.

    Returns
    -------
    Html
        A whole HTML document, every name escaped.

    Raises
    ------
    ScxError
        A field of `View` cannot have this value.

    References
    ----------
    vis-network, bundled with pyvis.

    Examples
    --------
    >>> import scx_core as scx
    >>> "</html>" in scx.pl.circuit_page(scx.tl.trace_cell("embedded", 0, nodes=32))
    True
    """
    return Html(figures.circuit_page(_drawing(circuit, view), height), height)


def genes(
    circuit: Circuit,
    *,
    n: int = 12,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the strongest genes as bars, what raises the score and what lowers it apart, with intervals.

    Parameters
    ----------
    circuit
        Of a cell, a type, or a difference.
    n
        Genes of each sign, at most.
    ax
        Axes to draw into (default: a figure of its own, at its size in print).
    show
        Whether a notebook shows it at once (default: where neither `ax` nor `save` is given).
    save
        File on .png, .svg or .pdf (default: none is written).

    Returns
    -------
    matplotlib.axes.Axes
        Bars in the circuit's unit (logits or nats); known markers have a star.

    Raises
    ------
    AttributeError
        It is no circuit.

    References
    ----------
    docs/method.md §8, frozen attribution.

    Examples
    --------
    >>> import scx_core as scx
    >>> type(scx.pl.genes(scx.tl.trace_cell("embedded", 0, nodes=32))).__name__
    'Axes'
    """
    markers = markers_of(circuit)[0] or frozenset()
    return _finished(figures.genes_figure(circuit, markers=markers, n=n, axes=ax), ax, show, save)


def cell_sentence(circuit: Circuit, *, max_genes: int | None = None) -> Html:
    """Colour a cell's sentence by what each gene adds to the answer.

    Parameters
    ----------
    circuit
        Of one cell; of a type, its genes stand in the order of their mean rank.
    max_genes
        Genes shown, at most (default: all).

    Returns
    -------
    Html
        A part of a page, every name escaped.

    Raises
    ------
    AttributeError
        It is no circuit.

    References
    ----------
    docs/method.md §8.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.pl.cell_sentence(scx.tl.trace_cell("embedded", 0, nodes=32), max_genes=5).startswith("<div>")
    True
    """
    markers = markers_of(circuit)[0] or frozenset()
    return Html(figures.sentence_html(circuit, markers=markers, max_genes=max_genes))


def atlas(
    atlas: Atlas,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the shares of an atlas' verdicts beside those of random directions, with intervals.

    Parameters
    ----------
    atlas
        Made with random directions (the default): without them a share says nothing.
    ax
        Axes to draw into (default: a figure of its own, at its size in print).
    show
        Whether a notebook shows it at once (default: where neither `ax` nor `save` is given).
    save
        File on .png, .svg or .pdf (default: none is written).

    Returns
    -------
    matplotlib.axes.Axes
        One row a verdict: the share of live features in points of a hundred, and the mean share of the
        random directions with their lowest and highest draw; the excess with its 95% interval in words.

    Raises
    ------
    ScxError
        The atlas has no random directions.

    References
    ----------
    docs/features.md; `scx_core.atlas.excess`.

    Examples
    --------
    >>> import scx_core as scx
    >>> made = scx.tl.atlas("embedded", n_cells=4, random=2, baseline=False, context=0)
    >>> type(scx.pl.atlas(made)).__name__
    'Axes'
    """
    return _finished(figures.excess_figure(atlas, ax), ax, show, save)


def runs(
    folder: str | Path | None = None,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw training runs as loss recovered against active features, with their Pareto front.

    Parameters
    ----------
    folder
        Folder of runs (default: $SCX_RUNS, else runs/).
    ax
        Axes to draw into (default: a figure of its own, at its size in print).
    show
        Whether a notebook shows it at once (default: where neither `ax` nor `save` is given).
    save
        File on .png, .svg or .pdf (default: none is written).

    Returns
    -------
    matplotlib.axes.Axes
        One point a training: L0 (active features a token) and CE recovered, by kind of gate.

    Raises
    ------
    ScxError
        There is no training of transcoders.

    References
    ----------
    docs/method.md §3.

    Examples
    --------
    >>> import scx_core as scx
    >>> few = dict(steps=1, cells_per_batch=2, expansion=2, split_by="random", held_out=0.01, choose=0.0)
    >>> _ = scx.tl.train_transcoders(preset="quick", out="of_mine", calibration_cells=2, **few)
    >>> type(scx.pl.runs("of_mine")).__name__
    'Axes'
    """
    from scx_core.runs import list_runs, runs_root
    from scx_core.validation import compare_runs, comparison_provenance, trainings

    found = trainings(list_runs(Path(folder) if folder is not None else runs_root()))
    figure = figures.pareto_figure(compare_runs(found), comparison_provenance(found), ax)
    return _finished(figure, ax, show, save)


def pair(
    difference: Difference,
    *,
    least: float = 0.0,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the circuits of two types beside each other, each box at one place in both, on one scale.

    Parameters
    ----------
    difference
        Of two types, as `scx.tl.difference` gives it.
    least
        Leave out what differs by less than this share of the largest difference of two effects.
    ax
        Axes to draw into (default: a figure of its own, at its size in print).
    show
        Whether a notebook shows it at once (default: where neither `ax` nor `save` is given).
    save
        File on .png, .svg or .pdf (default: none is written).

    Returns
    -------
    matplotlib.axes.Axes
        Two panels over a double column, with their caption.

    Raises
    ------
    AttributeError
        It is no difference.

    References
    ----------
    docs/method.md §8.

    Examples
    --------
    >>> import scx_core as scx
    >>> found = scx.tl.difference("embedded", "CD19+ B", "Dendritic", n_cells=2)
    >>> type(scx.pl.pair(found)).__name__
    'Axes'
    """
    from scx_core.figures.pair import pair_figure

    markers = markers_of(difference.first)[0] or frozenset()
    figure = pair_figure(difference, least=least, markers=markers, axes=ax)
    return _finished(figure, ax, show, save)


def save(circuit: Circuit, where: str | Path, formats: Iterable[str] = figures.DEFAULT_FORMATS) -> list[Path]:
    """Write a circuit as figures, tables and graph files.

    Parameters
    ----------
    circuit
        Of a cell, a type, or a difference.
    where
        Folder, or a file name that ends in one of the formats.
    formats
        Among `scx_core.figures.FORMATS`: png, svg, pdf, html, json, csv, graphml …

    Returns
    -------
    list of pathlib.Path
        The files, in the order written.

    Raises
    ------
    ScxError
        There is no such format, or the place cannot be written to.

    References
    ----------
    docs/circuit-json.md for the JSON.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.pl.save(scx.tl.trace_cell("embedded", 0, nodes=32), "circuit.json")[0].name
    'circuit.json'
    """
    return figures.export(circuit, where, formats, markers=markers_of(circuit)[0])
