"""The parts of a report on single features: ablation and steering over doses, and redundancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scx_core.figures.drawing.text import plain
from scx_core.figures.report import charts
from scx_core.figures.report.parts import Picture, Section, Table, cell, prefixed, three

_DOSES = {
    "ablate": "1: the features are off",
    "steer": "in maxima of each feature, added along its decoder direction",
    "set": "in maxima of each feature, at which it is held",
    "patch": "1: the features are those of the source",
}


def feature_edit_sections(answers: Sequence[Mapping[str, Any]]) -> list[Section]:
    """One section for all edits: their dose curves beside random features, and a table an edit."""
    if not answers:
        words = "Not measured (`scx evidence steer`, or Measure on the page Evidence)."
        return [Section("Ablation and steering of features", 2, (words,))]
    curves = [one for one in answers if len(one["doses"]) > 2]
    parts: list[str | Table | Picture] = []
    if curves:
        first = curves[0]
        said = (
            f"Change of the answer's log-odds in the real model over the dose, mean and 95% interval over "
            f"{first['units']}, n = {first['n']} cells that did not choose the features; grey: random "
            f"features of the "
            f"same layers and activation mass, mean and the span of {first['draws']} draws."
        )
        parts.append(Picture("feature_doses", said, lambda: charts.edits_chart(curves)))
    return [
        Section(
            "Ablation and steering of features",
            2,
            (*parts, *(_edit_table(one, k) for k, one in enumerate(answers))),
        )
    ]


def _edit_table(one: Mapping[str, Any], k: int) -> Table:
    rows = tuple(
        {
            "dose": row["dose"],
            **prefixed("change", row["effect"]["log_odds"]),
            **prefixed("called", row["effect"]["called"]),
            "random": row["random"]["log_odds"]["mean"],
            "random_low": row["random_least"],
            "random_high": row["random_most"],
            **prefixed("ahead", row["ahead"]),
            "weaker": f"{row['beyond']} of {one['draws']}",
            "q": row["q"],
        }
        for row in one["doses"]
    )
    before = one["before"]
    note = (
        f"{'; '.join(map(_feature, one['features']))}, together, at {plain(one['where'], 20)} tokens of "
        f"{one['n']} cells; chosen in other cells of the type, drawn for this question alone. Dose: "
        f"{_DOSES.get(one['mode'], '')}. Untouched: log-odds {before['log_odds']['mean']:.2f}, called "
        f"{plain(one['answer'], 40)} in {before['called']['mean']:.0%}. Random: mean [least, most of the "
        f"draws]."
    )
    columns = (
        ("dose", ("dose",)),
        ("change of log-odds, nats", three("change")),
        ("share called", three("called")),
        ("random features", three("random")),
        ("beyond random", three("ahead")),
        ("random weaker", ("weaker",)),
        ("q", ("q",)),
    )
    source = f" from {plain(one['source'], 40)}" if one.get("source") and one["mode"] == "patch" else ""
    name = f"edit_{one['mode']}" + (f"_{k + 1}" if k else "")
    return Table(name, f"{one['mode'].capitalize()}{source}", note, columns, rows)


def _feature(one: Mapping[str, Any]) -> str:
    name = f" {plain(one['name'], 40)}" if one["name"] else ""
    return f"L{one['layer']}·{one['feature']}{name}"


def redundancy_sections(answers: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Joint beside the sum of single ablations, and what takes over; of the newest answer."""
    if not answers:
        words = "Not measured (`scx evidence redundancy`, or Measure on the page Evidence)."
        return [Section("Redundancy", 2, (words,))]
    one = answers[0]
    rows = tuple(
        {
            "taken": f"{len(table['names'])} {name}",
            **prefixed("total", table["total"]),
            **prefixed("joint", table["joint"]),
            **prefixed("gap", table["gap"]),
            "p": table["p"],
            "q": table["q"],
        }
        for name, table in one["tables"].items()
    )
    columns = (
        ("taken away", ("taken",)),
        ("sum of singles", three("total")),
        ("all together", three("joint")),
        ("joint less sum", three("gap")),
        ("q", ("q",)),
    )
    note = (
        f"Log-odds lost in the real model, nats [95% over {one['units']}], {one['n']} cells. Joint above the "
        "sum: they stand in for each other; below: their effects saturate. Random features have the same "
        "layers and activation, random genes the same ranks."
    )
    table = Table("redundancy", "Joint next to the sum of single ablations", note, columns, rows)
    singles = tuple(
        {"of": name, "taken": plain(alone, 60), **prefixed("lost", single)}
        for name in ("features", "genes")
        for alone, single in zip(one["tables"][name]["names"], one["tables"][name]["singles"], strict=True)
    )
    alone = Table(
        "redundancy_alone",
        "Each alone",
        "Log-odds lost, nats [95%].",
        (("of", ("of",)), ("taken away", ("taken",)), ("lost", three("lost"))),
        singles,
    )
    spans = {name: _span(one[name]) for name in ("takeover", "random", "ahead")}
    words = (
        f"What takes over: the {len(one['risen'])} features of later layers that rise most when the "
        f"strongest "
        f"are off (chosen in other cells) carry {spans['takeover']} nats more than before, after "
        f"{one['draws']} "
        f"matched random groups {spans['random']}; ahead {spans['ahead']}, p {one['p']:.2g}."
    )
    return [Section("Redundancy", 2, (table, alone, words))]


def _span(found: Mapping[str, float]) -> str:
    return cell(prefixed("x", found), three("x"))
