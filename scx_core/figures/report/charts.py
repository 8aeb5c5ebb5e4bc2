"""The charts of a report, each from plain rows: means with intervals, the rival always beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scx_core.figures.drawing import colours
from scx_core.figures.drawing.text import plain

MM = 1 / 25.4
SIZE = 7.5  # points
_LINES = {
    "circuit": (colours.WARM, "-", "o"),
    "gradient": (colours.COOL, "-", "s"),
    "t-test": ("#4B8B5A", "-", "^"),
    "random": (colours.BIAS_GREY, "--", "D"),
}


def drops_chart(rows: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> Figure:
    """Joint knock-outs: one line a ranking, mean and 95% interval; + and − as in the table."""
    figure, (axes,) = _figure(1, 64 + 2.2 * len(rows))
    order = sorted(rows, key=lambda row: row["drop"]["mean"])
    for y, row in enumerate(order):
        colour = colours.WARM if row["name"] == "circuit" else colours.MUTED
        drop = row["drop"]
        axes.plot([drop["low"], drop["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot([drop["mean"]], [y], "o", color=colour, markersize=4.5)
    axes.set_yticks(range(len(order)), [plain(words[row["name"]], 40) for row in order])
    for label, row in zip(axes.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if row["name"] == "circuit" else "normal")
    axes.axvline(0, color=colours.INK, linewidth=0.8)
    axes.set_xlabel("log-odds of the answer lost without the genes, nats")
    return figure


def dose_chart(rows: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> Figure:
    """What is lost with ever more genes taken out; band: 95% interval of the circuit and of random genes."""
    figure, (axes,) = _figure(1, 62)
    for name, (colour, line, mark) in _LINES.items():
        own = [row for row in rows if row["ranking"] == name]
        if not own:
            continue
        sizes, mean, low, high = (
            np.array([row[key] for row in own]) for key in ("size", "mean", "low", "high")
        )
        axes.plot(
            sizes, mean, line, marker=mark, color=colour, markersize=3.5, linewidth=1.3, label=words[name]
        )
        axes.fill_between(sizes, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.set_xlabel("genes taken out together, strongest first")
    axes.set_ylabel("log-odds lost, nats")
    axes.set_xticks(sorted({row["size"] for row in rows}))
    axes.axhline(0, color=colours.INK, linewidth=0.8)
    axes.legend(frameon=False, fontsize=SIZE)
    return figure


def curves_chart(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Sufficiency and necessity over circuit size (mean reference), beside matched random features: their
    mean and the span of all draws."""
    shown = [one for one in curves if one["reference"] == "mean"]
    figure, axes = _figure(len(shown), 62)
    for part, one in zip(axes, shown, strict=True):
        points = one["points"]
        size, share, low, high = (np.array([p[k] for p in points]) for k in ("size", "share", "low", "high"))
        part.plot(size, share, "-o", color=colours.WARM, markersize=3.5, linewidth=1.4, label="circuit")
        part.fill_between(size, low, high, color=colours.WARM, alpha=0.15, linewidth=0)
        random, least, most = (
            np.array([p[k] for p in points]) for k in ("random", "random_least", "random_most")
        )
        part.plot(
            size, random, "--D", color=colours.BIAS_GREY, markersize=3, linewidth=1.2, label="matched random"
        )
        part.fill_between(size, least, most, color=colours.BIAS_GREY, alpha=0.2, linewidth=0)
        part.set_xscale("log")
        ticks = size if len(size) <= 6 else size[::2]
        part.set_xticks(ticks, [str(int(k)) for k in ticks])
        part.minorticks_off()
        part.axhline(0, color=colours.INK, linewidth=0.8)
        own, chance = (round(one[key]["mean"], 2) + 0.0 for key in ("area", "random"))
        title = f"{one['way']}: area {own:.2f}, random {chance:.2f}"
        part.set_title(title, fontsize=SIZE + 0.5, loc="left")
        part.set_xlabel("features of the circuit, by influence")
        part.set_ylabel("share kept alone" if one["way"] == "sufficiency" else "share lost without")
        part.legend(frameon=False, fontsize=SIZE)
    return figure


def edits_chart(answers: Sequence[Mapping[str, Any]]) -> Figure:
    """Dose curves of edits of features: change of the log-odds with its band, beside random features."""
    figure, axes = _figure(len(answers[:3]), 62)
    for part, one in zip(axes, answers, strict=False):
        doses = one["doses"]
        dose = np.array([row["dose"] for row in doses])
        mean, low, high = (
            np.array([row["effect"]["log_odds"][key] for row in doses]) for key in ("mean", "low", "high")
        )
        part.plot(dose, mean, "-o", color=colours.WARM, markersize=3.5, linewidth=1.4, label="features")
        part.fill_between(dose, low, high, color=colours.WARM, alpha=0.15, linewidth=0)
        random = np.array([row["random"]["log_odds"]["mean"] for row in doses])
        least, most = (np.array([row[key] for row in doses]) for key in ("random_least", "random_most"))
        grey = colours.BIAS_GREY
        part.plot(dose, random, "--D", color=grey, markersize=3, linewidth=1.2, label="random features")
        part.fill_between(dose, least, most, color=grey, alpha=0.2, linewidth=0)
        part.axhline(0, color=colours.INK, linewidth=0.8)
        part.set_title(one["mode"], fontsize=SIZE + 0.5, loc="left")
        part.set_xlabel("dose, maxima of each feature" if one["mode"] in ("steer", "set") else "dose")
        part.set_ylabel("change of log-odds, nats")
        part.legend(frameon=False, fontsize=SIZE)
    return figure


def _figure(n: int, height_mm: float) -> tuple[Figure, list[Axes]]:
    """A figure of the width of a page, with n axes side by side."""
    figure = Figure(figsize=(180 * MM, height_mm * MM), facecolor=colours.PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, n, i + 1) for i in range(n)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=SIZE)
        one.xaxis.label.set_fontsize(SIZE)
        one.yaxis.label.set_fontsize(SIZE)
    return figure, axes
