"""The tables of `scx evidence types`, from its JSON, in plain text or Markdown; report and page read them
too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.evidence.by_type.steadiness import STABILITY, varied
from scx_core.evidence.rankings.rankings import (
    SHORT,
    TableRows,
    drop_rows,
    markdown,
    plain,
    span,
    verdict_line,
)

RIVALS = tuple(name for name in SHORT if name != "circuit")


def evidence_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx evidence types` says."""
    table = markdown if as_markdown else plain
    cfg = result["provenance"]["config"]["types"]
    rankings = {"types": [one["rankings"] for one in result["types"]]}
    left = ", ".join(f"{name} ({n} cells)" for name, n in result["left_out"].items())
    parts = [
        "How far up the ladder of claims each circuit got; y: reached, no: not reached, –: not tested.",
        table(*ladder_rows(result)),
        "Joint knock-out: what the real model loses of the answer's log-odds (nats) without the "
        f"{cfg['genes']} strongest genes of each ranking, in cells that no ranking was made from [95%]. − "
        f"and "
        "+: certainly less or more than the circuit (paired sign flips, Benjamini-Hochberg over all types "
        "and "
        "rivals, q < 0.05).",
        table(*drop_rows(rankings)),
        "q of the difference from the circuit:",
        table(*q_rows(result)),
        "\n".join(("- " if as_markdown else "") + verdict_line(rankings, name) for name in RIVALS),
        "Does the circuit predict single knock-outs in unseen cells? Spearman within a cell, and the sign "
        "of the "
        "20 strongest, mean [95%]; beside gradient × input.",
        table(*prediction_rows(result)),
        *_with_rows(
            table,
            "Sufficiency and necessity: area over log2(1 + size) beside matched random features (mean "
            "reference).",
            curve_rows(result),
        ),
        "Jaccard index of the 20 strongest genes when cells, donors, ties, prompts or the transcoder set "
        "change [cells: 95% of random halves; donors: least and most; else 95% over cells]; by chance: "
        "effects dealt anew among genes that stand beside each other.",
        table(*steady_rows(result)),
        *_with_rows(table, "Known markers among the strongest genes:", marker_rows(result)),
        "What the model answers to the unseen cells:",
        table(*answer_rows(result)),
        "CPU seconds by part: " + _seconds(result),
    ]
    return "\n\n".join([*parts, f"Left out, too few cells for two halves: {left}."] if left else parts)


def _with_rows(table: Any, words: str, found: TableRows) -> list[str]:
    return [words, table(*found)] if found[1] else []


def ladder_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type: how far it got, and each level."""
    header = (
        "type",
        "got as far as",
        "1 exact",
        "2 predicts",
        "3 causes",
        "4 stable",
        "5 other study",
        "6 biology",
    )
    marks = {"reached": "y", "not reached": "no", "not tested": "–"}
    rows = [
        (
            one["label"],
            f"level {one['ladder']['got_as_far']}",
            *(marks[level["status"]] for level in one["ladder"]["levels"]),
        )
        for one in result["types"]
    ]
    return header, rows


def q_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type: q of the circuit against each rival, over the whole table."""
    rows = [
        (one["label"], *(f"{_by_name(one)[name]['q']:.2g}" for name in RIVALS)) for one in result["types"]
    ]
    return ("type", *(SHORT[name] for name in RIVALS)), rows


def prediction_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type: rank correlation and signs, of the circuit and of gradient × input."""
    header = (
        "type",
        "n",
        "circuit",
        "gradient × input",
        "difference",
        "p",
        "signs, circuit",
        "signs, gradient",
    )
    rows = []
    for one in result["types"]:
        found = one["prediction"]
        own, rival = found["circuit"], found["gradient"]
        both = [span(part["spearman"]) for part in (own, rival)]
        signs = [span(part["sign"]) for part in (own, rival)]
        rows.append((one["label"], str(found["n"]), *both, span(found["ahead"]), f"{found['p']:.2g}", *signs))
    return header, rows


def curve_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type, way and reference: areas of the circuit and of random ones; none where not measured."""
    header = ("type", "n", "features", "way", "reference", "circuit", "random", "difference", "q")
    rows = []
    for one in result["types"]:
        for curve in (one["curves"] or {"curves": []})["curves"]:
            areas = [span(curve[name]) for name in ("area", "random", "ahead")]
            n, size = str(one["curves"]["n"]), str(one["curves"]["n_circuit"])
            rows.append(
                (one["label"], n, size, curve["way"], curve["reference"], *areas, f"{curve['q']:.2g}")
            )
    return header, rows


def steady_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type: the index for each thing varied, or why it was not asked."""
    parts = []
    for one in result["types"]:
        more = [held["found"] for held in one["further"] if held["question"] == STABILITY]
        parts.append({part["what"]: part for part in varied(one["steadiness"], more)})
    kinds = list(dict.fromkeys(what for held in parts for what in held))
    rows = []
    for one, held in zip(result["types"], parts, strict=True):
        cells = []
        for what in kinds:
            part = held.get(what, {"jaccard": None, "why": "–"})
            cells.append(part["why"] if part["jaccard"] is None else span(part["jaccard"]))
        chance = max(part["chance"] for part in held.values() if part["chance"] is not None)
        rows.append((one["label"], *cells, f"{chance:.2f}"))
    return ("type", *kinds, "by chance, at most"), rows


def marker_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type with a list: markers among the strongest genes, by chance and by rankings."""
    header = (
        "type",
        "listed",
        "circuit",
        "expected",
        "q",
        "same ranks",
        "DE, t-test",
        "gradient",
        "most expressed",
    )
    rows = []
    for one in result["types"]:
        held = one["markers"]
        if held:
            counts = [str(held[name]) for name in ("differential", "gradient", "expressed")]
            chance = [f"{held['chance']:.1f}", f"{held['q']:.2g}", f"{held['random']:.1f}"]
            rows.append((one["label"], str(held["listed"]), str(held["circuit"]), *chance, *counts))
    return header, rows


def answer_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type: how often the model gives the answer, and what it says else."""
    rows: list[tuple[str, ...]] = []
    for one in result["types"]:
        held = one["answers"]
        share = span({"mean": held["share"], "low": held["low"], "high": held["high"]})
        others = [f"{name} {n}" for name, n in held["counts"].items() if name != one["answer"]]
        rows.append((one["label"], str(held["n"]), share, ", ".join(others) or "–"))
    return ("type", "n", "gives the answer", "and else"), rows


def _by_name(one: Mapping[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in one["rankings"]["rankings"]}


def _seconds(result: Mapping[str, Any]) -> str:
    sums: dict[str, float] = {}
    for one in result["types"]:
        for part, seconds in one["seconds"].items():
            sums[part] = sums.get(part, 0.0) + seconds
    total = sum(sums.values())
    return ", ".join(f"{part} {seconds:.0f}" for part, seconds in sums.items()) + f"; {total:.0f} in all"
