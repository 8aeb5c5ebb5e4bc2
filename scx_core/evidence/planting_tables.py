"""The scores of random plantings as tables: shares recovered exactly, by method and kind, and what was
missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import numpy as np

from scx_core.evidence.planted_truth import CountedShare
from scx_core.evidence.random_plantings import KIND_WORDS, METHODS

LEARNED = 0.97  # share of the held-out cells of a rule that its model has to call right to count as learned


def recovery_table(plantings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each method the plantings recovered exactly, k of all n, with Wilson's interval: all kinds together
    and each alone; of those learned alone; the same of the control; and what two of the methods missed.

    A planting that its model did not learn, or that could not be scored, counts as missed.
    """
    real = [one for one in plantings if not one["permuted"]]
    control = [one for one in plantings if one["permuted"]]
    learned = [one for one in real if one["right"] >= LEARNED * one["tried"]]
    right, tried = (sum(one[key] for one in real) for key in ("right", "tried"))
    return {
        "simulated": True,
        "n": len(real),
        "learned": CountedShare(len(learned), len(real)).to_json() | {"least": LEARNED},
        "accuracy": CountedShare(right, tried).to_json(),
        "methods": {
            name: {
                "words": METHODS[name],
                "all": _share(real, name),
                "learned": _share(learned, name),
                "kinds": {kind: _share(_of(real, kind), name) for kind in KIND_WORDS},
                "permuted": _share([one for one in control if name in one["methods"]], name),
            }
            for name in METHODS
        },
        "chance": float(np.mean([_chance(one) for one in real])) if real else None,
        "missed": {
            name: [_miss(one, name) for one in real if not _exact(one, name)]
            for name in ("influence", "features")
        },
        "not_learned": [one["planting"] for one in real if one not in learned],
        "cpu_seconds": float(sum(one["cpu_seconds"] for one in plantings)),
    }


def _of(plantings: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [one for one in plantings if one["kind"] == kind]


def _exact(one: Mapping[str, Any], method: str) -> bool:
    return method in one["methods"] and bool(one["methods"][method]["exact"])


def _share(plantings: Sequence[Mapping[str, Any]], method: str) -> dict[str, float] | None:
    if not plantings:
        return None
    return CountedShare(sum(_exact(one, method) for one in plantings), len(plantings)).to_json()


def _chance(one: Mapping[str, Any]) -> float:
    """How often n random genes of the table, the marker left out, are the rule's."""
    return 1 / comb(one["table_genes"] - 1, len(one["genes"]))


def _miss(one: Mapping[str, Any], method: str) -> dict[str, Any]:
    found = one["methods"].get(method)
    return {
        "planting": one["planting"],
        "kind": one["kind"],
        "genes": one["genes"],
        "passenger": one["passenger"],
        "right": one["right"] / max(1, one["tried"]),
        "named": [gene for gene, _ in found["strongest"][: found["n"]]] if found else [],
        "why": "" if found else one["skipped"],
    }


def planting_text(result: Mapping[str, Any], markdown: bool = False) -> str:
    """The table in words, as plain text or Markdown."""
    learned, accuracy = result["learned"], result["accuracy"]
    lines = [
        f"{result['n']} random plantings in simulated cells (nothing here is biology), "
        f"{result['cpu_seconds']:.0f} s of processor time with the control.",
        f"Held-out cells of the rules that the models call right: {_said(accuracy)} of {accuracy['n']:.0f}; "
        f"plantings learned ({learned['least']:.0%} of their cells right): {learned['k']:.0f} of "
        f"{learned['n']:.0f}{_numbers(result['not_learned'])}. Those not learned count as any others.",
        f"Recovered exactly by chance: {result['chance']:.4f}.",
        "",
    ]
    header = ("method", "recovered exactly", *KIND_WORDS.values(), "where learned", "permuted labels")
    rows = [
        (
            one["words"],
            _said(one["all"]),
            *(_counted(one["kinds"][kind]) for kind in KIND_WORDS),
            _counted(one["learned"]),
            _counted(one["permuted"]),
        )
        for one in result["methods"].values()
    ]
    lines += _table(header, rows, markdown)
    for name, missed in result["missed"].items():
        words = result["methods"][name]["words"]
        lines += ["", f"Missed by {words}: {len(missed)}"] + [f"- {_missed(one)}" for one in missed]
    return "\n".join(lines)


def _said(found: Mapping[str, float]) -> str:
    return f"{found['share']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _counted(found: Mapping[str, float] | None) -> str:
    return "–" if found is None else f"{found['k']:.0f}/{found['n']:.0f}"


def _numbers(numbers: Sequence[int]) -> str:
    return f" (not: {', '.join(map(str, numbers))})" if numbers else ""


def _missed(one: Mapping[str, Any]) -> str:
    named = one["why"] or f"named {', '.join(one['named'])}"
    return (
        f"planting {one['planting']}, {KIND_WORDS[one['kind']]}: genes {', '.join(one['genes'])}; {named} "
        f"(passenger {one['passenger']}; the model is right in {one['right']:.3f})"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> list[str]:
    if markdown:
        return [
            f"| {' | '.join(header)} |",
            "|" + "---|" * len(header),
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
