"""What a person may mean while they type: the genes, cell types, families and gene sets that an atlas knows,
each by the other names that it goes by; and the nearest of them where a name is misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from scx_core.atlas.tables.atlas import Atlas
from scx_core.cells import known_markers
from scx_core.cells.gene_aliases import ALIASES

NEAR, CUTOFF = 3, 0.6  # names that are proposed for a misspelt one, and how near they must be
MOST_SETS = 500  # of the families and gene sets, those that most features have


class Suggestion(NamedTuple):
    """`text`: what is searched for; `others`: names that it also goes by; `kind`: said where it is no gene's
    or cell type's."""

    text: str
    others: tuple[str, ...] = ()
    kind: str = ""

    @property
    def words(self) -> str:
        """As it is offered: "MS4A1 (CD20)"."""
        told = ", ".join(filter(None, (*self.others, self.kind)))
        return f"{self.text} ({told})" if told else self.text


def gene_suggestions(genes: Iterable[str]) -> list[Suggestion]:
    """Genes (upper case) by name, each with the CD numbers and common names that stand for it."""
    known, also = sorted(set(genes)), dict[str, list[str]]()
    for alias, meant in ALIASES.items():
        for gene in meant:
            also.setdefault(gene, []).append(alias)
    return [Suggestion(gene, tuple(also.get(gene, ()))) for gene in known]


def suggestions(atlas: Atlas) -> list[Suggestion]:
    """All that a search of the atlas finds by name: cell types first, then genes, families and gene sets."""
    found = []
    for name in atlas.meta.get("types", ()):
        known = known_markers(str(name))
        usual = known.cell_type if known is not None else ""
        same = usual.lower() == str(name).lower()
        found.append(Suggestion(str(name), () if same or not usual else (usual,)))
    found += gene_suggestions(atlas.genes)
    taken = {one.text.lower() for one in found}
    for column, what in (("family", "family"), ("gene_set", "gene set")):
        for name in _commonest(atlas.feature_table[column]):
            if name.lower() not in taken:
                found.append(Suggestion(name, kind=what))
                taken.add(name.lower())
    return found


def near_names(text: str, offered: Iterable[Suggestion]) -> list[str]:
    """The names that are spelt most like a text, other names included, the nearest first; none that is the
    text."""
    wanted, by_name = text.strip().lower(), dict[str, str]()
    for one in offered:
        for name in (one.text, *one.others):
            by_name.setdefault(name.lower(), one.text)
    near = difflib.get_close_matches(wanted, [name for name in by_name if name != wanted], 3 * NEAR, CUTOFF)
    return list(dict.fromkeys(by_name[name] for name in near))[:NEAR]


def _commonest(column: pa.ChunkedArray) -> list[str]:
    """The names of a column, without the empty one, the most frequent first."""
    counts = pc.value_counts(column.cast(pa.string())).to_pylist()
    held = [(-one["counts"], one["values"]) for one in counts if one["values"]]
    return [name for _, name in sorted(held)[:MOST_SETS]]
