"""Tables of measured perturbations, in plain text or Markdown, from the JSON of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.evidence.biology.agreement import COEXPRESSION, IN_SILICO, MATCHED, MEAN, OTHERS, WORDS
from scx_core.evidence.rankings.rankings import markdown, plain

STRONGEST = 5  # genes of a target that are listed
GENE_ROWS = 12  # rows of genes that are printed


def number(value: float | None, digits: int = 2) -> str:
    """ "−0.12"; a dash for what is undefined."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def spanned(found: Mapping[str, Any] | None, key: str = "mean", digits: int = 2) -> str:
    """ "0.12 [0.05, 0.20]"; a dash for what is undefined."""
    if found is None or found[key] is None:
        return "–"
    low, high = (number(found[name], digits) for name in ("low", "high"))
    return number(found[key], digits) + ("" if found["low"] is None else f" [{low}, {high}]")


def perturbation_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx evidence perturbations` says."""
    table = markdown if as_markdown else plain
    settings = result["provenance"]["config"]["perturbations"]
    read = (
        "that the model never read" if result["never_read"] else "(whether the model read them is not known)"
    )
    parts = [
        f"Measured: mean log-normalised change against {result['n_control']} control cells "
        f"({result['n_genes']} genes). In silico: the target is taken out of up to {settings['cells']} "
        f"control cells {read}, and the log-probability of each gene as the next one is read at "
        f"{settings['places']} places behind it (nats, without less with the target). Own gene left out. "
        "[95% intervals: own gene Welch; Spearman over genes]",
        table(*_target_rows(result)),
        *_weak_lines(result),
        table(*_pool_rows(result)),
        *(_pool_words(pool) for pool in result["pools"]),
        "Genes whose measured change is most certain, with the in-silico change (clear targets only):",
        table(*_gene_rows(result)),
    ]
    return "\n\n".join(part for part in parts if part)


def _target_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header: tuple[str, ...] = (
        "target",
        "cells",
        "own gene left",
        "own change",
        "others changed",
        "reliability",
        "read in",
    )
    header = (
        *header,
        "genes",
        "in silico ρ",
        "rank-matched ρ",
        "co-expression ρ",
        "mean expression ρ",
        "other targets ρ",
        "signs",
    )
    rows: list[tuple[str, ...]] = []
    for one in result["targets"]:
        by = one["agreement"]
        rho = [spanned(by.get(name), "spearman") for name in (IN_SILICO, MATCHED, COEXPRESSION, MEAN, OTHERS)]
        signs = f"{by[IN_SILICO]['same']}/{by[IN_SILICO]['signs']}" if by else "–"
        figures = (number(one["left"]), spanned(one["own"]), str(one["changed"]), number(one["reliability"]))
        rows.append(
            (one["target"], str(one["n"]), *figures, str(one["held"]), str(one["n_read"]), *rho, signs)
        )
    return header, rows


def _weak_lines(result: Mapping[str, Any]) -> list[str]:
    lines = [f"- {one['target']}: {'; '.join(one['weak'])}" for one in result["targets"] if one["weak"]]
    return ["Too weak to say much:\n" + "\n".join(lines)] if lines else []


def _pool_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header: tuple[str, ...] = (
        "targets",
        "predictor",
        "mean ρ",
        "in silico less it",
        "signs right",
        "p, shuffled",
        "chance (95%)",
    )
    rows: list[tuple[str, ...]] = []
    for pool in result["pools"]:
        for one in pool["rows"]:
            share = one["same"] / one["signs"] if one["signs"] else None
            sign = {"mean": share, "low": one["sign_low"], "high": one["sign_high"]}
            signs = f"{one['same']}/{one['signs']} = {spanned(sign)}" if one["signs"] else "–"
            p = number(one["p"], 4)
            row = (spanned(one["mean"]), spanned(one["behind"]), signs, p, number(one["chance"]))
            rows.append((f"{len(pool['targets'])}: {pool['name']}", WORDS[one["predictor"]], *row))
    return header, rows


def _pool_words(pool: Mapping[str, Any]) -> str:
    """How much could have been found."""
    own = pool["rows"][0]
    if own["p"] is None:
        return ""
    verdict = "is not above" if own["p"] >= 0.05 else "is above"
    return (
        f"{len(pool['targets'])} targets ({pool['name']}): the in-silico knock-out {verdict} shuffled "
        f"targets (p = {own['p']:.4f}). Shuffles reach a mean ρ of {number(own['chance'])} in 5% of "
        "the cases, so anything below that cannot be told from chance here; a perfect prediction could "
        f"reach about {number(pool['ceiling'])}, as far as the measured changes repeat."
    )


def _gene_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    strong = [one for one in result["targets"] if not one["weak"]]
    for one in strong:
        read = [
            gene for gene in one["genes"] if gene["gene"] != one["target"] and gene["in_silico"] is not None
        ]
        for gene in [gene for gene in read if gene["q"] < 0.05][:STRONGEST]:
            silico = {"mean": gene["in_silico"], "low": gene["in_silico_low"], "high": gene["in_silico_high"]}
            measured = {"mean": gene["measured"], "low": gene["low"], "high": gene["high"]}
            spans = (spanned(measured), f"{gene['q']:.1e}", spanned(silico, digits=3), str(gene["cells"]))
            rows.append((one["target"], gene["gene"], *spans))
    header: tuple[str, ...] = ("target", "gene", "measured", "q", "in silico, nats", "cells")
    return header, sorted(rows, key=lambda row: float(row[3]))[:GENE_ROWS]
