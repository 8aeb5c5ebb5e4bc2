"""The tables of `scx evidence rivals` and the sentences on who wins what, from its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from scx_core.evidence.rankings.rankings import TableRows, markdown, plain, span
from scx_core.evidence.rivals.rivals import GRADIENT, WORDS
from scx_core.evidence.rivals.stand_ins import SAE, TRANSCODERS


def rival_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx evidence rivals` says."""
    table = markdown if as_markdown else plain
    cfg = result["provenance"]["config"]["rivals"]
    parts = [
        "The sets as wholes: stand-ins for all MLPs on test cells, and the share of live features that the "
        "atlas' protocol says are about a gene, family, set, type or context.",
        table(*set_rows(result)),
        f"Fewest features that keep {cfg['wanted']:.0%} of the answer: 0 is the target with every MLP's "
        "output at its mean, 1 the real model's. In brackets the share that they keep in unseen cells [95%]. "
        "–: no set keeps so much (the best that was found). Behind it: what is kept without any feature. "
        "Faint: from 0 to 1 is so little that a share of it says little.",
        table(*size_rows(result)),
        "Rank correlation of frozen attribution with measured knock-outs, within unseen cells, mean [95%]: "
        "the name replaced by a neutral gene's (gap). + and −: certainly better or worse than the "
        "transcoders (paired sign flips, q < 0.05 over the whole table).",
        table(*agreement_rows(result, "gap")),
        "The same with the gene taken out and the next ones moved up (text):",
        table(*agreement_rows(result, "text")),
        f"Known markers among the {cfg['genes']} strongest genes, their share [95%, Wilson]; by chance: the "
        "share of markers among the genes of the ranked sentences.",
        table(*marker_rows(result)),
        "\n".join(("- " if as_markdown else "") + line for line in sentences(result)),
    ]
    if SAE not in _names(result):
        parts.append("SAEs were not given, so they are not compared: --sae FOLDER.")
    return "\n\n".join(parts)


def _names(result: Mapping[str, Any]) -> list[str]:
    """Sets in their order."""
    return [one["name"] for one in result["types"][0]["sets"]]


def _by_type(
    result: Mapping[str, Any], first: Sequence[str], cell: Callable[[Mapping[str, Any]], str], skip: str = ""
) -> list[tuple[str, ...]]:
    rows = []
    for held in result["types"]:
        lead = [str(held[key]) if held[key] is not None else "–" for key in first]
        rows.append((*lead, *(cell(one) for one in held["sets"] if one["name"] != skip)))
    return rows


def set_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a set."""
    header = (
        "features",
        "a layer",
        "active",
        "CE recovered",
        "KL",
        "labels kept",
        "n",
        "with a meaning",
        "n live",
    )
    rows: list[tuple[str, ...]] = []
    for one in result["sets"]:
        meant = one["meaningful"]
        rows.append(
            (
                WORDS[one["name"]],
                str(one["n_features"] or "–"),
                f"{one['l0']:.0f}" if one["n_features"] else "–",
                span(one["ce_recovered"], 3),
                span(one["kl"], 3),
                span(one["agreement"], 3),
                str(one["n_test"]),
                span(meant, 3) if meant else "–",
                str(one["n_live"]) if meant else "–",
            )
        )
    return header, rows


def size_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type: sizes of every set at equal sufficiency."""
    names = [name for name in _names(result) if name != GRADIENT]

    def cell(one: Mapping[str, Any]) -> str:
        found = one["sufficient"]
        size = "–" if found["size"] is None else str(found["size"])
        alone = f"{found['alone']['mean']:.2f}".replace("-", "−")
        return f"{size} ({span(found['share'])}); {alone}"

    header = ("type", "n", "target, from 0 to 1", *(WORDS[name] for name in names))
    rows = _by_type(result, ("label", "n_unseen"), cell, skip=GRADIENT)
    scales = [_scale_words(held) for held in result["types"]]
    return header, [(*row[:2], scale, *row[2:]) for row, scale in zip(rows, scales, strict=True)]


def _scale_words(held: Mapping[str, Any]) -> str:
    """ "1.20 to 5.43 nats", and whether that is so little that a share of it says little."""
    ends = f"{held['empty']:.2f} to {held['full']:.2f} {held['unit']}".replace("-", "−")
    return f"{ends}, faint" if held["faint"] else ends


def agreement_rows(result: Mapping[str, Any], way: str) -> TableRows:
    """One row a type: rank correlation with measured knock-outs."""
    signs = {TRANSCODERS: " −", "rival": " +", "same": ""} if way == "gap" else {}
    header = ("type", "n", *(WORDS[name] for name in _names(result)))
    return header, _by_type(
        result, ("label", "n_knocked"), lambda one: span(one[way]) + signs.get(one["verdict"], "")
    )


def marker_rows(result: Mapping[str, Any]) -> TableRows:
    """One row a type: markers among the strongest genes."""

    def cell(one: Mapping[str, Any]) -> str:
        if one["markers"] is None:
            return "–"
        low, high = one["marker_share"].values()
        return f"{one['markers']} [{low:.2f}, {high:.2f}]"

    header = ("type", "listed", "by chance", *(WORDS[name] for name in _names(result)))
    rows = _by_type(result, ("label", "listed", "chance"), cell)
    return header, [(row[0], row[1], row[2][:4], *row[3:]) for row in rows]


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Who wins what, each rival against the transcoders, and by how much."""
    out = []
    for name in _names(result):
        if name == TRANSCODERS:
            continue
        parts = [_knockout_words(result, name), _marker_words(result, name)]
        if name != GRADIENT:
            parts = [_size_words(result, name), *parts, *_set_words(result, name)]
        out.append(f"{WORDS[name]}: {'; '.join(part for part in parts if part)}")
    return out


def _pairs(result: Mapping[str, Any], name: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The transcoders' figures and a rival's, type by type."""
    by = [{one["name"]: one for one in held["sets"]} for held in result["types"]]
    return [(held[TRANSCODERS], held[name]) for held in by]


def _size_words(result: Mapping[str, Any], name: str) -> str:
    told = [not held["faint"] for held in result["types"]]
    pairs = [
        (own["sufficient"]["size"], one["sufficient"]["size"])
        for (own, one), kept in zip(_pairs(result, name), told, strict=True)
        if kept
    ]
    if not pairs:
        return "sizes say nothing: the MLPs' outputs add too little to the targets"
    fewer = sum(own is not None and (size is None or size > own) for own, size in pairs)
    more = sum(size is not None and (own is None or size < own) for own, size in pairs)
    never = sum(size is None for _, size in pairs)
    words = (
        f"transcoders need fewer features in {fewer} of {len(pairs)} types that are not faint, more in {more}"
    )
    ratios = [size / own for own, size in pairs if own and size]
    if ratios:
        words += f" (in the median {median(ratios):.1f} times as many for {WORDS[name]})"
    return words + (f"; it never keeps enough in {never}" if never else "")


def _knockout_words(result: Mapping[str, Any], name: str) -> str:
    verdicts = [one["verdict"] for _, one in _pairs(result, name)]
    ahead, behind = verdicts.count(TRANSCODERS), verdicts.count("rival")
    return (
        f"transcoders predict knock-outs certainly better in {ahead} of {len(verdicts)} types, worse in "
        f"{behind}, no certain difference in {len(verdicts) - ahead - behind}"
    )


def _marker_words(result: Mapping[str, Any], name: str) -> str:
    pairs = [
        (own["markers"], one["markers"]) for own, one in _pairs(result, name) if one["markers"] is not None
    ]
    if not pairs:
        return ""
    return (
        f"markers {sum(own for own, _ in pairs)} of the transcoders against {sum(one for _, one in pairs)} "
        f"in all, more in {sum(own > one for own, one in pairs)} types, fewer in "
        f"{sum(own < one for own, one in pairs)}"
    )


def _set_words(result: Mapping[str, Any], name: str) -> list[str]:
    by = {one["name"]: one for one in result["sets"]}
    own, one = by[TRANSCODERS], by[name]
    words = [_apart("CE recovered", own["ce_recovered"], one["ce_recovered"], 3)]
    if one["meaningful"] and own["meaningful"]:
        words.append(_apart("features with a meaning", own["meaningful"], one["meaningful"], 3))
    return words


def _apart(what: str, own: Mapping[str, float], one: Mapping[str, float], digits: int) -> str:
    """Two figures with intervals, and whether these are apart."""
    word = "transcoders ahead" if own["low"] > one["high"] else "no certain difference"
    word = "transcoders behind" if own["high"] < one["low"] else word
    return f"{what} {own['mean']:.{digits}f} against {one['mean']:.{digits}f} ({word})"
