"""Rankings as tables, in plain text or Markdown: all from the JSON of `scx rankings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scx_core.evidence.rankings.rankers import WORDS

SHORT = {
    "circuit": "circuit",
    "random": "random, rank-matched",
    "linear": "linear maps",
    "gradient": "gradient × input",
    "estimated": "estimated knock-out",
    "t-test": "DE, t-test",
    "wilcoxon": "DE, Wilcoxon",
    "expression": "most expressed",
    "logistic": "logistic × expression",
}
MARKED = ("circuit", "t-test", "wilcoxon", "expression", "gradient", "estimated", "linear", "logistic")
SIGNS = {"circuit": " −", "rival": " +", "same": ""}


def span(estimate: Mapping[str, float], digits: int = 2) -> str:
    """ "2.90 [1.99, 3.74]"."""
    mean, low, high = (f"{estimate[key]:.{digits}f}".replace("-", "−") for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def drop_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: drops of every ranking by type, with " +" where a rival is certainly ahead of the
    circuit and " −" where it is certainly behind."""
    header = ("type", "n", "log-odds before", *SHORT.values())
    rows = []
    for held in result["types"]:
        by = {one["name"]: one for one in held["rankings"]}
        cells = [span(by[name]["drop"]) + SIGNS[by[name]["verdict"]] for name in SHORT]
        rows.append((held["label"], str(held["n"]), span(held["before"]), *cells))
    return header, rows


def ahead_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: the circuit's drop less each rival's, cell by cell."""
    rivals = [name for name in SHORT if name != "circuit"]
    rows = []
    for held in result["types"]:
        by = {one["name"]: one for one in held["rankings"]}
        rows.append((held["label"], *(span(by[name]["ahead"]) for name in rivals)))
    return ("type", *(SHORT[name] for name in rivals)), rows


def marker_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: known markers among the strongest genes of every ranking."""
    rows = []
    for held in result["types"]:
        by = {one["name"]: one for one in held["rankings"]}
        counts = [_count(by[name]["n_markers"]) for name in MARKED]
        rows.append((held["label"], str(held["n_ranked"]), _count(held["listed"]), *counts))
    return ("type", "cells", "listed", *(SHORT[name] for name in MARKED)), rows


def _count(n: int | None) -> str:
    return "–" if n is None else str(n)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a name does not end its cell."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def verdict_line(result: Mapping[str, Any], rival: str) -> str:
    """ "differential expression (t-test): the circuit takes away more in 5 of 7 types, less in 1, …"."""
    said = [{one["name"]: one for one in held["rankings"]}[rival]["verdict"] for held in result["types"]]
    return (
        f"{WORDS[rival]}: the circuit's genes take away more in {said.count('circuit')} of {len(said)} "
        f"types, less in {said.count('rival')}, no certain difference in {said.count('same')}"
    )


def explanation(result: Mapping[str, Any]) -> str:
    """What the tables hold, in words."""
    n_genes = result["provenance"]["config"]["rankings"]["genes"]
    return (
        "Drop in the log-odds of the type's label (whole answers, nats) in the real model when the "
        f"{n_genes} strongest genes of a ranking are taken out of the sentence together and the next ones "
        "move up. "
        "Rankings are made on one half of each type's cells and measured in n cells of the other half; "
        f"[95% bootstrap over {'/'.join(sorted({held['units'] for held in result['types']}))}]. "
        "+ and −: certainly more or less than the circuit (paired sign flips, q < 0.05 over the whole table)."
    )


def ranking_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx rankings` says."""
    table = markdown if as_markdown else plain
    n_genes = result["provenance"]["config"]["rankings"]["genes"]
    left = ", ".join(f"{name} ({n} cells)" for name, n in result["left_out"].items())
    parts = [
        explanation(result),
        table(*drop_rows(result)),
        "The circuit's drop less the rival's, cell by cell:",
        table(*ahead_rows(result)),
        "\n".join(
            ("- " if as_markdown else "") + verdict_line(result, name) for name in SHORT if name != "circuit"
        ),
        f"Known markers among the {n_genes} strongest genes of each ranking:",
        table(*marker_rows(result)),
    ]
    return "\n\n".join([*parts, f"Left out, too few cells for two halves: {left}."] if left else parts)


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text: the first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
