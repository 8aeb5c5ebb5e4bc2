"""Gene sets held against the genes of some data: which genes are shared, and whether the names fit at all.

Legend: S sets, G genes of the background.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from scx_core.atlas.gene_sets.gmt import HUMAN, MOUSE, GeneSet, GeneSets, spelling_of
from scx_core.cells.detection.organism import HUMAN as HOMO
from scx_core.cells.detection.organism import MOUSE as MUS
from scx_core.errors import ScxError
from scx_core.runs import option
from scx_core.runs.options import check

_WRITTEN_LIKE = {MOUSE: MUS, HUMAN: HOMO}
FEW = 0.1  # a smaller share of known genes is worth a warning


@dataclass(frozen=True)
class FitConfig:
    """Which sets are tested."""

    smallest: int = option(3, "Sets with fewer genes in the data are left out", minimum=1)
    largest: int = option(500, "Sets with more genes in the data are left out", minimum=1)
    other_species: bool = option(False, "Accept sets of another species: upper-case names are compared")

    def __post_init__(self) -> None:
        check(self)


class FittedSets(NamedTuple):
    """Sets by their genes in the data, 0/1 [S, G]. `notes` say what was left out; `warning` when little
    fits, else ""."""

    sets: tuple[GeneSet, ...]
    member_SG: sp.csr_matrix
    notes: tuple[str, ...]
    warning: str = ""


def fit_sets(
    collection: GeneSets, genes: Sequence[str], cfg: FitConfig | None = None, organism: str | None = None
) -> FittedSets:
    """The sets over the background `genes` (upper case, distinct); former names count as the gene.

    `organism` is that of the data, None when it is not known. Raises ScxError when no set shares a gene with
    the data, the sets are another species', or none is of a size that is tested.
    """
    cfg = cfg or FitConfig()
    numbers = name_lookup(genes)
    members = [_numbers(one, numbers) for one in collection.sets]
    if not any(len(found) for found in members):
        raise _nothing_shared(collection, genes)
    _check_species(collection, organism, cfg)
    sizes = np.array([len(found) for found in members])
    taken = np.flatnonzero((sizes >= cfg.smallest) & (sizes <= cfg.largest))
    if not len(taken):
        raise ScxError(
            f"None of the {len(collection)} sets of {collection.name} has {cfg.smallest} to {cfg.largest} "
            f"genes in this data (the largest has {sizes.max()}).",
            "Allow smaller or larger sets.",
        )
    known = len({gene for one in collection.sets for gene in one.genes})
    shared = len(np.unique(np.concatenate(members)))
    warning = ""
    if shared < FEW * min(known, len(genes)):
        warning = f"Only {shared} of the {known} genes of {collection.name} are in this data."
    return FittedSets(
        tuple(collection.sets[number] for number in taken),
        indicator([members[number] for number in taken], len(genes)),
        (
            *collection.notes,
            f"{shared} of the sets' {known} genes are among the {len(genes)} of the data",
            f"{len(taken)} of {len(collection)} sets have {cfg.smallest} to {cfg.largest} genes there",
        ),
        warning,
    )


def indicator(members: list[np.ndarray], n_genes: int) -> sp.csr_matrix:
    """Rows of distinct gene numbers as a matrix of 0 and 1 [len(members), G]."""
    sizes = [len(one) for one in members]
    columns = np.concatenate(members) if sum(sizes) else np.zeros(0, dtype=np.int64)
    pointer = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    made = sp.csr_matrix((np.ones(len(columns), dtype=np.int32), columns, pointer), (len(members), n_genes))
    made.sort_indices()
    return made


def _numbers(one: GeneSet, numbers: dict[str, int]) -> np.ndarray:
    found = {numbers.get(gene, numbers.get(current_name(gene), -1)) for gene in one.genes} - {-1}
    return np.array(sorted(found), dtype=np.int64)


def _nothing_shared(collection: GeneSets, genes: Sequence[str]) -> ScxError:
    example = ", ".join(collection.sets[0].genes[:3])
    return ScxError(
        f"0 of your {len(collection)} sets share a gene with this data: they look like {collection.spelling} "
        f"({example}), the data's genes like {spelling_of(genes)} ({', '.join(list(genes)[:3])}).",
        "Use sets and data with the same kind of names, gene symbols of one species.",
    )


def _check_species(collection: GeneSets, organism: str | None, cfg: FitConfig) -> None:
    written = _WRITTEN_LIKE.get(collection.spelling)
    if cfg.other_species or organism is None or written in (None, organism):
        return
    if written == HOMO and organism != MUS:
        return  # many species' symbols are written like human ones
    raise ScxError(
        f"The sets of {collection.name} look like {collection.spelling}, the data are of {organism}.",
        f"Give sets of {organism}, or accept another species' (names are compared in upper case).",
    )


# Two families were renamed because spreadsheets took their names for dates; some files still hold dates.
_RULES = (
    (re.compile(r"(?:MARCH|(?=\d+-MAR$))(\d+)(?:-MAR)?"), "MARCHF{}"),
    (re.compile(r"(?:SEPT|(?=\d+-SEP$))(\d+)(?:-SEP)?"), "SEPTIN{}"),
)


@cache
def current_name(gene: str) -> str:
    """The symbol that is approved now for an upper-case symbol, or the symbol itself: IGJ is JCHAIN."""
    for pattern, name in _RULES:
        if found := pattern.fullmatch(gene):
            return name.format(int(found[1]))
    return _renamed().get(gene, gene)


def name_lookup(known: Iterable[str]) -> dict[str, int]:
    """Number of a gene among `known` by every name it may go by here: its own first, else its current one."""
    known = list(known)
    numbers = {current_name(gene): number for number, gene in reversed(list(enumerate(known)))}
    return numbers | {gene: number for number, gene in enumerate(known)}


@cache
def _renamed() -> dict[str, str]:
    text = resources.files(__package__).joinpath("gene_aliases.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)["renamed"]
    return found
