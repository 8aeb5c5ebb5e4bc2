"""What differs between two circuits: between two cell types, two models, two transcoder sets (method §8).

Both are traced for one question, over many cells each; every number of the result is the first less the
second, with a bootstrap interval over donors or cells, and p and q that both are equal (testing.py). The
same cells under two models or sets are paired: they are drawn together. Features of different sets have
nothing in common but their numbers, so they are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits.circuit import Circuit, Node, Target
from scx_core.circuits.consensus import combine, statistics_circuit
from scx_core.circuits.feature_names import NameBook, with_names
from scx_core.circuits.merged_positions import Merged
from scx_core.statistics.resampling import two_groups

SIDES = ("A", "B")


class Difference(NamedTuple):
    """Both sides as consensus circuits, and `difference`, whose effects and weights are first less second."""

    names: tuple[str, str]
    first: Circuit
    second: Circuit
    difference: Circuit

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        return {
            "names": list(self.names),
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "difference": self.difference.to_json(),
        }


def kept_apart(cells: Sequence[Merged], side: str) -> list[Merged]:
    """The circuits with the ids of their features, and of these alone, marked with the side."""

    def renamed(name: str, node: Node) -> str:
        return f"{side}:{name}" if node.kind in ("feature", "error") else name

    out = []
    for cell in cells:
        nodes = {renamed(name, node): node for name, node in cell.nodes.items()}
        named = {name: node._replace(id=name) for name, node in nodes.items()}
        rows = [
            table._replace(rows=tuple(f"{side}:{name}" for name in table.rows))
            for table in (cell.active, cell.stands, cell.added)
        ]
        out.append(cell._replace(nodes=named, active=rows[0], stands=rows[1], added=rows[2]))
    return out


def named_difference(
    found: Difference, first: NameBook | None, second: NameBook | None, *, same_set: bool
) -> Difference:
    """A difference with the names that an atlas gives the features of each side's set."""
    if same_set:
        gap = with_names(found.difference, first)
    else:
        gap = with_names(with_names(found.difference, first, f"{SIDES[0]}:"), second, f"{SIDES[1]}:")
    return found._replace(
        first=with_names(found.first, first), second=with_names(found.second, second), difference=gap
    )


def difference(
    names: tuple[str, str],
    first: Sequence[Merged],
    second: Sequence[Merged],
    targets: tuple[Target, Target],
    *,
    same_set: bool,
    paired: bool,
    min_share: float,
    seed: int,
    provenance: dict[str, Any],
    donors: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Difference:
    """First less second. `same_set`: both have the same transcoders, so the same features; `paired`: the
    same cells in the same order; `donors` of the cells of both, where they are known."""
    whose = donors or (None, None)
    sides = [
        combine(cells, target, min_share, seed, provenance, of)
        for cells, target, of in zip((first, second), targets, whose, strict=True)
    ]
    if not same_set:
        first, second = kept_apart(first, SIDES[0]), kept_apart(second, SIDES[1])
    all_donors = [*donors[0], *donors[1]] if donors else None
    sampling = two_groups(len(first), len(second), seed, paired, all_donors)
    label = f"{names[0]} less {names[1]}: {targets[0].label}"
    target = targets[0]._replace(label=label)
    both = [*first, *second]
    found = statistics_circuit("difference", both, sampling, target, min_share, seed, provenance)
    gap = float(np.mean([cell.value for cell in first]) - np.mean([cell.value for cell in second]))
    found = found._replace(target=found.target._replace(value=gap))
    return Difference(names, sides[0], sides[1], found)
