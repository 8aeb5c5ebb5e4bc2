"""Tables of two conditions within a type, in plain text or Markdown, from the JSON of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.evidence.biology.conditions import RANKINGS, WORDS
from scx_core.evidence.biology.perturbation_tables import number, spanned
from scx_core.evidence.rankings.rankings import markdown, plain

KINDS = {
    "features": "features",
    "attribution": "attributions",
    "sentence": "heights in the sentence",
    "t-test": "expression",
}


def condition_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx evidence conditions` says."""
    table = markdown if as_markdown else plain
    n, first = result["n"], result["provenance"]["config"]["conditions"]["first"]
    among = len(result["in_set"])
    parts = [
        f"{result['label']} (answer: {result['answer']}): {n[0]} cells of {result['condition']} against "
        f"{n[1]} of {result['reference']}; {result['units']}.",
        "Columns that differ (q < 0.05), and between random halves of the reference:",
        table(*_told_rows(result)),
        f"The known answer, {result['set_name']}: {among} of its {result['set_size']} genes are among the "
        f"{result['candidates']} candidates, so that chance puts {first * among / result['candidates']:.1f} "
        f"of them among the first {first}.",
        table(*_known_rows(result, first)),
    ]
    if result["features"]:
        parts += ["Features that tell the conditions apart most:", table(*_feature_rows(result))]
    if result["genes"]:
        parts += ["Places of genes asked for:", table(*_gene_rows(result))]
    return "\n\n".join(parts)


def _told_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for one in result["told"]:
        null = one["null"]
        halves = "–" if null is None else f"{null['mean']:.1f} (at most {null['most']})"
        donors = "–" if one["donors"] is None else str(one["donors"])
        rows.append((KINDS[one["kind"]], str(one["tested"]), str(one["cells"]), donors, halves))
    return ("of", "tested", "differ, by cells", "differ, by donors", "random halves, mean"), rows


def _known_rows(result: Mapping[str, Any], first: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for one in result["known"]:
        null = "–"
        if one["null_mean"] is not None:
            null = f"{one['null_mean']:.2f} ({one['null_least']:.2f} to {one['null_most']:.2f})"
        hits = f"{one['hits']}/{first}"
        rows.append((WORDS[one["ranking"]], spanned(one["auroc"]), hits, null, " ".join(one["first"][:6])))
    return ("ranking", "AUROC", f"in the first {first}", "AUROC in random halves", "first six"), rows


def _feature_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for one in result["features"]:
        gap = {"mean": one["condition"] - one["reference"], "low": one["low"], "high": one["high"]}
        rows.append(
            (
                f"L{one['layer']}·{one['feature']} {one['name']}".strip(),
                number(one["reference"], 4),
                spanned(gap, digits=4),
                f"{one['q']:.1e}",
                number(one["donors_q"], 3),
                number(one["auroc"]),
                " ".join(one["genes"]),
                f"{one['share']:.0%}",
            )
        )
    header: tuple[str, ...] = (
        "feature",
        "reference",
        "change",
        "q, cells",
        "q, donors",
        "AUROC of cells",
        "reads here",
        "of the set",
    )
    return header, rows


def _gene_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for one in result["genes"]:
        places = one["places"] or {}
        cells = [str(places[name]) if name in places else "–" for name in RANKINGS]
        rows.append((one["gene"], *cells, number(one["auroc"])))
    return ("gene", *(WORDS[name] for name in RANKINGS), "AUROC of cells"), rows
