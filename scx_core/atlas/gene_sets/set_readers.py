"""Gene sets from whatever a user names: a GMT file, a marker table, the project's markers, a library online.

Marker tables (CSV, TSV) are those of CellMarker, PanglaoDB, Azimuth, CellTypist, or one's own, in two
layouts: one row a gene (PanglaoDB: "official gene symbol" beside "cell type"), or one row a type with its
genes in one field ("CD79A, MS4A1, CD19"). Enrichr's libraries come through gseapy, an optional extra that
needs a network.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scx_core.atlas.gene_sets.gmt import (
    MARKERS,
    GeneSet,
    GeneSets,
    collection_name,
    joined,
    read_gmt,
    shipped_markers,
    spelling_of,
    text_of,
    upper_case,
)
from scx_core.cells.choices import did_you_mean
from scx_core.errors import ScxError
from scx_core.runs import write_atomic
from scx_core.runs.files import is_folder, is_there

TABLE_ENDINGS = (".csv", ".tsv")


def open_gene_sets(
    sources: str | Path | Sequence[str | Path],
    organism: str = "Homo sapiens",
    columns: MarkerColumns | None = None,
) -> GeneSets:
    """One or several sources as one collection.

    A source is "markers" (the lists that ship with the project), "gseapy:LIBRARY" (Enrichr, online), a GMT
    file, or a marker table (.csv, .tsv); files may be gzipped. Raises ScxError as the readers do.
    """
    named = [sources] if isinstance(sources, (str, Path)) else list(sources)
    return joined([_one(str(source), organism, columns) for source in named])


def _one(source: str, organism: str, columns: MarkerColumns | None) -> GeneSets:
    if source == MARKERS:
        return shipped_markers()
    if source.startswith(ONLINE):
        return download_sets(source.removeprefix(ONLINE), organism)
    path = Path(source).expanduser()
    if not is_there(path) or is_folder(path):
        raise ScxError(
            f"There are no gene sets {source[:200]!r}.",
            f"Give a GMT file, a CSV or TSV of markers, {MARKERS!r}, or {ONLINE}LIBRARY.",
        )
    if path.name.lower().removesuffix(".gz").endswith(TABLE_ENDINGS):
        return read_marker_table(path, organism, columns)
    return read_gmt(path)


def write_gmt(collection: GeneSets, path: Path | str) -> None:
    """Keep a collection, such as a downloaded one, as a GMT file; what is no character of a text is left
    out of names. Raises ScxError when the disk is full."""
    lines = ["\t".join(map(_field, (one.name, one.note, *one.genes))) for one in collection.sets]
    write_atomic(path, "\n".join(lines) + "\n")


def _field(text: str) -> str:
    """A field on one line, as any reader of text takes it."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return " ".join(kept.split())


ONLINE = "gseapy:"  # in front of a library's name
_ORGANISMS = {"Homo sapiens": "Human", "Mus musculus": "Mouse", "Danio rerio": "Fish"}
_OFFLINE = "Connect to the internet, or give a GMT file of the library."


def download_sets(library: str, organism: str = "Homo sapiens") -> GeneSets:
    """A library of Enrichr by name, such as "GO_Biological_Process_2023".

    Raises ScxError when gseapy is not installed, the network cannot be reached, or there is no such library.
    """
    try:
        import gseapy
    except ImportError as error:
        raise ScxError(
            "gseapy is not installed, which downloads gene sets.",
            "Install it with `pip install gseapy`, or give a GMT file.",
        ) from error
    of = _ORGANISMS.get(organism)
    if of is None:
        raise ScxError(f"Enrichr has no libraries for {organism}.", "Give a GMT file.")
    try:
        known = list(gseapy.get_library_name(organism=of))
        if library not in known:
            raise ScxError(f"Enrichr has no library {library!r}.", did_you_mean(library, known))
        found = gseapy.parser.download_library(library, organism=of)
    except ScxError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # what requests raises is an OSError
        problem = f"{library} could not be downloaded ({type(error).__name__})."
        raise ScxError(problem, _OFFLINE) from error
    sets = tuple(GeneSet(name, upper_case(genes), "", library) for name, genes in found.items() if genes)
    if not sets:
        raise ScxError(f"The library {library} came back empty.", _OFFLINE)
    return GeneSets(library, sets, spelling_of([gene for genes in found.values() for gene in genes]))


# Names of columns as the exports write them, in lower case with blanks for other signs.
TYPE_COLUMNS = (
    "low hierarchy cell types", "cell type", "celltype", "cell name", "cellname", "label", "type", "set",
    "gene set", "pathway", "term",
)  # fmt: skip
GENE_COLUMNS = (
    "curated markers", "markers", "official gene symbol", "gene symbol", "genesymbol", "symbol", "marker",
    "cell marker", "cellmarker", "genes", "gene",
)  # fmt: skip
SPECIES_COLUMNS = ("species", "speciestype", "organism")
NOTE_COLUMNS = ("description", "expanded label", "organ", "tissue", "tissue type", "tissuetype")
_SPECIES = {
    "Homo sapiens": ("hs", "human", "homo sapiens"),
    "Mus musculus": ("mm", "mouse", "mus musculus"),
}


class MarkerColumns(NamedTuple):
    """Which columns to use, where the names are not known ones; None: detect."""

    types: str | None = None
    genes: str | None = None


def read_marker_table(
    path: Path | str, organism: str = "Homo sapiens", columns: MarkerColumns | None = None
) -> GeneSets:
    """One set a cell type. Where there is a column of species, only the rows of `organism` are used.

    Raises ScxError naming the file, and the column or line: when there is no column of types or genes, a row
    is of another length than the header, or no row of the organism has a gene.
    """
    path, columns = Path(path), columns or MarkerColumns()
    header, rows = _rows(path)
    type_at = _column(header, TYPE_COLUMNS, columns.types, "cell types", path)
    gene_at = _column(header, GENE_COLUMNS, columns.genes, "genes", path)
    species_at, note_at = _maybe(header, SPECIES_COLUMNS), _maybe(header, NOTE_COLUMNS)
    genes: dict[str, list[str]] = {}
    notes: dict[str, str] = {}
    for row in rows:
        if species_at is not None and not _is_of(row[species_at], organism):
            continue
        name = " ".join(row[type_at].split())
        if name and (found := _genes_of(row[gene_at])):
            genes.setdefault(name, []).extend(found)
            notes.setdefault(name, row[note_at].strip() if note_at is not None else "")
    if not genes:
        of = f" of {organism}" if species_at is not None else ""
        problem = f"{path.name}: no row{of} has a gene in the column {header[gene_at]!r}."
        raise ScxError(problem, "Name the columns of types and genes, and check the organism.")
    source = collection_name(path)
    sets = tuple(GeneSet(name, upper_case(found), notes[name], source) for name, found in genes.items())
    return GeneSets(source, sets, spelling_of([gene for found in genes.values() for gene in found]))


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows; tabs part the columns where the header has one, else semicolons or commas."""
    text = text_of(path)
    head = text.split("\n", 1)[0]
    sign = "\t" if "\t" in head else ";" if head.count(";") > head.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = []
        for row in reader:
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(header):
                problem = (
                    f"{path.name}, line {reader.line_num} has {len(row)} columns, the header {len(header)}."
                )
                raise ScxError(problem, "Give every line as many columns; put quotes around a comma.")
            rows.append(row)
    except csv.Error as error:
        problem = f"{path.name}, line {reader.line_num} cannot be read ({error})."
        raise ScxError(problem, "Write the table again as CSV or TSV.") from error
    if len(header) < 2:
        problem = f"{path.name} has no table: its first line is {head[:60]!r}."
        raise ScxError(problem, "Give a CSV or TSV whose first line names the columns.")
    return header, rows


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def _maybe(header: Sequence[str], known: Sequence[str]) -> int | None:
    plain = [_plain(name) for name in header]
    return next((plain.index(name) for name in known if name in plain), None)


def _column(header: Sequence[str], known: Sequence[str], wanted: str | None, what: str, path: Path) -> int:
    if wanted is not None:
        if wanted not in header:
            problem = f"{path.name} has no column {wanted!r}."
            raise ScxError(problem, did_you_mean(wanted, list(header)))
        return list(header).index(wanted)
    found = _maybe(header, known)
    if found is None:
        listed = ", ".join(name for name in header if name)[:200]
        raise ScxError(
            f"{path.name} has no column that is known to hold {what} (it has: {listed}).",
            f"Name the column, or call it '{'cell type' if known is TYPE_COLUMNS else 'gene'}'.",
        )
    return found


def _is_of(words: str, organism: str) -> bool:
    """Whether a field of species ("Mm Hs", "Human") names the organism; an empty one may be any."""
    known = _SPECIES.get(organism, (organism.lower(),))
    text = words.strip().lower()
    return not text or text in known or any(word in known for word in re.split(r"[\s,;/|]+", text))


def _genes_of(field: str) -> list[str]:
    """The genes of a field, which may hold a list; CellMarker puts brackets around protein complexes."""
    parts = re.split(r"[,;|/]|\s{2,}|\n", re.sub(r"[\[\]{}\"]", " ", field))
    genes = [part.strip() for part in parts]
    return [gene for gene in genes if gene and gene.upper() not in ("NA", "NAN", "NONE")]
