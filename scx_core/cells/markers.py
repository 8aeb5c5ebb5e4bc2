"""Known markers of cell types, with citations, found by the many ways in which datasets spell a type.

The lists are in `markers.json`. A gene may be on several: HLA class II genes mark B cells, dendritic
cells and monocytes alike. The helpers below tell a type's own markers from shared ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple


class Markers(NamedTuple):
    """The markers of one cell type: upper-case symbols, and the works that describe them."""

    cell_type: str
    genes: frozenset[str]
    citations: tuple[str, ...]
    tissue: str


def all_markers() -> tuple[Markers, ...]:
    """Every list, in the order of the file."""
    return tuple(_by_type().values())


def known_markers(label: str) -> Markers | None:
    """The list for a dataset's label ("CD56+ NK", "NK cells", "natural killer cell"), or None."""
    name = _by_spelling().get(spelling(label))
    return _by_type()[name] if name is not None else None


def types_with(gene: str) -> tuple[str, ...]:
    """The cell types on whose list a gene is."""
    return tuple(found.cell_type for found in all_markers() if gene.upper() in found.genes)


def shared_markers(label: str, among: Iterable[str] | None = None) -> frozenset[str]:
    """The markers of a type that other types have too. `among`: labels to compare with (default: all)."""
    mine = known_markers(label)
    return mine.genes & _genes_of_others(mine, among) if mine is not None else frozenset()


def foreign_markers(genes: Iterable[str], label: str, among: Iterable[str] | None = None) -> list[str]:
    """Those of some genes that are markers of another type and not of this one, in their order."""
    mine = known_markers(label)
    others = _genes_of_others(mine, among) - (mine.genes if mine is not None else frozenset())
    return [gene for gene in genes if gene.upper() in others]


def _genes_of_others(mine: Markers | None, among: Iterable[str] | None) -> frozenset[str]:
    lists = all_markers() if among is None else [found for label in among if (found := known_markers(label))]
    return frozenset().union(*(found.genes for found in lists if found is not mine))


def spelling(label: str) -> str:
    """A label without case, signs, plural and the word "cell": "CD14+ Monocytes" is "cd14 monocyte"."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"[-\s]positive\b", "", str(label).lower()))
    singular = [word[:-1] if len(word) > 2 and word.endswith("s") else word for word in words]
    return " ".join(word for word in singular if word != "cell") or " ".join(singular)


@cache
def _file() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("markers.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def _by_type() -> dict[str, Markers]:
    file = _file()
    made: dict[str, Markers] = {}
    for entry in file["types"]:
        genes, sources = set(entry["genes"]), list(entry["sources"])
        for group in entry["groups"]:
            genes |= set(file["groups"][group]["genes"])
            sources += file["groups"][group]["sources"]
        citations = [file["sources"][key] for key in sources]
        for name in entry["includes"]:
            genes |= made[name].genes
            citations += made[name].citations
        name = entry["cell_type"]
        made[name] = Markers(name, frozenset(genes), tuple(dict.fromkeys(citations)), entry["tissue"])
    return made


@cache
def _by_spelling() -> dict[str, str]:
    return {
        spelling(name): entry["cell_type"]
        for entry in _file()["types"]
        for name in (entry["cell_type"], *entry["aliases"])
    }
