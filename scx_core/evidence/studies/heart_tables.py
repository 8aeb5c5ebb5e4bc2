"""The heart study as tables of plain text or Markdown, from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.evidence.rankings.rankings import markdown, plain, span


def heart_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx evidence heart` says."""
    table, accuracy = markdown if as_markdown else plain, result["accuracy"]
    parts = [
        "SIMULATED cells, drawn from mean profiles: what follows is true of a small model of such cells. The "
        f"model names {share(accuracy)} of fresh simulated cells rightly.",
    ]
    for contrast in result["contrasts"]:
        parts += [f"Endothelial against {contrast['name']}, strongest genes of the consensus:"]
        parts += [table(*_gene_rows(contrast["consensus"]))]
        parts += ["Rankings of the same contrast (place among genes with a positive score):"]
        parts += [table(*_ranking_rows(contrast))]
    parts += ["One gene taken out of the cells that hold it, less genes of its rank (unit of the target):"]
    parts += [table(*_knockout_rows(result))]
    parts += ["PTPRB in simulated endothelial cells:", table(*_sweep_rows(result))]
    if result["pools"]:
        parts += ["REAL pools of nuclei, which the model never saw:", table(*_pool_rows(result))]
        parts += ["Places in the consensus of the real endothelial pools:", table(*_real_rows(result))]
    return "\n\n".join(parts)


def share(found: Mapping[str, Any]) -> str:
    """ "0.958 [0.94, 0.97] of 576"."""
    figure = found["share"] if "share" in found else found["accuracy"]
    return f"{figure:.3f} [{found['low']:.2f}, {found['high']:.2f}] of {found['n']}"


def place(gene: Mapping[str, Any]) -> str:
    """ "2 [1, 4]"."""
    return f"{gene['place']} [{gene['place_low']}, {gene['place_high']}]"


def _gene_rows(found: Mapping[str, Any], most: int = 12) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from scx_core.evidence.studies.heart import GENES

    rows: list[tuple[str, ...]] = [
        (str(one["gene"]), place(one), span(one["effect"]), f"{one['held']:.2f}", f"{one['rank']:.0f}")
        for k, one in enumerate(found["genes"])
        if k < most or one["gene"] in GENES
    ]
    return ("gene", "place", "mean effect", "share of sentences", "rank in them"), rows


def _ranking_rows(contrast: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows = []
    for one in contrast["rankings"]:
        at = [str(one["places"][gene] or "–") for gene in one["places"]]
        rows.append((one["words"], *at, str(len(one["markers"])), ", ".join(one["top"])))
    return ("ranking", *contrast["rankings"][0]["places"], "markers in 12", "twelve strongest"), rows


def _knockout_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows = []
    for one in result["knockouts"]:
        means = [span(one[key]) if one[key] else "–" for key in ("lost", "matched", "ahead")]
        q = "–" if one["q"] is None else f"{one['q']:.2g}"
        rows.append(
            (one["gene"], one["contrast"], one["way"], str(one["n"]), f"{one['rank']:.0f}", *means, q)
        )
    return ("gene", "against", "way", "cells", "rank", "lost", "matched genes", "difference", "q"), rows


def _sweep_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows = []
    for one in result["sweep"]:
        held = f"{one['held']} of {one['n']}"
        means = [span(one[key]) if one[key] else "–" for key in ("effect", "knockout")]
        rows.append((f"{one['value']} {one['what']}", held, f"{one['rank']:.0f}", *means))
    return ("setting", "cells that hold it", "rank", "frozen attribution", "knock-out, gap"), rows


def _pool_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows = []
    for one in result["pools"]:
        types = [f"{k['right']} of {k['n']}" for k in one["of_type"].values()]
        p = "–" if one["p"] is None else f"{one['p']:.2g}"
        rows.append((one["name"], share(one), *types, p))
    return ("who", "right", *result["pools"][0]["of_type"], "p against the model"), rows


def _real_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from scx_core.evidence.studies.heart import GENES

    rows = []
    for name, found in result["real"].items():
        by = {one["gene"]: one for one in found["genes"]}
        at = [place(by[gene]) if gene in by else "in no sentence" for gene in GENES]
        rows.append((name, *at, ", ".join(one["gene"] for one in found["genes"][:12])))
    return ("against", *GENES, "twelve strongest"), rows
