"""The comparison of studies as tables of plain text or Markdown, from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.evidence.rankings.rankings import markdown, plain
from scx_core.evidence.studies.top_overlap import ALL_NAMES, LIKE_NAMES

Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def transfer_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx evidence transfer` says."""
    table = markdown if as_markdown else plain
    home = result["accuracy"][0]["study"]
    parts = [
        f"A model trained on {home} (its test cells in the first line), on studies that it never saw:",
        table(*_accuracy_rows(result)),
        "Strongest names of two studies in common, and what permutations give (over all names that "
        "both hold, "
        "and over names of the same level); p one-sided:",
        table(*_overlap_rows(result)),
        f"Transcoders trained on {home} on other studies' cells, beside some that were trained there:",
        table(*_fit_rows(result)),
        "Features whose mean activation is told by study, donor or condition within the same cell type:",
        table(*_told_rows(result)),
    ]
    if result["without"]:
        held = len(result["told"][0]["features"])
        parts += [
            f"Answers of the replaced model, with the {held} features that tell the study most held at their "
            "mean over training cells, and with random features of the same layers and activation held:",
            table(*_without_rows(result)),
        ]
    return "\n\n".join(parts)


def _span(interval: Mapping[str, float]) -> str:
    return f"[{interval['low']:.3f}, {interval['high']:.3f}]"


def _accuracy_rows(result: Mapping[str, Any]) -> Rows:
    rows: list[tuple[str, ...]] = []
    for one in result["accuracy"]:
        orders = f"{min(one['orders']):.3f} to {max(one['orders']):.3f}"
        recall = ", ".join(f"{label} {value:.2f}" for label, value in one["recall"].items())
        rows.append(
            (
                one["study"],
                str(one["n"]),
                f"{one['accuracy']:.3f} {_span(one['interval'])}",
                f"{one['balanced']:.3f} {_span(one['balanced_interval'])}",
                orders,
                f"{one['logistic']:.3f} / {one['logistic_balanced']:.3f}",
                f"{one['logistic_all']:.3f} / {one['logistic_all_balanced']:.3f}",
                f"{one['ahead']:+.3f} {_span(one['ahead_interval'])}".replace("-", "−"),
                recall,
            )
        )
    header = ("study", "n", "accuracy", "balanced", "single tie orders", "logistic, the model's genes")
    return (*header, "logistic, all shared genes", "model less logistic (all)", "recall by type"), rows


def _overlap_rows(result: Mapping[str, Any]) -> Rows:
    rows: list[tuple[str, ...]] = []
    for one in result["overlaps"]:
        if one["what"] == "genes of other types":
            continue
        others = [
            other["shared"]
            for other in result["overlaps"]
            if other["what"] == "genes of other types"
            and (other["first"], other["second"]) == (one["first"], one["second"])
            and other["label"].startswith(f"{one['label']} and ")
        ]
        control = f"{sum(others) / len(others):.1f}" if others and one["what"] == "genes" else "–"
        nulls = [f"{one['expected'][null]:.1f} (p {one['p'][null]:.2g})" for null in (ALL_NAMES, LIKE_NAMES)]
        rows.append(
            (
                one["label"],
                one["what"],
                f"{one['first']}, {one['second']}",
                f"{one['shared']} of {one['top']}",
                *nulls,
                control,
            )
        )
    return (
        "type",
        "what",
        "studies",
        "shared",
        f"null: {ALL_NAMES}",
        f"null: {LIKE_NAMES}",
        "other types",
    ), rows


def _fit_rows(result: Mapping[str, Any]) -> Rows:
    rows: list[tuple[str, ...]] = [
        (
            str(one["study"]),
            str(one["whose"]),
            str(one["n"]),
            f"{one['fvu']:.3f}",
            f"{one['ce_recovered']:.4f} {_span(one['ce_interval'])}",
            f"{one['agreement']:.3f} {_span(one['agreement_interval'])}",
            f"{one['l0']:.1f}",
        )
        for one in result["fits"]
    ]
    return ("cells of", "set trained on", "cells", "FVU", "CE recovered", "label agreement", "L0"), rows


def _told_rows(result: Mapping[str, Any]) -> Rows:
    rows: list[tuple[str, ...]] = [
        (
            str(one["grouping"]),
            str(one["n"]),
            f"{one['called']} of {one['tested']}",
            str(one["strong"]),
            f"{one['median']:.3f}",
            f"{one['top']:.3f}",
            f"{one['null_top']:.3f}",
            f"{one['genes_top']:.3f}",
        )
        for one in result["told"]
    ]
    header = ("grouping", "cells", "features with q < 0.05", "η² ≥ 0.25", "median η²", "95% of η²")
    return (*header, "95%, permuted", "95%, genes"), rows


def _without_rows(result: Mapping[str, Any]) -> Rows:
    rows: list[tuple[str, ...]] = []
    for one in result["without"]:
        shares = [f"{one[key]['share']:.3f} {_span(one[key])}" for key in ("right", "without")]
        drawn = f"{min(one['random']):.3f} to {max(one['random']):.3f}"
        rows.append((one["study"], str(one["n"]), *shares, drawn))
    return ("study", "n", "all features", "told features held", "random features held"), rows
