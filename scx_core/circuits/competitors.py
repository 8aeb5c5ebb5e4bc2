"""Whose answer is explained, against whom, and how often the model gives it: the sentences, for every place
that shows a circuit.

Names of types are in them as they are in the data: escape them where they become HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from scx_core.circuits.circuit import NOTHING, Circuit, Target
from scx_core.statistics.intervals import wilson

COUNTS = 0.05  # a competitor's share of the competitors' probability that is worth a name


def names(types: Sequence[str]) -> str:
    """ "A, B and C"."""
    return " and ".join(part for part in (", ".join(types[:-1]), *types[-1:]) if part)


def how_often(circuit: Circuit) -> str:
    """How often the model itself gives the explained answer, as a whole and of all its answers; empty where
    that was not asked. An interval is Wilson's, 95%."""
    called = circuit.scores.get("called")
    if called is None or circuit.scope == "difference":
        return ""
    if circuit.scope == "cell":
        return f"The model {'gives' if called else 'does not give'} this answer for this cell."
    n = circuit.n_cells
    return given_to(min(max(round(called * n), 0), n), n)


def given_to(k: int | None, n: int) -> str:
    """For how many of how many cells the model gives the answer, with a 95% interval; empty if not asked."""
    if k is None:
        return ""
    low, high = wilson(k, n)
    cells = "the cell" if n == 1 else f"{k} of the {n} cells ({low:.0%} to {high:.0%})"
    return f"The model {'does not give' if n == 1 and not k else 'gives'} this answer for {cells}."


def against_whom(target: Target) -> list[str]:
    """Which answers the target is read against, which count, and which it says nothing about."""
    said = []
    if target.kind in ("answer", "contrast") and target.against:
        how = "whole answers" if target.kind == "answer" else "the one token that parts them"
        said.append(f"Read against {names(target.against)} ({how}).")
    shares = zip(target.against, target.rival_shares, strict=False)
    most = sorted(((share, name) for name, share in shares if share >= COUNTS), reverse=True)
    if most and len(target.against) > 1:
        counted = names([f"{name} ({share:.0%})" for share, name in most])
        said.append(f"The competitors' probability lies with {counted}.")
    if target.left_out is None and target.kind not in ("token", "feature"):
        said.append("This file does not say which of the model's answers are left out.")
    elif target.left_out and target.kind not in ("token", "feature"):
        said.append(f"Says nothing about {names(target.left_out)}.")
    if target.same_target:
        said.append(f"{names(target.same_target)} would have this very target.")
    return said


def nothing(circuit: Circuit) -> str:
    """That there is next to nothing to explain, and why; empty where there is something."""
    if not circuit.faint:
        return ""
    value, genes = circuit.target.value, circuit.scores.get("gene_effect", 0.0)
    unit = circuit.target.unit
    if abs(value) < NOTHING:
        return f"Nothing to explain: the score is {value:.2f} {unit}, less than {NOTHING:g}."
    return f"Next to nothing to explain: all genes together add {genes:.2f} {unit} to a score of {value:.2f}."


def other_text_note(circuit: Circuit) -> str:
    """That the transcoders were trained on another text than they read here; empty where not."""
    made = circuit.provenance.get("transcoders")
    mark = made.get("as_is") if isinstance(made, dict) else None
    if not isinstance(mark, dict) or not mark:
        return ""
    told = [
        f"{name} {one.get('trained')} there, {one.get('used')} here" if isinstance(one, dict) else name
        for name, one in mark.items()
    ]
    return f"The transcoders were trained on another text ({'; '.join(told)}) and are used as they are."


def all_said(circuit: Circuit) -> list[str]:
    """Every sentence about whose circuit this is, those that matter most first."""
    said = (
        nothing(circuit), other_text_note(circuit), how_often(circuit), *against_whom(circuit.target),
    )  # fmt: skip
    return [text for text in said if text]
