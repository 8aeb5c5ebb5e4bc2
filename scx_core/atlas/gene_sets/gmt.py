"""Gene sets and the GMT files that hold them; the markers that ship with the project.

A GMT line is: name, description, genes, parted by tabs; a GMX file has a set in each column. Fields may be
quoted, genes of one field parted by commas, and the description may be missing: then the second field is a
gene. Genes are kept in upper case, as a cell table keeps its symbols; how they were written is remembered in
`GeneSets.spelling`, because it tells mouse from human.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from scx_core.cells import all_markers
from scx_core.cells.detection.name_rules import is_of_family, is_written_like_symbol, kind_of_names
from scx_core.errors import ScxError
from scx_core.runs.files import unpacked

MARKERS = "markers"  # the source that ships with the project
LARGEST_FILE = 1 << 28  # bytes of text, unpacked; all of MSigDB has a tenth of that
_TITLE = re.compile(r"[A-Z][a-z][A-Za-z0-9]*(?:[-.]\w+)?")
_OPEN_READING_FRAME = re.compile(r"C\d+orf\d+", re.IGNORECASE)
_WEIGHT = re.compile(r",-?\d+(?:\.\d+)?$")
_QUOTED = re.compile(r"^([\"'])(.*)\1$")
_LISTED = re.compile(r"\s*[,;]\s*")
_SAMPLE = 4000
ENSEMBL, ENTREZ, OTHER, MOUSE, HUMAN = (
    "Ensembl ids",
    "bare numbers, such as Entrez ids",
    "transcript, probe or protein ids",
    "mouse symbols",
    "human symbols",
)


class GeneSet(NamedTuple):
    """A set by its name. `genes` are distinct upper-case symbols in the order of the source; `note` is its
    description or its citations; `source` the collection that it is from."""

    name: str
    genes: tuple[str, ...]
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class GeneSets:
    """A collection, in the order of its source; names are distinct. `spelling` says what the genes looked
    like before they were put in upper case (`spelling_of`); `notes` tell how an odd file was read."""

    name: str
    sets: tuple[GeneSet, ...]
    spelling: str = HUMAN
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sets)


def read_gmt(path: Path | str) -> GeneSets:
    """The sets of a GMT file, plain or gzip. Empty lines and comments (# and no tab) are skipped; a gene that
    a line names twice counts once; a weight behind a gene ("CD19,1.0", as Enrichr writes it) is left out.

    Raises ScxError naming the line when it has no name, no tab or no gene, or repeats a name.
    """
    path = Path(path)
    rows = [
        (number, _parts(line))
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text_of(path)), start=1)  # as editors count
        if line.strip() and ("\t" in line or not line.startswith("#"))
    ]
    what, notes = "line", []
    if _in_columns(path, [row for _, row in rows]):
        rows, what = _turned([row for _, row in rows]), "column"
        notes.append(f"{path.name} has a set in each column")
    described = not _genes_come_second([row for _, row in rows])
    if not described:
        notes.append(f"{path.name} has no descriptions: the second field of a {what} is a gene")
    sets: list[GeneSet] = []
    seen: dict[str, int] = {}
    written: list[str] = []
    for number, row in rows:
        where = f"{path.name}, {what} {number}"
        name, note, genes = _fields(row, where, described)
        if name in seen:
            problem = f"{where} repeats the set {name[:80]!r} of {what} {seen[name]}."
            raise ScxError(problem, "Give each set a name of its own.")
        seen[name] = number
        written += genes[: max(0, _SAMPLE - len(written))]
        sets.append(GeneSet(name, upper_case(genes), note, collection_name(path)))
    if not sets:
        raise ScxError(f"{path.name} holds no gene set.", "A GMT line is: name, description, genes, by tabs.")
    return GeneSets(collection_name(path), tuple(sets), spelling_of(written), tuple(notes))


def _parts(line: str) -> list[str]:
    """The fields of a line without their quotes; the list of genes in one field comes apart."""
    parts = [_QUOTED.sub(r"\2", part.strip()).strip() for part in line.split("\t")]
    if len(parts) == 3 and _LISTED.search(parts[2]) and not _WEIGHT.search(parts[2]):
        parts[2:] = [gene.strip() for gene in _LISTED.split(parts[2])]
    return parts


def _in_columns(path: Path, rows: list[list[str]]) -> bool:
    """Whether the sets lie in columns: by the file's ending, or because genes stand where names would."""
    if path.name.lower().removesuffix(".gz").endswith(".gmx"):
        return True
    first = [row[0] for row in rows[2:] if row[0]]
    wide = len(rows) > 3 and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    return wide and _gene_share(first) >= 0.5 and _gene_share(rows[0]) < 0.5


def _turned(rows: list[list[str]]) -> list[tuple[int, list[str]]]:
    """Columns as rows, with their numbers; empty columns and the empty ends of columns are left out."""
    width = max(map(len, rows))
    columns = [[row[k] if k < len(row) else "" for row in rows] for k in range(width)]
    return [(k, [*one[:2], *filter(None, one[2:])]) for k, one in enumerate(columns, 1) if any(one)]


def _genes_come_second(rows: list[list[str]]) -> bool:
    """Whether the description is missing: the second fields differ, are written like genes, and many of them
    are genes of other sets of the file, known markers, or of well-known families."""
    second = [row[1] for row in rows if len(row) > 1 and row[1]]
    if len(second) < max(1, len(rows) // 2) or len(set(second)) < 0.5 * len(second):
        return False
    if any(row[0] == row[1] for row in rows if len(row) > 1):
        return False
    like = sum(is_written_like_symbol(one) for one in second)
    if like < 0.8 * len(second):
        return False
    genes = {gene.upper() for row in rows for gene in row[2:]}
    known = sum(one.upper() in genes or _gene_share([one]) > 0 for one in second)
    return known >= 0.3 * len(second)


def _gene_share(words: Sequence[str]) -> float:
    """Share of words that are well-known genes."""
    known = [word.upper() in _marker_genes() or is_of_family(word) for word in words if word]
    return sum(known) / len(known) if known else 0.0


@cache
def _marker_genes() -> frozenset[str]:
    return frozenset(gene for found in all_markers() for gene in found.genes)


def _fields(row: list[str], where: str, described: bool) -> tuple[str, str, list[str]]:
    """Name, description and genes of a set."""
    name, *rest = row
    if not rest:
        problem = f"{where} has no tab: {name[:60]!r}."
        raise ScxError(problem, "A GMT line is: name, description, genes, parted by tabs.")
    if not name:
        raise ScxError(f"{where} has no name.", "A GMT line begins with the name of its set.")
    genes = [_WEIGHT.sub("", gene).strip() for gene in (rest[1:] if described else rest)]
    genes = [gene for gene in genes if gene]
    if not genes:
        problem = f"{where}: the set {name[:80]!r} has no genes."
        raise ScxError(problem, "Genes begin in the third column; the second is the description.")
    return name, rest[0] if described else "", genes


def text_of(path: Path) -> str:
    """The text of a file, unpacked where it is gzip. Raises ScxError when it is absent, damaged, no text, or
    larger than `LARGEST_FILE`."""
    data = unpacked(path, LARGEST_FILE)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as spreadsheets save "Unicode text"
    if b"\0" in data[:4096] and not wide:
        raise ScxError(f"{path.name} is no text.", "Give a GMT file, or a CSV or TSV of markers.")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problem = f"{path.name}, line {line} is not UTF-8 text."
        raise ScxError(problem, "Save the file as UTF-8.") from error


def collection_name(path: Path) -> str:
    """A file's name without its endings."""
    name = path.name.removesuffix(".gz")
    return Path(name).stem or name


def upper_case(genes: Iterable[str]) -> tuple[str, ...]:
    """Distinct symbols in upper case, in their order; versions are cut off Ensembl ids."""
    return tuple(dict.fromkeys(re.sub(r"^(ENS[A-Z]*G\d+)\.\d+$", r"\1", gene.upper()) for gene in genes))


def spelling_of(genes: Sequence[str]) -> str:
    """What most names look like: ENSEMBL, ENTREZ, OTHER, MOUSE or HUMAN."""
    import pandas as pd

    kind = kind_of_names(pd.Series(list(genes[:_SAMPLE]), dtype=object))
    if kind != "symbol":
        return {"ensembl": ENSEMBL, "number": ENTREZ}.get(kind, OTHER)
    named = [g for g in genes[:_SAMPLE] if g[:1].isalpha() and not _OPEN_READING_FRAME.fullmatch(g)]
    title = sum(bool(_TITLE.fullmatch(gene)) for gene in named)
    return MOUSE if 2 * title > len(named) else HUMAN


def shipped_markers() -> GeneSets:
    """The project's own marker lists of blood and heart; the citations are the notes."""
    sets = tuple(
        GeneSet(found.cell_type, tuple(sorted(found.genes)), "; ".join(found.citations), MARKERS)
        for found in all_markers()
    )
    return GeneSets(MARKERS, sets)


def joined(collections: Sequence[GeneSets]) -> GeneSets:
    """Several collections as one. A name that two of them have gets its collection's name in front.

    Raises ScxError when there are none, or they are spelled differently (human beside mouse).
    """
    if not collections:
        raise ScxError("No gene sets are given.", f"Give a GMT file, a table of markers, or {MARKERS!r}.")
    if len(collections) == 1:
        return collections[0]
    first = collections[0]
    for other in collections[1:]:
        if other.spelling != first.spelling:
            problem = f"{first.name} has {first.spelling}, {other.name} has {other.spelling}."
            raise ScxError(problem, "Use collections of one species and one kind of names.")
    times: dict[str, int] = {}
    for one in (found for collection in collections for found in collection.sets):
        times[one.name] = times.get(one.name, 0) + 1
    sets = [
        one._replace(name=f"{number}. {collection.name}: {one.name}") if times[one.name] > 1 else one
        for number, collection in enumerate(collections, start=1)
        for one in collection.sets
    ]
    notes = tuple(note for one in collections for note in one.notes)
    return GeneSets(" + ".join(one.name for one in collections), tuple(sets), first.spelling, notes)
