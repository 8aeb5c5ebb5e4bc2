"""The tables of `scx evidence curves`, in plain text or Markdown, from its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scx_core.evidence.curves import MIB_FRACTIONS, ORDERS
from scx_core.evidence.rankings.rankings import markdown, plain, span

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def area_rows(types: Sequence[Mapping[str, Any]]) -> Table:
    """Header and rows: the area of each curve, of its random circuits, and the difference."""
    header = (
        "type",
        "n",
        "features",
        "curve",
        "reference",
        "area",
        "random",
        "ahead",
        "p",
        "q",
        "draws below",
    )
    rows = []
    for held in types:
        for one in held["curves"]:
            start = (held["label"], str(held["n"]), str(held["n_circuit"]), one["way"], one["reference"])
            areas = (span(one[name]) for name in ("area", "random", "ahead"))
            q = "–" if one["q"] is None else f"{one['q']:.2g}"
            rows.append((*start, *areas, f"{one['p']:.2g}", q, f"{one['above']} of {one['draws']}"))
    return header, rows


def point_rows(types: Sequence[Mapping[str, Any]]) -> Table:
    """Header and rows: the share at every size."""
    header = ("type", "curve", "reference", "size", "share", "closeness", "random (least to most)")
    rows: list[tuple[str, ...]] = []
    for held in types:
        for one in held["curves"]:
            for p in one["points"]:
                share = span({"mean": p["share"], "low": p["low"], "high": p["high"]})
                least, most = f"{p['random_least']:.2f}", f"{p['random_most']:.2f}"
                random = f"{p['random']:.2f} ({least} to {most})".replace("-", "−")
                closeness = f"{p['closeness']:.2f}".replace("-", "−")
                rows.append(
                    (held["label"], one["way"], one["reference"], str(p["size"]), share, closeness, random)
                )
    return header, rows


def fraction_rows(types: Sequence[Mapping[str, Any]]) -> Table:
    """Header and rows: CPR and CMD of every order, and the faithfulness at some fractions."""
    header = ("type", "order", "CPR", "CMD", *(f"{fraction:g}" for fraction in MIB_FRACTIONS))
    rows = []
    for held in types:
        for one in held["fractions"]:
            shares = (f"{share:.2f}".replace("-", "−") for share in one["share"])
            rows.append((held["label"], one["order"], span(one["cpr"]), span(one["cmd"]), *shares))
    return header, rows


def curve_tables(types: Sequence[Mapping[str, Any]], as_markdown: bool = False) -> str:
    """Everything that `scx evidence curves` says."""
    table = markdown if as_markdown else plain
    about = types[0]["provenance"]
    units = "/".join(sorted({held["units"] for held in types}))
    certain = [one["certain"] for held in types for one in held["curves"]]
    faint = {
        f"{held['label']}, reference {name}": added["faint"]
        for held in types
        for name, added in held["added"].items()
        if added["faint"]
    }
    parts = [
        "Sufficiency: the share of what all features add to the target that the circuit alone keeps. "
        "Necessity: the share that is lost without the circuit alone. All other features (or the circuit's) "
        "are put to their mean over cells of other types at the same place of the prompt, or to zero. Area: "
        "mean share over log2(1 + size), up to the whole circuit. Random: features of the same layers and "
        f"activation. Measured in n cells that the circuit has not seen; [95% bootstrap-t over {units}]. "
        "p: signs turned, or t over donors; q: Benjamini-Hochberg over all curves of the table.",
        table(*area_rows(types)),
        f"The circuit is certainly ahead of random ones in {sum(certain)} of {len(certain)} curves.",
        "The curves:",
        table(*point_rows(types)),
        "CPR (higher is better) and CMD (0 is best) as MIB defines them, over the fraction of all features "
        "that is kept, others at the mean reference; faithfulness at each fraction. "
        + "; ".join(f"{name}: {words}" for name, words in ORDERS.items())
        + ".",
        table(*fraction_rows(types)),
        *(
            f"Faint in {label}: {'; '.join(reasons)}. Shares of so little say little."
            for label, reasons in faint.items()
        ),
        f"Model {about['model']['name']}, transcoders {about['transcoders']['name']}, cells "
        f"{about['data']['name']}. True of this model; of biology it says nothing.",
    ]
    return "\n\n".join(parts)
